package gojinn

import "time"

// KV is a key-value store that the Caddyfile gives to the function.
//
//	visits := gojinn.KV("visits")
//	n, err := visits.Increment("home", 1)
//
// Keys are UTF-8 of 1 to 512 bytes without control characters, values are any bytes, at most 1 000 000 of them.
type KV string

// keyRequest is the head of most requests.
type keyRequest struct {
	Store string `json:"store"`
	Key   string `json:"key"`
	TTL   int64  `json:"ttl_ms,omitempty"`
}

// Get returns the value of a key. If there is none, errors.Is(err, ErrNotFound).
func (s KV) Get(key string) ([]byte, error) {
	return callJSON("kv.get", keyRequest{Store: string(s), Key: key}, nil, nil)
}

// Set sets the value of a key, which stays until it is deleted.
func (s KV) Set(key string, value []byte) error { return s.SetFor(key, value, 0) }

// SetFor sets the value of a key, which is deleted after a time, or stays if that is 0.
func (s KV) SetFor(key string, value []byte, ttl time.Duration) error {
	_, err := callJSON("kv.set", keyRequest{string(s), key, milliseconds(ttl)}, value, nil)
	return err
}

// Delete deletes a key. It is no error if there is none.
func (s KV) Delete(key string) error {
	_, err := callJSON("kv.delete", keyRequest{Store: string(s), Key: key}, nil, nil)
	return err
}

// Exists reports whether there is a key.
func (s KV) Exists(key string) (bool, error) {
	var answer struct {
		Exists bool `json:"exists"`
	}
	_, err := callJSON("kv.exists", keyRequest{Store: string(s), Key: key}, nil, &answer)
	return answer.Exists, err
}

// Keys returns all keys that begin with prefix, each once. A store may have many of them; Page returns a part.
func (s KV) Keys(prefix string) ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for cursor := ""; ; {
		keys, next, err := s.Page(prefix, cursor, 1000)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if !seen[key] {
				seen[key] = true
				all = append(all, key)
			}
		}
		if next == "" {
			return all, nil
		}
		cursor = next
	}
}

// Page returns at most limit (1 to 1000) of the keys that begin with prefix. cursor is empty for the first page, and else the next
// that the page before returned; next is empty after the last page. A page may be empty, and a key may be on two pages.
func (s KV) Page(prefix, cursor string, limit int) (keys []string, next string, err error) {
	request := struct {
		Store  string `json:"store"`
		Prefix string `json:"prefix,omitempty"`
		Cursor string `json:"cursor,omitempty"`
		Limit  int    `json:"limit"`
	}{string(s), prefix, cursor, limit}
	var answer struct {
		Keys   []string `json:"keys"`
		Cursor string   `json:"cursor"`
	}
	_, err = callJSON("kv.list", request, nil, &answer)
	return answer.Keys, answer.Cursor, err
}

// Increment adds delta to the number that is the value of a key, and returns the sum. A missing key is 0, and stays.
func (s KV) Increment(key string, delta int64) (int64, error) { return s.IncrementFor(key, delta, 0) }

// IncrementFor does the same. If it makes the key, the key is deleted after a time: so one call counts what happens in a minute.
func (s KV) IncrementFor(key string, delta int64, ttl time.Duration) (int64, error) {
	request := struct {
		keyRequest
		Delta int64 `json:"delta"`
	}{keyRequest{string(s), key, milliseconds(ttl)}, delta}
	var answer struct {
		Value int64 `json:"value"`
	}
	_, err := callJSON("kv.increment", request, nil, &answer)
	return answer.Value, err
}

// CompareAndSwap sets the value of a key if the present value is expected, and reports whether it was. A nil expected means that
// the key must not exist. After false, read the value and try again.
func (s KV) CompareAndSwap(key string, expected, value []byte) (bool, error) {
	request := struct {
		keyRequest
		Expect *int `json:"expect"`
	}{keyRequest: keyRequest{Store: string(s), Key: key}}
	if expected != nil {
		length := len(expected)
		request.Expect = &length
	}
	var answer struct {
		Swapped bool `json:"swapped"`
	}
	_, err := callJSON("kv.compare_and_swap", request, append(append([]byte(nil), expected...), value...), &answer)
	return answer.Swapped, err
}
