// Tests of the operation secret.get.

package gojinn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	t.Setenv("GOJINN_TEST_SECRET", "from {env.HOME} the environment")
	g := newTestGuest(t, &Handler{Secrets: map[string]string{
		"FILE": "{file." + path + "}", "ENV": "{env.GOJINN_TEST_SECRET}", "UNSET": "{env.GOJINN_TEST_UNSET}",
	}})
	get := func(name string, want int32) string {
		t.Helper()
		head, body, code := g.call("secret.get", `{"name":"`+name+`"}`)
		if min(code, 0) != want || code >= 0 && len(head) != 0 {
			t.Errorf("%s: %d %s", name, code, body)
		}
		return body
	}
	get("FILE", codeNotFound)
	for _, content := range []string{"first\n", "second, \x00\xff and {env.HOME}", "third\r\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := get("FILE", 0); got != strings.TrimRight(content, "\r\n") {
			t.Errorf("got %q, want %q", got, content)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	get("FILE", codeNotFound)
	if got := get("ENV", 0); got != "from {env.HOME} the environment" {
		t.Errorf("got %q", got)
	}
	get("UNSET", codeNotFound)
	if text := get("OTHER", codeDenied); !strings.Contains(text, "`secret OTHER {file./run/secrets/other}`") {
		t.Errorf("got %s", text)
	}
	get("", codeBadRequest)
	get("a b", codeBadRequest)
	for _, record := range g.logs.All() {
		if text := record.Message + " " + strings.Join(strings.Fields(strings.ToLower(mapText(record.ContextMap()))), " "); strings.Contains(text, "second") || strings.Contains(text, "third") {
			t.Errorf("a log record has a secret: %s", text)
		}
	}
}

func TestBadSecrets(t *testing.T) {
	s := newServer(t)
	for line, want := range map[string]string{
		"secret KEY hunter2":                     "is not one placeholder",
		"secret KEY {env.A}{env.B}":              "is not one placeholder",
		"secret KEY x{env.A}":                    "is not one placeholder",
		"secret KEY \"\"":                        "is not one placeholder",
		"secret KEY":                             "got 1 arguments",
		"secret KEY {env.A} x":                   "got 3 arguments",
		"secret \"a b\" {env.A}":                 "is not a name",
		"secret KEY {http.request.header.X}":     "depends on the request",
		"secret KEY {header.X}":                  "depends on the request",
		"secret KEY {nonsense}":                  "Caddy has no placeholder {nonsense}",
		"secret KEY {env.A}\nsecret KEY {env.B}": "given twice",
	} {
		err := s.load(s.simple(line))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}
