// Tests of the handler over a fake engine.

package gojinn

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

func TestAnswer(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		return enginetest.OK("got "+string(c.Body), [2]string{"Content-Type", "text/plain"}, [2]string{"X-A", "1"})
	}
	s.mustLoad(s.simple())
	res := s.do(s.request("POST", "/x?q=1", "a body"))
	if res.StatusCode != 200 || res.body != "got a body" || res.Header.Get("X-A") != "1" ||
		res.Header.Get("Content-Type") != "text/plain" || res.ContentLength != 10 {
		t.Errorf("got %d %v %q", res.StatusCode, res.Header, res.body)
	}
}

// Large and small answers and bodies in turn: all requests share the buffers.
func TestBuffersAreNotMixedUp(t *testing.T) {
	s := newServer(t)
	s.mustLoad(s.simple())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				want := strings.Repeat(fmt.Sprintf("%d/%d ", i, j), 1+(i*j*997)%90000)
				res, err := s.httpClient.Post("http://"+s.addr, "text/plain", strings.NewReader(want))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != want {
					t.Errorf("%v: %d bytes came back as %d others", err, len(want), len(got))
				}
			}
		})
	}
	wg.Wait()
}

// All outcomes of a call, as the client, the metrics and the log see them.
func TestOutcomes(t *testing.T) {
	s := newServer(t)
	// Counts belong to the process, in which a test may run twice.
	name := fmt.Sprint("outcomes", time.Now().UnixNano())
	var reply enginetest.Reply
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return reply }
	s.mustLoad(strings.Replace(s.simple("name "+name), "route {", "log_append outcome {http.gojinn.outcome}\n\troute {", 1))

	refused := 0
	for _, c := range []struct {
		outcome string
		reply   enginetest.Reply
		status  int
		logged  bool
	}{
		{"ok", enginetest.OK("fine"), 200, false},
		{"ok", enginetest.Reply{Answer: engine.Answer{Status: 503}}, 503, false},
		{"timeout", enginetest.Refused(engine.OutcomeTimeout, 504, "the deadline passed"), 504, true},
		{"trap", enginetest.Refused(engine.OutcomeTrap, 502, "unreachable executed"), 502, true},
		{"oom", enginetest.Refused(engine.OutcomeOOM, 502, "memory_limit"), 502, true},
		{"bad_output", enginetest.Refused(engine.OutcomeBadOutput, 502, "status 99 is outside 200-599"), 502, true},
		{"rejected", enginetest.Refused(engine.OutcomeRejected, 413, "the decoded body is too large"), 413, true},
		{"error", enginetest.Refused(engine.OutcomeError, 500, "a host fault"), 500, true},
		{"error", enginetest.Reply{Err: &engine.Error{Code: 399, Message: "the engine panicked"}}, 500, false},
	} {
		reply = c.reply
		res := s.get("/", "X-Request-Id", "id-"+c.outcome)
		if res.StatusCode != c.status {
			t.Errorf("%s: got status %d, want %d", c.outcome, res.StatusCode, c.status)
		}
		if c.logged {
			refused++
			if strings.Contains(res.body, c.reply.Reason) {
				t.Errorf("%s: the client was told the reason: %q", c.outcome, res.body)
			}
			records := s.logs("reason", c.reply.Reason)
			if len(records) != 1 || records[0]["trace_id"] != "id-"+c.outcome || records[0]["function"] != name ||
				records[0]["outcome"] != c.outcome || records[0]["level"] != "error" || records[0]["logger"] != "http.handlers.gojinn" {
				t.Errorf("%s: want one record with the reason, got %v", c.outcome, records)
			}
		}
	}
	if records := s.logs("msg", "the function's answer was refused"); len(records) != refused {
		t.Errorf("got %d records of refused answers, want %d", len(records), refused)
	}
	metrics := s.admin("/metrics").body
	for _, want := range []string{
		`gojinn_function_duration_seconds_count{backend="wasmtime",function="` + name + `",outcome="ok"} 2`,
		`gojinn_function_duration_seconds_count{backend="wasmtime",function="` + name + `",outcome="error"} 2`,
		`gojinn_function_duration_seconds_count{backend="wasmtime",function="` + name + `",outcome="trap"} 1`,
		`gojinn_function_duration_seconds_bucket{backend="wasmtime",function="` + name + `",outcome="oom",le="1e-05"}`,
		`gojinn_function_duration_seconds_bucket{backend="wasmtime",function="` + name + `",outcome="oom",le="10"} 1`,
		`gojinn_active_sandboxes{backend="wasmtime",function="` + name + `"} 0`,
		`gojinn_fake_total 3`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, outcome := range []string{"ok", "timeout", "trap", "oom", "bad_output", "rejected", "error"} {
		if len(s.logs("outcome", outcome)) == 0 {
			t.Errorf("the placeholder {http.gojinn.outcome} never was %s", outcome)
		}
	}
}

func TestPlaceholdersOut(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		r := enginetest.OK("fine")
		r.MemoryPeak = 131072
		return r
	}
	s.mustLoad(strings.Replace(s.simple(), "route {", `log_append peak {http.gojinn.memory_peak}
	log_append took {http.gojinn.duration_ms}
	log_append queued {http.gojinn.queued_ms}
	route {`, 1))
	s.get("/")
	var records []map[string]any
	eventually(t, "the access log", func() bool { records = s.logs("peak", "131072"); return len(records) == 1 })
	for _, name := range []string{"took", "queued"} {
		if _, ok := records[0][name].(float64); !ok {
			t.Errorf("%s is %v, want a number", name, records[0][name])
		}
	}
}

func TestHandleErrors(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		return enginetest.Refused(engine.OutcomeTrap, 502, "unreachable executed")
	}
	s.mustLoad(strings.Replace(s.simple(), "route {", `handle_errors {
		respond "sorry: {err.status_code}" 418
	}
	route {`, 1))
	if res := s.get("/"); res.StatusCode != 418 || res.body != "sorry: 502" {
		t.Errorf("got %d %q", res.StatusCode, res.body)
	}
	if records := s.logs("reason", "unreachable executed"); len(records) != 1 {
		t.Errorf("want one record with the reason, got %v", records)
	}
}

func TestClientGone(t *testing.T) {
	s := newServer(t)
	started, cancelled := make(chan bool), make(chan bool)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		started <- true
		<-c.Cancelled
		close(cancelled)
		return enginetest.Refused(engine.OutcomeCancelled, 499, "cancelled")
	}
	s.mustLoad(s.simple())
	conn := s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	await(t, "the guest to run", started)
	conn.Close()
	await(t, "the guest to be cancelled", cancelled)
	eventually(t, "the access log with 499", func() bool { return len(s.logs("status", "499")) > 0 })
	eventually(t, "the permit to be free", func() bool { return s.fake.Permits.Load() == 0 })
}

func TestQueueFullAndTimeout(t *testing.T) {
	s := newServer(t)
	release := make(chan bool)
	var running atomic.Int64
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		running.Add(1)
		<-release
		return enginetest.OK("")
	}
	s.mustLoad(s.simple("max_concurrency 1", "queue_timeout 50ms"))
	done := make(chan int)
	go func() { done <- s.get("/").StatusCode }()
	eventually(t, "the first call", func() bool { return running.Load() == 1 })
	res := s.get("/")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
	close(release)
	if status := await(t, "the first answer", done); status != 200 {
		t.Errorf("the first call got %d", status)
	}
	if running.Load() != 1 {
		t.Errorf("%d calls ran, want 1", running.Load())
	}
	if res := s.get("/"); res.StatusCode != 200 {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
}

// The engine gets the limits of the config, and by default those of docs/contract.md.
func TestLimits(t *testing.T) {
	s := newServer(t)
	var got engine.FunctionConfig
	s.fake.Deploy = func(_ []byte, config *engine.FunctionConfig) error {
		got = *config
		return nil
	}
	limits := func() string {
		return fmt.Sprint(got.Timeout, got.MemoryLimit, got.MaxBody, got.MaxOutput, got.MaxLogs)
	}
	s.mustLoad(s.simple())
	if limits() != "1m0s 128000000 10000000 10000000 65536" {
		t.Errorf("the defaults are %s", limits())
	}
	s.mustLoad(s.simple("timeout 2s", "memory_limit 1MiB", "max_body 1KB", "max_output 2KB", "max_logs 3KB"))
	if limits() != "2s 1048576 1000 2000 3000" {
		t.Errorf("got %s", limits())
	}
}

func TestPerRequestValues(t *testing.T) {
	t.Setenv("GOJINN_TEST_SECRET", "{http.request.host}")
	s := newServer(t)
	var config *engine.FunctionConfig
	var perRequest []string
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		config, perRequest = c.Config, c.Head.PerRequest
		return enginetest.OK("")
	}
	s.mustLoad(s.simple(
		"env A plain",
		"env B {env.GOJINN_TEST_SECRET}",
		"env C {http.request.header.X-Tenant}!",
		"env D <{env.GOJINN_TEST_UNSET}>",
		`env E "{\"json\": true}"`,
		"args --x {http.request.uri.path} {system.os}",
	))
	s.get("/p", "X-Tenant", "{env.GOJINN_TEST_SECRET}")

	var env []string
	for _, pair := range config.Env {
		text := "nil"
		if pair[1] != nil {
			text = *pair[1]
		}
		env = append(env, *pair[0]+"="+text)
	}
	// The content of an environment variable or a header is text, even if it looks like a placeholder.
	if got, want := strings.Join(env, " "), "A=plain B={http.request.host} C=nil D=<> E={\"json\": true}"; got != want {
		t.Errorf("env: got %s, want %s", got, want)
	}
	if len(config.Args) != 3 || *config.Args[0] != "--x" || config.Args[1] != nil || *config.Args[2] != "linux" {
		t.Errorf("args: %v", config.Args)
	}
	if got := fmt.Sprintf("%q", perRequest); got != `["{env.GOJINN_TEST_SECRET}!" "/p"]` {
		t.Errorf("per-request values: %s", got)
	}
	if records := s.logs("placeholder", "{env.GOJINN_TEST_UNSET}"); len(records) != 1 || records[0]["level"] != "warn" {
		t.Errorf("the unset variable: %v", records)
	}
	if res := s.get("/a%00b"); res.StatusCode != 400 {
		t.Errorf("a NUL in a per-request value: got %d, want 400", res.StatusCode)
	}
}

// If a module is refused, the old config continues to serve.
func TestBadModules(t *testing.T) {
	s := newServer(t)
	s.fake.Deploy = func(wasm []byte, _ *engine.FunctionConfig) error {
		if string(wasm) == "text" {
			return &engine.Error{Code: engine.CodeInvalidModule, Message: "not a WebAssembly module"}
		}
		return nil
	}
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return enginetest.OK("old") }
	s.mustLoad(s.simple())
	s.module("text.wasm", "text")
	for file, want := range map[string]string{
		"missing.wasm": "there is no such file",
		"text.wasm":    "not a WebAssembly module",
		"":             "a directory",
	} {
		err := s.load(strings.ReplaceAll(s.simple("name broken"), "hello.wasm", file))
		path := strings.TrimSuffix(s.dir+"/"+file, "/")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "function broken ("+path+")") {
			t.Errorf("%s: got %v", file, err)
		}
		if res := s.get("/"); res.body != "old" {
			t.Errorf("%s: the old config does not serve any more: %d", file, res.StatusCode)
		}
	}
	count := 0
	functions.Range(func(_, _ any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d functions are in the pool, want 1", count)
	}
}

func TestEngineFails(t *testing.T) {
	s := newServer(t)
	newEngine = func(*engine.Config) (engine.Engine, error) { return nil, errors.New("no engine today") }
	if err := s.load(s.simple()); err == nil || !strings.Contains(err.Error(), "no engine today") {
		t.Errorf("got %v", err)
	}
}

// Reloads while requests run: each request that reaches Caddy's handlers is answered by the function, and what did not change is
// not deployed again.
//
// Caddy 2.11 resets connections that wait in a closing listener's backlog (SO_REUSEPORT), with any handler: 50 reloads of a
// `respond` under the same load lost 15 to 41 of them, those of a function 29 to 48. Such a request never reached a handler. The
// test sends it again, as browsers do, and demands that each request that reached a handler is answered with 200.
func TestReloadUnderLoad(t *testing.T) {
	s := newServer(t)
	var called, answered atomic.Int64
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		called.Add(1)
		return enginetest.OK(c.Config.Name)
	}
	config := func(name string) string { return s.simple("name " + name) }
	s.mustLoad(config("same"))
	stop := make(chan bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status := s.getPatiently("/"); status != http.StatusOK {
					t.Errorf("got %d", status)
				}
				answered.Add(1)
			}
		})
	}
	for range 25 {
		s.mustLoad(config("same"))
	}
	if n := s.fake.Functions.Load(); n != 1 {
		t.Errorf("the unchanged function was deployed %d times", n)
	}
	for i := range 25 {
		s.mustLoad(config(fmt.Sprintf("changed%d", i)))
	}
	if n := s.fake.Functions.Load(); n != 26 {
		t.Errorf("functions were deployed %d times, want 26", n)
	}
	if n := s.fake.Engines.Load(); n != 1 {
		t.Errorf("engines were made %d times, want 1", n)
	}
	close(stop)
	wg.Wait()
	if called.Load() == 0 || called.Load() != answered.Load() {
		t.Errorf("%d calls were begun, %d answered", called.Load(), answered.Load())
	}
}

// A request that waits in an earlier handler while its config is cleaned up still gets its function.
func TestReloadWhileARequestIsOnItsWay(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { return enginetest.OK(c.Config.Name) }
	s.mustLoad(s.simple("name before"))
	conn := s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
	eventually(t, "the request to have arrived", func() bool { return s.get("/").body == "before" })
	s.mustLoad(s.simple("name after"))
	if res := s.get("/"); res.body != "after" {
		t.Errorf("after the reload: %q", res.body)
	}
	runtime.GC()
	if _, err := io.WriteString(conn, "c"); err != nil {
		t.Fatal(err)
	}
	if status := s.status(conn); status != 200 {
		t.Errorf("the request of the old config got %d", status)
	}
}

func TestNames(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { return enginetest.OK(c.Config.Name) }
	if err := s.load(`{
	admin ADMIN
}
ADDR {
	gojinn /a {
		module DIR/hello.wasm
	}
	gojinn /b {
		module DIR/hello.wasm
	}
	gojinn /c {
		module DIR/hello.wasm
		timeout 3s
	}
}`); err != nil {
		t.Fatal(err)
	}
	a, b, c := s.get("/a").body, s.get("/b").body, s.get("/c").body
	if a != "hello" || b != "hello" || !strings.HasPrefix(c, "hello-") || len(c) != len("hello-12345678") {
		t.Errorf("got %s, %s, %s", a, b, c)
	}
	list := s.admin("/gojinn/functions")
	if !strings.Contains(list.body, `"name":"hello","backend":"wasmtime","module":"`+s.dir+`/hello.wasm","sha256":"`) ||
		!strings.Contains(list.body, `"active":0`) || strings.Count(list.body, `"name"`) != 2 {
		t.Errorf("the list of functions: %s", list.body)
	}
	res, err := http.Post("http://"+s.adminAddr+"/gojinn/functions", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 405 {
		t.Errorf("POST to the list of functions: %d", res.StatusCode)
	}
}

// The engine gets the settings of the global option. A function's settings do not change the engine.
func TestEngineSettings(t *testing.T) {
	t.Setenv("GOJINN_TEST_CACHE", "from-env")
	s := newServer(t)
	var got *engine.Config
	s.fake.Make = func(config *engine.Config) error { got = config; return nil }
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var function *engine.FunctionConfig
	s.fake.Deploy = func(_ []byte, config *engine.FunctionConfig) error { function = config; return nil }
	tell := func() string {
		cache := "none"
		if got.Cache != nil {
			cache = got.Cache.Directory
		}
		if !slices.Equal(got.CompileCommand, engine.CompileCommand()) {
			t.Errorf("the command that compiles is %q", got.CompileCommand)
		}
		return fmt.Sprint(got.MaxConcurrency, " ", *got.Pool, " ", got.CompileTimeout, " ", got.CompileMemory, " ", cache)
	}
	s.mustLoad(s.simple())
	if want := fmt.Sprint(defaultConcurrency, " {0 0 } 0s 0 ", caddy.AppDataDir()+"/gojinn/cache"); tell() != want {
		t.Errorf("the defaults are %s, want %s", tell(), want)
	}
	for options, want := range map[string]string{
		"max_concurrency 7\npool_slots 9\npool_keep_resident 1MiB\npool_reset copy\ncompile_timeout 3s\ncompile_memory 1GiB\ncache off": "7 {9 1048576 copy} 3s 1073741824 none",
		"max_concurrency 7\npool_slots off\ncache DIR/c":          "7 {-1 0 } 0s 0 " + s.dir + "/c",
		"max_concurrency 7\ncache ./x/../{env.GOJINN_TEST_CACHE}": "7 {0 0 } 0s 0 " + here + "/from-env",
	} {
		got = nil
		s.mustLoad("{\n admin ADMIN\n gojinn {\n" + options + "\n}\n}\nADDR {\n gojinn {\n module DIR/hello.wasm\n }\n}\n")
		if got == nil || tell() != want {
			t.Errorf("%s\ngot %s, want %s", options, tell(), want)
		}
	}
	got = nil
	s.mustLoad("{\n admin ADMIN\n gojinn {\nmax_concurrency 7\ncache ./x/../{env.GOJINN_TEST_CACHE}\nwatch\n}\n}\nADDR {\n gojinn {\n module DIR/hello.wasm\n timeout 3s\n }\n}\n")
	if got != nil && tell() != "7 {0 0 } 0s 0 "+here+"/from-env" {
		t.Errorf("the engine was replaced by one with the same settings: %s", tell())
	}
	err = s.load("{\n admin ADMIN\n gojinn {\n cache {http.request.host}\n}\n}\nADDR {\n gojinn {\n module DIR/hello.wasm\n }\n}\n")
	if err == nil || !strings.Contains(err.Error(), "cache {http.request.host}") || !strings.Contains(err.Error(), "a path cannot depend on the request") {
		t.Errorf("a cache for each request: %v", err)
	}
	s.mustLoad("{\n admin ADMIN\n gojinn {\nmax_memory 1GiB\nisolation strict\n}\n}\nADDR {\n gojinn {\n module DIR/hello.wasm\n }\n}\n")
	if got.MaxMemory != 1<<30 || !got.HoldAnswers || got.Pool.Reset != "madvise" || function.ClockResolution != time.Millisecond {
		t.Errorf("with strict isolation the engine has %+v, %+v, and the function %+v", got, got.Pool, function)
	}
	s.fake.Make = func(*engine.Config) error { return errors.New("max_concurrency is too much for this machine") }
	if err := s.load(s.simple()); err == nil || !strings.Contains(err.Error(), "gojinn: max_concurrency is too much") {
		t.Errorf("an engine that cannot be made: %v", err)
	}
}

// Relative paths are resolved against the process's working directory, and no path depends on a request.
func TestPathsAreResolved(t *testing.T) {
	t.Setenv("GOJINN_TEST_FILES", "data")
	s := newServer(t)
	var got *engine.FunctionConfig
	s.fake.Deploy = func(_ []byte, config *engine.FunctionConfig) error { got = config; return nil }
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s.mustLoad(s.simple("mount ./{env.GOJINN_TEST_FILES}/ /data", "mount DIR /dir rw"))
	want := []engine.Mount{{Host: here + "/data", Guest: "/data"}, {Host: s.dir, Guest: "/dir", Writable: true}}
	if !slices.Equal(got.Mounts, want) || got.Program != "hello.wasm" {
		t.Errorf("got %v of %s, want %v", got.Mounts, got.Program, want)
	}
	for lines, want := range map[string]string{
		"mount {http.request.host} /a": "mount {http.request.host}: unrecognized placeholder",
		"mount DIR/{http.vars.x} /a":   "a path cannot depend on the request",
	} {
		if err := s.load(s.simple(lines)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", lines, err, want)
		}
	}
	module := strings.Replace(s.simple(), "DIR/hello.wasm", "{http.request.host}.wasm", 1)
	if err := s.load(module); err == nil || !strings.Contains(err.Error(), "module {http.request.host}.wasm: unrecognized placeholder") {
		t.Errorf("a module for each request: %v", err)
	}
}

// A call that the engine refuses is answered as one that gets no permit.
func TestEngineTakesNoCall(t *testing.T) {
	s := newServer(t)
	s.fake.Admit = func() error { return &engine.Error{Code: engine.CodeRejected, Message: "no call today"} }
	s.mustLoad(strings.Replace(s.simple("max_concurrency 2"), "route {", "log_append outcome {http.gojinn.outcome}\n\troute {", 1))
	for range 5 { // more than there are permits, of which none may get lost
		if res := s.get("/"); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
			t.Errorf("got %d %v", res.StatusCode, res.Header)
		}
	}
	s.fake.Admit = nil
	if res := s.get("/"); res.StatusCode != 200 {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
	eventually(t, "the access log", func() bool { return len(s.logs("outcome", "rejected")) == 5 })
	permits := s.deployment().function.Load().admission
	eventually(t, "all permits to be back", func() bool { return permits.inside.Load() == 0 })
	permits.allFree(t)
}

// Answers that fit into the buffers, and larger ones.
func TestLargeAnswers(t *testing.T) {
	s := newServer(t)
	var size int
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		return enginetest.OK(strings.Repeat("x", size), [2]string{"Content-Type", "text/plain"})
	}
	s.mustLoad(s.simple())
	for _, size = range []int{0, 1, 16 << 10, 16<<10 + 1, maxKept, maxKept + 1, 5 << 20, 3} {
		if res := s.get("/"); res.StatusCode != 200 || len(res.body) != size || strings.Trim(res.body, "x") != "" {
			t.Errorf("%d bytes came as %d", size, len(res.body))
		}
	}
}
