// The fuzz target of the Caddyfile parser.

package gojinn

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// FuzzCaddyfile reads any text as the block of the directive and of the global option. It is refused with an error of one line that
// names a place, or becomes settings that survive JSON, and whose check does not panic. Seeds are the cases of TestCaddyfile, and
// testdata/fuzz has what was found.
func FuzzCaddyfile(f *testing.F) {
	paths, err := filepath.Glob("testdata/caddyfile/*.caddyfiletest")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), "----------")
		f.Add(input)
		for _, name := range []string{"gojinn {", "gojinn ./f.wasm {"} {
			if _, block, ok := strings.Cut(input, name); ok {
				f.Add(block)
			}
		}
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	f.Fuzz(func(t *testing.T, text string) {
		// Caddy's own directives read files and networks, and are not what is tested.
		if strings.Contains(text, "import") || strings.Contains(text, "{$") {
			return
		}
		tokens, err := caddyfile.Tokenize([]byte("gojinn {\n"+text+"\n}"), "Caddyfile")
		if err != nil || len(tokens) > 2000 {
			return
		}
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			if message := err.Error(); message == "" || !strings.Contains(message, "Caddyfile:") {
				t.Errorf("the error names no place: %q", message)
			}
		} else {
			again := new(Handler)
			encoded, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(encoded, again); err != nil {
				t.Fatalf("%v: %s", err, encoded)
			}
			if encodedAgain, err := json.Marshal(again); err != nil || string(encodedAgain) != string(encoded) {
				t.Errorf("%v: %s became %s", err, encoded, encodedAgain)
			}
			again.setDefaults(&App{Backend: "wasmtime", Snapshot: "auto"})
			_ = again.Validate()
		}
		_, _, _ = adapter.Adapt([]byte("{\n gojinn {\n"+text+"\n}\n}\n"), map[string]any{"filename": "Caddyfile"})
	})
}
