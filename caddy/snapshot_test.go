// Tests of snapshots over a fake engine.

package gojinn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// sampleOf returns a sample request with a trace id.
func sampleOf(trace string) string {
	return strings.Replace(exampleSample, `"sample"`, `"`+trace+`"`, 1)
}

// The engine gets the settings of snapshots.
func TestSnapshotSettings(t *testing.T) {
	t.Setenv("TENANT", "acme")
	s := newServer(t)
	var got *engine.FunctionConfig
	s.fake.Deploy = func(_ []byte, config *engine.FunctionConfig) error {
		got = config
		return refuseSample(config)
	}
	text := strings.ReplaceAll(exampleSample, ",", ",\n\t")
	sample := s.module("sample.json", text)
	global := func(setting, config string) string {
		return strings.Replace(config, "{\n\tadmin", "{\n\tgojinn {\n\t\tsnapshot "+setting+"\n\t}\n\tadmin", 1)
	}
	for name, c := range map[string]struct {
		config, snapshot string
		warmup           *engine.Warmup
	}{
		"nothing":            {s.simple(), "auto", nil},
		"on":                 {s.simple("snapshot on", "env TENANT {env.TENANT}"), "on", nil},
		"a global value":     {global("off", s.simple()), "off", nil},
		"both":               {global("off", s.simple("snapshot auto", "warmup 3")), "auto", &engine.Warmup{Rounds: 3}},
		"a sample":           {s.simple("warmup 100 DIR/sample.json"), "auto", &engine.Warmup{Rounds: 100, Sample: text}},
		"per-request values": {s.simple("args {http.request.host}", "warmup 1"), "auto", &engine.Warmup{Rounds: 1}},
	} {
		got = nil
		s.mustLoad(c.config)
		if got == nil || got.Snapshot != c.snapshot || (got.Warmup == nil) != (c.warmup == nil) ||
			c.warmup != nil && *got.Warmup != *c.warmup {
			t.Errorf("%s: got %+v", name, got)
		}
	}

	for want, config := range map[string]string{
		"snapshot is on, but env TENANT has {http.request.host}, which each request fills in": s.simple("snapshot on", "env TENANT \"at {http.request.host}\""),
		"snapshot is on, but args, number 2 has {http.request.uri}, which":                    global("on", s.simple("args -x {http.request.uri}")),
		"warmup makes a snapshot, and snapshot is off, here or in the global option gojinn":   global("off", s.simple("warmup 3")),
		"warmup {http.request.uri.path}.json: unrecognized placeholder":                       s.simple("warmup 3 {http.request.uri.path}.json"),
		"function hello (" + s.dir + "/hello.wasm): the sample of warmup, " + s.dir + "/none.json: there is no such file": s.simple(
			"warmup 3 DIR/none.json"),
	} {
		if err := s.load(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	s.module("sample.json", "{}")
	if err := s.load(s.simple("warmup 3 DIR/sample.json")); err == nil ||
		!strings.Contains(err.Error(), "function hello ("+s.dir+"/hello.wasm): the sample of warmup, "+sample+":1:1: the request lacks") {
		t.Errorf("a mistake in the sample: got %v", err)
	}
	if res := s.get("/"); res.StatusCode != 200 {
		t.Errorf("after configs that were refused: %d", res.StatusCode)
	}
}

// refuseSample refuses the sample {} as the engine does.
func refuseSample(config *engine.FunctionConfig) error {
	if config.Warmup == nil || config.Warmup.Sample != "{}" {
		return nil
	}
	return &engine.Error{
		Code:    engine.CodeBadConfig,
		Message: "function " + config.Name + `: the sample of warmup, 1:1: the request lacks "method", which every request has`,
	}
}

// A config that was written as JSON is checked by the same rules.
func TestSnapshotIsValidated(t *testing.T) {
	valid := func() *Handler {
		h := &Handler{Module: "x.wasm"}
		h.setDefaults(&App{Backend: "wasmtime", Snapshot: snapshotAuto})
		return h
	}
	if err := valid().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Handler){
		`snapshot "yes" is not one of auto, off, on`:        func(h *Handler) { h.Snapshot = "yes" },
		"warmup is 0, want a number of rounds from 1":       func(h *Handler) { h.Warmup = &Warmup{} },
		"warmup is 101, want":                               func(h *Handler) { h.Warmup = &Warmup{Rounds: 101} },
		"warmup makes a snapshot, and snapshot is off":      func(h *Handler) { h.Snapshot, h.Warmup = "off", &Warmup{Rounds: 1} },
		"max_logs is -1 bytes, want at least 1 and at most": func(h *Handler) { h.MaxLogs = -1 },
	} {
		h := valid()
		spoil(h)
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	app := &App{Backend: "wasmtime", MaxConcurrency: 1, Snapshot: "yes"}
	if err := app.Validate(); err == nil || !strings.Contains(err.Error(), `snapshot "yes"`) {
		t.Errorf("the app: got %v", err)
	}
}

// The log and the admin API say what sandboxes start from. A missing snapshot is warned about, and what the program wrote while
// it was started is logged, both once for each deployment.
func TestSnapshotIsReported(t *testing.T) {
	s := newServer(t)
	s.fake.Describe = func(config *engine.FunctionConfig) string {
		return map[string]string{
			"parked":      `{"source":"compiled","snapshot":{"kind":"parked","why_not":null,"took_ms":12.5,"patches":6,"stderr":""}}`,
			"plain":       `{"snapshot":{"kind":"none","why_not":"this is\nnot a Go program","took_ms":0,"stderr":""}}`,
			"insisted":    `{"snapshot":{"kind":"none","why_not":"code has table.set"}}`,
			"hoped":       `{"snapshot":{"kind":"none","why_not":"it opened /etc/x","stderr":"opening"}}`,
			"only parked": `{"snapshot":{"kind":"parked","why_not":"reads on another goroutine"}}`,
			"warmed":      `{"snapshot":{"kind":"warmed","why_not":"","took_ms":20,"stderr":"starting\n{\"level\":\"warn\",\"msg\":\"old config\",\"n\":1}\n\n\u001b[1mend"}}`,
			"silent":      `{}`,
		}[config.Name]
	}
	var routes strings.Builder
	for name, lines := range map[string]string{
		"parked": "", "plain": "", "silent": "snapshot off", "insisted": "snapshot on",
		"hoped": "warmup 3", "only parked": "warmup 3", "warmed": "warmup 3",
	} {
		fmt.Fprintf(&routes, "gojinn /%s {\nmodule DIR/hello.wasm\nname \"%s\"\n%s\n}\n", name[:2], name, lines)
	}
	config := strings.Replace(s.simple(), "route {", "route {\n"+routes.String(), 1)
	s.mustLoad(config)

	ready := func(name string) (last map[string]any) {
		for _, record := range s.logs("function", name) {
			if record["msg"] == "function is ready" {
				last = record
			}
		}
		return last
	}
	for name, want := range map[string]string{
		"parked":      "parked <nil> 0.0125",
		"plain":       `none this is\nnot a Go program <nil>`,
		"insisted":    "none code has table.set <nil>",
		"only parked": "parked reads on another goroutine <nil>",
		"warmed":      "warmed <nil> 0.02",
		"silent":      "none <nil> <nil>",
	} {
		r := ready(name)
		if got := fmt.Sprint(r["snapshot"], " ", r["snapshot_why_not"], " ", r["snapshot_duration"]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	s.mustLoad(strings.Replace(config, "ADDR {", "ADDR {\n\theader X-A b", 1))
	if r := ready("plain"); r["code_from"] != "config" || r["snapshot"] != "none" {
		t.Errorf("unchanged by a reload: %v", r)
	}

	warnings := map[string]string{}
	for _, record := range s.logs("msg", "the function does not start from the snapshot that was asked for") {
		name := record["function"].(string)
		if warnings[name] != "" || record["level"] != "warn" || record["module"] != filepath.Join(s.dir, "hello.wasm") {
			t.Errorf("the warning %v", record)
		}
		warnings[name] = fmt.Sprint(record["snapshot"], " ", record["reason"])
	}
	want := map[string]string{
		"insisted": "none code has table.set", "hoped": "none it opened /etc/x", "only parked": "parked reads on another goroutine",
	}
	if fmt.Sprint(warnings) != fmt.Sprint(want) {
		t.Errorf("got the warnings %v, want %v", warnings, want)
	}

	var said []string
	for _, record := range s.logs("logger", "http.handlers.gojinn.stderr") {
		said = append(said, fmt.Sprintf("%v %v %v %v %v", record["level"], record["msg"], record["function"], record["trace_id"], record["n"]))
	}
	if got := strings.Join(said, "\n"); got != "info starting warmed <nil> <nil>\nwarn old config warmed <nil> 1\n"+
		"info  warmed <nil> <nil>\ninfo \\x1b[1mend warmed <nil> <nil>" {
		t.Errorf("the log of what was written at the start:\n%s", got)
	}

	var list []map[string]any
	if err := json.Unmarshal([]byte(s.admin("/gojinn/functions").body), &list); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, f := range list {
		told[f["name"].(string)] = fmt.Sprint(f["snapshot"], " ", f["snapshot_why_not"], " ", f["snapshot_ms"])
	}
	for name, want := range map[string]string{
		"parked": "parked <nil> 12.5", "plain": "none this is\nnot a Go program <nil>", "silent": "none <nil> <nil>",
	} {
		if told[name] != want {
			t.Errorf("the admin API says of %s: %s, want %s", name, told[name], want)
		}
	}
}

// The sample belongs to its function: another text makes another function, other white space does not.
func TestSampleIdentifiesTheFunction(t *testing.T) {
	s := newServer(t)
	var deployed atomic.Int64
	s.fake.Deploy = func([]byte, *engine.FunctionConfig) error {
		deployed.Add(1)
		return nil
	}
	s.module("sample.json", sampleOf("a"))
	config := s.simple("warmup 3 DIR/sample.json")
	for _, c := range []struct {
		text     string
		deployed int64
	}{{sampleOf("a"), 1}, {" " + sampleOf("a") + "\n", 1}, {sampleOf("b"), 2}} {
		s.module("sample.json", c.text)
		s.mustLoad(config)
		if n := deployed.Load(); n != c.deployed {
			t.Errorf("%q: %d functions were deployed, want %d", c.text, n, c.deployed)
		}
		if list := s.admin("/gojinn/functions").body; !strings.Contains(list, `"name":"hello"`) {
			t.Errorf("the name depends on the sample's text: %s", list)
		}
	}
	s.module("other.json", sampleOf("b"))
	s.mustLoad(strings.Replace(config, "route {", "route {\n\t\tgojinn /other {\n\t\t\tmodule DIR/hello.wasm\n\t\t\twarmup 3 DIR/other.json\n\t\t}", 1))
	if list := s.admin("/gojinn/functions").body; strings.Count(list, `"name":"hello"`) != 1 || strings.Count(list, `"name":"hello-`) != 1 {
		t.Errorf("functions with different samples: %s", list)
	}
}

// The sample is watched and reloaded as the module is.
func TestWatchFollowsTheSample(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		return enginetest.OK(c.Config.Warmup.Sample)
	}
	s.fake.Deploy = func(_ []byte, config *engine.FunctionConfig) error {
		if strings.Contains(config.Warmup.Sample, "trap") {
			return errors.New("function " + config.Name + ": the sample ends in a trap")
		}
		return refuseSample(config)
	}
	sample := s.module("sample.json", sampleOf("first"))
	s.mustLoad(s.simple("warmup 3 DIR/sample.json", "watch"))
	s.answers("the first sample", sampleOf("first"))
	s.module("sample.json", sampleOf("over"))
	s.answers("a sample written over", sampleOf("over"))
	s.rename("sample.json", sampleOf("renamed"))
	s.answers("a sample replaced", sampleOf("renamed"))

	const message = "the sample of warmup has changed and was refused; the function before serves on"
	s.rename("sample.json", "{}")
	eventually(t, "the refusal to be logged", func() bool { return len(s.logs("msg", message)) == 1 })
	record := s.logs("msg", message)[0]
	if record["level"] != "error" || record["function"] != "hello" ||
		!strings.HasPrefix(record["reason"].(string), "the sample of warmup, "+sample+":1:1: the request lacks") {
		t.Errorf("the record: %v", record)
	}
	s.answers("the sample before", sampleOf("renamed"))
	if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 422 || !strings.Contains(res.body, sample+":1:1: the request lacks") {
		t.Errorf("a bad sample on demand: %d %s", res.StatusCode, res.body)
	}
	s.rename("sample.json", sampleOf("trap"))
	eventually(t, "the engine's refusal to be logged", func() bool { return len(s.logs("reason", "the sample ends in a trap")) == 1 })
	if err := os.Remove(sample); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing sample to be logged", func() bool { return len(s.logs("msg", message)) == 2 })
	s.answers("the sample before", sampleOf("renamed"))
	s.module("sample.json", sampleOf("back"))
	s.answers("a sample that exists again", sampleOf("back"))

	s.mustLoad(s.simple("warmup 3 DIR/sample.json"))
	s.rename("sample.json", sampleOf("on demand"))
	if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 200 || !strings.Contains(res.body, `"changed":true`) {
		t.Errorf("got %d %s", res.StatusCode, res.body)
	}
	if body := s.get("/").body; body != sampleOf("on demand") {
		t.Errorf("after the reload: %s", body)
	}
	if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 200 || !strings.Contains(res.body, `"changed":false`) {
		t.Errorf("unchanged: got %d %s", res.StatusCode, res.body)
	}
}
