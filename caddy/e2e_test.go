//go:build cgo

package gojinn

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// guest is the path of a built guest, or of the prebuilt one that stands beside its source.
func guest(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "guests", "build", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if language, ok := strings.CutSuffix(name, "-hello"); ok {
		prebuilt, err := filepath.Abs(filepath.Join("..", "guests", language, "hello", "hello.wasm"))
		if err == nil {
			if _, err := os.Stat(prebuilt); err == nil {
				return prebuilt
			}
		}
	}
	if strings.HasPrefix(name, "wat-") {
		t.Skipf("%s is not built: make -C guests wat (needs wabt)", name)
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

// One configuration for each backend, and everything that can be seen over HTTP.
func TestBackends(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { testBackend(t, backend) })
	}
}

func testBackend(t *testing.T, backend string) {
	t.Setenv("SECRET_KEY", "s3cret")
	s := newRealServer(t)
	s.httpClient.Timeout = 2 * time.Minute
	for _, folder := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(s.dir, folder), 0o755); err != nil {
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
			headers["Proxy"] != nil || headers["Connection"] != nil || fmt.Sprint(headers["X-Forwarded-For"]) != "[127.0.0.1]" ||
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

// Outputs and ends that are refused, each with one record that names the rule.
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

// cpu is the CPU time that the process takes for something.
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

// The small guests in wat: each has one behaviour.
func TestWat(t *testing.T) {
	want := map[string]int{
		"hello": 200, "names": 200, "image-1m": 200, "reactor": 200,
		"no-output": 502, "two-values": 502, "trap": 502, "recurse": 502, "grow": 502,
		"spin": 504, "start-spin": 504, "sleep-hour": 504,
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			var routes strings.Builder
			for name := range want {
				fmt.Fprintf(&routes, "gojinn /%s {\n module %s\n timeout 500ms\n queue_timeout 1m\n backend %s\n}\n", name, guest(t, "wat-"+name), backend)
			}
			s := newRealServer(t)
			s.mustLoad("{\n admin ADMIN\n}\nADDR {\n route {\n" + routes.String() + "}\n}\n")
			for range 2 {
				for name, status := range want {
					if res := s.get("/" + name); res.StatusCode != status {
						t.Errorf("%s: got %d, want %d", name, res.StatusCode, status)
					}
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

// What is no good is refused when it is loaded, by the name of the function, its path and the rule that was broken; the old
// config serves on.
func TestBadInput(t *testing.T) {
	s := newRealServer(t)
	config := func(module string) string {
		return fmt.Sprintf("{\n admin ADMIN\n}\nADDR {\n gojinn {\n module %s\n name fn\n }\n}\n", module)
	}
	s.mustLoad(config(guest(t, "c-hello")))
	huge := s.module("huge.wasm", "\x00asm\x01\x00\x00\x00")
	if err := os.Truncate(huge, 99<<20); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ module, want string }{
		"a missing file":       {s.dir + "/missing.wasm", "no such file"},
		"a text file":          {s.module("text.wasm", "hello, I am text"), ""},
		"an empty file":        {s.module("empty.wasm", ""), ""},
		"a component":          {s.module("component.wasm", "\x00asm\x0d\x00\x01\x00"), "component"},
		"an unknown import":    {s.module("import.wasm", unknownImport), "env"},
		"4 GiB of memory":      {s.module("memory.wasm", bigMemory), "memory"},
		"a module of 99 MB":    {huge, "bytes"},
		"a folder":             {s.dir, "a folder"},
		"half a module":        {s.module("half.wasm", trapModules["unreachable"][:20]), ""},
		"a module of no bytes": {"/dev/null", "regular"},
	} {
		err := s.load(config(c.module))
		if err == nil || !strings.Contains(err.Error(), "function fn ("+c.module+")") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		t.Logf("%s: %v", name, err)
		if res := s.get("/x"); res.StatusCode != 200 {
			t.Errorf("%s: the old config does not serve any more: %d", name, res.StatusCode)
		}
	}

	typo := strings.Replace(config(guest(t, "c-hello")), "name fn", "timeot 2s", 1)
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

// Reloads under load, with the engine itself: each call that is begun is answered, and what is no longer reached is freed.
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
				res, err := s.httpClient.Get("http://" + s.addr)
				if err != nil {
					continue // see TestReloadUnderLoad
				}
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("got %d", res.StatusCode)
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

// A fault in Go code must still be recovered from, whatever backend was used first and trapped before.
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
			// First use counts, so each order has a process of its own.
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
			f, err := e.NewFunction([]byte(wasm), &engine.FunctionConfig{Name: name, Backend: backend})
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
				var answer engine.Answer
				if _, err := f.Call(id, head.Bytes(), nil, make([]byte, 0, 4096), &answer); err != nil {
					t.Fatal(err)
				}
				if answer.Verdict != engine.VerdictTrap {
					t.Fatalf("%s, %s: got %s (%s)", backend, name, answer.Verdict, answer.Reason)
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

// Modules by hand: a memory and a _start that traps.
var trapModules = map[string]string{
	"unreachable": module("\x00"),
	"division":    module("\x41\x01\x41\x00\x6d\x1a"),             // i32.const 1, i32.const 0, i32.div_s, drop
	"load":        module("\x41\x7f\x2d\x00\x00\x1a"),             // i32.const -1, i32.load8_u, drop
	"recursion":   module("\x10\x00"),                             // call 0
	"word":        module("\x41\x7f\x28\x02\x00\x41\x7f\x6d\x1a"), // i32.const -1, i32.load, i32.const -1, i32.div_s, drop
}

// module is a module whose _start has this code.
func module(code string) string {
	body := "\x00" + code + "\x0b"
	return "\x00asm\x01\x00\x00\x00" +
		section(1, "\x01\x60\x00\x00") + // type 0: [] -> []
		section(3, "\x01\x00") + // function 0 has type 0
		section(5, "\x01\x00\x01") + // one memory of one page
		section(7, "\x02\x06memory\x02\x00\x06_start\x00\x00") +
		section(10, "\x01"+string(rune(len(body)))+body)
}

// unknownImport imports env.foo; bigMemory declares 65536 pages.
var (
	unknownImport = "\x00asm\x01\x00\x00\x00" + section(1, "\x01\x60\x00\x00") + section(2, "\x01\x03env\x03foo\x00\x00") +
		section(3, "\x01\x00") + section(5, "\x01\x00\x01") + section(7, "\x02\x06memory\x02\x00\x06_start\x00\x01") +
		section(10, "\x01\x02\x00\x0b")
	bigMemory = "\x00asm\x01\x00\x00\x00" + section(1, "\x01\x60\x00\x00") + section(3, "\x01\x00") +
		section(5, "\x01\x00\x80\x80\x04") + section(7, "\x02\x06memory\x02\x00\x06_start\x00\x00") + section(10, "\x01\x02\x00\x0b")
)

// section is one section of fewer than 128 bytes.
func section(id byte, content string) string {
	return string([]byte{id, byte(len(content))}) + content
}

// The user's own Caddyfile and function, unchanged, and again on each backend by one added line.
func TestAcceptance(t *testing.T) {
	folder, err := filepath.Abs(filepath.Join("..", "..", "shared", "acceptance"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); err != nil {
		t.Skip("the user's files are not here; TestBackends does the same with the project's own function")
	}
	caddyfile, err := os.ReadFile(filepath.Join(folder, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	s := newRealServer(t)
	s.httpClient.Timeout = time.Minute
	s.addr, s.adminAddr = "localhost:8080", "localhost:2019" // the Caddyfile's
	build := exec.Command("go", "build", "-o", filepath.Join(s.dir, "functions", "processor.wasm"), filepath.Join(folder, "processor.go"))
	build.Dir = s.dir
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Chdir(s.dir)
	t.Setenv("SECRET_KEY", "s3cret")
	for _, backend := range append([]string{""}, backends...) {
		text := string(caddyfile)
		if backend != "" {
			text = strings.Replace(text, "timeout 2s", "timeout 2s\n            backend "+backend, 1)
		}
		s.mustLoad(text)
		res := s.do(s.request("POST", "/api/anything", "", "X-Request-Id", "abc"))
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/plain" || res.body != "Hello from Gojinn! Trace: abc" {
			t.Errorf("backend %q: got %d %v %q", backend, res.StatusCode, res.Header, res.body)
		}
		if want := `"backend":"` + backend; !strings.Contains(s.admin("/gojinn/functions").body, want) {
			t.Errorf("the function does not run on %q", backend)
		}
	}
}
