// Tests of placeholders.

package gojinn

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

func TestValue(t *testing.T) {
	t.Setenv("GOJINN_A", "alpha")
	t.Setenv("GOJINN_NESTED", "{env.GOJINN_A}")
	request := caddy.NewReplacer()
	request.Set("http.request.host", "{env.GOJINN_A}")
	request.Set("http.empty", "")
	request.Set("chosen", "by map")
	request.Set("not_chosen", "set by something that config does not show")
	names := &otherNames{
		chosen:  func(name string) bool { return name == "chosen" || name == "a b.c" },
		plugins: isDotted,
	}
	for _, c := range []struct {
		text, want     string
		perRequest     bool
		unset, unknown string
	}{
		{text: "", want: ""},
		{text: "plain", want: "plain"},
		{text: "<{env.GOJINN_A}>", want: "<alpha>"},
		{text: "{env.GOJINN_NESTED}", want: "{env.GOJINN_A}"},
		{text: "{env.GOJINN_NONE}", want: "", unset: "{env.GOJINN_NONE}"},
		{text: "{http.request.host}", want: "{env.GOJINN_A}", perRequest: true},
		{text: "a {http.request.host} {env.GOJINN_A}", want: "a {env.GOJINN_A} alpha", perRequest: true},
		{text: "{http.empty}", want: "", perRequest: true},
		{text: "{no.module}", want: "{no.module}", perRequest: true},
		{text: "{chosen}", want: "by map", perRequest: true},
		{text: "{{chosen}}", want: "{by map}", perRequest: true},
		{text: "{a b.c}", want: "{a b.c}", perRequest: true},
		{text: `\{env.GOJINN_A\}`, want: "{env.GOJINN_A}"},
		{text: `\\{env.GOJINN_A}`, want: `\{env.GOJINN_A}`},
		{text: `\{chosen\}`, want: "{chosen}"},
		{text: `\d{2}\\`, want: `\d{2}\\`},

		// Text in braces is text, at any depth.
		{text: "open { end", want: "open { end"},
		{text: "}{", want: "}{"},
		{text: "{}", want: "{}"},
		{text: "{ }", want: "{ }"},
		{text: "{{}}", want: "{{}}"},
		{text: strings.Repeat("{", 300), want: strings.Repeat("{", 300)},
		{text: `{"beta": true}`, want: `{"beta": true}`},
		{text: `{"a": {"b": ["{", "}"]}}`, want: `{"a": {"b": ["{", "}"]}}`},
		{text: "^[a-z]{2,4}$", want: "^[a-z]{2,4}$"},
		{text: "[0-9]{3}", want: "[0-9]{3}"},
		{text: "Hello {{.Name}}, {{ name }}", want: "Hello {{.Name}}, {{ name }}"},
		{text: "{{name}} and {{{raw}}} and {{user.name}}", want: "{{name}} and {{{raw}}} and {{user.name}}"},
		{text: "{{ range .Items }}{{ .Name }}{{ end }}", want: "{{ range .Items }}{{ .Name }}{{ end }}"},
		{text: "{% if x %}", want: "{% if x %}"},
		{text: "/users/{id}/{file-name}", want: "/users/{id}/{file-name}"},
		{text: "{not_chosen}", want: "{not_chosen}"},
		{text: "${HOME} {0} {:>8} {$X} {a:b}", want: "${HOME} {0} {:>8} {$X} {a:b}"},
		{text: `up{job="x",le!="0.5"}`, want: `up{job="x",le!="0.5"}`},
		{text: "query{user{name}}", want: "query{user{name}}"},
		{text: "a{color:red} b { margin: 0 }", want: "a{color:red} b { margin: 0 }"},
		{text: "{one, plural, one {# file} other {# files}}", want: "{one, plural, one {# file} other {# files}}"},
		{text: "{a.} {.a} {a..b} {1.5} {é.x}", want: "{a.} {.a} {a..b} {1.5} {é.x}"},

		// Placeholders inside such text are found.
		{text: `{"token": "{env.GOJINN_A}"}`, want: `{"token": "alpha"}`},
		{text: `{"db": {"u": "x"}, "from": "{http.request.host}"}`, want: `{"db": {"u": "x"}, "from": "{env.GOJINN_A}"}`, perRequest: true},
		{text: "{{{env.GOJINN_A}}}", want: "{{alpha}}"},
		{text: "{{http.request.host}}", want: "{{env.GOJINN_A}}", perRequest: true},
		{text: `{"a":{env.GOJINN_A}}`, want: `{"a":alpha}`},
		{text: `{"a":{chosen}}`, want: `{"a":by map}`, perRequest: true},

		// The server knows all names with these prefixes.
		{text: "{system.hostnam}", want: "{system.hostnam}", unknown: "{system.hostnam}"},
		{text: "{time.nwo}", want: "{time.nwo}", unknown: "{time.nwo}"},
	} {
		v, doubts := parseValue(c.text, caddy.NewReplacer(), names)
		got, static := v.static()
		if !static {
			var err error
			if got, err = v.expand(request, nil); err != nil {
				t.Error(err)
			}
		}
		if got != c.want || static == c.perRequest ||
			strings.Join(doubts.unset, " ") != c.unset || strings.Join(doubts.unknown, " ") != c.unknown {
			t.Errorf("%s: got %q, per request %t, doubts %v", c.text, got, !static, doubts)
		}
	}
}

// Values for which Caddy's replacer returns the same.
func TestValueIsAsCaddysReplacer(t *testing.T) {
	t.Setenv("GOJINN_A", "alpha")
	request := caddy.NewReplacer()
	request.Set("http.a", "A{http.b}")
	request.Set("http.b", "B")
	none := func(string) bool { return false }
	parts := []string{"{", "}", `\{`, `\}`, `\`, "{env.GOJINN_A}", "{http.a}", `{http.none\}}`, `"x": `, ","}
	for i := range 10_000 {
		text := parts[i%10] + parts[i/10%10] + parts[i/100%10] + parts[i/1000]
		v, _ := parseValue(text, caddy.NewReplacer(), &otherNames{chosen: none, plugins: none})
		got, static := v.static()
		if !static {
			got, _ = v.expand(request, nil)
		}
		if want := request.ReplaceKnown(text, ""); got != want {
			t.Errorf("%s: got %s, and Caddy %s", text, got, want)
		}
	}
}

// Names with dots are text in a Caddy without plugins, and may be placeholders in one with plugins.
func TestNamesOfPlugins(t *testing.T) {
	if hasPlugins() {
		t.Fatal("this Caddy has a plugin")
	}
	for id, path := range map[string]string{
		"http.handlers.gojinn": "github.com/pauloappbr/gojinn/caddy", "http.matchers.path": "github.com/caddyserver/caddy/v2/modules/caddyhttp",
	} {
		if got := packageOf(id); got != path || isPlugin(got) {
			t.Errorf("%s is of the package %s, a plugin: %t", id, got, isPlugin(got))
		}
	}
	for _, path := range []string{"github.com/caddyserver/cache-handler", "github.com/porech/caddy-maxmind-geolocation", "example.org/gojinn/caddy", ""} {
		if !isPlugin(path) {
			t.Errorf("%s is no plugin", path)
		}
	}
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	before := hasPlugins
	t.Cleanup(func() { hasPlugins = before })
	for _, has := range []bool{false, true} {
		hasPlugins = func() bool { return has }
		s.mustLoad(s.simple("env A {user.name}", "env B {http.none}", "env C {{user.name}}"))
		s.get("/")
		if want := map[bool]string{false: "B", true: "A B"}[has]; strings.Join(perRequestNames(got), " ") != want {
			t.Errorf("with plugins: %t: %v are per-request values, want %s", has, perRequestNames(got), want)
		}
	}
}

// The names that `map` gives, wherever it is, and before or after the function.
func TestNamesOfMapAreFound(t *testing.T) {
	s := newServer(t)
	s.module("second.wasm", "\x00asm second")
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	s.mustLoad(`{
	admin ADMIN
}
(values) {
	env TOP {top}
	env INNER {inner}
	env INTERCEPTED {intercepted}
	env NAMED {named}
	env FAILED {failed}
	env NONE {none}
	env NESTED "{\"a\": {\"b\": \"{top}\"}}"
}
&(other) {
	map {path} {named} {
		default n
	}
}
ADDR {
	map {path} {top} {
		/x one
		default "{inner}"
	}
	handle /x* {
		map {path} {inner} {
			default i
		}
		intercept {
			@never status 999
			handle_response @never {
				map {path} {intercepted} {
					default x
				}
			}
		}
		invoke other
		gojinn {
			module DIR/hello.wasm
			import values
		}
	}
	handle {
		gojinn {
			module DIR/second.wasm
			import values
		}
	}
	handle_errors {
		map {path} {failed} {
			default f
		}
	}
}
`)
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/x", []string{"f: {failed}", "i: i", "int: {intercepted}", "n: n", `nested: {"a": {"b": "one"}}`, "top: one"}},
		{"/y", []string{"f: {failed}", "i: {inner}", "int: {intercepted}", "n: {named}", `nested: {"a": {"b": ""}}`, "top: "}},
	} {
		s.get(c.path)
		labels := map[string]string{"FAILED": "f", "INNER": "i", "INTERCEPTED": "int", "NAMED": "n", "NESTED": "nested", "TOP": "top"}
		var lines []string
		for i, pair := range perRequestNames(got) {
			lines = append(lines, labels[pair]+": "+got.Head.PerRequest[i])
		}
		if strings.Join(lines, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: got %q, want %q", c.path, lines, c.want)
		}
		if len(got.Config.Env) != 7 {
			t.Errorf("%s: %d variables", c.path, len(got.Config.Env))
		}
		for _, pair := range got.Config.Env {
			if *pair[0] == "NONE" && (pair[1] == nil || *pair[1] != "{none}") {
				t.Errorf("%s: a name that nothing gives is a per-request value", c.path)
			}
		}
	}
}

// perRequestNames returns the variables with per-request values.
func perRequestNames(c *enginetest.Call) (names []string) {
	for _, pair := range c.Config.Env {
		if pair[1] == nil {
			names = append(names, *pair[0])
		}
	}
	return names
}

func TestBodyAsAPlaceholder(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK(string(c.Body)) }
	// tracing passes on a copy of the request, which Caddy's placeholders do not read.
	for _, before := range []string{"", "tracing", "map {http.request.body} {copied} {\n\t\t\tdefault {http.request.body}\n\t\t}",
		"log_append < body {http.request.body}"} {
		s.mustLoad(strings.Replace(s.simple("env A {http.request.body}", "env B <{http.request.body_base64}>", "env C {copied}", "max_body 10"),
			"route {", "route {\n\t\t"+before, 1))
		for _, body := range []string{"", "a=1&b=2", "{http.a}", "0123456789"} {
			res := s.do(s.request("POST", "/", body))
			want := []string{body, "<" + base64.StdEncoding.EncodeToString([]byte(body)) + ">"}
			if strings.HasPrefix(before, "map") {
				want = append(want, body)
			}
			if res.StatusCode != 200 || res.body != body || strings.Join(got.Head.PerRequest, "|") != strings.Join(want, "|") {
				t.Errorf("%s: %q: got %d, body %q and %q", before, body, res.StatusCode, res.body, got.Head.PerRequest)
			}
		}
		if res := s.do(s.request("POST", "/", "0123456789a")); res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: a body over max_body: %d", before, res.StatusCode)
		}
		if res := s.do(s.request("POST", "/", "a\x00b")); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: a NUL in a variable: %d", before, res.StatusCode)
		}
	}
}
