//go:build !cgo

// Tests of a build without cgo.

package gojinn

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// In a build without cgo, which is xcaddy's default, the modules are registered, configs are adapted, and provisioning fails
// with the command to run.
func TestWithoutCgo(t *testing.T) {
	for _, id := range []string{"gojinn", "http.handlers.gojinn", "admin.api.gojinn"} {
		if _, err := caddy.GetModule(id); err != nil {
			t.Error(err)
		}
	}
	s := newServer(t)
	newEngine = engine.New
	err := s.load(s.simple())
	if err == nil || !strings.Contains(err.Error(), "`make caddy`") || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("got %v", err)
	}
}
