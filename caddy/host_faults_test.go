//go:build cgo && linux

// Tests of a process that the system gives little: small stacks, few descriptors.

package gojinn

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
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
