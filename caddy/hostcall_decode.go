// This file reads the requests of operations: a JSON object, a newline, and bytes.

package gojinn

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// decodeRequest reads the JSON object of a request into fields, by key, and returns the bytes after it. A field that the request
// does not have, or that is null, keeps its value. fields is used up.
//
// It finds keys and values itself and leaves the rest to encoding/json, whose Decoder takes several times as long, and whose
// Unmarshal accepts keys in any case, and twice.
func decodeRequest(request []byte, fields map[string]any) (body []byte, err error) {
	object, body, _ := bytes.Cut(request, []byte{'\n'})
	object = bytes.TrimSpace(object)
	if len(object) == 0 {
		return body, nil
	}
	switch {
	case !utf8.Valid(object):
		return nil, badRequest("the first line of the request is not UTF-8")
	case object[0] != '{' || !json.Valid(object):
		return nil, badRequest("the first line of the request is not a JSON object, and nothing else")
	}
	// The object is valid, so what follows what is known.
	rest := bytes.TrimLeft(object[1:], jsonSpace)
	for rest[0] != '}' {
		text, after := cutValue(rest)
		var key string
		if err := decodeValue(text, &key); err != nil {
			return nil, badRequest("a key of the request is wrong: %v", err)
		}
		value, after := cutValue(bytes.TrimLeft(after, jsonSpace+":"))
		field, known := fields[key]
		switch {
		case !known:
			return nil, badRequest("the key %.64q of the request is unknown", key)
		case field == nil:
			return nil, badRequest("the key %q of the request is given twice", key)
		}
		fields[key] = nil
		if err := decodeValue(value, field); err != nil {
			return nil, badRequest("the key %q of the request is wrong: %v", key, err)
		}
		rest = bytes.TrimLeft(after, jsonSpace+",")
	}
	return body, nil
}

const jsonSpace = " \t\r"

// cutValue returns the JSON value with which a part of a valid object begins, and what follows it.
func cutValue(text []byte) (value, after []byte) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return bytes.TrimRight(text[:i], jsonSpace), text[i:]
			}
			depth--
		case ',', ':':
			if depth == 0 {
				return bytes.TrimRight(text[:i], jsonSpace), text[i:]
			}
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
	return text, nil
}

// decodeValue reads a JSON value. Most are strings without escapes, and small numbers.
func decodeValue(value []byte, into any) error {
	switch field := into.(type) {
	case *string:
		if value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
			*field = string(value[1 : len(value)-1])
			return nil
		}
	case *int64:
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			*field = n
			return nil
		}
	}
	return json.Unmarshal(value, into)
}
