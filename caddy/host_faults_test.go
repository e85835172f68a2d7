//go:build cgo && linux

// Tests of a process that the system gives little: small stacks, few descriptors, a small address space.

package gojinn

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// limitedEnv says to a test that it runs in a process with limits.
const limitedEnv = "GOJINN_TEST_LIMITED"

// Guests end as ever in a process with small stacks and in one with few descriptors: those that recurse or grow without end, and
// those that open what they can. Another function answers after each.
func TestLittleFromTheSystem(t *testing.T) {
	if os.Getenv(limitedEnv) != "" {
		testLimited(t)
		return
	}
	hostileGuests(t)
	for _, limits := range []string{"ulimit -s 256", "ulimit -n 128", "ulimit -s 256; ulimit -n 128"} {
		t.Run(limits, func(t *testing.T) {
			command := exec.Command("sh", "-c", limits+` && exec "$0" -test.run '^TestLittleFromTheSystem$' -test.v`, os.Args[0])
			command.Env = append(os.Environ(), limitedEnv+"=1")
			if out, err := command.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestLittleFromTheSystem") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func testLimited(t *testing.T) {
	for _, backend := range backends {
		s := newRealServer(t)
		if err := os.MkdirAll(s.dir+"/mount/below", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.dir+"/mount/file", []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		var functions strings.Builder
		var chosen []hostileGuest
		for _, g := range hostileGuests(t) {
			switch g.name {
			case "loop-grow-nothing", "loop-grow-refused", "table-grow-loop", "recurse", "recurse-locals", "recurse-hostcalls", "path-open-many":
				settings := strings.ReplaceAll(strings.ReplaceAll(g.settings, ", ", "\n"), "mount", "mount DIR/mount /data")
				fmt.Fprintf(&functions, "gojinn /%s {\n module %s\n name %s\n %s\n}\n", g.name, g.module, g.name, settings)
				chosen = append(chosen, g)
			}
		}
		if len(chosen) < 7 {
			t.Fatalf("only %d guests are there", len(chosen))
		}
		s.mustLoad(fmt.Sprintf("{\n admin ADMIN\n gojinn {\n  backend %s\n }\n}\nADDR {\n gojinn /hello %s\n %s\n}\n",
			backend, guest(t, "c-hello"), functions.String()))
		for range 3 {
			for _, g := range chosen {
				if res := s.get("/" + g.name); fmt.Sprint(res.StatusCode) != g.status {
					t.Errorf("%s on %s: got %d, want %s", g.name, backend, res.StatusCode, g.status)
				}
				if res := s.get("/hello"); res.StatusCode != 200 {
					t.Errorf("after %s on %s: got %d", g.name, backend, res.StatusCode)
				}
			}
		}
	}
}

// In a small address space as many guests run at once as there is room for, and further requests wait; or the engine, or its
// deployment, is refused with an error that says what it needs. In no case does the process end.
func TestSmallAddressSpace(t *testing.T) {
	if given := os.Getenv(limitedEnv); given != "" {
		backend, gib, _ := strings.Cut(given, " ")
		testAddressSpace(t, backend, gib)
		return
	}
	for _, backend := range backends {
		for _, gib := range []int{2, 4, 10, 16} {
			t.Run(fmt.Sprintf("%s with %d GiB", backend, gib), func(t *testing.T) {
				run := fmt.Sprintf(`ulimit -v %d && exec "$0" -test.run '^TestSmallAddressSpace$' -test.v`, gib<<20)
				command := exec.Command("sh", "-c", run, os.Args[0])
				command.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", limitedEnv, backend, gib))
				if out, err := command.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSmallAddressSpace") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}

func testAddressSpace(t *testing.T, backend, gib string) {
	s := newRealServer(t)
	config := func(functions string) string {
		return fmt.Sprintf("{\n admin ADMIN\n gojinn {\n  backend %s\n }\n}\nADDR {\n gojinn /hello %s {\n  queue_timeout 1m\n }\n %s\n}\n",
			backend, guest(t, "c-hello"), functions)
	}
	if native := backend != "wasmi"; gib == "2" || gib == "4" && native {
		err := s.load(config(""))
		if err == nil || !strings.Contains(err.Error(), "raise") || !strings.Contains(err.Error(), "`ulimit -v`") {
			t.Errorf("got %v, want an error about ulimit -v", err)
		}
		s.mustLoad("{\n admin ADMIN\n}\nADDR {\n respond ok\n}\n")
		if body := s.get("/").body; body != "ok" {
			t.Errorf("without functions the server answers %q", body)
		}
		return
	}

	s.mustLoad(config(""))
	ask := func() {
		t.Helper()
		var all sync.WaitGroup
		// As many as run and wait at the least.
		for range 9 {
			all.Go(func() {
				for range 20 {
					if status, body, err := s.tryGet("/hello"); status != 200 {
						t.Errorf("got %d %q %v", status, body, err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	ask()
	// More functions than there are slots.
	s.mustLoad(config(fmt.Sprintf("gojinn /echo %s\n gojinn /other %s", guest(t, "go-echo"), guest(t, "rust-hello"))))
	ask()
	for range 3 {
		for _, path := range []string{"/echo", "/other", "/hello"} {
			if res := s.get(path); res.StatusCode != 200 {
				t.Errorf("%s: got %d %q", path, res.StatusCode, res.body)
			}
		}
	}
	warned := false
	for _, w := range s.warnings() {
		warned = warned || strings.Contains(w.Warning, "`ulimit -v`")
	}
	if !warned && (backend != "wasmi" || gib == "4") {
		t.Errorf("no warning names ulimit -v: %v", s.warnings())
	}
}
