// This file finds and resolves the placeholders in the values of env and args.

package gojinn

import (
	"encoding/base64"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// value is a text of the config with placeholders. Those that do not depend on a request are resolved when the config is loaded,
// the others for each request. The content of a placeholder is not searched for placeholders, so that no request can add one.
type value struct {
	parts []part
}

// part is literal text or, if key is not empty, a placeholder of the request as it is written in the config.
type part struct {
	literal, key string
}

// doubts are the placeholders of a value that are probably mistakes.
type doubts struct {
	// unset are environment variables that are empty.
	unset []string
	// unknown are names that Caddy's server does not know, with a prefix of which it knows all names.
	unknown []string
}

// parseValue finds the placeholders of a text as Caddy's replacer does, and resolves those that do not depend on a request.
//
// A name ends at the next closing brace. If it is not the name of a placeholder, the opening brace is text, and the search
// continues after it: JSON, templates and regular expressions keep their braces, and placeholders inside them are found. `\{`
// and `\}` are always text. names knows which placeholders there can be besides Caddy's.
func parseValue(text string, repl *caddy.Replacer, names *otherNames) (v value, d doubts) {
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
			case strings.HasPrefix(name, "http."), names.chosen(name), !inTemplate && !isServers(name) && names.plugins(name):
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

// placeholderName returns the name of the placeholder with which text begins. An escaped brace does not end it. If there is a
// second opening brace the first one is text, and the name may begin at the second one.
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

// isServers reports whether a name has a prefix of which Caddy's server knows all names.
func isServers(name string) bool {
	prefix, _, _ := strings.Cut(name, ".")
	switch prefix {
	case "env", "file", "system", "time":
		return true
	default:
		return false
	}
}

// isDotted reports whether a name has the form of the placeholders of Caddy's modules: identifiers with dots between them, such
// as geoip2.country_code.
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

// isIdentifier reports whether a name is a letter, followed by letters, digits, underscores and hyphens.
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

// static returns the text if it does not depend on a request.
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

// expand returns the text for one request with this body. A placeholder that is not set stays as it is written.
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
		// The handler has read the body, within its limit. Caddy's placeholder would find nothing left to read if an
		// earlier handler has copied the request.
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
