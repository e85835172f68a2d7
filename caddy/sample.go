// This file reads the sample request of a warm-up, and says what is wrong with it.

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

// maxSample is the largest file of a sample request, in bytes. Its text is kept with the function.
const maxSample = 10_000_000

// readSample returns the request in a file as the function will read it from stdin: one line, whatever white space the file
// has, and a newline. The state of the file is that of just before it was read. Every error is a *sampleError.
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
			"use a smaller request", info.Size(), maxSample))
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

// withoutPath removes the path from an error of the file system, for callers that add it.
func withoutPath(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// mistake is an error at a position in a text. Lines and columns count from 1, columns in characters.
type mistake struct {
	line, column int
	text         string
}

// Error implements error.
func (m *mistake) Error() string { return fmt.Sprintf("%d:%d: %s", m.line, m.column, m.text) }

// The keys of a request, as in docs/contract.md. Every request has the required ones. All values but headers are strings.
var (
	requiredKeys = []string{"method", "uri", "headers", "body", "trace_id"}
	optionalKeys = []string{"body_base64", "remote_addr", "client_ip", "scheme", "host", "proto", "original_uri"}
)

// checkSample checks that a text is a request. All errors are of type *mistake.
func checkSample(text []byte, maxBody int64) error {
	r := sampleReader{text: text}
	if err := r.syntax(); err != nil {
		return err
	}
	r.tokens = json.NewDecoder(bytes.NewReader(text))
	return r.request(maxBody)
}

// sampleReader reads a text token by token, and knows the position of each.
type sampleReader struct {
	text   []byte
	tokens *json.Decoder
	// at is the offset at which the last token begins.
	at int
}

// syntax checks that the text is one JSON value in UTF-8.
func (r *sampleReader) syntax() error {
	for i := 0; i < len(r.text); {
		c, size := utf8.DecodeRune(r.text[i:])
		if c == utf8.RuneError && size == 1 {
			return r.wrong(i, "the text is not UTF-8; write a body that is not text into \"body_base64\"")
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
		// The error's offset is just after the wrong character.
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
		key := token.(string) // the decoder returns no other type for a key
		if _, twice := places[key]; twice {
			return r.wrong(r.at, "%q is given twice; remove one", key)
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
			return r.wrong(begin, "the request lacks %q, which every request has; write for example %s", key, exampleSample)
		}
	}
	switch uri := values["uri"]; {
	case values["method"] == "":
		return r.wrong(places["method"], "\"method\" is empty; write for example \"GET\"")
	case !strings.HasPrefix(uri, "/") && uri != "*":
		return r.wrong(places["uri"], "\"uri\" is %q, but must be a path with an optional query, such as \"/api/x?q=1\"", uri)
	case values["trace_id"] == "":
		return r.wrong(places["trace_id"], "\"trace_id\" is empty; write any text, such as \"sample\"")
	}
	return r.body(values["body"], values["body_base64"], places, maxBody)
}

// body checks a body, which is text or base64. places has the offsets of the keys.
func (r *sampleReader) body(body, encoded string, places map[string]int, maxBody int64) error {
	length, at := len(body), places["body"]
	if encoded != "" {
		at = places["body_base64"]
		if body != "" {
			return r.wrong(at, "\"body_base64\" and \"body\" both have content; empty one of them")
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return r.wrong(at, "\"body_base64\" is not base64 with padding: %v", err)
		}
		length = len(decoded)
	}
	if int64(length) > maxBody {
		return r.wrong(at, "the body has %d bytes, more than the %d of max_body; shorten it, or raise max_body", length, maxBody)
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
		return r.wrong(r.at, "\"headers\" must be an object of lists, such as {\"Accept\":[\"*/*\"]}")
	}
	seen := map[string]bool{}
	for r.tokens.More() {
		if token, err = r.next(); err != nil {
			return err
		}
		name := token.(string) // a key, as above
		if seen[name] {
			return r.wrong(r.at, "the header %q is given twice; put both values into one list", name)
		}
		seen[name] = true
		if token, err = r.next(); err != nil {
			return err
		}
		if token != json.Delim('[') {
			return r.wrong(r.at, "the value of the header %q must be a list, such as [\"a\"]", name)
		}
		for r.tokens.More() {
			if _, err := r.string(fmt.Sprintf("a value of the header %q", name)); err != nil {
				return err
			}
		}
		if _, err := r.next(); err != nil { // the end of the list
			return err
		}
	}
	_, err = r.next()
	return err
}

// string reads a value that must be a string.
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

// next returns the next token. The syntax was checked before, so it fails only if the decoder reads another text.
func (r *sampleReader) next() (json.Token, error) {
	r.at = int(r.tokens.InputOffset())
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n:,", r.text[r.at]) >= 0 {
		r.at++
	}
	return r.tokens.Token()
}

// wrong returns a mistake at an offset of the text.
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
