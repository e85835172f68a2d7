// Package kvtest has the tests that each key-value store must pass.
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

// Run tests a store that is empty. slack is how much longer than its time a key may be there.
func Run(t *testing.T, store kv.Store, slack time.Duration) {
	s := &suite{T: t, Store: store, ctx: context.Background(), slack: slack}
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"values", (*suite).values}, {"keys", (*suite).keys}, {"times", (*suite).times}, {"numbers", (*suite).numbers},
		{"swaps", (*suite).swaps}, {"pages", (*suite).pages}, {"no update is lost", (*suite).contention},
		{"the context ends", (*suite).cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			one := *s
			one.T = t
			test.run(&one)
			one.clear()
		})
	}
}

type suite struct {
	*testing.T
	kv.Store
	ctx   context.Context
	slack time.Duration
}

// must fails the test if there is an error.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// clear deletes all keys, as the next test begins with an empty store.
func (s *suite) clear() {
	s.Helper()
	for _, key := range s.all("") {
		s.must(s.Delete(s.ctx, key))
	}
}

// all lists all keys, over several pages, each once.
func (s *suite) all(prefix string) (keys []string) {
	s.Helper()
	for cursor := ""; ; {
		page, next, err := s.List(s.ctx, prefix, cursor, 100)
		s.must(err)
		if len(page) > 100 {
			s.Errorf("a page of %d keys, want 100 at most", len(page))
		}
		keys = append(keys, page...)
		if next == "" {
			slices.Sort(keys)
			return slices.Compact(keys)
		}
		cursor = next
	}
}

func (s *suite) values() {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i, value := range [][]byte{{}, []byte("x"), every, []byte("\r\n\x00"), bytes.Repeat([]byte("y"), kv.MaxValue)} {
		key := fmt.Sprint("value", i)
		if _, err := s.Get(s.ctx, key); !errors.Is(err, kv.ErrNotFound) {
			s.Errorf("a missing key: %v", err)
		}
		given := bytes.Clone(value)
		s.must(s.Set(s.ctx, key, given, 0))
		clear(given)
		for range 2 {
			got, err := s.Get(s.ctx, key)
			s.must(err)
			if got == nil || !bytes.Equal(got, value) {
				s.Errorf("%s: got %d bytes, want %d: %.20q", key, len(got), len(value), got)
			}
		}
		if there, err := s.Exists(s.ctx, key); err != nil || !there {
			s.Errorf("%s does not exist: %v", key, err)
		}
	}
	s.must(s.Set(s.ctx, "value1", []byte("other"), 0))
	if got, _ := s.Get(s.ctx, "value1"); string(got) != "other" {
		s.Errorf("a value that was set again is %q", got)
	}
	for range 2 {
		s.must(s.Delete(s.ctx, "value1"))
		if _, err := s.Get(s.ctx, "value1"); !errors.Is(err, kv.ErrNotFound) {
			s.Errorf("a deleted key: %v", err)
		}
		if there, err := s.Exists(s.ctx, "value1"); err != nil || there {
			s.Errorf("a deleted key exists: %v", err)
		}
	}
}

// oddKeys are keys that a store might take for something else.
var oddKeys = []string{
	"a", "A", "a/b", "a//b", "/", ".", "..", "a.b", ".a", "a.", "*", ">", "a*", "a?c", "[a]", "\\", "{x}", "=", "=2E", "$KV", "a b", " ", "%41",
	"käse", "ключ", "鍵", "🔑", "a:b", "-", "_", "a,b;c", "\"", "'", "`", "<&>", "#", "~", "u\u0301", "ú",
	strings.Repeat("k", kv.MaxKey), strings.Repeat("ü", kv.MaxKey/2), strings.Repeat("*", kv.MaxKey),
}

func (s *suite) keys() {
	for _, key := range oddKeys {
		s.must(s.Set(s.ctx, key, []byte("of "+key), 0))
	}
	for _, key := range oddKeys {
		if got, err := s.Get(s.ctx, key); err != nil || string(got) != "of "+key {
			s.Errorf("%q: got %q %v", key, got, err)
		}
	}
	want := slices.Sorted(slices.Values(oddKeys))
	if got := s.all(""); !slices.Equal(got, want) {
		s.Errorf("listed %q, want %q", got, want)
	}
	for _, prefix := range []string{"a", "a.", "*", "\\", "[", "ü", "\xc3", "none"} {
		var want []string
		for _, key := range oddKeys {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		slices.Sort(want)
		if got := s.all(prefix); !slices.Equal(got, want) {
			s.Errorf("with the prefix %q: listed %q, want %q", prefix, got, want)
		}
	}
	s.must(s.Delete(s.ctx, "a*"))
	if there, _ := s.Exists(s.ctx, "a/b"); !there {
		s.Error("deleting a* has deleted a/b")
	}
}

// gone waits until a key is gone, and fails if that is not in time.
func (s *suite) gone(key string, deadline time.Time) {
	s.Helper()
	for {
		there, err := s.Exists(s.ctx, key)
		s.must(err)
		if !there {
			break
		}
		if time.Now().After(deadline.Add(s.slack + 5*time.Second)) {
			s.Fatalf("%s is still there", key)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := s.Get(s.ctx, key); !errors.Is(err, kv.ErrNotFound) {
		s.Errorf("%s, whose time is over: %v", key, err)
	}
	if keys := s.all(key); len(keys) > 0 {
		s.Errorf("%s is listed, whose time is over", key)
	}
}

func (s *suite) times() {
	const ttl = 300 * time.Millisecond
	s.must(s.Set(s.ctx, "stays", []byte("x"), 0))
	s.must(s.Set(s.ctx, "long", []byte("x"), time.Hour))
	s.must(s.Set(s.ctx, "again", []byte("x"), ttl))
	s.must(s.Set(s.ctx, "again", []byte("y"), 0)) // has no time now
	start := time.Now()
	s.must(s.Set(s.ctx, "set", []byte("x"), ttl))
	if n, err := s.Increment(s.ctx, "number", 5, ttl); n != 5 || err != nil {
		s.Errorf("a new number: %d %v", n, err)
	}
	if ok, err := s.CompareAndSwap(s.ctx, "swapped", nil, []byte("x"), ttl); !ok || err != nil {
		s.Errorf("a new key: %v %v", ok, err)
	}
	if ok, err := s.CompareAndSwap(s.ctx, "stays", []byte("x"), []byte("y"), 0); !ok || err != nil {
		s.Errorf("a key that stays: %v %v", ok, err)
	}
	s.must(s.Set(s.ctx, "counter", []byte("1"), ttl))
	if n, err := s.Increment(s.ctx, "counter", 1, time.Hour); n != 2 && n != 1 || err != nil {
		s.Errorf("a number that has a time: %d %v", n, err)
	}
	if n, err := s.Increment(s.ctx, "fixed", 1, 0); n != 1 || err != nil {
		s.Errorf("a number without a time: %d %v", n, err)
	}
	if n, err := s.Increment(s.ctx, "fixed", 1, ttl); n != 2 || err != nil {
		s.Errorf("a number that stays: %d %v", n, err)
	}
	// If the machine was too slow, the increment has made a new key that stays for an hour.
	slow := time.Since(start) > ttl
	for _, key := range []string{"set", "number", "swapped", "counter"} {
		if key != "counter" || !slow {
			s.gone(key, start.Add(ttl))
		}
	}
	for _, key := range []string{"stays", "long", "again", "fixed"} {
		if there, err := s.Exists(s.ctx, key); !there {
			s.Errorf("%s is gone: %v", key, err)
		}
	}
	// A key whose time is over is a missing one.
	if ok, err := s.CompareAndSwap(s.ctx, "set", []byte("x"), []byte("y"), 0); ok || err != nil {
		s.Errorf("swapping a key whose time is over: %v %v", ok, err)
	}
	if ok, err := s.CompareAndSwap(s.ctx, "set", nil, []byte("y"), 0); !ok || err != nil {
		s.Errorf("making a key whose time is over: %v %v", ok, err)
	}
	if n, err := s.Increment(s.ctx, "number", 1, 0); n != 1 || err != nil {
		s.Errorf("a number whose time is over: %d %v", n, err)
	}
}

func (s *suite) numbers() {
	for _, step := range []struct {
		delta, want int64
		err         error
	}{
		{1, 1, nil}, {0, 1, nil}, {-3, -2, nil}, {2, 0, nil}, {math.MaxInt64, math.MaxInt64, nil}, {1, 0, kv.ErrOverflow},
		{math.MinInt64, -1, nil}, {math.MinInt64, 0, kv.ErrOverflow}, {math.MinInt64 + 1, math.MinInt64, nil}, {-1, 0, kv.ErrOverflow},
		{math.MaxInt64, -1, nil}, {1 << 53, 1<<53 - 1, nil}, {2, 1<<53 + 1, nil},
	} {
		n, err := s.Increment(s.ctx, "n", step.delta, 0)
		if n != step.want || !errors.Is(err, step.err) {
			s.Errorf("adding %d: %d %v, want %d %v", step.delta, n, err, step.want, step.err)
		}
	}
	if text, err := s.Get(s.ctx, "n"); err != nil || string(text) != strconv.Itoa(1<<53+1) {
		s.Errorf("the number is stored as %q %v", text, err)
	}
	for _, value := range []string{"", "x", "1.5", " 1", "1 ", "+1", "01", "-0", "0x1", "1e3", "9223372036854775808", "-9223372036854775809"} {
		s.must(s.Set(s.ctx, "text", []byte(value), 0))
		if n, err := s.Increment(s.ctx, "text", 1, 0); !errors.Is(err, kv.ErrNotNumber) {
			s.Errorf("adding to %q: %d %v", value, n, err)
		}
		if got, _ := s.Get(s.ctx, "text"); string(got) != value {
			s.Errorf("%q became %q", value, got)
		}
	}
	for _, value := range []string{"0", "-1", "9223372036854775806"} {
		s.must(s.Set(s.ctx, "text", []byte(value), 0))
		if _, err := s.Increment(s.ctx, "text", 1, 0); err != nil {
			s.Errorf("adding to %q: %v", value, err)
		}
	}
}

func (s *suite) swaps() {
	for i, step := range []struct {
		expected, value []byte
		want            bool
	}{
		{[]byte("x"), []byte("1"), false}, {[]byte{}, []byte("1"), false}, {nil, []byte("1"), true}, {nil, []byte("2"), false},
		{[]byte("11"), []byte("2"), false}, {[]byte{}, []byte("2"), false}, {[]byte("1"), []byte("2"), true}, {[]byte("1"), []byte("3"), false},
		{[]byte("2"), []byte{}, true}, {nil, []byte("3"), false}, {[]byte{}, []byte("\x00\xff"), true}, {[]byte("\x00\xff"), []byte("\x00\xff"), true},
		{[]byte("\x00"), []byte("4"), false},
	} {
		swapped, err := s.CompareAndSwap(s.ctx, "k", step.expected, step.value, 0)
		if err != nil || swapped != step.want {
			s.Errorf("step %d: %v %v, want %v", i, swapped, err, step.want)
		}
	}
	if got, err := s.Get(s.ctx, "k"); string(got) != "\x00\xff" {
		s.Errorf("the value is %q %v", got, err)
	}
	s.must(s.Delete(s.ctx, "k"))
	if swapped, err := s.CompareAndSwap(s.ctx, "k", []byte("\x00\xff"), []byte("1"), 0); swapped || err != nil {
		s.Errorf("a deleted key: %v %v", swapped, err)
	}
	if swapped, err := s.CompareAndSwap(s.ctx, "k", nil, []byte("1"), 0); !swapped || err != nil {
		s.Errorf("a deleted key is made again: %v %v", swapped, err)
	}
}

func (s *suite) pages() {
	if keys, next, err := s.List(s.ctx, "", "", 10); len(keys) > 0 || next != "" || err != nil {
		s.Errorf("an empty store: %q %q %v", keys, next, err)
	}
	var want []string
	for i := range 150 {
		key := fmt.Sprintf("page/%03d", i)
		want = append(want, key)
		s.must(s.Set(s.ctx, key, nil, 0))
		if i%10 == 0 {
			s.must(s.Set(s.ctx, fmt.Sprint("other/", i), nil, 0))
		}
	}
	for _, limit := range []int{1, 7, 150, kv.MaxPage} {
		var got []string
		cursor, pages := "", 0
		for {
			keys, next, err := s.List(s.ctx, "page/", cursor, limit)
			s.must(err)
			if len(keys) > limit {
				s.Fatalf("a page of %d keys, want %d at most", len(keys), limit)
			}
			got = append(got, keys...)
			if next == "" {
				break
			}
			if pages++; pages > 10_000 {
				s.Fatal("the pages do not end")
			}
			cursor = next
			if limit == 7 && len(got) < 100 {
				// Keys that come and go do not make others disappear.
				s.must(s.Set(s.ctx, fmt.Sprint("page/new", pages), nil, 0))
				s.must(s.Delete(s.ctx, fmt.Sprint("page/new", pages-1)))
			}
		}
		slices.Sort(got)
		got = slices.DeleteFunc(slices.Compact(got), func(key string) bool { return strings.Contains(key, "new") })
		if !slices.Equal(got, want) {
			s.Errorf("pages of %d: listed %d keys, want %d", limit, len(got), len(want))
		}
		for _, key := range s.all("page/new") {
			s.must(s.Delete(s.ctx, key))
		}
	}
	// A cursor that no page returned is an error, or begins somewhere.
	for _, cursor := range []string{"x", "-1", "\x00", strings.Repeat("z", 2000), "0", "{", "99999999999999999999999"} {
		if _, _, err := s.List(s.ctx, "page/", cursor, 10); err != nil && !errors.Is(err, kv.ErrBadCursor) {
			s.Errorf("the cursor %.20q: %v", cursor, err)
		}
	}
}

// contention has 16 clients, of which each adds 20 to two numbers.
func (s *suite) contention() {
	const clients, rounds = 16, 20
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range rounds {
				if _, err := s.Increment(s.ctx, "added", 1, 0); err != nil {
					s.Error(err)
				}
				for {
					var next int
					value, err := s.Get(s.ctx, "swapped")
					switch {
					case err == nil:
						if next, err = strconv.Atoi(string(value)); err != nil {
							s.Error(err)
							return
						}
					case !errors.Is(err, kv.ErrNotFound):
						s.Error(err)
						return
					}
					swapped, err := s.CompareAndSwap(s.ctx, "swapped", value, []byte(strconv.Itoa(next+1)), 0)
					if err != nil {
						s.Error(err)
						return
					}
					if swapped {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	for _, key := range []string{"added", "swapped"} {
		if got, err := s.Get(s.ctx, key); string(got) != strconv.Itoa(clients*rounds) {
			s.Errorf("%s is %s %v, want %d", key, got, err, clients*rounds)
		}
	}
}

// cancelled has a context that has ended. A store may do the work all the same, but must not hang.
func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	s.must(s.Set(s.ctx, "k", []byte("1"), 0))
	for what, err := range map[string]error{
		"get":       func() error { _, err := s.Get(ctx, "k"); return err }(),
		"set":       s.Set(ctx, "k", []byte("1"), 0),
		"increment": func() error { _, err := s.Increment(ctx, "k", 1, 0); return err }(),
		"swap":      func() error { _, err := s.CompareAndSwap(ctx, "k", []byte("9"), nil, 0); return err }(),
		"list":      func() error { _, _, err := s.List(ctx, "", "", 1); return err }(),
		"delete":    s.Delete(ctx, "k"),
	} {
		if errors.Is(err, kv.ErrNotFound) {
			s.Errorf("%s with a context that has ended says that the key is missing", what)
		}
	}
}
