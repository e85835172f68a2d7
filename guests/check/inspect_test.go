package check

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// report is the body of inspect's answer.
type report struct {
	Args, Environ []string
	Request       struct {
		Method, URI string
		Body        string
		BodyBase64  []byte `json:"body_base64"`
		Headers     map[string][]string
		ClientIP    string `json:"client_ip"`
	}
	TimeUnixNano int64 `json:"time_unix_nano"`
	SleptNano    int64 `json:"slept_nano"`
	Random       string
	Allocated    int
	Read, Write  *struct {
		Path, Error string
		Size        int
		Base64      []byte
	}
	List *struct {
		Path, Error string
		Names       []string
	}
}

// inspect asks for a report.
func inspect(t *testing.T, guest *Guest, call Call) *report {
	t.Helper()
	response := respond(t, guest, call)
	var rep report
	if err := json.Unmarshal([]byte(response.Body), &rep); err != nil {
		t.Fatalf("status %d, body %q: %v", response.Status, response.Body, err)
	}
	return &rep
}

func TestInspectReports(t *testing.T) {
	guest := load(t, built(t, "go-inspect"))
	call := Call{
		Stdin: []byte(`{"method":"PUT","uri":"/p?own=1","headers":{"X-A":["1","2"]},"body":"","body_base64":"AP8=","trace_id":"t","client_ip":"192.0.2.7"}`),
		Args:  []string{"--one", "two"},
		Env:   []string{"Z", "26", "A", "1=1"},
	}
	before := time.Now().UnixNano()
	first, second := inspect(t, guest, call), inspect(t, guest, call)
	if want := []string{"go-inspect.wasm", "--one", "two"}; !slices.Equal(first.Args, want) {
		t.Errorf("args %q, want %q", first.Args, want)
	}
	if want := []string{"A=1=1", "Z=26"}; !slices.Equal(first.Environ, want) {
		t.Errorf("environ %q, want %q", first.Environ, want)
	}
	saw := first.Request
	if saw.Method != "PUT" || saw.URI != "/p?own=1" || string(saw.BodyBase64) != "\x00\xff" || saw.ClientIP != "192.0.2.7" || len(saw.Headers["X-A"]) != 2 {
		t.Errorf("request %+v", saw)
	}
	if first.TimeUnixNano < before || second.TimeUnixNano < first.TimeUnixNano {
		t.Errorf("times %d, %d, %d do not follow each other", before, first.TimeUnixNano, second.TimeUnixNano)
	}
	if len(first.Random) != 32 || first.Random == second.Random {
		t.Errorf("random %q, then %q", first.Random, second.Random)
	}
}

func TestInspectMisbehavesAsAsked(t *testing.T) {
	guest := load(t, built(t, "go-inspect"))
	raw := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	get := func(t *testing.T, query string) *Result {
		t.Helper()
		return run(t, guest, post(t, "/?"+query, "", nil))
	}

	t.Run("sleep", func(t *testing.T) {
		if got := inspect(t, guest, post(t, "/?sleep=300ms", "", nil)); got.SleptNano < int64(300*time.Millisecond) {
			t.Errorf("slept %d ns, asked for 300 ms", got.SleptNano)
		}
	})
	t.Run("exit", func(t *testing.T) {
		if got := get(t, "exit=3"); got.Exit != 3 || len(got.Stdout) > 0 {
			t.Errorf("exit %d, stdout %q", got.Exit, got.Stdout)
		}
	})
	t.Run("panic", func(t *testing.T) {
		if got := get(t, "panic=1"); got.Exit != 2 || !strings.Contains(string(got.Stderr), "panic: inspect: asked to panic") {
			t.Errorf("exit %d, stderr %q", got.Exit, got.Stderr)
		}
	})
	t.Run("loop", func(t *testing.T) {
		call := post(t, "/?loop=1", "", nil)
		call.Timeout = time.Second
		if got := run(t, guest, call); got.Trap == nil || len(got.Stdout) > 0 {
			t.Errorf("trap %v, stdout %q: want the deadline to end it", got.Trap, got.Stdout)
		}
	})
	t.Run("recurse", func(t *testing.T) {
		if got := get(t, "recurse=1"); got.Exit == 0 && got.Trap == nil || len(got.Stdout) > 0 {
			t.Errorf("exit %d, trap %v, stdout %q", got.Exit, got.Trap, got.Stdout)
		}
	})
	t.Run("alloc", func(t *testing.T) {
		if got := inspect(t, guest, post(t, "/?alloc=10000000", "", nil)); got.Allocated != 10_000_000 {
			t.Errorf("allocated %d", got.Allocated)
		}
		if got := get(t, "alloc=1000000000"); got.Exit != 2 || !strings.Contains(string(got.Stderr), "out of memory") {
			t.Errorf("over the limit: exit %d, stderr %.200q", got.Exit, got.Stderr)
		}
	})
	t.Run("stderr", func(t *testing.T) {
		if got := get(t, "stderr=3"); string(got.Stderr) != "inspect: line 1 of 3\ninspect: line 2 of 3\ninspect: line 3 of 3\n" {
			t.Errorf("stderr %q", got.Stderr)
		}
	})
	t.Run("badstatus", func(t *testing.T) {
		if got, err := get(t, "badstatus=99").Response(); err != nil || got.Status != 99 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("raw", func(t *testing.T) {
		const text = "{\"status\":200}\x00\xff trailing"
		if got := get(t, "raw="+raw(text)); string(got.Stdout) != text || got.Exit != 0 {
			t.Errorf("stdout %q, exit %d", got.Stdout, got.Exit)
		}
		if got := get(t, "raw="+raw("{}")+"&rawexit=4"); string(got.Stdout) != "{}" || got.Exit != 4 {
			t.Errorf("stdout %q, exit %d", got.Stdout, got.Exit)
		}
		if got := get(t, "raw="); len(got.Stdout) != 0 || got.Exit != 0 {
			t.Errorf("nothing raw: stdout %q, exit %d", got.Stdout, got.Exit)
		}
	})
	t.Run("mistakes", func(t *testing.T) {
		for _, query := range []string{"sleep=soon", "exit=x", "alloc=-1", "raw=!!", "rawexit=1", "exit=1&exit=2", "panic=maybe"} {
			if got, err := get(t, query).Response(); err != nil || got.Status != 400 {
				t.Errorf("%s: %+v, %v; want status 400", query, got, err)
			}
		}
	})
}

func TestInspectFiles(t *testing.T) {
	guest := load(t, built(t, "go-inspect"))
	directory := t.TempDir()
	if err := os.Mkdir(filepath.Join(directory, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	call := post(t, "/?write=/data/new.bin&read=/data/new.bin&list=/data", "", []byte("a\xffb"))
	call.Mount = directory
	got := inspect(t, guest, call)
	if got.Write.Error != "" || got.Write.Size != 3 || got.Read.Error != "" || string(got.Read.Base64) != "a\xffb" {
		t.Errorf("write %+v, read %+v", got.Write, got.Read)
	}
	if want := []string{"new.bin", "sub/"}; got.List.Error != "" || !slices.Equal(got.List.Names, want) {
		t.Errorf("list %+v, want %q", got.List, want)
	}
	if content, err := os.ReadFile(filepath.Join(directory, "new.bin")); err != nil || string(content) != "a\xffb" {
		t.Errorf("on the host: %q, %v", content, err)
	}

	got = inspect(t, guest, post(t, "/?write=/data/x&read=/etc/passwd&list=/", "", nil))
	if got.Write.Error == "" || got.Read.Error == "" || got.List.Error == "" {
		t.Errorf("without a mount: write %+v, read %+v, list %+v", got.Write, got.Read, got.List)
	}
}
