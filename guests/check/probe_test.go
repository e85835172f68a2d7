package check

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// ask gives probe one request and returns what it tells.
func ask(t *testing.T, guest *Guest, query string, args ...string) (map[string]any, *Result) {
	t.Helper()
	result := run(t, guest, Call{Stdin: []byte(`{"method":"GET","uri":"/?` + query + `","trace_id":"t"}` + "\n"), Args: args})
	response, err := result.Response()
	if err != nil {
		t.Fatalf("%v ?%s: %v", args, query, err)
	}
	var facts map[string]any
	if err := json.Unmarshal([]byte(response.Body), &facts); err != nil || response.Status != 200 {
		t.Fatalf("%v ?%s: status %d, body %q: %v", args, query, response.Status, response.Body, err)
	}
	return facts, result
}

// What each argument asks of the host before the first read: more than the runtime's 32 bytes of entropy is what a snapshot
// would freeze.
func TestProbeBeforeItsFirstRead(t *testing.T) {
	plain := Census{Random: 32}
	for args, want := range map[string]Census{
		"":               plain,
		"env=HOME":       plain,
		"file=/none":     plain,
		"clock":          {Random: 32, Realtime: 1},
		"key":            {Random: 64},
		"id":             plain,
		"draw":           plain,
		"seeded":         plain,
		"static":         plain,
		"heap=16":        {Random: 32, Realtime: -1},
		"gc":             {Random: 32, Realtime: -1},
		"collect":        {Random: 32, Realtime: -1},
		"timers":         plain,
		"sleep=1ms":      plain,
		"goroutines=500": plain,
		"finalizers":     plain,
		"stack":          plain,
		"lock":           plain,
		"loop":           plain,
		"all":            plain,
		"reader":         plain,
		"deep=1000":      plain,
		"recover":        plain,
	} {
		t.Run(args, func(t *testing.T) {
			facts, result := ask(t, load(t, built(t, "go-probe")), "", strings.Fields(args)...)
			if facts["uri"] != "/?" || facts["trace_id"] != "t" || !strings.HasPrefix(facts["generics"].(string), "5 ") {
				t.Errorf("facts %v", facts)
			}
			got := result.Before
			// -1: the collector's stamps, one for each collection that has ended.
			if want.Realtime < 0 {
				got.Realtime = -1
			}
			if got != want {
				t.Errorf("before the first read: %+v, want %+v", result.Before, want)
			}
		})
	}
}

func TestProbeTells(t *testing.T) {
	guest := load(t, built(t, "go-probe"))
	for _, c := range []struct {
		query, args, fact string
		want              any
	}{
		{"", "gc", "gc", true},
		{"", "goroutines=500", "goroutines", 501.0},
		{"", "file=/none", "file", -1.0},
		{"collect=1", "finalizers", "finalized", true},
		{"collect=1", "", "finalized", false},
		{"count=1", "", "count", 1.0},
		{"recurse=20000", "", "depth", 20000.0},
	} {
		if facts, _ := ask(t, guest, c.query, strings.Fields(c.args)...); facts[c.fact] != c.want {
			t.Errorf("%s ?%s: %s is %v, want %v", c.args, c.query, c.fact, facts[c.fact], c.want)
		}
	}
	facts, _ := ask(t, guest, "timers=1", "timers")
	if text, err := json.Marshal(facts["timers"]); err != nil || string(text) != `{"func":true,"tick":true,"timer":true,"tock":true}` {
		t.Errorf("timers: %s, %v", text, err)
	}
	facts, _ = ask(t, guest, "clocks=1")
	clocks := facts["clocks"].(map[string]any)
	if now := time.Now().UnixNano(); clocks["realtime"].(float64) < float64(now-int64(time.Minute)) || clocks["since_start"].(float64) <= 0 ||
		clocks["slept"].(float64) < 1e6 {
		t.Errorf("clocks %v", clocks)
	}
}

func TestProbeDraws(t *testing.T) {
	guest := load(t, built(t, "go-probe"))
	first, _ := ask(t, guest, "draws=1&own=1", "seeded", "static")
	second, _ := ask(t, guest, "draws=1&own=1", "seeded", "static")
	a, b := first["draws"].(map[string]any), second["draws"].(map[string]any)
	for _, generator := range []string{"math/rand", "math/rand/v2", "maphash", "crypto/rand", "map order"} {
		if a[generator] == nil || a[generator] == b[generator] {
			t.Errorf("%s: %v and %v", generator, a[generator], b[generator])
		}
	}
	if own := first["own"].([]any); len(own) != 8 || !slices.Equal(own, second["own"].([]any)) {
		t.Errorf("the program's own generators: %v and %v", own, second["own"])
	}
}

func TestProbeEndsAsAsked(t *testing.T) {
	guest := load(t, built(t, "go-probe"))
	for _, c := range []struct {
		query, args    string
		exit           uint32
		stdout, stderr string
	}{
		{"panic=1", "", 2, "", "probe: asked to panic"},
		{"exit=3", "", 3, "", ""},
		{"exit=0", "", 0, "", ""},
		{"", "panic", 2, "", "probe: asked to panic"},
		{"", "exit=4", 4, "", ""},
		{"panic=1", "recover", 0, `{"status":500,"headers":{"Content-Type":["text/plain"]},"body":"probe: recovered: probe: asked to panic\n"}` + "\n", ""},
		{"exit=0", "stdout=early stderr=early", 0, "early", "early\n"},
	} {
		result := run(t, guest, Call{Stdin: []byte(`{"uri":"/?` + c.query + `"}`), Args: strings.Fields(c.args)})
		if result.Trap != nil || result.Exit != c.exit || string(result.Stdout) != c.stdout || !strings.Contains(string(result.Stderr), c.stderr) {
			t.Errorf("%s ?%s: exit %d, trap %v, stdout %q, stderr %q", c.args, c.query, result.Exit, result.Trap, result.Stdout, result.Stderr)
		}
	}
	looped := run(t, guest, Call{Stdin: []byte(`{"uri":"/?count=1"}{"uri":"/?count=1"}`), Args: []string{"loop"}})
	if !strings.Contains(string(looped.Stdout), `\"count\":1,`) || !strings.Contains(string(looped.Stdout), `\"count\":2,`) {
		t.Errorf("loop: %q", looped.Stdout)
	}
}

func TestProbeAsAReactor(t *testing.T) {
	facts, _ := ask(t, load(t, built(t, "go-probe-reactor")), "count=1&draws=1&own=1", "seeded", "goroutines=10")
	if facts["count"] != 1.0 || facts["goroutines"] != 11.0 || len(facts["draws"].(map[string]any)) != 5 || len(facts["own"].([]any)) != 6 {
		t.Errorf("facts %v", facts)
	}
}
