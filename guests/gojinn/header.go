package gojinn

import (
	"strings"
	"unicode/utf8"
)

// Header maps canonical header names ("Content-Type") to their values. It converts to an http.Header and back. Values hold
// the bytes of the client, and are sent to it, whether or not they are UTF-8.
type Header map[string][]string

// Set makes value the only one of that name.
func (h Header) Set(name, value string) {
	h[canonical(name)] = []string{value}
}

// Add adds a value to those of that name.
func (h Header) Add(name, value string) {
	name = canonical(name)
	h[name] = append(h[name], value)
}

// Del removes all values of that name.
func (h Header) Del(name string) {
	delete(h, canonical(name))
}

// Remove makes it a name without values. In what [Next] returns, that removes the header from the request or the response;
// elsewhere it is the same as Del.
func (h Header) Remove(name string) {
	h[canonical(name)] = nil
}

// Get is the first value of that name, in any case; "" if there is none.
func (h Header) Get(name string) string {
	if values := h.Values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Values are all values of that name, in any case. They are not a copy.
func (h Header) Values(name string) []string {
	return h[canonical(name)]
}

// canonical spells a name as Go and the host do: capitals at the start and after each hyphen. net/textproto knows how, too,
// but brings the whole of net with it.
func canonical(name string) string {
	spelled := []byte(name)
	begins := true
	for i, c := range spelled {
		switch {
		case begins && 'a' <= c && c <= 'z':
			spelled[i] = c - 'a' + 'A'
		case !begins && 'A' <= c && c <= 'Z':
			spelled[i] = c - 'A' + 'a'
		}
		begins = c == '-'
	}
	return string(spelled)
}

// In JSON a header value is text. For a byte that is not part of valid UTF-8 the contract has a character, the byte's number
// added to U+10FF00: U+10FF80 to U+10FFFF, the last characters of Unicode.
const (
	standIns     = 0x10ff00
	firstStandIn = standIns + 0x80
)

// isASCII says whether a value has no other bytes, as nearly all have.
func isASCII(value string) bool {
	for i := range len(value) {
		if value[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// fromHost is a value as the client sent it.
func fromHost(value string) string {
	isStandIn := func(r rune) bool { return r >= firstStandIn }
	if isASCII(value) || !strings.ContainsFunc(value, isStandIn) {
		return value
	}
	sent := make([]byte, 0, len(value))
	for _, r := range value {
		if isStandIn(r) {
			sent = append(sent, byte(r-standIns))
		} else {
			sent = utf8.AppendRune(sent, r)
		}
	}
	return string(sent)
}

// toHost is a value as the host reads it.
func toHost(value string) string {
	if isASCII(value) || utf8.ValidString(value) && !strings.ContainsFunc(value, func(r rune) bool { return r >= firstStandIn }) {
		return value
	}
	text := make([]byte, 0, len(value)+16)
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRuneInString(value[i:])
		if r == utf8.RuneError && size == 1 || r >= firstStandIn {
			for _, b := range []byte(value[i : i+size]) {
				text = utf8.AppendRune(text, standIns+rune(b))
			}
		} else {
			text = append(text, value[i:i+size]...)
		}
		i += size
	}
	return string(text)
}

// toHost is the header as the host reads it. Nearly always that is the header itself.
func (h Header) toHost() Header {
	var converted Header
	for name, values := range h {
		for i, value := range values {
			text := toHost(value)
			if text == value {
				continue
			}
			if converted == nil {
				converted = Header{}
				for name, values := range h {
					converted[name] = values
				}
			}
			values = append([]string(nil), converted[name]...)
			values[i] = text
			converted[name] = values
		}
	}
	if converted != nil {
		return converted
	}
	return h
}
