package gojinn

import (
	"fmt"
	"os"
	"testing"
)

// TestMain keeps the tests out of the user's data folder: the cache of compiled code is there.
func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "gojinn-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("XDG_DATA_HOME", folder)
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}
