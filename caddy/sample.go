package gojinn

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxSample bounds the file of a sample request, in bytes: its text is kept with the function.
const maxSample = 10_000_000

// readSample is the request in a file, as it will stand on the function's stdin: on one line and a newline, whatever white
// space the file has between its parts. The file's state is that of just before. Whatever is wrong is a *sampleError.
func readSample(path string, maxBody int64) (string, fs.FileInfo, error) {
	fail := func(err error) (string, fs.FileInfo, error) {
		return "", nil, &sampleError{path: path, err: err}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(errors.New("there is no such file; write a request into it, or correct the path"))
	case err != nil:
		return fail(withoutPath(err))
	case !info.Mode().IsRegular():
		return fail(fmt.Errorf("this is not a regular file but a %s; name the file of the sample itself", describeMode(info.Mode())))
	case info.Size() > maxSample:
		return fail(fmt.Errorf("the file has %d bytes, more than the %d that are allowed for a sample; "+
			"a smaller request warms up as well", info.Size(), maxSample))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fail(withoutPath(err))
	}
	if err := checkSample(text, maxBody); err != nil {
		return fail(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return fail(err)
	}
	line.WriteByte('\n')
	return line.String(), info, nil
}

// sampleError says what is wrong with a sample, and in which file.
type sampleError struct {
	path string
	err  error
}

// Error implements error.
func (e *sampleError) Error() string {
	if at := (*mistake)(nil); errors.As(e.err, &at) {
		return fmt.Sprintf("the sample of warmup, %s:%d:%d: %s", e.path, at.line, at.column, at.text)
	}
	return fmt.Sprintf("the sample of warmup, %s: %v", e.path, e.err)
}

// Unwrap is the error without the path.
func (e *sampleError) Unwrap() error { return e.err }

// withoutPath takes the path from an error of the file system: it is told once.
func withoutPath(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// mistake is an error at a place in a text. Lines and columns (of characters) count from 1.
type mistake struct {
	line, column int
	text         string
}

// Error implements error.
func (m *mistake) Error() string { return fmt.Sprintf("%d:%d: %s", m.line, m.column, m.text) }

// The keys of a request, docs/contract.md. Every request has the required ones; all but headers are strings.
var (
	requiredKeys = []string{"method", "uri", "headers", "body", "trace_id"}
	optionalKeys = []string{"body_base64", "remote_addr", "client_ip", "scheme", "host", "proto", "original_uri"}
)

// checkSample holds a text to what a request can be. Its errors are mistakes.
func checkSample(text []byte, maxBody int64) error {
	r := sampleReader{text: text}
	if err := r.syntax(); err != nil {
		return err
	}
	r.tokens = json.NewDecoder(bytes.NewReader(text))
	return r.request(maxBody)
}

// sampleReader goes through a text token by token and knows where each of them stands.
type sampleReader struct {
	text   []byte
	tokens *json.Decoder
	// at is where the last token begins.
	at int
}

// syntax checks that the text is one JSON value in UTF-8.
func (r *sampleReader) syntax() error {
	for i := 0; i < len(r.text); {
		c, size := utf8.DecodeRune(r.text[i:])
		if c == utf8.RuneError && size == 1 {
			return r.wrong(i, "the text is not UTF-8; a body that is not text goes into \"body_base64\"")
		}
		i += size
	}
	if len(bytes.TrimSpace(r.text)) == 0 {
		return r.wrong(0, "the file is empty; write a request into it, such as %s", exampleSample)
	}
	var value json.RawMessage
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(r.text, &value); {
	case errors.As(err, &syntax) && strings.Contains(syntax.Error(), "end of JSON"):
		return r.wrong(len(r.text), "the request is cut off here")
	case errors.As(err, &syntax):
		// The offset is behind what is wrong.
		return r.wrong(max(0, int(syntax.Offset)-1), "this is not JSON: %v", syntax)
	default:
		return err
	}
}

const exampleSample = `{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"sample"}`

func (r *sampleReader) request(maxBody int64) error {
	token, err := r.next()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return r.wrong(r.at, "a request is an object, such as %s", exampleSample)
	}
	begin := r.at
	values, places := map[string]string{}, map[string]int{}
	for r.tokens.More() {
		if token, err = r.next(); err != nil {
			return err
		}
		key := token.(string) // the decoder lets nothing else be a key
		if _, twice := places[key]; twice {
			return r.wrong(r.at, "%q is given twice", key)
		}
		places[key] = r.at
		if !slices.Contains(requiredKeys, key) && !slices.Contains(optionalKeys, key) {
			known := slices.Concat(requiredKeys, optionalKeys)
			return r.wrong(r.at, "no request has the key %q%s", key, didYouMean(key, known))
		}
		if key == "headers" {
			err = r.headers()
		} else {
			values[key], err = r.string(fmt.Sprintf("%q", key))
		}
		if err != nil {
			return err
		}
	}
	for _, key := range requiredKeys {
		if _, ok := places[key]; !ok {
			return r.wrong(begin, "the request lacks %q, which every request has; an example is %s", key, exampleSample)
		}
	}
	switch uri := values["uri"]; {
	case values["method"] == "":
		return r.wrong(places["method"], "\"method\" is empty; write for example \"GET\"")
	case !strings.HasPrefix(uri, "/") && uri != "*":
		return r.wrong(places["uri"], "\"uri\" is %q, and a request's is a path and perhaps a query, such as \"/api/x?q=1\"", uri)
	case values["trace_id"] == "":
		return r.wrong(places["trace_id"], "\"trace_id\" is empty; write any text, such as \"sample\"")
	}
	return r.body(values["body"], values["body_base64"], places, maxBody)
}

// body checks a body and the place of either form of it.
func (r *sampleReader) body(body, encoded string, places map[string]int, maxBody int64) error {
	length, at := len(body), places["body"]
	if encoded != "" {
		at = places["body_base64"]
		if body != "" {
			return r.wrong(at, "\"body_base64\" stands beside a \"body\" that is not empty; a request has one of them")
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return r.wrong(at, "\"body_base64\" is not base64 with padding: %v", err)
		}
		length = len(decoded)
	}
	if int64(length) > maxBody {
		return r.wrong(at, "the body has %d bytes, and max_body lets no request have more than %d", length, maxBody)
	}
	return nil
}

// headers reads an object of lists of strings.
func (r *sampleReader) headers() error {
	token, err := r.next()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return r.wrong(r.at, "\"headers\" is an object of lists, such as {\"Accept\":[\"*/*\"]}")
	}
	seen := map[string]bool{}
	for r.tokens.More() {
		if token, err = r.next(); err != nil {
			return err
		}
		name := token.(string) // as above
		if seen[name] {
			return r.wrong(r.at, "the header %q is given twice; put both values into one list", name)
		}
		seen[name] = true
		if token, err = r.next(); err != nil {
			return err
		}
		if token != json.Delim('[') {
			return r.wrong(r.at, "the header %q has a list of values, such as [\"a\"]", name)
		}
		for r.tokens.More() {
			if _, err := r.string(fmt.Sprintf("a value of the header %q", name)); err != nil {
				return err
			}
		}
		if _, err := r.next(); err != nil { // the list's end
			return err
		}
	}
	_, err = r.next()
	return err
}

// string reads a value that must be one.
func (r *sampleReader) string(what string) (string, error) {
	token, err := r.next()
	if err != nil {
		return "", err
	}
	text, ok := token.(string)
	if !ok {
		return "", r.wrong(r.at, "%s must be a string", what)
	}
	return text, nil
}

// next is the next token. The syntax was checked before, so an error means that the decoder saw another text.
func (r *sampleReader) next() (json.Token, error) {
	r.at = int(r.tokens.InputOffset())
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n:,", r.text[r.at]) >= 0 {
		r.at++
	}
	return r.tokens.Token()
}

// wrong is a mistake at a byte of the text.
func (r *sampleReader) wrong(at int, format string, args ...any) error {
	before := r.text[:min(at, len(r.text))]
	begin := bytes.LastIndexByte(before, '\n') + 1
	return &mistake{
		line:   bytes.Count(before, []byte("\n")) + 1,
		column: utf8.RuneCount(before[begin:]) + 1,
		text:   fmt.Sprintf(format, args...),
	}
}

// Interface guards
var (
	_ error = (*sampleError)(nil)
	_ error = (*mistake)(nil)
)
