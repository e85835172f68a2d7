//go:build cgo

package engine

import (
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
	_, err := e.NewFunction([]byte("text"), &FunctionConfig{Name: "text"})
	if failed, ok := err.(*Error); !ok || failed.Code != CodeInvalidModule || failed.Message == "" {
		t.Errorf("got %v", err)
	}
	_, err = e.NewFunction(nil, &FunctionConfig{Name: "x", Backend: "v8"})
	if failed, ok := err.(*Error); !ok || failed.Code != CodeBadConfig || !strings.Contains(failed.Message, "v8") {
		t.Errorf("got %v", err)
	}
}

func TestPlacesAreBounded(t *testing.T) {
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
	t.Error("an engine that nobody holds was not freed")
}
