// Tests of the Caddyfiles in examples/.

package gojinn

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// The Caddyfiles in examples/ are adapted without a warning, and validated as `caddy validate` does it, over a fake engine.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../examples/*.Caddyfile")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	s := newServer(t)
	// Their paths are relative to their directory, and lead to functions that may not have been built.
	dir := filepath.Join(s.dir, "examples")
	if err := os.CopyFS(dir, os.DirFS("../examples")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, file := range files {
		text, err := os.ReadFile(filepath.Base(file))
		if err != nil {
			t.Fatal(err)
		}
		modules := regexp.MustCompile(`\S+\.wasm`).FindAllString(string(text), -1)
		if len(modules) == 0 {
			t.Errorf("%s has no function", file)
		}
		for _, module := range modules {
			if err := os.MkdirAll(filepath.Dir(module), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(module, []byte("\x00asm"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": file})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %v", file, err, warnings)
			continue
		}
		config := new(caddy.Config)
		if err := json.Unmarshal(adapted, config); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(config); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
