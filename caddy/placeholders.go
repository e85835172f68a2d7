package gojinn

import (
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

// parseValue resolves what the server knows. unset are the placeholders `{env.*}` that came out empty.
func parseValue(text string, repl *caddy.Replacer) (v value, unset []string) {
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
			length := closingBrace(text[i:])
			if length < 0 {
				literal.WriteByte(c)
				continue
			}
			key := text[i+1 : i+length]
			if known, ok := repl.Get(key); ok {
				replaced := caddy.ToString(known)
				if replaced == "" && strings.HasPrefix(key, "env.") {
					unset = append(unset, "{"+key+"}")
				}
				literal.WriteString(replaced)
			} else {
				flush()
				v.parts = append(v.parts, part{literal: text[i : i+length+1], key: key})
			}
			i += length
		default:
			literal.WriteByte(c)
		}
	}
	flush()
	return v, unset
}

// closingBrace is where the placeholder that text begins with ends, or -1. An escaped brace does not end it.
func closingBrace(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] == '}' && text[i-1] != '\\' {
			return i
		}
	}
	return -1
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

// expand is the text for one request. A placeholder that nobody knows stays as it was written.
func (v *value) expand(repl *caddy.Replacer) (string, error) {
	if len(v.parts) == 1 {
		return expandPart(&v.parts[0], repl)
	}
	var b strings.Builder
	for i := range v.parts {
		text, err := expandPart(&v.parts[i], repl)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func expandPart(p *part, repl *caddy.Replacer) (string, error) {
	if p.key == "" {
		return p.literal, nil
	}
	text, ok := repl.GetString(p.key)
	if !ok {
		return p.literal, nil
	}
	return text, checkNUL(p.literal, text)
}
