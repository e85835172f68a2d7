//go:build cgo

// Tests of the contract http-wasm with the real engine: the ABI's own conformance kit, and the example guests of its Go host. The
// response side, which the kit does not cover, is in conformance/src/http_wasm.rs.

package gojinn

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/http-wasm/http-wasm-host-go/api/handler"
	"github.com/http-wasm/http-wasm-host-go/tck"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// example returns the path of an example guest of http-wasm-host-go.
func example(t *testing.T, name string) string {
	t.Helper()
	dir, err := httpWasmModule()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "examples", name+".wasm")
}

// httpWasmModule returns where http-wasm-host-go is on this machine.
var httpWasmModule = sync.OnceValues(func() (string, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/http-wasm/http-wasm-host-go").Output()
	return strings.TrimSpace(string(dir)), err
})

// httpWasmSite returns a Caddyfile whose site runs a guest in front of other directives, in the order in which they are written.
func httpWasmSite(backend, module, settings string, next ...string) string {
	return fmt.Sprintf("{\n admin ADMIN\n log {\n output file DIR/caddy.log\n level DEBUG\n }\n servers {\n protocols h1 h2c\n }\n gojinn {\n backend %s\n }\n}\n"+
		"ADDR {\n log\n route {\n gojinn {\n module %s\n contract http-wasm\n timeout 30s\n %s\n }\n %s\n }\n}\n", backend, module, settings, strings.Join(next, "\n"))
}

// The conformance kit, over HTTP/1.1 and HTTP/2.
func TestHTTPWasmTCK(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			module := s.module("tck.wasm", string(tck.GuestWASM))
			up := httptest.NewServer(tck.BackendHandler())
			t.Cleanup(up.Close)
			s.mustLoad(httpWasmSite(backend, module, "", "reverse_proxy "+up.Listener.Addr().String()))
			url := "http://" + s.addr
			// The kit's tests run in parallel, so they are grouped: the server lives until the group has ended.
			t.Run("group", func(t *testing.T) {
				t.Run("HTTP/1.1", func(t *testing.T) { tck.Run(t, newClient(), url) })
				t.Run("HTTP/2", func(t *testing.T) { tck.Run(t, http2Client(t), url) })
			})
		})
	}
}

// http2Client returns a client that speaks HTTP/2 without TLS.
func http2Client(t *testing.T) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: longestWait}
}

// The example guests do what their pages say.
func TestHTTPWasmExamples(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Run("auth", func(t *testing.T) {
				s := newRealServer(t)
				s.mustLoad(httpWasmSite(backend, example(t, "auth"), "", "respond secret"))
				for header, want := range map[string]string{
					"":                                   `401  Basic realm="test"`,
					"0":                                  "401  ",
					"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==": "200 secret ",
				} {
					var headers []string
					if header != "" {
						headers = []string{"Authorization", header}
					}
					res := s.get("/", headers...)
					if got := fmt.Sprintf("%d %s %s", res.StatusCode, res.body, res.Header.Get("Www-Authenticate")); got != want {
						t.Errorf("%q: got %s, want %s", header, got, want)
					}
				}
			})
			t.Run("config", func(t *testing.T) {
				for features := range uint64(8) {
					s := newRealServer(t)
					config := binary.LittleEndian.AppendUint64(nil, features)
					path := s.module("config", string(config))
					up := echoUpstream(t)
					s.mustLoad(httpWasmSite(backend, example(t, "config"), "guest_config file "+path, "reverse_proxy "+up.Listener.Addr().String()))
					if got := s.do(s.request("POST", "/", "a body")).received(t); got.Body != "a body" {
						t.Errorf("%s: the upstream got %+v", handler.Features(features), got)
					}
				}
			})
			t.Run("log", func(t *testing.T) {
				s := newRealServer(t)
				s.mustLoad(httpWasmSite(backend, example(t, "log"), "", "respond next"))
				if res := s.get("/"); res.body != "next" {
					t.Errorf("got %d %s", res.StatusCode, res.body)
				}
				if records := s.logs("msg", "hello world"); len(records) != 1 || records[0]["level"] != "info" {
					t.Errorf("got the records %v", records)
				}
			})
			t.Run("redact", func(t *testing.T) {
				s := newRealServer(t)
				up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					if strings.Contains(string(body), "open sesame") {
						t.Errorf("the upstream got %s", body)
					}
					io.WriteString(w, r.Header.Get("X-Answer"))
				}))
				t.Cleanup(up.Close)
				s.mustLoad(httpWasmSite(backend, example(t, "redact"), "guest_config `open sesame`", "reverse_proxy "+up.Listener.Addr().String()))
				for body, want := range map[string]string{
					"open sesame":             "###########",
					"hello world":             "hello world",
					"hello open sesame world": "hello ########### world",
				} {
					if res := s.do(s.request("POST", "/", body, "X-Answer", body)); res.StatusCode != 200 || res.body != want || res.ContentLength != int64(len(want)) {
						t.Errorf("%s: got %d %s (%d bytes), want %s", body, res.StatusCode, res.body, res.ContentLength, want)
					}
				}
			})
			t.Run("router", func(t *testing.T) {
				s := newRealServer(t)
				s.mustLoad(httpWasmSite(backend, example(t, "router"), "", "respond {uri}"))
				for uri, want := range map[string]string{"/": "hello world", "/nothosst": "hello world", "/host/a?b": "/a?b", "/host": "/"} {
					if res := s.get(uri); res.StatusCode != 200 || res.body != want {
						t.Errorf("%s: got %d %s, want %s", uri, res.StatusCode, res.body, want)
					}
				}
			})
			t.Run("wasi", func(t *testing.T) { testHTTPWasmWASI(t, backend) })
		})
	}
}

// The example that prints request and response to stdout. Here no one reads stdout, so its end is what is seen.
func testHTTPWasmWASI(t *testing.T, backend string) {
	s := newRealServer(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("Set-Cookie", "a=b")
		w.Header().Add("Set-Cookie", "c=d")
		w.Header().Set("Trailer", "grpc-status")
		io.WriteString(w, `{"hello": "world"}`)
		w.Header().Set("grpc-status", "1")
	}))
	t.Cleanup(up.Close)
	s.mustLoad(httpWasmSite(backend, example(t, "wasi"), "", "reverse_proxy "+up.Listener.Addr().String()))
	res := s.do(s.request("POST", "/", `{"hello": "panda"}`, "Content-Type", "application/json"))
	if res.StatusCode != 200 || res.body != `{"hello": "world"}` || fmt.Sprint(res.Header["Set-Cookie"]) != "[a=b c=d]" || res.Trailer.Get("Grpc-Status") != "1" {
		t.Errorf("got %d %v %v %s", res.StatusCode, res.Header, res.Trailer, res.body)
	}
}

// counterGuest is a guest of http-wasm that counts its requests in its memory, and sets the header X-Count of the response to the
// number. On hosts that use an instance again the number grows.
func counterGuest() string {
	const count = 7 // where the digit is, behind the header's name
	const load, add, store, i64 = "\x2d\x00\x00", "\x6a", "\x3a\x00\x00", "\x42"
	handleRequest := i32(count) + i32(count) + load + i32(1) + add + store +
		i32(1) + i32(0) + i32(count) + i32(count) + i32(1) + "\x10\x00" + // set_header_value(response, "x-count", the digit)
		i64 + "\x01"
	return "\x00asm\x01\x00\x00\x00" +
		section(1, listOf("\x60\x05\x7f\x7f\x7f\x7f\x7f\x00", "\x60\x00\x01\x7e", "\x60\x02\x7f\x7f\x00")) +
		section(2, listOf(sized("http_handler")+sized("set_header_value")+"\x00\x00")) +
		section(3, listOf("\x01", "\x02")) +
		section(5, listOf("\x00\x01")) +
		section(7, listOf(sized("memory")+"\x02\x00", sized("handle_request")+"\x00\x01", sized("handle_response")+"\x00\x02")) +
		section(10, listOf(sized("\x00"+handleRequest+"\x0b"), sized("\x00\x0b"))) +
		section(11, listOf("\x00"+i32(0)+"\x0b"+sized("x-count0")))
}

// Reloads under load, each with other settings of a function that lets requests go on and of a guest of http-wasm behind it: no
// request fails, the guest counts 1 each time, and nothing is left over. GOJINN_TEST_RELOADS sets the number: a thousand take
// three minutes for each backend on a busy machine of two cores.
func TestMiddlewareReloads(t *testing.T) {
	reloads := 60
	if n, err := strconv.Atoi(os.Getenv("GOJINN_TEST_RELOADS")); err == nil {
		reloads = n
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { testMiddlewareReloads(t, backend, reloads) })
	}
}

func testMiddlewareReloads(t *testing.T, backend string, reloads int) {
	runtime.GC()
	enginesBefore, functionsBefore := engine.Live()
	s := newRealServer(t)
	s.module("next.wasm", answering(`{"next":true,"vars":{"who":"next"},"uri":"/on"}`, "").String())
	s.module("count.wasm", counterGuest())
	config := func(i int) string {
		site := httpWasmSite(backend, "DIR/count.wasm", fmt.Sprintf("name count\n queue_timeout 10s\n guest_config %d", i),
			"respond \"{http.vars.who} {uri} {http.response.header.X-Count}\"")
		first := fmt.Sprintf("route {\n gojinn {\n module DIR/next.wasm\n name next\n timeout 30s\n queue_timeout 10s\n args %d\n }\n", i)
		// Without the access log, which the load would fill.
		return strings.NewReplacer("level DEBUG", "level ERROR", "ADDR {\n log\n", "ADDR {\n", "route {\n", first).Replace(site)
	}
	s.mustLoad(config(0))
	end := s.underLoad("/host/a", func() func(string) error {
		return func(body string) error {
			if body != "next /on 1" {
				return fmt.Errorf("got %q", body)
			}
			return nil
		}
	})
	compiled := s.compilations()
	var threads, resident, files int
	for i := range reloads {
		s.mustLoad(config(i + 1))
		if i == min(100, reloads/2) {
			// By now everything that is made once exists.
			threads, resident, files = s.processStatus("Threads"), s.settledResident(), openFiles(t)
		}
	}
	answered := end()
	if answered == 0 {
		t.Error("no request was answered meanwhile")
	}
	if more := s.compilations() - compiled; more != 0 {
		t.Errorf("%d modules were compiled again", more)
	}
	s.httpClient.CloseIdleConnections()
	eventually(t, "the replaced functions to be freed", func() bool {
		runtime.GC()
		engines, functions := engine.Live()
		return engines-enginesBefore <= 1 && functions-functionsBefore <= 2
	})
	eventually(t, "the files of the load to be closed", func() bool { return openFiles(t) <= files })
	after, threadsAfter := s.settledResident(), s.processStatus("Threads")
	if threadsAfter > threads+8 {
		t.Errorf("%d threads, %d before", threadsAfter, threads)
	}
	// The race detector's shadow memory is resident too, and grows with all the memory that the tests before have used.
	if after > resident+64<<10 && !raceEnabled {
		t.Errorf("%d kB are resident, %d before", after, resident)
	}
	metrics := s.admin("/metrics").body
	for _, want := range []string{
		fmt.Sprintf("gojinn_waiting_calls{backend=%q,function=\"count\",reason=\"next\"} 0\n", backend),
		fmt.Sprintf("gojinn_active_sandboxes{backend=%q,function=\"count\"} 0\n", backend),
		fmt.Sprintf("gojinn_active_sandboxes{backend=%q,function=\"next\"} 0\n", backend),
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	t.Logf("%d reloads, %d requests; threads %d to %d, open files %d to %d, resident %d to %d kB",
		reloads, answered, threads, threadsAfter, files, openFiles(t), resident, after)
}

// openFiles returns how many files this process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
