package gojinn

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// writer writes responses to stdout, each as one line, as encoding/json would do it. Most need no reflection.
type writer struct {
	out     io.Writer
	encoder *json.Encoder
	line    []byte
}

func newWriter(out io.Writer) *writer {
	w := &writer{out: out, encoder: json.NewEncoder(out)}
	// The host reads JSON, not HTML: <, > and & need no escape.
	w.encoder.SetEscapeHTML(false)
	return w
}

// write writes a response: the body as text where that is about as short, else as base64.
func (w *writer) write(response *Response) error {
	header := response.Header.toHost()
	if response.Next != nil {
		return w.writeNext(response, header)
	}
	line := append(w.line[:0], `{"status":`...)
	line = strconv.AppendInt(line, int64(response.Status), 10)
	if len(header) > 0 {
		line = append(line, `,"headers":`...)
		line = appendHeader(line, header)
	}
	switch body := response.Body; {
	case len(body) == 0:
	case isText(body):
		line = append(line, `,"body":`...)
		line = appendString(line, body)
	default:
		line = append(line, `,"body_base64":"`...)
		line = append(base64.StdEncoding.AppendEncode(line, body), '"')
	}
	w.line = append(line, '}', '\n')
	_, err := w.out.Write(w.line)
	return err
}

// writeNext writes how the request goes on.
func (w *writer) writeNext(response *Response, header Header) error {
	next := response.Next
	wire := wireNext{
		Status: response.Status, Headers: next.Header.toHost(), Next: true, Method: next.Method, URI: next.URI, Vars: next.Vars,
		ResponseHeaders: header,
	}
	if isText(response.Body) {
		wire.Body = string(response.Body)
	} else {
		wire.BodyBase64 = response.Body
	}
	return w.encoder.Encode(wire)
}

func appendHeader(to []byte, header Header) []byte {
	var few [16]string
	names := few[:0]
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		to = append(to, "{,"[min(i, 1)])
		to = append(appendString(to, name), ':')
		values := header[name]
		if values == nil {
			to = append(to, "null"...)
			continue
		}
		to = append(to, '[')
		for i, value := range values {
			if i > 0 {
				to = append(to, ',')
			}
			to = appendString(to, value)
		}
		to = append(to, ']')
	}
	return append(to, '}')
}

// appendString appends text as a string of JSON.
func appendString[T string | []byte](to []byte, text T) []byte {
	before := len(to)
	to = append(to, '"')
	from := 0
	for at := 0; at < len(text); at++ {
		c := text[at]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			continue
		}
		if c >= utf8.RuneSelf {
			// There are characters that encoding/json escapes, and bytes that it replaces.
			return appendAny(to[:before], string(text))
		}
		to = append(to, text[from:at]...)
		from = at + 1
		switch c {
		case '"', '\\':
			to = append(to, '\\', c)
		case '\n':
			to = append(to, '\\', 'n')
		case '\r':
			to = append(to, '\\', 'r')
		case '\t':
			to = append(to, '\\', 't')
		case '\b':
			to = append(to, '\\', 'b')
		case '\f':
			to = append(to, '\\', 'f')
		default:
			to = append(to, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	return append(append(to, text[from:]...), '"')
}

// appendAny appends text as encoding/json writes it.
func appendAny(to []byte, text string) []byte {
	buffer := appending(to)
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	// Strings can be written, and so can all that goes into memory.
	_ = encoder.Encode(text)
	return buffer[:len(buffer)-1]
}

// appending is an io.Writer to memory.
type appending []byte

func (a *appending) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}
