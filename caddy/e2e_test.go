//go:build cgo

// Tests of whole functions with the real engine.

package gojinn

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// guest returns the path of a built guest, or of the prebuilt one beside its source.
func guest(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "guests", "build", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	language, program, _ := strings.Cut(name, "-")
	prebuilt, err := filepath.Abs(filepath.Join("..", "guests", language, program, program+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(prebuilt); err == nil {
		return prebuilt
	}
	t.Fatalf("%s is not built: make -C guests go", name)
	return ""
}

// inspection is what guests/go/inspect reports.
type inspection struct {
	Args         []string       `json:"args"`
	Environ      []string       `json:"environ"`
	Request      map[string]any `json:"request"`
	TimeUnixNano int64          `json:"time_unix_nano"`
	Random       string         `json:"random"`
	SleptNano    int64          `json:"slept_nano"`
	Read         *fileReport    `json:"read"`
	Write        *fileReport    `json:"write"`
	List         *struct {
		Names []string `json:"names"`
		Error string   `json:"error"`
	} `json:"list"`
}

type fileReport struct {
	Size   int    `json:"size"`
	Base64 string `json:"base64"`
	Error  string `json:"error"`
}

func (s *server) inspect(uri string, headers ...string) inspection {
	s.t.Helper()
	res := s.get(uri, headers...)
	var seen inspection
	if res.StatusCode != 200 {
		s.t.Fatalf("%s: got %d %s", uri, res.StatusCode, res.body)
	}
	if err := json.Unmarshal([]byte(res.body), &seen); err != nil {
		s.t.Fatalf("%s: %v\n%s", uri, err, res.body)
	}
	return seen
}

// A request has five fields, and those that its function includes.
func TestIncludedFields(t *testing.T) {
	s := newRealServer(t)
	var routes strings.Builder
	five := "body headers method trace_id uri"
	for _, backend := range backends {
		for name, include := range map[string]string{"none": "", "two": "include original_uri client_ip", "all": "include " + strings.Join(requestFields, " ")} {
			fmt.Fprintf(&routes, "handle_path /%s/%s/* {\n gojinn {\n module %s\n backend %s\n name %s-%s\n %s\n }\n }\n",
				backend, name, guest(t, "go-inspect"), backend, backend, name, include)
		}
	}
	s.mustLoad("{\n admin ADMIN\n}\nADDR {\n " + routes.String() + " }\n")
	for _, backend := range backends {
		// handle_path changes the URI, so the original one is there in any case.
		for name, more := range map[string]string{"none": "original_uri", "two": "client_ip original_uri", "all": strings.Join(requestFields, " ")} {
			path := "/" + backend + "/" + name + "/x"
			request := s.inspect(path, "X-Forwarded-For", "9.9.9.9").Request
			want := strings.Fields(five + " " + more)
			slices.Sort(want)
			if keys := slices.Sorted(maps.Keys(request)); !slices.Equal(keys, want) {
				t.Errorf("%s: got the fields %q, want %q", path, keys, want)
			}
			headers, _ := request["headers"].(map[string]any)
			if headers["X-Forwarded-For"] != nil || headers["Host"] == nil || request["uri"] != "/x" {
				t.Errorf("%s: got %v", path, request)
			}
			if request["original_uri"] != path || name != "none" && request["client_ip"] != "127.0.0.1" {
				t.Errorf("%s: got %v", path, request)
			}
		}
	}
}

// One config for each backend, and everything that can be seen over HTTP.
func TestBackends(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { testBackend(t, backend) })
	}
}

func testBackend(t *testing.T, backend string) {
	t.Setenv("SECRET_KEY", "s3cret")
	s := newRealServer(t)
	s.httpClient.Timeout = 2 * time.Minute
	for _, dir := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ro", "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	hellos := []string{"go-hello", "go-reactor", "rust-hello", "zig-hello", "c-hello", "cpp-hello", "assemblyscript-hello"}
	var routes strings.Builder
	for _, name := range hellos {
		fmt.Fprintf(&routes, "gojinn /%s {\n module %s\n args --verbose\n timeout 30s\n}\n", name, guest(t, name))
	}
	s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
		level DEBUG
	}
	gojinn {
		backend %s
	}
}
ADDR {
	log
	route {
		%s
		gojinn /echo {
			module %s
			timeout 30s
		}
		gojinn /inspect {
			module %s
			name inspect
			timeout 5s
			env DB_HOST "localhost"
			env API_KEY {env.SECRET_KEY}
			env TENANT {http.request.header.X-Tenant}
			args --verbose {http.request.uri.query.arg}
			mount DIR/ro /ro
			mount DIR/rw /rw rw
		}
	}
}
`, backend, routes.String(), guest(t, "go-echo"), guest(t, "go-inspect")))

	t.Run("languages", func(t *testing.T) {
		for _, name := range hellos {
			res := s.do(s.request("POST", "/"+name, "body", "X-Request-Id", "abc"))
			if res.StatusCode != 200 || !strings.HasSuffix(res.body, ": POST /"+name+" trace=abc\n") ||
				res.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("%s: got %d %q", name, res.StatusCode, res.body)
			}
		}
		if records := s.logs("msg", `hello: verbose, args=["--verbose"]`); len(records) != len(hellos) {
			t.Errorf("--verbose was seen by %d of %d functions", len(records), len(hellos))
		}
	})

	t.Run("inspect", func(t *testing.T) {
		seen := s.inspect("/inspect?arg=a+b", "X-Tenant", "{env.SECRET_KEY}", "X-Request-Id", "abc", "Proxy", "evil", "Connection", "close")
		if want := []string{"API_KEY=s3cret", "DB_HOST=localhost", "TENANT={env.SECRET_KEY}"}; !slices.Equal(seen.Environ, want) {
			t.Errorf("the environment is %q, want %q", seen.Environ, want)
		}
		if want := []string{"go-inspect.wasm", "--verbose", "a b"}; !slices.Equal(seen.Args, want) {
			t.Errorf("the arguments are %q, want %q", seen.Args, want)
		}
		headers, _ := seen.Request["headers"].(map[string]any)
		if seen.Request["trace_id"] != "abc" || seen.Request["method"] != "GET" || seen.Request["uri"] != "/inspect?arg=a+b" ||
			headers["Proxy"] != nil || headers["Connection"] != nil || headers["X-Forwarded-For"] != nil ||
			fmt.Sprint(headers["Host"]) != "["+s.addr+"]" {
			t.Errorf("the request is %v", seen.Request)
		}
		if off := time.Since(time.Unix(0, seen.TimeUnixNano)); off < -time.Minute || off > time.Minute {
			t.Errorf("the guest's wall clock is off by %s", off)
		}
		if again := s.inspect("/inspect"); again.Random == seen.Random || len(seen.Random) != 32 {
			t.Errorf("two requests saw the random bytes %s and %s", seen.Random, again.Random)
		}
	})

	t.Run("sleep", func(t *testing.T) {
		plain := cpu(func() { s.inspect("/inspect") })
		var slept time.Duration
		with := cpu(func() { slept = time.Duration(s.inspect("/inspect?sleep=300ms").SleptNano) })
		if slept < 300*time.Millisecond {
			t.Errorf("slept for %s", slept)
		}
		// A sleep that spins would take 300 ms more.
		if more := with - plain; more > 200*time.Millisecond {
			t.Errorf("sleeping for 300 ms took %s of CPU time more than not sleeping", more)
		}
	})

	t.Run("binary", func(t *testing.T) {
		every := make([]byte, 0, 512)
		for i := range 512 {
			every = append(every, byte(i))
		}
		res := s.do(s.request("POST", "/echo", string(every), "Content-Type", "application/x-bytes"))
		if res.body != string(every) || res.Header.Get("Content-Type") != "application/x-bytes" {
			t.Errorf("got %d, %d bytes of %s", res.StatusCode, len(res.body), res.Header.Get("Content-Type"))
		}
		large := strings.Repeat("äöü\x00", 100_000)
		if res := s.do(s.request("POST", "/echo", large)); res.body != large {
			t.Errorf("a large body: got %d, %d bytes", res.StatusCode, len(res.body))
		}
	})

	t.Run("refused", func(t *testing.T) { testRefused(t, s) })

	t.Run("mounts", func(t *testing.T) {
		if read := s.inspect("/inspect?read=/ro/file").Read; read.Error != "" || read.Base64 != base64.StdEncoding.EncodeToString([]byte("content")) {
			t.Errorf("read: %+v", read)
		}
		if list := s.inspect("/inspect?list=/ro").List; list.Error != "" || !slices.Equal(list.Names, []string{"file"}) {
			t.Errorf("list: %+v", list)
		}
		if write := s.inspect("/inspect?write=/ro/new").Write; write.Error == "" {
			t.Error("wrote into a mount without rw")
		}
		if write := s.inspect("/inspect?write=/rw/new").Write; write.Error != "" {
			t.Errorf("write: %+v", write)
		}
		if read := s.inspect("/inspect?read=/rw/../../etc/passwd").Read; read.Error == "" {
			t.Error("read a file outside of the mounts")
		}
	})

	t.Run("stderr", func(t *testing.T) {
		s.get("/inspect?stderr=3", "X-Request-Id", "lines-of-stderr")
		for line := 1; line <= 3; line++ {
			records := s.logs("msg", fmt.Sprintf("inspect: line %d of 3", line))
			if len(records) != 1 || records[0]["logger"] != "http.handlers.gojinn.stderr" ||
				records[0]["function"] != "inspect" || records[0]["trace_id"] != "lines-of-stderr" {
				t.Errorf("line %d: got %v", line, records)
			}
		}
	})

	t.Run("concurrent", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				// Go guests have a name section, and those in C are quick enough to run side by side on every backend.
				path := []string{"/c-hello", "/cpp-hello", "/zig-hello", "/rust-hello"}[i%4]
				res, err := s.httpClient.Get("http://" + s.addr + path)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("%s: got %d", path, res.StatusCode)
				}
			})
		}
		wg.Wait()
	})

	t.Run("client gone", func(t *testing.T) {
		conn := s.raw("GET /inspect?sleep=1h HTTP/1.1\r\nHost: x\r\n\r\n")
		active := `gojinn_active_sandboxes{backend="` + backend + `",function="inspect"} `
		eventually(t, "the guest to run", func() bool { return strings.Contains(s.admin("/metrics").body, active+"1") })
		conn.Close()
		eventually(t, "the guest to end", func() bool { return strings.Contains(s.admin("/metrics").body, active+"0") })
		eventually(t, "the log of a client that went away", func() bool { return len(s.logs("status", "499")) > 0 })
		if len(s.logs("outcome", "timeout")) > 1 {
			t.Error("the guest ended by its timeout, not because its client went away")
		}
	})
}

// Outputs and ends that are refused, each with one log record that names the rule.
func testRefused(t *testing.T, s *server) {
	raw := func(output string, more string) string {
		return "/inspect?raw=" + base64.RawURLEncoding.EncodeToString([]byte(output)) + more
	}
	for _, c := range []struct {
		name, uri string
		status    int
		outcome   string
	}{
		{"status 99", "/inspect?badstatus=99", 502, "bad_output"},
		{"status 1000", "/inspect?badstatus=1000", 502, "bad_output"},
		{"status -1", "/inspect?badstatus=-1", 502, "bad_output"},
		{"a CR in a header", raw(`{"headers":{"A":"b\rc"}}`, ""), 502, "bad_output"},
		{"two values", raw(`{"status":200}{"status":200}`, ""), 502, "bad_output"},
		{"no output", raw("", ""), 502, "bad_output"},
		{"text", raw("hello", ""), 502, "bad_output"},
		{"a key twice", raw(`{"body":"a","Body":"b"}`, ""), 502, "bad_output"},
		{"a non-zero exit after a full response", raw(`{"status":200,"body":"x"}`, "&rawexit=1"), 502, "trap"},
		{"a non-zero exit", "/inspect?exit=3", 502, "trap"},
		{"a panic", "/inspect?panic=1", 502, "trap"},
		{"recursion", "/inspect?recurse=1", 502, ""},
		{"memory", "/inspect?alloc=1000000000", 502, "oom"},
		{"a loop", "/inspect?loop=1", 504, "timeout"},
	} {
		id := "refused-" + strings.ReplaceAll(c.name, " ", "-")
		res := s.get(c.uri, "X-Request-Id", id)
		if res.StatusCode != c.status {
			t.Errorf("%s: got %d %q, want %d", c.name, res.StatusCode, res.body, c.status)
			continue
		}
		var records []map[string]any
		for _, record := range s.logs("trace_id", id) {
			if record["reason"] != nil {
				records = append(records, record)
			}
		}
		if len(records) != 1 || records[0]["reason"] == "" || c.outcome != "" && records[0]["outcome"] != c.outcome {
			t.Errorf("%s: want one record of outcome %s with the reason, got %v", c.name, c.outcome, records)
			continue
		}
		t.Logf("%s: %s", c.name, records[0]["reason"])
	}
	if res := s.get(raw(`{"status":201,"body":"fine"}`, "")); res.StatusCode != 201 || res.body != "fine" {
		t.Errorf("afterwards: got %d %q", res.StatusCode, res.body)
	}
}

// cpu returns the CPU time that the process uses while f runs.
func cpu(f func()) time.Duration {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

// Small handmade modules, each with one behaviour, on every backend.
func TestSmallModules(t *testing.T) {
	const answer = `{"status":200,"body":"small"}`
	names := answering(answer, "")
	names.name = "_ZN5names6_startE"
	type behaviour struct {
		module wasm
		status int
		// reason is a part of the log record that names the broken rule.
		reason string
	}
	behaviours := map[string]behaviour{
		"answer":              {answering(answer, ""), 200, ""},
		"names":               {names, 200, ""},
		"no-output":           {wasm{}, 502, "no output"},
		"two-values":          {answering(answer+"\n"+answer, ""), 502, "exactly one JSON"},
		"status-99":           {answering(`{"status":99}`, ""), 502, "99"},
		"status-1000":         {answering(`{"status":1000}`, ""), 502, "1000"},
		"status-minus-1":      {answering(`{"status":-1}`, ""), 502, "-1"},
		"cr-in-header":        {answering(`{"headers":{"X-A":"b\rc"}}`, ""), 502, "X-A"},
		"trap-after-response": {answering(answer, unreachable), 502, "unreachable"},
		"division":            {answering(answer, i32(1)+i32(0)+"\x6d"+drop), 502, "divi"},
		"out-of-bounds":       {answering(answer, i32(-1)+"\x2d\x00\x00"+drop), 502, "bounds"},
		"recursion":           {answering(answer, recurse), 502, "stack"},
		"loop":                {answering(answer, loop), 504, "timeout"},
		"start-loop":          {wasm{code: loop, start: true}, 504, "timeout"},
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			var routes strings.Builder
			for name, b := range behaviours {
				fmt.Fprintf(&routes, "gojinn /%s {\n module %s\n timeout 300ms\n queue_timeout 1m\n backend %s\n}\n",
					name, s.module(name+".wasm", b.module.String()), backend)
			}
			s.mustLoad("{\n admin ADMIN\n log {\n output file DIR/caddy.log\n level DEBUG\n }\n}\nADDR {\n route {\n" +
				routes.String() + "}\n}\n")
			for round := range 2 {
				for name, b := range behaviours {
					id := fmt.Sprintf("%s-%d", name, round)
					res := s.get("/"+name, "X-Request-Id", id)
					if res.StatusCode != b.status || b.status == 200 && res.body != "small" {
						t.Errorf("%s: got %d %q, want %d", name, res.StatusCode, res.body, b.status)
					}
					s.oneReason(id, b.reason)
				}
			}
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					res, err := s.httpClient.Get("http://" + s.addr + "/names")
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					if res.StatusCode != 200 {
						t.Errorf("one of 64 concurrent requests got %d", res.StatusCode)
					}
				})
			}
			wg.Wait()
		})
	}
}

// oneReason checks that the log has exactly one record of the request that names the broken rule, or none if want is "".
func (s *server) oneReason(traceID, want string) {
	s.t.Helper()
	var reasons []string
	for _, record := range s.logs("trace_id", traceID) {
		if reason, ok := record["reason"].(string); ok {
			reasons = append(reasons, reason)
		}
	}
	switch {
	case want == "" && len(reasons) == 0:
	case want != "" && len(reasons) == 1 && strings.Contains(reasons[0], want):
	default:
		s.t.Errorf("%s: want one reason with %q, got %q", traceID, want, reasons)
	}
}

// A bad module is refused when the config is loaded. The error has the name of the function, its path and the broken rule, and
// the old config continues to serve.
func TestBadInput(t *testing.T) {
	s := newRealServer(t)
	config := func(module string) string {
		return fmt.Sprintf("{\n admin ADMIN\n}\nADDR {\n gojinn {\n module %s\n name fn\n backend BACKEND\n }\n}\n", module)
	}
	on := func(backend, config string) string { return strings.Replace(config, "BACKEND", backend, 1) }
	s.mustLoad(on("wasmtime", config(guest(t, "c-hello"))))
	huge := s.module("huge.wasm", "\x00asm\x01\x00\x00\x00")
	if err := os.Truncate(huge, 99<<20); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ module, want string }{
		"a missing file":       {s.dir + "/missing.wasm", "no such file"},
		"a text file":          {s.module("text.wasm", "hello, I am text"), "not a WebAssembly module"},
		"an empty file":        {s.module("empty.wasm", ""), "empty"},
		"a component":          {s.module("component.wasm", "\x00asm\x0d\x00\x01\x00"), "component"},
		"an unknown import":    {s.module("import.wasm", wasm{imports: [2]string{"env", "frobnicate"}}.String()), "frobnicate"},
		"4 GiB of memory":      {s.module("memory.wasm", wasm{pages: 65536}.String()), "65536 pages"},
		"a module of 99 MB":    {huge, "103809024 bytes"},
		"a directory":          {s.dir, "a directory"},
		"half a module":        {s.module("half.wasm", wasm{}.String()[:40]), "cut off"},
		"a module of no bytes": {"/dev/null", "regular"},
	} {
		for _, backend := range backends {
			err := s.load(on(backend, config(c.module)))
			if err == nil || !strings.Contains(err.Error(), "function fn ("+c.module+"): ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: got %v", backend, name, err)
			}
			if res := s.get("/x"); res.StatusCode != 200 {
				t.Errorf("%s, %s: the old config does not serve any more: %d", backend, name, res.StatusCode)
			}
		}
	}

	typo := strings.Replace(on("wasmi", config(guest(t, "c-hello"))), "name fn", "timeot 2s", 1)
	typo = strings.NewReplacer("ADDR", ":9", "ADMIN", s.adminAddr).Replace(typo)
	res, err := http.Post("http://"+s.adminAddr+"/load", "text/caddyfile", strings.NewReader(typo))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct{ Error string }
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil || res.StatusCode != 400 ||
		!strings.Contains(body.Error, `unknown subdirective "timeot" of gojinn; did you mean timeout?, at Caddyfile:7`) {
		t.Errorf("a typo: got %d %s %v", res.StatusCode, body.Error, err)
	}
	if res := s.get("/x"); res.StatusCode != 200 {
		t.Errorf("after a typo: %d", res.StatusCode)
	}
}

// A module has one hash in the engine's description, in the admin API, and for sha256sum.
func TestOneHashForAModule(t *testing.T) {
	s := newRealServer(t)
	text := answering(`{"status":200,"body":"a"}`, "").String()
	s.module("hello.wasm", text)
	s.mustLoad(s.simple())
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
	if list := s.admin("/gojinn/functions").body; !strings.Contains(list, `"sha256":"`+want+`"`) {
		t.Errorf("the admin API: %s", list)
	}
	described := 0
	functions.Range(func(_, value any) bool {
		var facts struct {
			Hash string `json:"sha256"`
		}
		text, err := value.(*sharedFunction).Describe()
		if err != nil || json.Unmarshal(text, &facts) != nil || facts.Hash != want {
			t.Errorf("the engine: %s, %v", text, err)
		}
		described++
		return true
	})
	if described != 1 {
		t.Errorf("%d functions were described", described)
	}
}

// Reloads under load, with the real engine: each call that begins is answered, and what is no longer reachable is freed.
func TestReloadFreesWhatItReplaces(t *testing.T) {
	runtime.GC()
	enginesBefore, functionsBefore := engine.Live()
	s := newRealServer(t)
	config := func(i int) string {
		return fmt.Sprintf("{\n admin ADMIN\n}\nADDR {\n gojinn {\n module %s\n args %d\n }\n gojinn /same {\n module %s\n }\n}\n",
			guest(t, "c-hello"), i, guest(t, "zig-hello"))
	}
	s.mustLoad(config(0))
	stop := make(chan bool)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// See TestReloadUnderLoad.
				if status := s.getPatiently("/"); status != http.StatusOK {
					t.Errorf("got %d", status)
				}
			}
		})
	}
	for i := range 100 {
		s.mustLoad(config(i + 1))
	}
	close(stop)
	wg.Wait()
	s.httpClient.CloseIdleConnections()
	eventually(t, "the replaced functions to be freed", func() bool {
		runtime.GC()
		engines, functions := engine.Live()
		return engines-enginesBefore <= 1 && functions-functionsBefore <= 2
	})
}

// Go code must still recover from a fault, whatever backend was used first and trapped before.
func TestGoFaultsRecoverAfterTraps(t *testing.T) {
	if order := os.Getenv("GOJINN_TEST_ORDER"); order != "" {
		trapInOrder(t, strings.Split(order, ","))
		return
	}
	for _, order := range []string{
		"wasmtime,wasmer,wasmi", "wasmtime,wasmi,wasmer", "wasmer,wasmtime,wasmi",
		"wasmer,wasmi,wasmtime", "wasmi,wasmtime,wasmer", "wasmi,wasmer,wasmtime",
	} {
		t.Run(order, func(t *testing.T) {
			// The first use of a backend matters, so each order runs in a new process.
			child := exec.Command(os.Args[0], "-test.run=^TestGoFaultsRecoverAfterTraps$", "-test.count=1")
			child.Env = append(os.Environ(), "GOJINN_TEST_ORDER="+order)
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func trapInOrder(t *testing.T, order []string) {
	e, err := engine.New(&engine.Config{MaxConcurrency: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, backend := range order {
		for name, wasm := range trapModules {
			f, err := e.NewFunction(t.Context(), []byte(wasm.String()), &engine.FunctionConfig{Name: name, Backend: backend})
			if err != nil {
				t.Fatalf("%s, %s: %v", backend, name, err)
			}
			for range 50 {
				id, err := e.NewCall()
				if err != nil {
					t.Fatal(err)
				}
				var head engine.Head
				head.Reset(&engine.Request{Method: "GET", URI: "/", TraceID: "t"})
				head.EndHeaders()
				var result engine.Result
				if _, err := f.Call(id, head.Bytes(), nil, make([]byte, 0, 4096), &result); err != nil {
					t.Fatal(err)
				}
				answer := &result.Answer
				if answer.Outcome != engine.OutcomeTrap {
					t.Fatalf("%s, %s: got %s (%s)", backend, name, answer.Outcome, answer.Reason)
				}
				if !recovers() {
					t.Fatalf("%s, %s: a nil dereference was not recovered from", backend, name)
				}
			}
			f.Close()
			f.Close()
		}
	}
}

// recovers dereferences nil and reports whether the panic arrived.
//
//go:noinline
func recovers() (ok bool) {
	defer func() { ok = recover() != nil }()
	var nothing *[1 << 20]byte
	return nothing[len(os.Args)] == 1
}

// trapModules trap in different ways. Engines learn of some of them by a signal.
var trapModules = map[string]wasm{
	"unreachable": {code: unreachable},
	"division":    {code: i32(1) + i32(0) + "\x6d" + drop}, // i32.div_s
	"load":        {code: i32(-1) + "\x2d\x00\x00" + drop}, // i32.load8_u
	"recursion":   {code: recurse},
	"overflow":    {code: i32(-1<<31) + i32(-1) + "\x6d" + drop},
}

// The user's Caddyfile and function, unchanged, and with added lines on each backend and with each kind of start.
func TestAcceptance(t *testing.T) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "shared", "acceptance"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the user's files are not here; TestBackends does the same with the project's own function")
	}
	caddyfile, err := os.ReadFile(filepath.Join(dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	s := newRealServer(t)
	s.httpClient.Timeout = time.Minute
	s.addr, s.adminAddr = "localhost:8080", "localhost:2019" // the Caddyfile's
	for _, addr := range []string{s.addr, s.adminAddr} {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Fatalf("something listens on %s, where the user's Caddyfile is to be served; stop it first", addr)
		}
	}
	buildGo(t, filepath.Join(dir, "processor.go"), filepath.Join(s.dir, "functions", "processor.wasm"))
	t.Chdir(s.dir)
	t.Setenv("SECRET_KEY", "s3cret")
	check := func(backend, more, snapshot string) {
		t.Helper()
		s.mustLoad(strings.Replace(string(caddyfile), "timeout 2s", "timeout 2s\n"+more, 1))
		for range 2 {
			res := s.do(s.request("POST", "/api/anything", "", "X-Request-Id", "abc"))
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/plain" || res.body != "Hello from Gojinn! Trace: abc" {
				t.Errorf("with %q: got %d %v %q", more, res.StatusCode, res.Header, res.body)
			}
		}
		if want := `"backend":"` + backend; !strings.Contains(s.admin("/gojinn/functions").body, want) {
			t.Errorf("the function does not run on %q", backend)
		}
		s.wantSnapshot("processor", snapshot)
	}
	check("wasmtime", "", "parked")
	for _, backend := range backends {
		check(backend, "backend "+backend, "parked")
		check(backend, "backend "+backend+"\nsnapshot off", "none")
		check(backend, "backend "+backend+"\nsnapshot on", "parked")
		check(backend, "backend "+backend+"\nwarmup 3", "warmed")
	}
}

// The metrics are where users look for them: on the admin endpoint and at the directive metrics. Counts continue across a reload.
func TestMetrics(t *testing.T) {
	s := newRealServer(t)
	// Counts belong to the process, in which a test may run twice.
	run := fmt.Sprint(time.Now().UnixNano())
	counted, broken := "counted"+run, "broken"+run
	config := func(more string) string {
		return fmt.Sprintf("{\n admin ADMIN\n}\nADDR {\n metrics /metrics\n gojinn /fn {\n module %s\n name %s\n%s}\n gojinn /bad {\n module %s\n name %s\n }\n}\n",
			guest(t, "c-hello"), counted, more, s.module("bad.wasm", wasm{}.String()), broken)
	}
	s.mustLoad(config(""))
	s.get("/fn")
	s.get("/bad")
	s.mustLoad(config("timeout 3s\n"))
	s.get("/fn")
	for where, scrape := range map[string]*response{"the admin endpoint": s.admin("/metrics"), "the directive": s.get("/metrics")} {
		if scrape.StatusCode != 200 {
			t.Errorf("%s: got %d %s", where, scrape.StatusCode, scrape.body)
		}
		for _, want := range []string{
			"# TYPE gojinn_function_duration_seconds histogram\n",
			"# TYPE gojinn_active_sandboxes gauge\n",
			`gojinn_function_duration_seconds_count{backend="wasmtime",function="` + counted + `",outcome="ok"} 2` + "\n",
			`gojinn_function_duration_seconds_bucket{backend="wasmtime",function="` + counted + `",outcome="ok",le="10"} 2` + "\n",
			`gojinn_function_duration_seconds_count{backend="wasmtime",function="` + broken + `",outcome="bad_output"} 1` + "\n",
			`gojinn_active_sandboxes{backend="wasmtime",function="` + counted + `"} 0` + "\n",
		} {
			if !strings.Contains(scrape.body, want) {
				t.Errorf("%s lacks %s", where, want)
			}
		}
	}
}
