// Tests of deployments and reloads.

package gojinn

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// A path that leads to no regular file of a fitting size is refused before anything is read.
func TestModuleFiles(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.wasm")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxModule+1); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe.wasm")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	loop := filepath.Join(dir, "loop.wasm")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.wasm"): "there is no such file",
		dir:                             "this is not a regular file but a directory",
		large:                           "the module has 67108865 bytes, more than the 67108864 that are allowed",
		pipe:                            "but a named pipe; name the .wasm file itself",
		socket:                          "but a socket",
		"/dev/null":                     "but a device",
		loop:                            "too many levels of symbolic links",
		filepath.Join(large, "x"):       "not a directory",
	} {
		wasm, info, err := readSettled(path)
		if err == nil || !strings.Contains(err.Error(), want) || wasm != nil || info != nil {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

// A file that changes during every attempt to read it is refused.
func TestModuleThatIsBeingWritten(t *testing.T) {
	// The kernel says that this file has no bytes, but reading it always returns some.
	const path = "/proc/self/status"
	synctest.Test(t, func(t *testing.T) {
		if wasm, _, err := readSettled(path); err == nil || !strings.Contains(err.Error(), "the file changes while it is read") || wasm != nil {
			t.Errorf("got %d bytes, %v", len(wasm), err)
		}
	})
}

// deployment returns the only deployment of the running config.
func (s *server) deployment() *deployment {
	s.t.Helper()
	all := started.deployments()
	if len(all) != 1 {
		s.t.Fatalf("%d functions are deployed, want 1", len(all))
	}
	return all[0]
}

// A reload after or during the replacement of its config changes nothing and leaves nothing in the pool.
func TestReloadOfAConfigThatIsGone(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple())
	before := s.deployment()
	s.mustLoad(s.simple("timeout 3s"))
	s.rename("hello.wasm", "after")
	if done, err := before.reload(); !errors.Is(err, errReplaced) || done != nil {
		t.Errorf("after: got %v, %v", done, err)
	}

	while := s.deployment()
	compiling, finish := make(chan bool), make(chan bool)
	s.fake.Deploy = func(wasm []byte, _ *engine.FunctionConfig) error {
		compiling <- true
		<-finish
		return nil
	}
	result := make(chan error)
	go func() { _, err := while.reload(); result <- err }()
	await(t, "the module to be compiled", compiling)
	if err := while.close(); err != nil { // what Cleanup does
		t.Error(err)
	}
	close(finish)
	if err := await(t, "the reload to end", result); !errors.Is(err, errReplaced) {
		t.Errorf("while: got %v", err)
	}
	if err := while.close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	functions.Range(func(key, _ any) bool {
		t.Errorf("a function was left behind: %v", key)
		return true
	})
}

// Two handlers with the same settings share a function, also after a reload: the second finds what the first has deployed.
func TestReloadOfASharedFunction(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(strings.Replace(s.simple(), "route {", "route {\n\t\tgojinn /same {\n\t\t\tmodule DIR/hello.wasm\n\t\t}", 1))
	if n := s.fake.Functions.Load(); n != 1 {
		t.Errorf("%d functions were deployed, want 1", n)
	}
	s.rename("hello.wasm", "new")
	if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 200 || !strings.Contains(res.body, `"changed":true`) {
		t.Errorf("got %d %s", res.StatusCode, res.body)
	}
	for _, uri := range []string{"/", "/same"} {
		if body := s.get(uri).body; body != "new" {
			t.Errorf("%s answers %q", uri, body)
		}
	}
	if n := s.fake.Functions.Load(); n != 2 {
		t.Errorf("%d functions were deployed, want 2", n)
	}
	if records := s.logs("msg", "function was replaced"); len(records) != 2 || records[1]["code_from"] != "memory" {
		t.Errorf("the log of the replacements: %v", records)
	}
}

// What a reload of the function or of the config replaces is freed once no request needs it.
func TestReplacedFunctionsAreFreed(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	release, running := make(chan bool), make(chan bool, 1)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if c.Head.URI == "/slow" {
			running <- true
			<-release
		}
		return enginetest.OK(string(c.Module))
	}
	s.mustLoad(s.simple())
	slow := make(chan string, 1)
	go func() { slow <- s.get("/slow").body }()
	await(t, "the slow request to run", running)
	for i := range 5 {
		s.rename("hello.wasm", strings.Repeat("x", i+1))
		if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 200 {
			t.Errorf("got %d %s", res.StatusCode, res.body)
		}
		s.mustLoad(s.simple("timeout " + strings.Repeat("1", i+1) + "s"))
	}
	open := func(want int64) func() bool {
		return func() bool {
			runtime.GC()
			s.httpClient.CloseIdleConnections()
			return s.fake.Open.Load() == want
		}
	}
	// The slow request refers to its function, and by its handler to the function that this handler served last.
	eventually(t, "the engine, the function and what the slow request holds to be left", open(4))
	close(release)
	if body := await(t, "the slow answer", slow); body != "\x00asm hello" {
		t.Errorf("the slow request was answered by %q", body)
	}
	eventually(t, "the engine and the function to be left", open(2))
}
