//go:build !cgo

// Tests of the engine in a build without cgo.

package engine

import (
	"strings"
	"testing"
)

func TestWithoutCgoTheErrorSaysWhatToRun(t *testing.T) {
	e, err := New(&Config{})
	if e != nil || err == nil || !strings.Contains(err.Error(), "make caddy") || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("got %v and %v", e, err)
	}
}
