// Tests of the Caddyfile parser.

package gojinn

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "write the JSON of testdata/caddyfile again")

// Each case is a Caddyfile, ten dashes, and the JSON that it is adapted to or the error that refuses it.
func TestCaddyfile(t *testing.T) {
	paths, err := filepath.Glob("testdata/caddyfile/*.caddyfiletest")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), "----------")
			want = strings.TrimSpace(want)
			got, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(strings.TrimSpace(input)+"\n"), map[string]any{"filename": "Caddyfile"})
			if strings.HasPrefix(filepath.Base(path), "bad_") {
				if err == nil {
					t.Fatalf("accepted as %s, want the error %s", got, want)
				}
				if want == "" || !strings.Contains(err.Error(), want) {
					t.Fatalf("got the error %s\nwant %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) > 0 {
				t.Errorf("warnings: %v", warnings)
			}
			var indented bytes.Buffer
			if err := json.Indent(&indented, got, "", "\t"); err != nil {
				t.Fatal(err)
			}
			if *update {
				out := strings.TrimSpace(input) + "\n----------\n" + indented.String() + "\n"
				if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if indented.String() != want {
				t.Errorf("got\n%s\nwant\n%s", indented.String(), want)
			}
		})
	}
}

// Whatever the block contains, the parser returns an error or a handler. It never panics.
func TestCaddyfileNeverPanics(t *testing.T) {
	words := []string{"timeout", "env", "args", "mount", "memory_limit", "{", "}", "\"\"", "1", "A", "/x", "rw", "{env.X}", "\n"}
	adapter := caddyconfig.GetAdapter("caddyfile")
	seed := uint32(1)
	for range 2000 {
		var b strings.Builder
		b.WriteString(":8080 {\ngojinn a.wasm {\n")
		for range 8 {
			seed = seed*1664525 + 1013904223
			b.WriteString(words[int(seed>>16)%len(words)])
			b.WriteByte(' ')
		}
		b.WriteString("\n}\n}\n")
		_, _, err := adapter.Adapt([]byte(b.String()), nil)
		if err != nil && err.Error() == "" {
			t.Fatalf("an empty error for %q", b.String())
		}
	}
}
