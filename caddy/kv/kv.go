// Package kv has what a key-value store of functions is: a Caddy module in the namespace gojinn.kv makes it. The packages below have
// the stores that come with Gojinn, and kvtest what each store must do.
package kv

import (
	"context"
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Namespace is the namespace of the modules.
const Namespace = "gojinn.kv"

// Module is a Caddy module in the namespace gojinn.kv: the settings of one store. Its Caddyfile form is read by UnmarshalCaddyfile,
// from the token with the module's name on.
//
// Provision checks the settings and must not open anything, because `caddy validate` provisions a config beside the one that runs.
type Module interface {
	caddy.Module

	// Key identifies the store among those of the module. Configs whose modules have equal keys share one store, which so
	// outlives a reload. name is what the config calls the store.
	Key(name string) string

	// Open returns the store. It is called once for each key, when a config begins to run or at the first use, whichever is
	// earlier. A store on another machine need not be reachable then. If Open fails, the config is refused.
	Open(name string) (Store, error)
}

// Adjuster is a module whose settings can be applied to a store that is open, such as a bound. Modules that have none of it make
// such settings a part of their keys.
type Adjuster interface {
	// Adjust applies the settings to a store that Open of a module with the same key returned.
	Adjust(Store)
}

// Store keeps values by key. Any goroutine may call its methods.
//
// Keys are UTF-8 of 1 to MaxKey bytes without control characters, values have at most MaxValue bytes; the caller has checked both.
// Each method is atomic, and returns at the end of ctx at the latest, or a few seconds later if that is not possible. A method that
// returned without an error has been done, and what it wrote stays as the store promises. After an error it may have been done or
// not. Errors are shown to functions, so they must not contain addresses or passwords; Unwrap may give what is for the log.
type Store interface {
	// Get returns the value of a key, or ErrNotFound. It is not nil, and the caller does not change it.
	Get(ctx context.Context, key string) ([]byte, error)

	// Set sets the value of a key. The key is deleted after ttl, unless that is 0. The store must not keep value.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Delete deletes a key. It is no error if there is none.
	Delete(ctx context.Context, key string) error

	// Exists reports whether there is a key.
	Exists(ctx context.Context, key string) (bool, error)

	// List returns keys that begin with prefix, at most limit, and where the next page begins; next is empty after the last
	// one. cursor is empty for the first page, and else what an earlier call returned as next. Pages may be empty. A key that
	// exists all the while is listed at least once. A cursor that List did not return is ErrBadCursor, or begins somewhere.
	List(ctx context.Context, prefix, cursor string, limit int) (keys []string, next string, err error)

	// Increment adds delta to the decimal number that is the value of a key, and returns the sum. A missing key is made, with
	// ttl; the time of an existing one does not change. The error is ErrNotNumber if the value is no number of 64 bits as
	// strconv.FormatInt writes it, and ErrOverflow if the sum is none.
	Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error)

	// CompareAndSwap sets the value of a key, and its time, as Set does, if the present value is expected. A nil expected
	// means that the key must not exist; an empty one that is not nil is an empty value.
	CompareAndSwap(ctx context.Context, key string, expected, value []byte, ttl time.Duration) (swapped bool, err error)

	// Close is called once, when no request uses the store any more.
	Close() error
}

// The bounds of keys, values and pages.
const (
	MaxKey   = 512
	MaxValue = 1_000_000
	MaxPage  = 1000
	MaxTTL   = 365 * 24 * time.Hour
)

// The errors that have a meaning for the caller. All others are failures.
var (
	ErrNotFound  = errors.New("there is no such key")
	ErrNotNumber = errors.New("the value is not a decimal number of 64 bits")
	ErrOverflow  = errors.New("the sum is not a number of 64 bits")
	ErrBadCursor = errors.New("the cursor is not one that an earlier page returned")
)

// Failure is an error of a store whose cause is not for functions.
type Failure struct {
	// Text is for functions.
	Text  string
	Cause error
}

// Error returns the text for functions.
func (f *Failure) Error() string { return f.Text }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }
