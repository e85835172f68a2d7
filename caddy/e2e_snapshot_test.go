//go:build cgo

// Tests of snapshots with the real engine.

package gojinn

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// buildGo compiles a Go program for WASI, as users do.
func buildGo(t testing.TB, source, out string) string {
	t.Helper()
	source, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", out, source)
	build.Dir = filepath.Dir(source)
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// snapshotOf returns what the sandboxes of a function start from, and why it is not more.
func (s *server) snapshotOf(name string) (kind, whyNot string) {
	s.t.Helper()
	var list []functionInfo
	if err := json.Unmarshal([]byte(s.admin("/gojinn/functions").body), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, f := range list {
		if f.Name == name {
			return f.Snapshot, f.SnapshotWhyNot
		}
	}
	s.t.Fatalf("there is no function %s", name)
	return "", ""
}

// wantSnapshot checks what a function's sandboxes start from. A deployment measures, and on a busy machine it may find that a
// lesser snapshot is quicker; no other difference is accepted.
func (s *server) wantSnapshot(name, want string) {
	s.t.Helper()
	kind, whyNot := s.snapshotOf(name)
	switch {
	case kind == want:
	case strings.Contains(whyNot, "a request takes"):
		s.t.Logf("%s: %s instead of %s: %s", name, kind, want, whyNot)
	default:
		s.t.Errorf("%s starts from %s, want %s: %s", name, kind, want, whyNot)
	}
}

// One program with every setting, on each backend.
func TestSnapshots(t *testing.T) {
	t.Setenv("TENANT", "acme")
	module := buildGo(t, "testdata/remember", filepath.Join(t.TempDir(), "remember.wasm"))
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { testSnapshots(t, backend, module) })
	}
}

func testSnapshots(t *testing.T, backend, module string) {
	s := newRealServer(t)
	s.httpClient.Timeout = time.Minute
	for _, dir := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.module("ro/start", "from the file")
	s.module("sample.json", `{"method":"POST","uri":"/","headers":{},"body":"the sample","trace_id":"s"}`)
	const fixed = "env TENANT {env.TENANT}\n"
	functions := []struct {
		name, lines, kind string
		// reveals is what X-Reveal shows.
		reveals string
	}{
		{"off", fixed + "snapshot off", "none", ""},
		{"auto", fixed, "parked", ""},
		{"on", fixed + "snapshot on", "parked", ""},
		{"warm", fixed + "warmup 3", "warmed",
			`{"id":1,"name":"sample","active":true,"price":9.5,"tags":["a","b"],"owner":{"name":"sample"}}`}, // the default sample's
		{"sample", fixed + "warmup 3 DIR/sample.json", "warmed", "the sample"},
		{"on-sample", fixed + "snapshot on\nwarmup 1 DIR/sample.json", "warmed", "the sample"},
		{"per-request", "env TENANT {http.request.header.X-Who}", "none", ""},
		{"file", fixed + "env OPEN /ro/start\nmount DIR/ro /ro", "none", "from the file"},
		{"file-on", fixed + "env OPEN /ro/start\nmount DIR/ro /ro\nsnapshot on", "parked", "from the file"},
		{"date", fixed + "env DATE 1", "none", ""},
		{"date-on", fixed + "env DATE 1\nsnapshot on", "parked", ""},
		{"writable", fixed + "mount DIR/rw /rw rw", "none", ""},
		{"writable-on", fixed + "mount DIR/rw /rw rw\nsnapshot on", "parked", ""},
		{"says", fixed + "env SAY starting", "parked", ""},
	}
	var routes strings.Builder
	for _, f := range functions {
		fmt.Fprintf(&routes, "gojinn /%s {\n module %s\n name %s\n timeout 30s\n queue_timeout 30s\n %s\n}\n", f.name, module, f.name, f.lines)
	}
	fmt.Fprintf(&routes, "gojinn /serve {\n module %s\n name serve\n timeout 30s\n}\n", guest(t, "go-serve"))
	fmt.Fprintf(&routes, "gojinn /c {\n module %s\n name c\n snapshot on\n}\n", guest(t, "c-hello"))
	s.mustLoad(fmt.Sprintf("{\nadmin ADMIN\nlog {\noutput file DIR/caddy.log\n}\ngojinn {\nbackend %s\n}\n}\nADDR {\nroute {\n%s}\n}\n",
		backend, routes.String()))

	for _, f := range functions {
		t.Run(f.name, func(t *testing.T) {
			s := *s
			s.t = t
			s.wantSnapshot(f.name, f.kind)
			tenant := "acme"
			if f.name == "per-request" {
				tenant = "another"
			}
			kind, _ := s.snapshotOf(f.name)
			s.askAtOnce("/"+f.name, tenant, f.reveals, kind)
		})
	}

	// A module that declares that it may be warmed up.
	s.wantSnapshot("serve", "warmed")
	if res := s.get("/serve"); res.StatusCode != 200 {
		t.Errorf("a function of the Go package: %d %s", res.StatusCode, res.body)
	}

	for name, why := range map[string]string{
		"per-request": "each request brings",
		"file":        "files before it reads its request",
		"date":        "the date before it reads its request",
		"writable":    "writable mount",
		"c":           "only commands built by Go's compiler",
	} {
		if _, whyNot := s.snapshotOf(name); !strings.Contains(whyNot, why) {
			t.Errorf("%s: the reason %q lacks %q", name, whyNot, why)
		}
		ready := s.logs("snapshot_why_not", func() string { _, whyNot := s.snapshotOf(name); return whyNot }())
		if len(ready) == 0 || ready[0]["msg"] != "function is ready" || ready[0]["level"] != "info" {
			t.Errorf("%s: the log has no reason: %v", name, ready)
		}
	}
	warned := s.logs("msg", "the function does not start from the snapshot that was asked for")
	insisted := false
	for _, record := range warned {
		insisted = insisted || record["function"] == "c" && strings.Contains(record["reason"].(string), "only commands built by Go's compiler")
	}
	if !insisted {
		t.Errorf("nothing was logged about what snapshot on could not do: %v", warned)
	}
	// Logged once, while the snapshot was taken, and by no request.
	if kind, _ := s.snapshotOf("says"); kind == "parked" {
		if said := s.logs("msg", "starting"); len(said) != 1 || said[0]["function"] != "says" || said[0]["trace_id"] != nil ||
			said[0]["logger"] != "http.handlers.gojinn.stderr" {
			t.Errorf("what the program said at its start: %v", said)
		}
	}
}

// askAtOnce sends 64 concurrent requests with different bodies, and checks that each gets its own answer: no request sees what
// another one left, only what existed when the snapshot was taken.
func (s *server) askAtOnce(uri, tenant, reveals, kind string) {
	s.t.Helper()
	if kind != "warmed" && reveals == "the sample" {
		reveals = ""
	}
	var mu sync.Mutex
	random := map[string]string{}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			canary := fmt.Sprintf("canary %d of %s", i, uri)
			r, _ := http.NewRequest("POST", "http://"+s.addr+uri, strings.NewReader(canary))
			r.Header.Set("X-Who", tenant)
			want := canary
			if i%2 == 1 {
				r.Header.Set("X-Reveal", "1")
				want = reveals
			}
			res, err := s.httpClient.Do(r)
			if err != nil {
				s.t.Error(err)
				return
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != 200 || string(body) != want || res.Header.Get("X-Tenant") != tenant {
				s.t.Errorf("%s: got %d %q for %q, want %q (%v, %v)", canary, res.StatusCode, body, tenant, want, res.Header, err)
			}
			if up := res.Header.Get("X-Up"); strings.HasPrefix(up, "-") || (up == "") == strings.HasPrefix(uri, "/date") {
				s.t.Errorf("%s: got %q ns since the start", canary, up)
			}
			mu.Lock()
			defer mu.Unlock()
			number := res.Header.Get("X-Random")
			if other, twice := random[number]; twice {
				s.t.Errorf("%s and %s drew the same number %s", other, canary, number)
			}
			random[number] = canary
		})
	}
	wg.Wait()
}

// A warmed function is replaced as any other is: by another module, and by another sample.
func TestWatchReplacesWarmedFunctions(t *testing.T) {
	s := newRealServer(t)
	s.httpClient.Timeout = time.Minute
	first := buildGo(t, "testdata/remember", filepath.Join(s.dir, "remember.wasm"))
	sample := func(text string) string {
		return `{"method":"POST","uri":"/","headers":{},"body":"` + text + `","trace_id":"s"}`
	}
	s.module("sample.json", sample("one"))
	s.mustLoad(strings.Replace(s.simple("watch", "name fn", "warmup 3 DIR/sample.json", "timeout 30s"), "DIR/hello.wasm", first, 1))
	s.wantSnapshot("fn", "warmed")
	revealed := func() string { return s.get("/", "X-Reveal", "1").body }
	if kind, _ := s.snapshotOf("fn"); kind != "warmed" {
		t.Skip("this machine is too busy: it measured that the warmed function is slower")
	}
	if got := revealed(); got != "one" {
		t.Errorf("the first sample left %q", got)
	}
	s.rename("sample.json", sample("two"))
	eventually(t, "a snapshot with the second sample", func() bool {
		kind, _ := s.snapshotOf("fn")
		return revealed() == "two" || kind != "warmed"
	})
	// Another module, which differs in a section that changes nothing.
	text, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	s.rename("remember.wasm", string(text)+section(0, sized("note")+"another"))
	eventually(t, "the second module", func() bool { return len(s.logs("msg", "function was replaced")) == 2 })
	s.wantSnapshot("fn", "warmed")
	for _, record := range s.logs("msg", "function was replaced") {
		if record["snapshot"] == nil || record["snapshot_duration"] == nil {
			t.Errorf("the log of a replacement does not tell of its snapshot: %v", record)
		}
	}
	s.module("sample.json", "{")
	eventually(t, "the refusal of half a sample", func() bool {
		return len(s.logs("msg", "the sample of warmup has changed and was refused; the function before serves on")) == 1
	})
	if got := s.do(s.request("POST", "/", "still here")); got.body != "still here" {
		t.Errorf("after a bad sample: %d %q", got.StatusCode, got.body)
	}
}

// Reloads under load, each of which makes new snapshots: every answer comes from one of them, and what was replaced is freed,
// with its memory and descriptors.
func TestReloadsOfSnapshots(t *testing.T) {
	runtime.GC()
	enginesBefore, functionsBefore := engine.Live()
	s := newRealServer(t)
	s.httpClient.Timeout = time.Minute
	module := buildGo(t, "testdata/remember", filepath.Join(s.dir, "remember.wasm"))
	s.module("sample.json", `{"method":"POST","uri":"/","headers":{},"body":"the sample","trace_id":"s"}`)
	config := func(version int) string {
		text := "{\n admin ADMIN\n log {\n output file DIR/caddy.log\n }\n}\nADDR {\n route {\n"
		for _, name := range []string{"parked", "warmed"} {
			warmup := ""
			if name == "warmed" {
				warmup = "warmup 2 DIR/sample.json"
			}
			text += fmt.Sprintf("gojinn /%s {\n module %s\n name %s\n env SHOW version-%d\n queue_timeout 10s\n timeout 30s\n %s\n}\n",
				name, module, name, version, warmup)
		}
		return text + "}\n}\n"
	}
	s.mustLoad(config(0))
	load := func(uri string) (end func() int64) {
		return s.underLoad(uri, func() func(string) error {
			last := 0
			return func(body string) error {
				var version int
				if _, err := fmt.Sscanf(body, "version-%d", &version); err != nil || body != fmt.Sprint("version-", version) {
					return fmt.Errorf("the answer is of no version: %.80q", body)
				}
				if version < last {
					return fmt.Errorf("after version %d came version %d", last, version)
				}
				last = version
				return nil
			}
		})
	}
	ends := []func() int64{load("/parked"), load("/warmed")}
	var descriptors, resident int
	const reloads = 15
	for version := 1; version <= reloads; version++ {
		s.mustLoad(config(version))
		if want, got := fmt.Sprint("version-", version), s.get("/warmed").body; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if version == reloads/3 {
			descriptors, resident = s.descriptors(), s.settledResident()
		}
	}
	for _, end := range ends {
		if end() == 0 {
			t.Error("no request was answered meanwhile")
		}
	}
	s.wantSnapshot("parked", "parked")
	s.wantSnapshot("warmed", "warmed")
	s.httpClient.CloseIdleConnections()
	eventually(t, "the replaced functions to be freed", func() bool {
		runtime.GC()
		engines, functions := engine.Live()
		return engines-enginesBefore <= 1 && functions-functionsBefore <= 2
	})
	// A snapshot has at least one descriptor, that of its memory.
	if after := s.descriptors(); after > descriptors+reloads/3 {
		t.Errorf("%d descriptors are open, %d were after a third of the reloads", after, descriptors)
	}
	if after := s.settledResident(); after > resident+64<<10 {
		t.Errorf("%d kB are resident, %d were after a third of the reloads", after, resident)
	} else {
		t.Logf("descriptors %d to %d, resident %d to %d kB", descriptors, s.descriptors(), resident, after)
	}
}

// descriptors returns how many descriptors this process has open.
func (s *server) descriptors() int {
	s.t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}
