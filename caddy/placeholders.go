package gojinn

import (
	"encoding/base64"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// value is a text of the config with its placeholders: those that the server knows are resolved once, the rest belong to
// each request. A text that came out of a placeholder is never looked at again, so no request can smuggle one in.
type value struct {
	parts []part
}

// part is literal text or, where key is set, a placeholder of the request. Literal is then how it was written.
type part struct {
	literal, key string
}

// doubts are placeholders of a value that are likely to be mistakes.
type doubts struct {
	// unset are environment variables that are empty.
	unset []string
	// unknown have a prefix that is the server's, and a name that the server does not know.
	unknown []string
}

// parseValue finds the placeholders of a text as Caddy's own replacer does it, and resolves those that the server knows.
//
// A name reaches from a brace to the next closing brace. Where that is no name of a placeholder the brace is text, and the
// search goes on behind it: JSON, templates and regular expressions keep their braces, and what is inside them is still
// found. `\{` and `\}` are braces that are never looked at. chosen says whether a name is one that the config itself gives
// to a placeholder.
func parseValue(text string, repl *caddy.Replacer, chosen func(name string) bool) (v value, d doubts) {
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			v.parts = append(v.parts, part{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '{' || text[i+1] == '}'):
			i++
			literal.WriteByte(text[i])
		case c == '{':
			name, ok := placeholderName(text[i:])
			if !ok {
				literal.WriteByte(c)
				continue
			}
			end := i + 1 + len(name)
			placeholder := text[i : end+1]
			if known, ok := repl.Get(name); ok {
				replaced := caddy.ToString(known)
				if replaced == "" && strings.HasPrefix(name, "env.") {
					d.unset = append(d.unset, placeholder)
				}
				literal.WriteString(replaced)
				i = end
				continue
			}
			inTemplate := i > 0 && text[i-1] == '{' && end+1 < len(text) && text[end+1] == '}'
			switch {
			case strings.HasPrefix(name, "http."), !inTemplate && isDotted(name) && !isServers(name), isIdentifier(name) && chosen(name):
				flush()
				v.parts = append(v.parts, part{literal: strings.ReplaceAll(placeholder, `\}`, "}"), key: name})
				i = end
			default:
				if isDotted(name) && isServers(name) {
					d.unknown = append(d.unknown, placeholder)
				}
				literal.WriteByte(c)
			}
		default:
			literal.WriteByte(c)
		}
	}
	flush()
	return v, d
}

// placeholderName is what could be the name of a placeholder that text begins with. An escaped brace does not end it, and
// a second opening brace makes it text: the name may begin there.
func placeholderName(text string) (name string, ok bool) {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '{':
			return "", false
		case '}':
			if text[i-1] != '\\' {
				return text[1:i], i > 1
			}
		}
	}
	return "", false
}

// isServers says whether a name has a prefix of which Caddy's server resolves all placeholders there are.
func isServers(name string) bool {
	prefix, _, _ := strings.Cut(name, ".")
	switch prefix {
	case "env", "file", "system", "time":
		return true
	default:
		return false
	}
}

// isDotted says whether a name has the form that Caddy's modules give to their placeholders: identifiers with dots
// between them, such as geoip2.country_code.
func isDotted(name string) bool {
	first, rest, dotted := strings.Cut(name, ".")
	if !dotted || !isIdentifier(first) {
		return false
	}
	for word := range strings.SplitSeq(rest, ".") {
		if word == "" || strings.ContainsFunc(word, isNoLetter) {
			return false
		}
	}
	return true
}

// isIdentifier says whether a name is a letter and then letters, digits, underscores and hyphens.
func isIdentifier(name string) bool {
	if name == "" || strings.ContainsFunc(name, isNoLetter) {
		return false
	}
	first := name[0] | 0x20
	return first >= 'a' && first <= 'z'
}

func isNoLetter(r rune) bool {
	return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// static is the whole text, if no request has a part in it.
func (v *value) static() (text string, ok bool) {
	switch {
	case len(v.parts) == 0:
		return "", true
	case len(v.parts) == 1 && v.parts[0].key == "":
		return v.parts[0].literal, true
	default:
		return "", false
	}
}

// expand is the text for one request with this body. A placeholder that nothing has set stays as it was written.
func (v *value) expand(repl *caddy.Replacer, body []byte) (string, error) {
	if len(v.parts) == 1 {
		return v.parts[0].expand(repl, body)
	}
	var b strings.Builder
	for i := range v.parts {
		text, err := v.parts[i].expand(repl, body)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (p *part) expand(repl *caddy.Replacer, body []byte) (text string, err error) {
	switch p.key {
	case "":
		return p.literal, nil
	case "http.request.body":
		// The body was read already, by the handler and within its bound. Caddy's placeholder would find nothing more to
		// read where a handler before this one made a copy of the request.
		text = string(body)
	case "http.request.body_base64":
		text = base64.StdEncoding.EncodeToString(body)
	default:
		var ok bool
		if text, ok = repl.GetString(p.key); !ok {
			return p.literal, nil
		}
	}
	return text, checkNUL(p.literal, text)
}
