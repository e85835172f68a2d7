package gojinn

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"
)

// reader reads requests from stdin. They are frames, or JSON, which the host writes in one form. That is read here without
// reflection: it takes a small part of the time of encoding/json. All that has another form, and is JSON, is left to encoding/json
// from then on.
type reader struct {
	in io.Reader
	// framed is whether the last request was a frame. Its response is one, too.
	framed bool
	// buffer has what was read and not used.
	buffer []byte
	// decoder reads everything else, once something had another form.
	decoder *json.Decoder
}

// firstRead is how much is read at once at first: more than most requests have.
const firstRead = 4096

// next takes the next request; io.EOF says that there is none.
func (r *reader) next() (*Request, error) {
	for r.decoder == nil {
		r.keep(r.buffer)
		if r.framed = len(r.buffer) > 0 && r.buffer[0] == takesFrames[0]; r.framed {
			return r.frame()
		}
		// A request is whole when it ends with the object, or with the line.
		if n := len(r.buffer); n > 0 && (r.buffer[n-1] == '}' || r.buffer[n-1] == '\n') {
			wire, rest, form := parseRequest(r.buffer)
			if form == whole {
				r.keep(rest)
				return wire.request(), nil
			}
			if form == other {
				break
			}
		}
		if free := cap(r.buffer) - len(r.buffer); free == 0 {
			r.buffer = append(make([]byte, 0, max(firstRead, 2*cap(r.buffer))), r.buffer...)
		}
		n, err := r.in.Read(r.buffer[len(r.buffer):cap(r.buffer)])
		r.buffer = r.buffer[:len(r.buffer)+n]
		if err == nil || n > 0 {
			continue
		}
		if err == io.EOF && len(r.buffer) == 0 {
			return nil, err
		}
		break
	}
	if r.decoder == nil {
		r.decoder = json.NewDecoder(io.MultiReader(bytes.NewReader(r.buffer), r.in))
		r.buffer = nil
	}
	var wire wireRequest
	if err := r.decoder.Decode(&wire); err != nil {
		return nil, err
	}
	return wire.request(), nil
}

// keep keeps rest, the end of the buffer, but for line breaks at its beginning. It is moved to the front, where there is room.
func (r *reader) keep(rest []byte) {
	for len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	r.buffer = r.buffer[:copy(r.buffer, rest)]
}

// form says what the bytes of a request are.
type form int

const (
	// whole is a request in the host's form.
	whole form = iota
	// part is the beginning of one.
	part
	// other is anything else.
	other
)

// parser reads a text in the host's form: no white space, no key twice, and no value but strings and header objects.
type parser struct {
	text string
	at   int
	// is stays whole until the text has ended too early, or is not in this form.
	is form
}

// parseRequest reads the first request of text. rest is what follows it.
func parseRequest(text []byte) (wire *wireRequest, rest []byte, is form) {
	// One string for all that is read: most values are parts of it.
	p := &parser{text: string(text)}
	wire = &wireRequest{}
	fields := [...]struct {
		key   string
		value *string
	}{
		{"method", &wire.Method}, {"uri", &wire.URI}, {"body", &wire.Body}, {"trace_id", &wire.TraceID},
		{"remote_addr", &wire.RemoteAddr}, {"client_ip", &wire.ClientIP}, {"scheme", &wire.Scheme}, {"host", &wire.Host},
		{"proto", &wire.Proto}, {"original_uri", &wire.OriginalURI},
	}
	var seen [len(fields)]bool
	p.object(func(key string) {
		for i := range fields {
			if fields[i].key == key && !seen[i] {
				seen[i] = true
				*fields[i].value = p.string()
				return
			}
		}
		switch {
		case key == "headers" && wire.Headers == nil:
			wire.Headers = p.headers()
		case key == "body_base64" && wire.BodyBase64 == nil:
			bytes, err := base64.StdEncoding.Strict().DecodeString(p.string())
			if wire.BodyBase64 = bytes; err != nil {
				p.fail(other)
			}
		default:
			p.fail(other)
		}
	})
	return wire, text[p.at:], p.is
}

// fail notes why the text is not read on.
func (p *parser) fail(is form) {
	if p.is == whole {
		p.is = is
	}
}

// peek is the next byte, or 0.
func (p *parser) peek() byte {
	if p.is != whole {
		return 0
	}
	if p.at == len(p.text) {
		p.fail(part)
		return 0
	}
	return p.text[p.at]
}

// take takes the next byte, which must be c.
func (p *parser) take(c byte) {
	if p.peek() != c {
		p.fail(other)
		return
	}
	p.at++
}

// object reads an object. member is called for each key and reads its value.
func (p *parser) object(member func(key string)) {
	p.take('{')
	if p.peek() == '}' {
		p.at++
		return
	}
	for p.is == whole {
		key := p.string()
		p.take(':')
		if p.is == whole {
			member(key)
		}
		if p.peek() != ',' {
			break
		}
		p.at++
	}
	p.take('}')
}

// headers reads an object of lists of strings.
func (p *parser) headers() Header {
	// More would take a larger map.
	header := make(Header, 14)
	// One allocation for the values of most requests.
	values := make([]string, 0, 24)
	p.object(func(name string) {
		if _, ok := header[name]; ok {
			p.fail(other)
		}
		from := len(values)
		p.take('[')
		for p.is == whole && p.peek() != ']' {
			if len(values) > from {
				p.take(',')
			}
			values = append(values, p.string())
		}
		p.take(']')
		header[name] = values[from:len(values):len(values)]
	})
	return header
}

// string reads a string.
func (p *parser) string() string {
	p.take('"')
	from := p.at
	var unescaped []byte
	ascii := true
	for p.is == whole {
		// The common bytes first, in a loop without calls.
		text, at := p.text, p.at
		for at < len(text) && text[at] >= ' ' && text[at] != '"' && text[at] != '\\' {
			if text[at] >= utf8.RuneSelf {
				ascii = false
			}
			at++
		}
		p.at = at
		switch p.peek() {
		case '"':
			value := text[from:at]
			p.at++
			if unescaped != nil {
				value = string(append(unescaped, value...))
			}
			if !ascii && !utf8.ValidString(value) {
				p.fail(other)
			}
			return value
		case '\\':
			unescaped = append(unescaped, text[from:at]...)
			p.at++
			unescaped = p.escape(unescaped)
			from = p.at
		default:
			p.fail(other)
		}
	}
	return ""
}

// escape reads what follows a backslash. What the host never writes, such as halves of surrogate pairs, is another form.
func (p *parser) escape(to []byte) []byte {
	c := p.peek()
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 && p.is == whole {
		p.at++
		return append(to, "\"\\/\b\f\n\r\t"[i])
	}
	p.take('u')
	var char rune
	for range 4 {
		c := p.peek()
		switch {
		case '0' <= c && c <= '9':
			char = char<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			char = char<<4 | rune(c-'a'+10)
		default:
			p.fail(other)
			return to
		}
		p.at++
	}
	if !utf8.ValidRune(char) {
		p.fail(other)
	}
	return utf8.AppendRune(to, char)
}
