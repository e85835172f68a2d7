// Tests of how scripts are bundled, over the fake engine.

package gojinn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Everything that a script may import is in its bundle, and its files are all known.
func TestBundleHasAllImports(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"api.tsx":                            `import p from "pkg"; import { q } from "./lib/q"; import d from "./d.json"; import h from "./h.html"; import { jsx } from "pkg/jsx-runtime";` + "\nenum E { A = 41 }\nexport default () => p + q + d.n + h + E.A + <b/>;",
		"lib/q.ts":                           `export const q: string = "from-lib";`,
		"d.json":                             `{"n":"from-json"}`,
		"h.html":                             `<p>from-html`,
		"tsconfig.json":                      `{"compilerOptions":{"jsx":"react-jsx","jsxImportSource":"pkg"}}`,
		"node_modules/pkg/package.json":      `{"exports":{".":{"workerd":"./w.js","default":"./n.js"},"./jsx-runtime":"./jsx.js"}}`,
		"node_modules/pkg/w.js":              `module.exports = "from-worker" + process.env.NODE_ENV;`,
		"node_modules/pkg/n.js":              `import "node:fs";`,
		"node_modules/pkg/jsx.js":            `export const jsx = (name) => "from-jsx" + name;`,
		"node_modules/pkg/unused/index.html": ``,
	})
	s, err := bundle(filepath.Join(dir, "api.tsx"), &scriptSettings{Stores: []string{"sessions"}, Secrets: []string{"KEY"}})
	if err != nil {
		t.Fatal(err)
	}
	head, code, _ := strings.Cut(string(s.data), "\n")
	if head != `{"stores":["sessions"],"secrets":["KEY"]}` {
		t.Error(head)
	}
	for _, part := range []string{"from-lib", "from-json", "from-html", "from-workerproduction", "from-jsx", "41", "export {"} {
		if !strings.Contains(code, part) {
			t.Errorf("the bundle lacks %s:\n%s", part, code)
		}
	}
	for _, name := range []string{"api.tsx", "lib/q.ts", "d.json", "h.html", "node_modules/pkg/w.js", "node_modules/pkg/jsx.js"} {
		if !strings.Contains(strings.Join(s.inputs, "\n"), filepath.Join(dir, name)) {
			t.Errorf("%s is no input: %v", name, s.inputs)
		}
	}
}

// A mistake is named with its place, the line and what to do.
func TestBundleNamesMistakes(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct{ text, want string }{
		{"const a = 1;\nexport default {\n", "s.ts:3:1: Expected identifier but found end of file"},
		{"let x: = 2;", "s.ts:1:8: Unexpected \"=\" in the line `let x: = 2;`"},
		{`export { Hono } from "hono";`, "s.ts:1:22: Could not resolve \"hono\" in the line `export { Hono } from \"hono\";`; run `npm install hono` in " + dir},
		{`export * from "@scope/name/part";`, "run `npm install @scope/name` in "},
		{`export * from "./x";`, "there is no such file; correct the path"},
		{`export * from "node:fs";`, "no modules of Node.js"},
		{`export { createHash } from "crypto";`, "no modules of Node.js"},
		{"import './1'\nimport './2'\nimport './3'\nimport './4'\nimport './5'\nimport './6'\nimport './7'", "and 2 more mistakes"},
		{"const s = `" + strings.Repeat("x", 5000) + "`; const = 1;", "in the line `xxx"},
	} {
		writeFiles(t, dir, map[string]string{"s.ts": c.text})
		_, err := bundle(filepath.Join(dir, "s.ts"), &scriptSettings{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
			t.Errorf("%d: got %v\nwant %s", i, err, c.want)
		}
	}
	for path, want := range map[string]string{"missing.js": "there is no such file", ".": "not a regular file but a directory"} {
		if _, err := bundle(filepath.Join(dir, path), &scriptSettings{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Places in the bundle become places in the sources, and other text stays as it is.
func TestPositions(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"s.ts":   "import { f } from './lib';\ntype A = number;\n\nexport default () => f();\n",
		"lib.ts": "interface B {}\n\nexport const f = () => {\n  throw new Error('x');\n};\n",
	})
	s, err := bundle(filepath.Join(dir, "s.ts"), &scriptSettings{})
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(s.data), "\n")
	line := 1 + strings.Count(code[:strings.Index(code, "throw")], "\n")
	text := fmt.Sprintf("Error: x\n    at f (gojinn:script:%d:3)\n    at gojinn:script:99999:1", line)
	message, stack := s.positions.split(text)
	if message != "Error: x" || fmt.Sprint(stack) != "[at f (lib.ts:4:3) at the bundle:99999:1]" {
		t.Errorf("%q %q", message, stack)
	}
	var none *positions
	if got := none.translate(text); got != text {
		t.Error(got)
	}
}

// The module that runs scripts gets the script as its data, is asked once whether it was loaded, and refuses the config if not.
func TestScriptsAreChecked(t *testing.T) {
	s := newServer(t)
	s.module("api.js", `export default () => new Response("hello");`)
	var checks int
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if !strings.Contains(string(c.Config.Data), "hello") || len(c.Module) < 100_000 {
			t.Errorf("%d bytes of a module, data %q", len(c.Module), c.Config.Data)
		}
		if c.Head.Method != "" {
			return enginetest.OK("answered")
		}
		checks++
		if strings.Contains(string(c.Config.Data), "bad") {
			reply := enginetest.Refused(engine.OutcomeTrap, 502, "it exits with code 1")
			reply.Logs = []engine.LogLine{{Level: engine.LogError, Text: "Error: no\n    at gojinn:script:1:1"}}
			return reply
		}
		return enginetest.OK("")
	}
	config := strings.Replace(s.simple("env WHO {http.request.host}"), "hello.wasm", "api.js", 1)
	s.mustLoad(config)
	if res := s.get("/"); res.body != "answered" || checks != 1 {
		t.Errorf("got %q after %d checks", res.body, checks)
	}
	s.module("api.js", `export default () => new Response("hello bad");`)
	if err := s.load(config); err == nil || !strings.Contains(err.Error(), "the script cannot be loaded: Error: no (at ") {
		t.Errorf("got %v", err)
	}
	if res := s.get("/"); res.body != "answered" {
		t.Errorf("the config before answers %q", res.body)
	}
}
