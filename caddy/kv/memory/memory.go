// Package memory is the key-value store `memory`: bounded, in the memory of this process, gone at its end.
package memory

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func init() {
	caddy.RegisterModule(new(Memory))
}

// Memory keeps values in the memory of the process, for caches. If it is full, the key that was unused for longest is dropped.
type Memory struct {
	// MaxSize is how much memory keys and values may take, in bytes. A store with another size begins empty. Default: 64000000.
	MaxSize int64 `json:"max_size,omitempty"`
}

const (
	defaultMaxSize = 64_000_000
	// minMaxSize lets the largest value in.
	minMaxSize = 2 * kv.MaxValue
	maxMaxSize = 1 << 40
)

// CaddyModule returns the Caddy module information.
func (*Memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: kv.Namespace + ".memory", New: func() caddy.Module { return new(Memory) }}
}

// UnmarshalCaddyfile reads
//
//	memory [<max_size>]
func (m *Memory) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		n, err := humanize.ParseBytes(d.Val())
		if err != nil {
			return d.Errf("the size %q of the store is not a size; write for example 64MB", d.Val())
		}
		m.MaxSize = int64(min(n, maxMaxSize+1))
		if err := m.check(); err != nil {
			return d.WrapErr(err)
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("the store memory has no option %q; its only argument is its size, as in `memory 64MB`", d.Val())
	}
	return nil
}

// Provision implements caddy.Provisioner.
func (m *Memory) Provision(caddy.Context) error {
	if m.MaxSize == 0 {
		m.MaxSize = defaultMaxSize
	}
	return m.check()
}

func (m *Memory) check() error {
	if m.MaxSize < minMaxSize || m.MaxSize > maxMaxSize {
		return fmt.Errorf("the size of a store in memory is %d bytes, want at least %d and at most 1 TiB", m.MaxSize, minMaxSize)
	}
	return nil
}

// Key implements kv.Module.
func (m *Memory) Key(name string) string { return fmt.Sprint(name, " ", m.MaxSize) }

// Open implements kv.Module.
func (m *Memory) Open(string) (kv.Store, error) {
	return &store{most: m.MaxSize, entries: map[string]*list.Element{}}, nil
}

// store has its entries in the order of their use.
type store struct {
	mu         sync.Mutex
	most, size int64
	entries    map[string]*list.Element
	used       list.List
}

// entry is one key. Its value is never changed, so that it can be given out.
type entry struct {
	key     string
	value   []byte
	expires time.Time
}

// overhead is what an entry takes beside its key and its value, roughly.
const overhead = 200

func (e *entry) size() int64 { return int64(len(e.key)+len(e.value)) + overhead }

// find returns the entry of a key, or nil.
func (s *store) find(key string) *entry {
	element := s.entries[key]
	if element == nil {
		return nil
	}
	e := element.Value.(*entry)
	if !e.expires.IsZero() && !time.Now().Before(e.expires) {
		s.remove(element)
		return nil
	}
	s.used.MoveToFront(element)
	return e
}

func (s *store) remove(element *list.Element) {
	e := s.used.Remove(element).(*entry)
	delete(s.entries, e.key)
	s.size -= e.size()
}

// put sets a key, and drops others until it fits.
func (s *store) put(key string, value []byte, expires time.Time) {
	if element := s.entries[key]; element != nil {
		s.remove(element)
	}
	e := &entry{key: key, value: value, expires: expires}
	s.entries[key] = s.used.PushFront(e)
	s.size += e.size()
	for s.size > s.most {
		s.remove(s.used.Back())
	}
}

func expiry(ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return time.Now().Add(ttl)
}

// Get implements kv.Store.
func (s *store) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(key); e != nil {
		return e.value, nil
	}
	return nil, kv.ErrNotFound
}

// Set implements kv.Store.
func (s *store) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	kept := append([]byte{}, value...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(strings.Clone(key), kept, expiry(ttl))
	return nil
}

// Delete implements kv.Store.
func (s *store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if element := s.entries[key]; element != nil {
		s.remove(element)
	}
	return nil
}

// Exists implements kv.Store.
func (s *store) Exists(_ context.Context, key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key) != nil, nil
}

// List implements kv.Store.
func (s *store) List(_ context.Context, prefix, cursor string, limit int) (keys []string, next string, err error) {
	now := time.Now()
	page := kv.NewPage(cursor, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, element := range s.entries {
		expires := element.Value.(*entry).expires
		if strings.HasPrefix(key, prefix) && (expires.IsZero() || now.Before(expires)) {
			page.Add(key)
		}
	}
	keys, next = page.Result()
	return keys, next, nil
}

// Increment implements kv.Store.
func (s *store) Increment(_ context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var value []byte
	expires := expiry(ttl)
	if e := s.find(key); e != nil {
		value, expires = e.value, e.expires
	}
	text, sum, err := kv.Add(value, delta)
	if err != nil {
		return 0, err
	}
	s.put(strings.Clone(key), text, expires)
	return sum, nil
}

// CompareAndSwap implements kv.Store.
func (s *store) CompareAndSwap(_ context.Context, key string, expected, value []byte, ttl time.Duration) (bool, error) {
	kept := append([]byte{}, value...)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(key)
	if (e == nil) != (expected == nil) || e != nil && !bytes.Equal(e.value, expected) {
		return false, nil
	}
	s.put(strings.Clone(key), kept, expiry(ttl))
	return true, nil
}

// Close implements kv.Store.
func (*store) Close() error { return nil }

// Interface guards
var (
	_ caddy.Provisioner     = (*Memory)(nil)
	_ caddyfile.Unmarshaler = (*Memory)(nil)
	_ kv.Module             = (*Memory)(nil)
	_ kv.Store              = (*store)(nil)
)
