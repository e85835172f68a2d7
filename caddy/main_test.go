// What all tests share before the first one runs.

package gojinn

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

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
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
