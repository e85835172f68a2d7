// Tests of warnings over a fake engine.

package gojinn

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// warnings is what the admin API lists.
func (s *server) warnings() (list []warning) {
	s.t.Helper()
	res := s.admin("/gojinn/warnings")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("got %d %s", res.StatusCode, res.body)
	}
	if err := json.Unmarshal([]byte(res.body), &list); err != nil || list == nil {
		s.t.Fatalf("%v in %s", err, res.body)
	}
	return list
}

// warned are the messages of all warnings in the log, with the function and the reason where there are any.
func (s *server) warned() (all []string) {
	s.t.Helper()
	for _, r := range s.logs("level", "warn") {
		if !strings.HasPrefix(fmt.Sprint(r["logger"]), "http.handlers.gojinn") {
			continue
		}
		text := fmt.Sprint(r["msg"])
		for _, field := range []string{"function", "module", "reason"} {
			if value, ok := r[field]; ok {
				text += fmt.Sprintf(" %s=%v", field, value)
			}
		}
		all = append(all, text)
	}
	return all
}

// The engine's warnings: those at its start, and those that come at a deployment, each logged once whatever is loaded.
func TestEngineWarnings(t *testing.T) {
	s := newServer(t)
	var about atomic.Value
	about.Store(`{"warnings":["there is no memory pool","the cache is not private"]}`)
	s.fake.About = func() string { return about.Load().(string) }

	s.mustLoad("{\n admin ADMIN\n}\nADDR {\n respond hello\n}\n")
	if list := s.warnings(); len(list) != 0 {
		t.Errorf("without an engine: %v", list)
	}
	s.mustLoad(s.simple())
	const pool = "there is no memory pool"
	want := []warning{{Warning: pool}, {Warning: "the cache is not private"}}
	if got := s.warnings(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	logged := []string{pool, "the cache is not private"}
	if got := s.warned(); !slices.Equal(got, logged) {
		t.Errorf("the log has %q, want %q", got, logged)
	}

	about.Store(`{"warnings":["there is no memory pool","the cache is not private","a bad\u001b[1m entry"]}`)
	s.mustLoad(s.simple("timeout 2s"))
	s.mustLoad(s.simple("timeout 3s"))
	logged = append(logged, `a bad\x1b[1m entry`)
	if got := s.warned(); !slices.Equal(got, logged) {
		t.Errorf("after a deployment the log has %q, want %q", got, logged)
	}
	if got := s.warnings(); len(got) != 3 || got[2].Warning != "a bad\x1b[1m entry" {
		t.Errorf("after a deployment the list is %v", got)
	}

	for _, nothing := range []string{`{"warnings":[]}`, `{"warnings":null}`, `{}`, `not JSON`} {
		about.Store(nothing)
		if list := s.warnings(); len(list) != 0 {
			t.Errorf("%s: %v", nothing, list)
		}
	}
	if res := s.post("/gojinn/warnings"); res.StatusCode != 405 || res.Header.Get("Allow") != "GET" {
		t.Errorf("POST: %d %v", res.StatusCode, res.Header)
	}
}

// Warnings that come while the config runs are logged soon, and at the latest when it stops.
func TestEngineWarningsWhileServing(t *testing.T) {
	s := newServer(t)
	before := warningsInterval
	t.Cleanup(func() { warningsInterval = before })
	var count atomic.Int64
	s.fake.About = func() string {
		list := []string{}
		for i := range count.Load() {
			list = append(list, fmt.Sprint("warning ", i))
		}
		text, _ := json.Marshal(map[string]any{"warnings": list})
		return string(text)
	}
	warningsInterval = time.Millisecond
	s.mustLoad(s.simple())
	for i := range int64(3) {
		count.Store(i + 1)
		eventually(t, "the warning to be logged", func() bool { return len(s.warned()) == int(i+1) })
	}
	warningsInterval = time.Hour
	s.mustLoad(s.simple())
	count.Store(4)
	s.mustLoad("{\n admin ADMIN\n}\nADDR {\n respond hello\n}\n")
	eventually(t, "the last warning to be logged", func() bool { return len(s.warned()) == 4 })
	want := []string{"warning 0", "warning 1", "warning 2", "warning 3"}
	if got := s.warned(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A function's warnings are in the log once for each deployment, and in the lists as long as it serves.
func TestFunctionWarnings(t *testing.T) {
	s := newServer(t)
	s.fake.Describe = func(config *engine.FunctionConfig) string {
		return map[string]string{
			"copied": `{"source":"compiled","warnings":["its memory\u001b is copied"]}`,
			"cold":   `{"source":"compiled","warnings":["a first","a second"],"snapshot":{"kind":"none","why_not":"it traps"}}`,
			"mute":   `{"source":"compiled","warnings":null,"snapshot":{"kind":"parked"}}`,
			"silent": `{"warnings":null}`,
		}[config.Name]
	}
	var routes strings.Builder
	for name, line := range map[string]string{"copied": "", "cold": "warmup 2", "mute": "warmup 2", "silent": ""} {
		fmt.Fprintf(&routes, "gojinn /%s {\nmodule DIR/hello.wasm\nname %s\n%s\n}\n", name, name, line)
	}
	config := strings.Replace(s.simple(), "route {", "route {\n"+routes.String(), 1)
	s.mustLoad(config)
	s.mustLoad(strings.Replace(config, "ADDR {", "ADDR {\n\theader X-A b", 1)) // which deploys nothing again

	module := s.dir + "/hello.wasm"
	want := []string{
		"a first function=cold module=" + module,
		"a second function=cold module=" + module,
		`its memory\x1b is copied function=copied module=` + module,
		snapshotLacking + " function=cold module=" + module + " reason=it traps",
		snapshotLacking + " function=mute module=" + module + " reason=",
	}
	got := s.warned()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	list := []warning{
		{"cold", module, "a first"},
		{"cold", module, "a second"},
		{"cold", module, snapshotLacking + ": it traps"},
		{"copied", module, "its memory\x1b is copied"},
		{"mute", module, snapshotLacking},
	}
	if got := s.warnings(); !slices.Equal(got, list) {
		t.Errorf("the list is %q, want %q", got, list)
	}

	var functions []functionInfo
	if err := json.Unmarshal([]byte(s.admin("/gojinn/functions").body), &functions); err != nil {
		t.Fatal(err)
	}
	shown := map[string][]string{}
	for _, f := range functions {
		shown[f.Name] = f.Warnings
	}
	if want := map[string][]string{
		"cold": {list[0].Warning, list[1].Warning, list[2].Warning}, "copied": {list[3].Warning},
		"hello": nil, "mute": {list[4].Warning}, "silent": nil,
	}; !reflect.DeepEqual(shown, want) {
		t.Errorf("GET /gojinn/functions has %q, want %q", shown, want)
	}
}
