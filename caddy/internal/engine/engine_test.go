//go:build cgo

// Tests of the engine over the C ABI.

package engine

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"
)

func newTestEngine(t *testing.T) Engine {
	t.Helper()
	e, err := New(&Config{MaxConcurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestEngineTellsAboutItself(t *testing.T) {
	e := newTestEngine(t)
	text, err := e.Describe()
	if err != nil || !strings.Contains(string(text), "wasmtime") {
		t.Errorf("got %s, %v", text, err)
	}
	if _, err := e.Metrics(); err != nil {
		t.Error(err)
	}
}

func TestEngineErrorsCarryTheirCode(t *testing.T) {
	e := newTestEngine(t)
	_, err := e.NewFunction(t.Context(), []byte("text"), &FunctionConfig{Name: "text"})
	if failed, ok := err.(*Error); !ok || failed.Code != CodeInvalidModule || failed.Message == "" {
		t.Errorf("got %v", err)
	}
	_, err = e.NewFunction(t.Context(), nil, &FunctionConfig{Name: "x", Backend: "v8"})
	if failed, ok := err.(*Error); !ok || failed.Code != CodeBadConfig || !strings.Contains(failed.Message, "v8") {
		t.Errorf("got %v", err)
	}
}

func TestDeploymentsAreCancelled(t *testing.T) {
	e := newTestEngine(t)
	// A function that does nothing, exported as _start.
	wasm := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x04\x01\x02\x00\x0b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The library is told by another goroutine, which may come too late for a module this small.
	for range 1000 {
		f, err := e.NewFunction(ctx, wasm, &FunctionConfig{Name: "cancelled"})
		if failed, ok := err.(*Error); ok && failed.Code == CodeCancelled {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	f, err := e.NewFunction(t.Context(), wasm, &FunctionConfig{Name: "not cancelled"})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestPurgeCache(t *testing.T) {
	e := newTestEngine(t)
	_, err := e.PurgeCache()
	if failed, ok := err.(*Error); !ok || failed.Code != CodeBadConfig || failed.Message == "" {
		t.Errorf("without a cache: %v", err)
	}
	cached, err := New(&Config{MaxConcurrency: 1, Cache: &CacheConfig{Directory: t.TempDir() + "/cache"}})
	if err != nil {
		t.Fatal(err)
	}
	defer cached.Close()
	if purged, err := cached.PurgeCache(); err != nil || purged != (Purged{}) {
		t.Errorf("an empty cache: %v, %v", purged, err)
	}
}

func TestPermitsAreBounded(t *testing.T) {
	e := newTestEngine(t)
	first, err1 := e.NewCall()
	_, err2 := e.NewCall()
	_, err3 := e.NewCall()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if failed, ok := err3.(*Error); !ok || failed.Code != CodeRejected {
		t.Errorf("a third call of two: %v", err3)
	}
	e.FreeCall(first)
	e.Cancel(first) // stale: does nothing
	again, err := e.NewCall()
	if err != nil || again == first {
		t.Errorf("got %d after %d, %v", again, first, err)
	}
}

func TestCloseTwiceAndUseAfterClose(t *testing.T) {
	e := newTestEngine(t)
	before, _ := Live()
	e.Close()
	e.Close()
	if after, _ := Live(); after != before-1 {
		t.Errorf("%d engines live after %d", after, before)
	}
	defer func() {
		if recover() == nil {
			t.Error("use after Close did not panic")
		}
	}()
	e.Cancel(0)
}

func TestForgottenHandlesAreFreed(t *testing.T) {
	before, _ := Live()
	func() {
		if _, err := New(&Config{MaxConcurrency: 1}); err != nil {
			t.Fatal(err)
		}
	}()
	for range 500 {
		runtime.GC()
		if after, _ := Live(); after <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("an engine without references was not freed")
}
