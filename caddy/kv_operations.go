// This file has the operations kv.*, on the key-value stores that a function was given.

package gojinn

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func init() {
	registerOperation("kv.get", reading(getKey))
	registerOperation("kv.exists", reading(keyExists))
	registerOperation("kv.list", reading(listKeys))
	registerOperation("kv.set", writing(setKey))
	registerOperation("kv.delete", writing(deleteKey))
	registerOperation("kv.increment", writing(incrementKey))
	registerOperation("kv.compare_and_swap", writing(compareAndSwap))
}

// maxStoreCalls is how many operations on stores one request to a function may call.
const maxStoreCalls = 10_000

// functionStore is a store that a function was given.
type functionStore struct {
	*configStore
	readonly bool
}

// storeRequest has what requests of kv.* have, each of which uses a part of it.
type storeRequest struct {
	store, key     string
	prefix, cursor string
	limit          int
	ttl            int64
	delta          int64
	expect         json.RawMessage
	body           []byte
}

type storeOperation struct {
	// fields are the keys of the request besides `store`.
	fields func(*storeRequest) map[string]any
	run    func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error)
}

func reading(o storeOperation) operation {
	return func(c *guestCall, text []byte) ([]byte, error) { return o.serve(c, text, false) }
}

func writing(o storeOperation) operation {
	return func(c *guestCall, text []byte) ([]byte, error) { return o.serve(c, text, true) }
}

// serve reads the request, finds the store and runs the operation.
func (o storeOperation) serve(c *guestCall, text []byte, writes bool) ([]byte, error) {
	r := &storeRequest{limit: defaultPage, ttl: notGiven, delta: 1}
	fields := o.fields(r)
	fields["store"] = &r.store
	_, hasKey := fields["key"]
	var err error
	if r.body, err = decodeRequest(text, fields); err != nil {
		return nil, err
	}
	if hasKey {
		if err := checkKey(r.key); err != nil {
			return nil, err
		}
	}
	// 0 and less are refused: a time that is over already must not make a key that stays.
	if r.ttl != notGiven && (r.ttl < 1 || r.ttl > kv.MaxTTL.Milliseconds()) {
		return nil, badRequest("ttl_ms is %d, want 1 to %d, or none", r.ttl, kv.MaxTTL.Milliseconds())
	}
	given, ok := c.handler.stores[r.store]
	if !ok {
		if checkStoreName(r.store) != nil {
			return nil, badRequest("store is %.64q, want the name of a store", r.store)
		}
		return nil, denied("the store "+r.store, fmt.Sprintf("`kv %s` in the block of gojinn", r.store))
	}
	if writes && given.readonly {
		return nil, denied("writing to the store "+r.store, fmt.Sprintf("`kv %s` without `readonly` in the block of gojinn", r.store))
	}
	if c.use.storeCalls >= maxStoreCalls {
		return nil, failed("the function has called %d operations on stores, as many as one request may", maxStoreCalls)
	}
	c.use.storeCalls++
	store, err := given.get()
	if err != nil {
		return nil, &callError{code: codeFailed, text: "the store cannot be opened", cause: err}
	}
	reply, err := o.run(c, store, r)
	// The collector closes a store that nothing refers to.
	runtime.KeepAlive(store)
	if err != nil {
		return nil, storeError(err)
	}
	return reply, nil
}

// storeError returns the error of a store for a function.
func storeError(err error) error {
	var e *callError
	if errors.As(err, &e) {
		return err
	}
	e = &callError{code: codeFailed, text: err.Error()}
	switch {
	case errors.Is(err, kv.ErrNotFound):
		e.code = codeNotFound
	case errors.Is(err, kv.ErrBadCursor):
		e.code = codeBadRequest
	}
	if failure := (*kv.Failure)(nil); errors.As(err, &failure) {
		e.text, e.cause = failure.Text, failure.Cause
	}
	return e
}

// checkKey checks a key. It is UTF-8, because the request is.
func checkKey(key string) error {
	switch {
	case key == "":
		return badRequest("there is no key")
	case len(key) > kv.MaxKey:
		return callTooLarge("the key has %d bytes, more than %d", len(key), kv.MaxKey)
	case strings.ContainsFunc(key, unicode.IsControl):
		return badRequest("the key contains a control character")
	}
	return nil
}

func checkValue(value []byte) error {
	if len(value) > kv.MaxValue {
		return callTooLarge("the value has %d bytes, more than %d", len(value), kv.MaxValue)
	}
	return nil
}

// timeToLive returns how long the key is to live, or 0 if it is to stay.
func (r *storeRequest) timeToLive() time.Duration {
	if r.ttl == notGiven {
		return 0
	}
	return time.Duration(r.ttl) * time.Millisecond
}

func (r *storeRequest) keyOnly() map[string]any { return map[string]any{"key": &r.key} }

func (r *storeRequest) keyAndTime() map[string]any {
	return map[string]any{"key": &r.key, "ttl_ms": &r.ttl}
}

var getKey = storeOperation{
	fields: (*storeRequest).keyOnly,
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		value, err := store.Get(c.ctx, r.key)
		if err != nil {
			return nil, err
		}
		return append([]byte(emptyHead), value...), nil
	},
}

var setKey = storeOperation{
	fields: (*storeRequest).keyAndTime,
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		if err := checkValue(r.body); err != nil {
			return nil, err
		}
		return []byte(emptyHead), store.Set(c.ctx, r.key, r.body, r.timeToLive())
	},
}

var deleteKey = storeOperation{
	fields: (*storeRequest).keyOnly,
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		return []byte(emptyHead), store.Delete(c.ctx, r.key)
	},
}

var keyExists = storeOperation{
	fields: (*storeRequest).keyOnly,
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		there, err := store.Exists(c.ctx, r.key)
		if err != nil {
			return nil, err
		}
		return encodeReply(map[string]bool{"exists": there})
	},
}

// defaultPage is how many keys a page has if the guest names no limit.
const defaultPage = 100

// maxCursor is the longest cursor, in bytes. That of Redis may have keys that were left over.
const maxCursor = 1 << 20

var listKeys = storeOperation{
	fields: func(r *storeRequest) map[string]any {
		return map[string]any{"prefix": &r.prefix, "cursor": &r.cursor, "limit": &r.limit}
	},
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		if r.limit < 1 || r.limit > kv.MaxPage {
			return nil, badRequest("limit is %d, want 1 to %d", r.limit, kv.MaxPage)
		}
		if len(r.prefix) > kv.MaxKey {
			return nil, callTooLarge("the prefix has %d bytes, more than %d", len(r.prefix), kv.MaxKey)
		}
		if len(r.cursor) > maxCursor {
			return nil, badRequest("the cursor has %d bytes, and so is none that a page returned", len(r.cursor))
		}
		keys, next, err := store.List(c.ctx, r.prefix, r.cursor, r.limit)
		if err != nil {
			return nil, err
		}
		if keys == nil {
			keys = []string{}
		}
		return encodeReply(struct {
			Keys   []string `json:"keys"`
			Cursor string   `json:"cursor,omitempty"`
		}{keys, next})
	},
}

var incrementKey = storeOperation{
	fields: func(r *storeRequest) map[string]any {
		return map[string]any{"key": &r.key, "ttl_ms": &r.ttl, "delta": &r.delta}
	},
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		sum, err := store.Increment(c.ctx, r.key, r.delta, r.timeToLive())
		if err != nil {
			return nil, err
		}
		return encodeReply(map[string]int64{"value": sum})
	},
}

var compareAndSwap = storeOperation{
	fields: func(r *storeRequest) map[string]any {
		return map[string]any{"key": &r.key, "ttl_ms": &r.ttl, "expect": &r.expect}
	},
	run: func(c *guestCall, store kv.Store, r *storeRequest) ([]byte, error) {
		expected, value, err := r.swapValues()
		if err != nil {
			return nil, err
		}
		swapped, err := store.CompareAndSwap(c.ctx, r.key, expected, value, r.timeToLive())
		if err != nil {
			return nil, err
		}
		return encodeReply(map[string]bool{"swapped": swapped})
	},
}

// swapValues returns the two values of a request; expected is nil if the key must not exist.
func (r *storeRequest) swapValues() (expected, value []byte, err error) {
	var length *int
	if r.expect == nil {
		return nil, nil, badRequest("there is no expect; it is the length of the expected value, or null if the key must not exist")
	}
	if err := json.Unmarshal(r.expect, &length); err != nil || length != nil && (*length < 0 || *length > len(r.body)) {
		return nil, nil, badRequest("expect is %.64s, want null or a length within the %d bytes of the request", r.expect, len(r.body))
	}
	value = r.body
	if length != nil {
		expected, value = r.body[:*length:*length], r.body[*length:]
	}
	return expected, value, errors.Join(checkValue(expected), checkValue(value))
}
