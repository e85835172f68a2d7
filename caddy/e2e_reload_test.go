//go:build cgo

// Tests of reloads with the real engine.

package gojinn

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// Two hundred reloads of every kind under load: no request fails, nothing unchanged is compiled again, and nothing leaks.
func TestTwoHundredReloads(t *testing.T) {
	const maxConcurrency = 8
	runtime.GC()
	enginesBefore, functionsBefore := engine.Live()
	s := newRealServer(t)
	version := func(i int) string {
		return answering(fmt.Sprintf(`{"status":200,"body":"version %d"}`, i), "").String()
	}
	config := func(setting int) string {
		return fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
	}
	gojinn {
		max_concurrency %d
		cache off
		watch
	}
}
ADDR {
	route {
		gojinn /same {
			module %s
			name same
			queue_timeout 10s
		}
		gojinn {
			module DIR/fn.wasm
			name fn
			queue_timeout 10s
			args %d
		}
	}
}
`, maxConcurrency, guest(t, "c-hello"), setting)
	}
	s.module("fn.wasm", version(0))
	s.mustLoad(config(0))
	same := s.get("/same", "X-Request-Id", "load").body
	endFn := s.underLoad("/", func() func(string) error {
		return func(body string) error {
			if !strings.HasPrefix(body, "version ") {
				return fmt.Errorf("an answer of no version: %.80q", body)
			}
			return nil
		}
	})
	endSame := s.underLoad("/same", func() func(string) error {
		return func(body string) error {
			if body != same {
				return fmt.Errorf("got %q, want %q", body, same)
			}
			return nil
		}
	})

	compiled := s.compilations()
	var threads, resident int
	setting, newModules := 0, 0
	for i := range 200 {
		switch i % 5 {
		case 0: // unchanged
			s.mustLoad(config(setting))
		case 1: // a changed setting
			setting++
			s.mustLoad(config(setting))
		case 2: // a changed module
			newModules++
			s.rename("fn.wasm", version(newModules))
			if res := s.post("/gojinn/functions/fn/reload"); res.StatusCode != 200 {
				t.Errorf("reload %d: got %d %s", i, res.StatusCode, res.body)
			}
		case 3: // a broken module
			s.rename("fn.wasm", version(i)[:40])
			if res := s.post("/gojinn/functions/fn/reload"); res.StatusCode != 422 {
				t.Errorf("reload %d: got %d %s", i, res.StatusCode, res.body)
			}
			if err := s.load(config(setting)); err == nil {
				t.Errorf("reload %d: a broken module was loaded", i)
			}
			s.rename("fn.wasm", version(newModules))
		case 4: // unchanged, on demand
			if res := s.post("/gojinn/functions/same/reload"); res.StatusCode != 200 || !strings.Contains(res.body, `"changed":false`) {
				t.Errorf("reload %d: got %d %s", i, res.StatusCode, res.body)
			}
		}
		if want := fmt.Sprint("version ", newModules); s.get("/").body != want {
			t.Errorf("reload %d: %s does not answer", i, want)
		}
		if i == 20 {
			// By now everything that is made once exists.
			threads, resident = s.processStatus("Threads"), s.settledResident()
		}
	}
	n, m := endFn(), endSame()
	if n == 0 || m == 0 {
		t.Errorf("%d and %d requests were answered meanwhile", n, m)
	}
	if more := s.compilations() - compiled; more != newModules {
		t.Errorf("%d modules were compiled, %d were new", more, newModules)
	}
	s.httpClient.CloseIdleConnections()
	eventually(t, "the replaced functions to be freed", func() bool {
		runtime.GC()
		engines, functions := engine.Live()
		return engines-enginesBefore <= 1 && functions-functionsBefore <= 2
	})
	if after := s.processStatus("Threads"); after > threads+maxConcurrency {
		t.Errorf("%d threads, %d before", after, threads)
	}
	after := s.settledResident()
	// The race detector's shadow memory is resident too, and grows with all the memory that the tests before have used.
	if after > resident+64<<10 && !raceEnabled {
		t.Errorf("%d kB are resident, %d before", after, resident)
	}
	t.Logf("%d requests; threads %d to %d, resident %d to %d kB, %d compilations",
		n+m, threads, s.processStatus("Threads"), resident, after, newModules)
}

// A watched file is replaced under load by a module that takes long to compile: the old function answers until the new one
// does.
func TestWatchReplacesUnderLoad(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.httpClient.Timeout = time.Minute
			content := func(name string) string {
				text, err := os.ReadFile(guest(t, name))
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			before, after := content("c-hello"), content("rust-hello")
			s.module("hello.wasm", before)
			s.mustLoad(strings.Replace(s.simple("watch", "timeout 30s", "queue_timeout 30s", "backend "+backend),
				"{\n\tadmin", "{\n\tgojinn {\n\t\tcache off\n\t}\n\tadmin", 1))
			old := s.get("/", "X-Request-Id", "load").body
			bodies := make(chan []string, 4)
			end := s.underLoad("/", func() func(string) error {
				var seen []string
				return func(body string) error {
					if len(seen) == 0 || seen[len(seen)-1] != body {
						seen = append(seen, body)
					}
					if len(seen) > 2 {
						return fmt.Errorf("the answers went to and fro: %q", seen)
					}
					if len(seen) == 2 {
						select {
						case bodies <- slices.Clone(seen):
						default:
						}
					}
					return nil
				}
			})
			start := time.Now()
			s.rename("hello.wasm", after)
			eventually(t, "the new function", func() bool { return s.get("/", "X-Request-Id", "load").body != old })
			took := time.Since(start)
			fresh := s.get("/", "X-Request-Id", "load").body
			if seen := await(t, "a client to see both", bodies); !slices.Equal(seen, []string{old, fresh}) {
				t.Errorf("the answers were %q, want %q and then %q", seen, old, fresh)
			}
			n := end()
			records := s.logs("msg", "function was replaced")
			if len(records) != 1 || records[0]["code_from"] != "compiled" {
				t.Fatalf("the log of the replacement: %v", records)
			}
			t.Logf("the new function answered %s after the rename, of which loading took %v s; %d requests", took, records[0]["duration"], n)

			// Half of the module is refused, and the function continues to serve.
			s.module("hello.wasm", before[:len(before)/2])
			eventually(t, "the refusal of half a module", func() bool {
				return len(s.logs("msg", "the module's file has changed and was refused; the function before serves on")) == 1
			})
			if body := s.get("/", "X-Request-Id", "load").body; body != fresh {
				t.Errorf("after half a module: %q", body)
			}
		})
	}
}

// Purging removes the compiled code from the disk, and the functions continue to serve.
func TestPurgedCache(t *testing.T) {
	s := newRealServer(t)
	config := func(module, cache string) string {
		return fmt.Sprintf("{\n admin ADMIN\n gojinn {\n cache %s\n }\n}\nADDR {\n gojinn {\n module %s\n name purged\n }\n}\n", cache, module)
	}
	purge := func(status int) (purged engine.Purged) {
		t.Helper()
		res := s.post("/gojinn/cache/purge")
		if res.StatusCode != status {
			t.Errorf("got %d %s, want %d", res.StatusCode, res.body, status)
		}
		if err := json.Unmarshal([]byte(res.body), &purged); err != nil {
			t.Errorf("%v: %s", err, res.body)
		}
		return purged
	}
	s.mustLoad(config(guest(t, "c-hello"), "DIR/cache"))
	if purged := purge(200); purged.Entries != 1 || purged.Bytes == 0 {
		t.Errorf("after one module: %+v", purged)
	}
	if purged := purge(200); purged != (engine.Purged{}) {
		t.Errorf("after a purge: %+v", purged)
	}
	if res := s.get("/"); res.StatusCode != 200 {
		t.Errorf("after a purge: got %d %s", res.StatusCode, res.body)
	}
	s.mustLoad(config(guest(t, "zig-hello"), "DIR/cache"))
	if purged := purge(200); purged.Entries != 1 {
		t.Errorf("after another module: %+v", purged)
	}
	s.mustLoad(config(guest(t, "c-hello"), "off"))
	purge(409)
}

// compilations returns how many modules the running engine has compiled.
func (s *server) compilations() int {
	s.t.Helper()
	sum := 0
	for line := range strings.Lines(s.admin("/metrics").body) {
		if strings.HasPrefix(line, "gojinn_engine_compilations_total{") {
			n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]))
			if err != nil {
				s.t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// settledResident returns the resident memory of this process, in kB, after garbage collections.
func (s *server) settledResident() int {
	s.t.Helper()
	debug.FreeOSMemory()
	return s.processStatus("VmRSS")
}

// processStatus returns a number of /proc/self/status.
func (s *server) processStatus(field string) int {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", "self", "status"))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatalf("/proc/self/status has no %s", field)
	return 0
}
