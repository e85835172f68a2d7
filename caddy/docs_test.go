// Tests of the docs, held to what the code does.

package gojinn

import (
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/caddyfile.md has every name that the parser knows, docs/migrate.md every name that is gone.
func TestDocsNameEverySetting(t *testing.T) {
	doc := readDoc(t, "caddyfile.md")
	directive, _, _ := strings.Cut(doc, "## The global option")
	for name := range subdirectives {
		if !strings.Contains(directive, "\n| `"+name+"` |") {
			t.Errorf("docs/caddyfile.md has no row for the subdirective %s", name)
		}
		if !strings.Contains(directive, "\n        "+name+" ") {
			t.Errorf("the grammar in docs/caddyfile.md lacks %s", name)
		}
	}
	_, global, _ := strings.Cut(doc, "## The global option")
	for _, name := range globalOptions {
		if !strings.Contains(global, "\n| `"+name+"` |") {
			t.Errorf("docs/caddyfile.md has no row for the global option %s", name)
		}
	}
	_, outbound, _ := strings.Cut(doc, "| option of `outbound` |")
	for _, name := range outboundOptions {
		if !strings.Contains(outbound, "\n| `"+name+"` |") {
			t.Errorf("docs/caddyfile.md has no row for the option %s of outbound", name)
		}
	}
	for _, name := range storeModules() {
		if !strings.Contains(outbound, "\n| `"+name+"` |") {
			t.Errorf("docs/caddyfile.md has no row for the store %s", name)
		}
	}
	operationsPage := readDoc(t, "outbound.md")
	for name := range operations {
		if !strings.Contains(operationsPage, "`"+name+"`") && !strings.Contains(operationsPage, "## "+name) {
			t.Errorf("docs/outbound.md does not have the operation %s", name)
		}
	}
	migrate := readDoc(t, "migrate.md")
	for _, g := range gone {
		if !strings.Contains(migrate, "`"+g.pattern+"`") {
			t.Errorf("docs/migrate.md does not say what became of %s", g.pattern)
		}
	}
}

// The parser accepts all Caddyfiles in the docs and the README.
func TestDocsExamplesAreAdapted(t *testing.T) {
	for _, name := range []string{"caddyfile.md", "fleet.md", "http-wasm.md", "middleware.md", "migrate.md", "../README.md"} {
		examples := strings.Split(readDoc(t, name), "\n```caddyfile")[1:]
		if len(examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for i, example := range examples {
			_, example, _ = strings.Cut(example, "\n")
			example, _, _ = strings.Cut(example, "\n```")
			_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(example+"\n"), map[string]any{"filename": name})
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s, example %d: %v %v", name, i+1, err, warnings)
			}
		}
	}
}
