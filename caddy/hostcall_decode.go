// This file reads the requests of operations: a JSON object, a newline, and bytes.

package gojinn

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
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
	err = eachMember(object, func(text, value []byte) error {
		var key string
		if err := decodeValue(text, &key); err != nil {
			return badRequest("a key of the request is wrong: %v", err)
		}
		field, known := fields[key]
		switch {
		case !known:
			return badRequest("the key %.64q of the request is unknown", key)
		case field == nil:
			return badRequest("the key %q of the request is given twice", key)
		}
		fields[key] = nil
		if err := decodeValue(value, field); err != nil {
			return badRequest("the key %q of the request is wrong: %v", key, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// eachMember calls visit with each key and value of a JSON object, which is valid, so that what follows what is known.
func eachMember(object []byte, visit func(key, value []byte) error) error {
	rest := bytes.TrimLeft(object[1:], jsonSpace)
	for rest[0] != '}' {
		key, after := cutValue(rest)
		value, after := cutValue(bytes.TrimLeft(after, jsonSpace+":"))
		if err := visit(key, value); err != nil {
			return err
		}
		rest = bytes.TrimLeft(after, jsonSpace+",")
	}
	return nil
}

const jsonSpace = " \t\r"

// notGiven is the value of a number that a request does not have.
const notGiven = math.MinInt64

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
		if value[0] != '"' {
			break
		}
		if bytes.IndexByte(value, '\\') < 0 {
			*field = string(value[1 : len(value)-1])
			return nil
		}
		if hasHalfAPair(value) {
			return errors.New("a text has half of a surrogate pair, which is no character")
		}
	case *int64:
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			*field = n
			return nil
		}
	case *map[string]headerValues:
		if value[0] == '{' {
			return decodeHeaders(value, field)
		}
	case *headerValues:
		if value[0] == '"' {
			*field = headerValues{""}
			return decodeValue(value, &(*field)[0])
		}
		if value[0] == '[' {
			return decodeHeaderValues(value, field)
		}
	}
	return json.Unmarshal(value, into)
}

// hasHalfAPair reports whether a JSON string, which is valid, has an escaped surrogate that is not one of a pair. encoding/json would
// replace it, so that different keys would become the same.
func hasHalfAPair(text []byte) bool {
	surrogate := func(i int) rune {
		if i+6 > len(text) || text[i] != '\\' || text[i+1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(string(text[i+2:i+6]), 16, 32)
		if err != nil || !utf16.IsSurrogate(rune(n)) {
			return -1
		}
		return rune(n)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if first := surrogate(i); first >= 0 {
			if utf16.DecodeRune(first, surrogate(i+6)) == utf8.RuneError {
				return true
			}
			i += 6
		}
		i++ // what is escaped
	}
	return false
}

// decodeHeaders reads a JSON object of headers. The last value of a name counts, as in encoding/json.
func decodeHeaders(object []byte, into *map[string]headerValues) error {
	headers := map[string]headerValues{}
	*into = headers
	return eachMember(object, func(text, value []byte) error {
		var name string
		if err := decodeValue(text, &name); err != nil {
			return err
		}
		var values headerValues
		err := decodeValue(value, &values)
		headers[name] = values
		return err
	})
}

// decodeHeaderValues reads a JSON array of strings.
func decodeHeaderValues(array []byte, into *headerValues) error {
	rest := bytes.TrimLeft(array[1:], jsonSpace)
	for rest[0] != ']' {
		value, after := cutValue(rest)
		switch value[0] {
		case '"':
		case 'n':
			return errors.New("a value is null")
		default:
			return errHeaderValue
		}
		var text string
		if err := decodeValue(value, &text); err != nil {
			return err
		}
		*into = append(*into, text)
		rest = bytes.TrimLeft(after, jsonSpace+",")
	}
	return nil
}

var errHeaderValue = errors.New("want strings, or arrays of strings")
