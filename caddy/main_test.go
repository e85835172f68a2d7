// What all tests share before the first one runs.

package gojinn

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// caddyfileOfProcess is the environment variable that makes the test's program a Caddy that serves a Caddyfile, for tests that
// kill it.
const caddyfileOfProcess = "GOJINN_TEST_CADDYFILE"

// serveCaddyfile serves a Caddyfile until the process is killed.
func serveCaddyfile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": path})
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	select {}
}

// TestMain keeps the tests out of the user's directories: the cache of compiled code is there, Caddy's own storage and the
// config that it saves at each load.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gojinn-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("XDG_DATA_HOME", dir)
	// Caddy has read the environment by now.
	caddy.ConfigAutosavePath = filepath.Join(dir, "autosave.json")
	caddy.DefaultStorage.Path = dir
	if path := os.Getenv(caddyfileOfProcess); path != "" {
		fmt.Fprintln(os.Stderr, serveCaddyfile(path))
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
