//go:build cgo

// Runs the hostile guests of guests/hostile over HTTP.

package gojinn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostileGuest is a row of the table in guests/hostile/README.md.
type hostileGuest struct {
	name, settings, outcome, status string
	// module is the path of its module.
	module string
}

// hostileGuests returns the table. The modules are made by `make hostile`.
func hostileGuests(t *testing.T) (guests []hostileGuest) {
	t.Helper()
	text, err := os.ReadFile("../guests/hostile/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| guest |") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		module, err := filepath.Abs(filepath.Join("..", "guests", "build", "hostile", cells[1]+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(module); err != nil {
			t.Fatalf("%s is not built: make hostile", cells[1])
		}
		guests = append(guests, hostileGuest{name: cells[1], settings: cells[3], outcome: cells[4], status: cells[5], module: module})
	}
	return guests
}

// Every hostile guest has the outcome of the table on each backend, the client gets the status, and a function beside them answers
// after each. A module that is refused is refused with an error that names it, and the config before it serves on.
func TestHostileGuests(t *testing.T) {
	guests := hostileGuests(t)
	if len(guests) < 100 {
		t.Fatalf("there are only %d guests", len(guests))
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { testHostileGuests(t, backend, guests) })
	}
}

func testHostileGuests(t *testing.T, backend string, guests []hostileGuest) {
	s := newRealServer(t)
	for _, dir := range []string{"mount/below", "outside"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range map[string]string{"secret": "secret", "outside/secret": "secret", "mount/file": "content"} {
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"mount/link": "../secret", "mount/links": "../outside"} {
		if err := os.Symlink(target, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	function := func(g hostileGuest) string {
		settings := strings.ReplaceAll(strings.ReplaceAll(g.settings, ", ", "\n"), "mount", "mount DIR/mount /data")
		return fmt.Sprintf("gojinn /%s {\n module %s\n name %s\n %s\n}\n", g.name, g.module, g.name, settings)
	}
	config := func(functions string) string {
		return fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
	}
	gojinn {
		backend %s
	}
}
ADDR {
	route {
		log_append outcome {http.gojinn.outcome}
		gojinn /hello %s
		%s
	}
	log
}
`, backend, guest(t, "c-hello"), functions)
	}
	var functions strings.Builder
	for _, g := range guests {
		if g.outcome != "refused" {
			functions.WriteString(function(g))
		}
	}
	s.mustLoad(config(functions.String()))
	for _, g := range guests {
		if g.outcome == "refused" {
			continue
		}
		res := s.get("/"+g.name, "X-Request-Id", g.name)
		if got := fmt.Sprint(res.StatusCode); got != g.status {
			t.Errorf("%s: got %s %q, want %s", g.name, got, res.body, g.status)
		}
		if res.Header.Get("X-Owned") != "" || res.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: got the headers %v", g.name, res.Header)
		}
		if res := s.get("/hello"); res.StatusCode != 200 {
			t.Errorf("after %s, another function answers with %d", g.name, res.StatusCode)
		}
	}
	outcomes := map[string]string{}
	for _, record := range s.logs("logger", "http.log.access") {
		if request, ok := record["request"].(map[string]any); ok {
			outcomes[strings.TrimPrefix(fmt.Sprint(request["uri"]), "/")] = fmt.Sprint(record["outcome"])
		}
	}
	for _, g := range guests {
		if got := outcomes[g.name]; g.outcome != "refused" && got != g.outcome {
			t.Errorf("%s: the log has the outcome %q, want %s", g.name, got, g.outcome)
		}
	}
	for _, g := range guests {
		if g.outcome != "refused" {
			continue
		}
		if err := s.load(config(function(g))); err == nil || !strings.Contains(err.Error(), g.module) {
			t.Errorf("%s: loading it gave %v, want an error with its path", g.name, err)
		}
	}
	if res := s.get("/hello"); res.StatusCode != 200 {
		t.Errorf("after the refused modules, another function answers with %d", res.StatusCode)
	}
}
