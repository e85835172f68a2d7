//go:build cgo

// Tests of warnings with the real engine.

package gojinn

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The engine's own warnings, from where they arise to the log and the admin API.
func TestRealWarnings(t *testing.T) {
	s := newRealServer(t)
	cache := filepath.Join(s.dir, "cache")
	// Chmod, as the process's umask has a say in what Mkdir does.
	if err := os.Mkdir(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	twice := answering(`{"status":200,"body":"twice"}`, "")
	twice.twice = true
	s.module("hello.wasm", twice.String())
	config := strings.Replace(s.simple(), "{\n\tadmin", "{\n\tgojinn {\n\t\tcache DIR/cache\n\t}\n\tadmin", 1)
	s.mustLoad(config)
	s.mustLoad(strings.Replace(config, "ADDR {", "ADDR {\n\theader X-A b", 1))
	if body := s.get("/").body; body != "twice" {
		t.Errorf("the function answers %q", body)
	}

	list := s.warnings()
	if len(list) != 2 || list[0].Function != "" || !strings.Contains(list[0].Warning, cache) {
		t.Fatalf("want a warning of the cache and one of the function, got %q", list)
	}
	if w := list[1]; w.Function != "hello" || w.Module != filepath.Join(s.dir, "hello.wasm") || !strings.Contains(w.Warning, "overlap") {
		t.Errorf("the function's warning is %q", w)
	}
	want := []string{list[0].Warning, list[1].Warning + " function=hello module=" + list[1].Module}
	if got := s.warned(); !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
}
