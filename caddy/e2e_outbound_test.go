//go:build cgo

// Tests of guests that call servers, stores and secrets, with the real engine.

package gojinn

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// guestLanguages are the directories of guests/ that have the functions `calls` and `next`, and how each names itself.
var guestLanguages = map[string]string{
	"assemblyscript": "AssemblyScript", "c": "C", "cpp": "C++", "go": "Go", "rust": "Rust", "zig": "Zig",
}

// callsGuest returns the path of the function `calls` of a language.
func callsGuest(t *testing.T, language string) string {
	t.Helper()
	return languageGuest(t, language, "calls")
}

// languageGuest returns the path of a function that each language has. That of Go is built, the others are committed.
func languageGuest(t *testing.T, language, name string) string {
	t.Helper()
	if language == "go" {
		return guest(t, "go-"+name)
	}
	path, err := filepath.Abs(filepath.Join("..", "guests", language, name, name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// calledOut is a Caddyfile with functions that call an upstream, by path.
type calledOut struct {
	*server
	upstream *httptest.Server
	// secret is the file of the secret, and ca that of the upstream's authority.
	secret, ca string
}

func newCalledOut(t *testing.T, handle http.HandlerFunc) *calledOut {
	t.Helper()
	s := &calledOut{server: newRealServer(t), upstream: httptest.NewTLSServer(handle)}
	t.Cleanup(s.upstream.Close)
	s.secret = s.module("api_key", "hunter2\n")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.upstream.Certificate().Raw})
	s.ca = s.module("ca.pem", string(certificate))
	return s
}

// function returns the lines of a function.
func (s *calledOut) function(module, name string, lines ...string) string {
	return fmt.Sprintf(`
	handle /%s {
		gojinn {
			module %s
			name %s
			env API_URL %s/v1
			outbound {
				allow %s
				allow_private 127.0.0.1
				tls_trust_pool file %s
			}
			kv visits
			secret API_KEY {file.%s}
			%s
		}
	}`, name, module, name, s.upstream.URL, s.upstream.URL, s.ca, s.secret, strings.Join(lines, "\n\t\t\t"))
}

// config returns a Caddyfile with functions.
func (s *calledOut) config(functions ...string) string {
	return `{
	admin ADMIN
	log {
		output file DIR/caddy.log
		level DEBUG
	}
	gojinn {
		max_concurrency 2000
		cache DIR/cache
		kv visits file DIR/visits.db
	}
}
ADDR {
	log
	metrics /metrics
	` + strings.Join(functions, "\n") + `
}
`
}

// The function of each language calls a server over HTTPS and uses a store, on each backend. The secret that it sends is found
// nowhere else.
func TestGuestsCallOut(t *testing.T) {
	s := newCalledOut(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/v1" || r.Header.Get("Authorization") != "Bearer hunter2" {
			t.Errorf("the server got %s %s %v", r.Method, r.URL, r.Header)
		}
		w.WriteHeader(203)
		fmt.Fprintf(w, "the answer to %s", body)
	})
	var functions []string
	for language := range guestLanguages {
		for _, backend := range backends {
			functions = append(functions, s.function(callsGuest(t, language), language+"-"+backend, "backend "+backend))
		}
	}
	s.mustLoad(s.config(functions...))
	for language, name := range guestLanguages {
		for i, backend := range backends {
			for round := range 2 {
				res := s.get("/" + language + "-" + backend)
				want := fmt.Sprintf("the answer to from %s, visit %d\n", name, 2*i+round+1)
				if res.StatusCode != 203 || res.body != want {
					t.Errorf("%s on %s: got %d %q, want %q", language, backend, res.StatusCode, res.body, want)
				}
			}
		}
	}
	if text := s.get("/metrics").body; !strings.Contains(text, `gojinn_host_calls_total{function="c-wasmi",operation="http.send",outcome="ok"} 2`) {
		t.Errorf("the metrics are\n%s", text)
	}
	for what, text := range map[string]string{
		"the admin API": s.admin("/gojinn/functions").body + s.admin("/gojinn/warnings").body + s.admin("/config/").body,
		"the metrics":   s.get("/metrics").body + s.admin("/metrics").body,
	} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s has the secret", what)
		}
	}
	s.findsNoSecret(s.dir)
}

// A client of an API that knows nothing of Gojinn works over the transport of the Go package, on each backend: it reads pages, sends
// JSON, and understands the API's errors.
func TestUnmodifiedClientOfAnAPI(t *testing.T) {
	api := http.NewServeMux()
	const issues = "/api/repos/acme/rockets/issues"
	api.HandleFunc("GET "+issues, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("state") != "open" || r.URL.Query().Get("per_page") != "100" {
			t.Errorf("the API got %s", r.URL)
		}
		first := 1
		if r.URL.Query().Get("page") == "2" {
			first = 101
		} else {
			w.Header().Set("Link", `<https://`+r.Host+issues+`?page=2>; rel="next", <https://`+r.Host+issues+`?page=2>; rel="last"`)
		}
		fmt.Fprintf(w, `[{"number":%d,"title":"überholt","user":{"login":"ann"}},{"number":%d,"title":"b"}]`, first, first+1)
	})
	api.HandleFunc("POST "+issues, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if got := strings.TrimSpace(string(body)); got != `{"title":"it \"leaks\""}` || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the API got %s %v", got, r.Header)
		}
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"number":7,"title":"it \"leaks\""}`)
	})
	api.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"message":"Not Found"}`)
	})
	s := newCalledOut(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hunter2" || !strings.HasPrefix(r.Header.Get("User-Agent"), "go-github") ||
			r.Header.Get("X-GitHub-Api-Version") == "" {
			t.Errorf("the API got %v", r.Header)
		}
		api.ServeHTTP(w, r)
	})
	var functions []string
	for _, backend := range backends {
		for name, repository := range map[string]string{"github": "acme/rockets", "missing": "acme/nothing", "denied": "acme/rockets"} {
			f := s.function(guest(t, "go-github"), name+"-"+backend, "backend "+backend, "timeout 30s", "env GITHUB_REPOSITORY "+repository)
			url := s.upstream.URL + "/api"
			if name == "denied" {
				url = "https://api.elsewhere.example"
			}
			f = strings.ReplaceAll(f, "env API_URL "+s.upstream.URL+"/v1", "env GITHUB_URL "+url)
			functions = append(functions, strings.ReplaceAll(f, "secret API_KEY", "secret GITHUB_TOKEN"))
		}
	}
	s.mustLoad(s.config(functions...))
	for _, backend := range backends {
		if res, want := s.get("/github-"+backend), "#1 überholt, by ann\n#2 b, by \n#101 überholt, by ann\n#102 b, by \n"; res.StatusCode != 200 || res.body != want {
			t.Errorf("%s: got %d %s", backend, res.StatusCode, res.body)
		}
		if res := s.do(s.request("POST", "/github-"+backend, `it "leaks"`)); res.StatusCode != 201 || res.body != "#7 it \"leaks\"\n" {
			t.Errorf("%s: got %d %s", backend, res.StatusCode, res.body)
		}
		if res := s.get("/missing-" + backend); res.StatusCode != 404 || !strings.Contains(res.body, "404 Not Found") {
			t.Errorf("%s: got %d %s", backend, res.StatusCode, res.body)
		}
		if res := s.get("/denied-" + backend); res.StatusCode != 502 || !strings.Contains(res.body, "allow https://api.elsewhere.example") {
			t.Errorf("%s: got %d %s", backend, res.StatusCode, res.body)
		}
	}
}

// findsNoSecret looks into all files of a directory but the secret's.
func (s *calledOut) findsNoSecret(dir string) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == s.secret {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("hunter2")) {
			s.t.Errorf("%s has the secret", path)
		}
		files++
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	if files < 4 {
		s.t.Errorf("only %d files were searched", files)
	}
}

// A call whose client goes away, or whose time is over, ends the request to the server.
func TestCallsOutEnd(t *testing.T) {
	arrived, gone := make(chan bool, 8), make(chan bool, 8)
	s := newCalledOut(t, func(w http.ResponseWriter, r *http.Request) {
		// The server notices that a client has gone once the body is read.
		io.Copy(io.Discard, r.Body)
		arrived <- true
		<-r.Context().Done()
		gone <- true
	})
	var functions []string
	for _, backend := range backends {
		functions = append(functions,
			s.function(callsGuest(t, "c"), "long-"+backend, "backend "+backend),
			s.function(callsGuest(t, "c"), "short-"+backend, "backend "+backend, "timeout 200ms"))
	}
	s.mustLoad(s.config(functions...))
	for _, backend := range backends {
		if res := s.get("/short-" + backend); res.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("%s: a call whose time is over: %d %s", backend, res.StatusCode, res.body)
		}
		await(t, "the server to get the request", arrived)
		await(t, "the server to see the deadline", gone)

		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			r := s.request("GET", "/long-"+backend, "").WithContext(ctx)
			res, err := s.httpClient.Do(r)
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
		await(t, "the server to get the request", arrived)
		cancel()
		if err := await(t, "the client", done); err == nil {
			t.Errorf("%s: the client that went away got an answer", backend)
		}
		await(t, "the server to see that the client has gone", gone)
	}
	eventually(t, "all calls to end", func() bool {
		for _, f := range runningFunctions() {
			if f.active.Load() != 0 {
				return false
			}
		}
		return true
	})
}

// A thousand functions that wait for a server need few threads.
func TestManyCallsOut(t *testing.T) {
	// Each call has four sockets, all of which are in this process.
	calls := int64(1000)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < 8000 {
		calls = 100
		t.Logf("only %d calls, because of ulimit -n: %d %v", calls, files.Cur, err)
	}
	var waiting atomic.Int64
	all := make(chan bool)
	s := newCalledOut(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if waiting.Add(1) == calls {
			close(all)
		}
		<-all
		io.WriteString(w, "x")
	})
	s.mustLoad(s.config(s.function(callsGuest(t, "c"), "c", "backend wasmtime", "timeout 2m", "queue_timeout 1m")))
	before := threads(t)
	var most atomic.Int64
	go func() {
		<-all
		most.Store(int64(threads(t)))
	}()
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if status := s.getPatiently("/c"); status != 200 {
				t.Errorf("got %d", status)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > int64(max(64, before+32)) {
		t.Errorf("%d threads while %d functions waited, %d before", n, calls, before)
	}
	t.Logf("%d threads while %d functions waited, %d before", most.Load(), calls, before)
	if n := s.get("/c").body; n != fmt.Sprintf("x, visit %d\n", calls+1) {
		t.Errorf("counted %s", n)
	}
}

// threads returns how many threads this process has.
func threads(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Error(err)
		return 0
	}
	_, after, _ := strings.Cut(string(text), "\nThreads:")
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Error(err)
	}
	return n
}

// What a function was not given is denied, and the log has the line to add.
func TestCallsOutAreDenied(t *testing.T) {
	s := newCalledOut(t, func(http.ResponseWriter, *http.Request) { t.Error("the server got a request") })
	module := callsGuest(t, "c")
	block := func(name, lines string) string {
		return fmt.Sprintf("handle /%s {\ngojinn {\nmodule %s\nname %s\nenv API_URL %s\n%s\n}\n}\n", name, module, name, s.upstream.URL, lines)
	}
	s.mustLoad(s.config(
		block("nothing", ""),
		block("secret", "secret API_KEY {file."+s.secret+"}"),
		block("elsewhere", "secret API_KEY {file."+s.secret+"}\noutbound {\nallow https://other.example\n}"),
		block("private", "secret API_KEY {file."+s.secret+"}\noutbound {\nallow "+s.upstream.URL+"\n}"),
	))
	for name, want := range map[string]string{
		"nothing":   "`secret API_KEY {file./run/secrets/api_key}` in the block of gojinn",
		"secret":    "`allow " + s.upstream.URL + "` in `outbound { … }` of gojinn",
		"elsewhere": "`allow " + s.upstream.URL + "` in `outbound { … }` of gojinn",
		"private":   "`allow_private <addresses of 127.0.0.1>` in `outbound { … }` of gojinn",
	} {
		for range 3 {
			if res := s.get("/" + name); res.StatusCode != 500 || !strings.Contains(res.body, want) {
				t.Errorf("%s: got %d %s", name, res.StatusCode, res.body)
			}
		}
		records := s.logs("add", want)
		mine := 0
		for _, record := range records {
			if record["function"] == name {
				mine++
			}
		}
		if mine != 1 {
			t.Errorf("%s: %d records of %q", name, mine, want)
		}
	}
}

// A program that calls out before it reads its request starts plain, so that no snapshot holds what it got.
func TestCallsOutBeforeTheRequest(t *testing.T) {
	s := newRealServer(t)
	module := buildGo(t, "testdata/early", filepath.Join(s.dir, "early.wasm"))
	secret := s.module("key", "first")
	for _, backend := range backends {
		s.mustLoad(strings.ReplaceAll(s.simple("backend "+backend, "secret KEY {file."+secret+"}", "name early-"+backend), "DIR/hello.wasm", module))
		ready := s.logs("function", "early-"+backend)
		if len(ready) == 0 || ready[0]["snapshot"] != "none" || !strings.Contains(fmt.Sprint(ready[0]["snapshot_why_not"]), "call") {
			t.Errorf("%s: the log has %v", backend, ready)
		}
		for _, want := range []string{"first", "second"} {
			s.module("key", want)
			if res := s.get("/"); res.body != "{}\n"+want {
				t.Errorf("%s: got %d %q, want %q", backend, res.StatusCode, res.body, want)
			}
		}
	}
}
