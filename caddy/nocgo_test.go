//go:build !cgo

package gojinn

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// Built without cgo, which is what xcaddy does unless told otherwise: the modules are there, configs are adapted, and
// provisioning says what to run.
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
