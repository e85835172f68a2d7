// Tests of watched files and reloads.

package gojinn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// answersModule makes functions answer with the content of their module. A module that begins with "bad" is refused.
func answersModule(s *server) {
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { return enginetest.OK(string(c.Module)) }
	s.fake.Deploy = func(wasm []byte, config *engine.FunctionConfig) error {
		if strings.HasPrefix(string(wasm), "bad") {
			return errors.New("function " + config.Name + ": not a WebAssembly module: " + string(wasm))
		}
		return nil
	}
}

func (s *server) post(path string) *response {
	s.t.Helper()
	r, err := http.NewRequest("POST", "http://"+s.adminAddr+path, strings.NewReader(""))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r)
}

// rename replaces a module by another content in one step.
func (s *server) rename(name, content string) {
	s.t.Helper()
	if err := os.Rename(s.module(name+".new", content), filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) answers(what, want string) {
	s.t.Helper()
	eventually(s.t, what, func() bool { return s.get("/").body == want })
}

// All ways in which a file is replaced.
func TestWatch(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple("watch"))
	s.answers("the first module", "\x00asm hello")

	s.module("hello.wasm", "written over")
	s.answers("a file written over", "written over")

	s.rename("hello.wasm", "renamed")
	s.answers("an atomic rename", "renamed")

	path := filepath.Join(s.dir, "hello.wasm")
	if err := os.Rename(path, path+"~"); err != nil {
		t.Fatal(err)
	}
	s.module("hello.wasm", "an editor's")
	s.answers("a file moved away and written again", "an editor's")

	// Another file of the same size and time.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	other := s.module("hello.wasm.new", "an author's")
	if err := errors.Join(os.Chtimes(other, info.ModTime(), info.ModTime()), os.Rename(other, path)); err != nil {
		t.Fatal(err)
	}
	s.answers("a file of the same size and time", "an author's")

	records := s.logs("msg", "function was replaced")
	if len(records) != 4 || records[0]["function"] != "hello" || records[0]["module"] != path || records[0]["level"] != "info" {
		t.Errorf("the log of the replacements: %v", records)
	}
}

// The file is a symlink, and a directory above it is one.
func TestWatchSymlinks(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	for _, release := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(s.dir, release), 0o755); err != nil {
			t.Fatal(err)
		}
		s.module(release+"/fn.wasm", release)
		s.module(release+"/other.wasm", release+", the other")
	}
	link := func(target, name string) {
		t.Helper()
		temp := filepath.Join(s.dir, "link.new")
		if err := errors.Join(os.Symlink(target, temp), os.Rename(temp, filepath.Join(s.dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "current")
	link("current/fn.wasm", "hello.wasm")
	s.mustLoad(s.simple("watch"))
	s.answers("the first release", "v1")
	link("v2", "current")
	s.answers("the directory's link to be followed", "v2")
	link("current/other.wasm", "hello.wasm")
	s.answers("the file's link to be followed", "v2, the other")
}

// A bad module is refused with its reason, logged once for each content, and the old function continues to serve.
func TestWatchKeepsTheOldFunction(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple("watch"))
	path := filepath.Join(s.dir, "hello.wasm")
	refused := func() []map[string]any {
		return s.logs("msg", "the module's file has changed and was refused; the function before serves on")
	}
	s.rename("hello.wasm", "bad\x1b1")
	eventually(t, "the refusal to be logged", func() bool { return len(refused()) == 1 })
	first := refused()[0]
	if first["function"] != "hello" || first["module"] != path || first["level"] != "error" ||
		first["reason"] != `not a WebAssembly module: bad\x1b1` {
		t.Errorf("the record: %v", first)
	}
	s.rename("hello.wasm", "bad\x1b1")
	s.rename("other.wasm", "bad 2")
	if err := os.Rename(filepath.Join(s.dir, "other.wasm"), path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second refusal to be logged", func() bool { return len(refused()) == 2 })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file to be logged", func() bool { return len(refused()) == 3 })
	if res := s.get("/"); res.body != "\x00asm hello" {
		t.Errorf("got %d %q from the old function", res.StatusCode, res.body)
	}
	s.module("hello.wasm", "good")
	s.answers("the good file", "good")
	if len(refused()) != 3 {
		t.Errorf("want one record for each content, got %v", refused())
	}
}

// A file that is written slowly serves only when it is complete.
func TestWatchWaitsForTheWriter(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.fake.Deploy = func(wasm []byte, _ *engine.FunctionConfig) error {
		if text := string(wasm); !strings.HasPrefix(text, "\x00asm") && !strings.HasSuffix(text, "end") {
			return errors.New("the module is cut off")
		}
		return nil
	}
	s.mustLoad(s.simple("watch"))
	file, err := os.Create(filepath.Join(s.dir, "hello.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := ""
	for i := range 30 {
		part := fmt.Sprintf("part %d ", i)
		if i == 29 {
			part = "end"
		}
		if _, err := io.WriteString(file, part); err != nil {
			t.Fatal(err)
		}
		want += part
		if body := s.get("/").body; body != "\x00asm hello" && i < 29 {
			t.Fatalf("half a file answered: %q", body)
		}
		// Some pauses are longer than settleTime.
		pause := settlePoll / 2
		if i%10 == 9 {
			pause = pollInterval + 2*settleTime
		}
		time.Sleep(pause)
	}
	s.answers("the whole file", want)
}

// The global option applies to functions that do not set watch. Without either, no file is watched.
func TestWatchIsAChoice(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	config := strings.Replace(s.simple("watch off", "name off"), "{\n\tadmin", "{\n\tgojinn {\n\t\twatch\n\t}\n\tadmin", 1)
	config = strings.Replace(config, "route {", "route {\n\t\tgojinn /on {\n\t\t\tmodule DIR/hello.wasm\n\t\t\tname on\n\t\t}", 1)
	s.mustLoad(config)
	s.rename("hello.wasm", "new")
	eventually(t, "the watched function", func() bool { return s.get("/on").body == "new" })
	time.Sleep(2 * (pollInterval + settleTime))
	if body := s.get("/").body; body != "\x00asm hello" {
		t.Errorf("a function without watch answers %q", body)
	}
}

// The files of a replaced config, and of one that failed to load, are not watched.
func TestWatchEnds(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple())
	s.get("/")
	// Each watcher is a goroutine in this method.
	watchers := func() int {
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*deployment).watch(")
	}
	// Watchers of the test before may not have ended yet.
	eventually(t, "no watcher to run", func() bool { return watchers() == 0 })
	for range 10 {
		s.mustLoad(s.simple("watch"))
	}
	eventually(t, "one watcher for the running config", func() bool { return watchers() == 1 })
	bad := strings.Replace(s.simple("watch"), "route {", "route {\n\t\tgojinn {\n\t\t\tmodule DIR/missing.wasm\n\t\t}", 1)
	if err := s.load(bad); err == nil {
		t.Error("a config with a missing module was loaded")
	}
	if n := watchers(); n != 1 {
		t.Errorf("%d watchers after a config that failed", n)
	}
	s.rename("hello.wasm", "new")
	s.answers("the running config's file to be still watched", "new")
	s.mustLoad(s.simple())
	eventually(t, "the last watcher to end", func() bool { return watchers() == 0 })
}

// A module that is being compiled when its config is replaced is cancelled. That is no refusal.
func TestStoppedConfigCancelsItsDeployments(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple("watch"))
	compiling, finish := make(chan bool), make(chan bool)
	s.fake.Deploy = func(wasm []byte, _ *engine.FunctionConfig) error {
		if string(wasm) == "slow" {
			compiling <- true
			<-finish
		}
		return nil
	}
	s.rename("hello.wasm", "slow")
	await(t, "the new module to be compiled", compiling)
	s.rename("hello.wasm", "quick")
	s.mustLoad(s.simple("watch", "timeout 3s"))
	made := s.fake.Functions.Load()
	close(finish)
	s.answers("the new config's module", "quick")
	eventually(t, "the watcher of the old config to end", func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*deployment).watch(") == 1
	})
	if n := s.fake.Functions.Load(); n != made {
		t.Errorf("%d functions were made of a module that was cancelled", n-made)
	}
	if refused := s.logs("level", "error"); len(refused) != 0 {
		t.Errorf("errors were logged: %v", refused)
	}
}

// A config that waits for the deployment of another one deploys the function itself if that one is cancelled.
func TestCancelledDeploymentIsTakenOver(t *testing.T) {
	s := newServer(t)
	first := make(chan bool, 1)
	first <- true
	compiling, finish := make(chan bool), make(chan bool)
	s.fake.Deploy = func([]byte, *engine.FunctionConfig) error {
		select {
		case <-first:
			compiling <- true
			<-finish
		default:
		}
		return nil
	}
	made, err := s.fake.New(&engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	config := &engine.FunctionConfig{Name: "fn"}
	key, err := newFunctionKey(&sharedEngine{Engine: made, turns: newTurns(testCores)}, []byte("wasm"), config, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var given, taken error
	var wg sync.WaitGroup
	wg.Go(func() { _, _, given = loadFunction(ctx, key, []byte("wasm"), "fn.wasm", config, nil) })
	await(t, "the deployment to begin", compiling)
	wg.Go(func() { _, _, taken = loadFunction(t.Context(), key, []byte("wasm"), "fn.wasm", config, nil) })
	cancel()
	close(finish)
	wg.Wait()
	if failed := (*engine.Error)(nil); !errors.As(given, &failed) || failed.Code != engine.CodeCancelled {
		t.Errorf("the cancelled deployment got %v", given)
	}
	if taken != nil {
		t.Errorf("the waiting deployment got %v", taken)
	}
	if _, err := functions.Delete(key); err != nil {
		t.Error(err)
	}
}

// Reloads by the admin API.
func TestAdminReload(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple("name a/b"))
	const path = "/gojinn/functions/a%2Fb/reload"
	ask := func(status int) (r reloaded) {
		t.Helper()
		res := s.post(path)
		if res.StatusCode != status {
			t.Errorf("got %d %s, want %d", res.StatusCode, res.body, status)
		}
		if err := json.Unmarshal([]byte(res.body), &r); err != nil {
			t.Errorf("%v: %s", err, res.body)
		}
		return r
	}
	if r := ask(200); r.Name != "a/b" || r.Changed || r.Source != "config" || len(r.Hash) != 64 {
		t.Errorf("unchanged: %+v", r)
	}
	s.rename("hello.wasm", "new")
	if body := s.get("/").body; body != "\x00asm hello" {
		t.Errorf("before the reload: %q", body)
	}
	if r := ask(200); !r.Changed || r.Hash != "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437" {
		t.Errorf("changed: %+v", r)
	}
	if body := s.get("/").body; body != "new" {
		t.Errorf("after the reload: %q", body)
	}
	if list := s.admin("/gojinn/functions").body; !strings.Contains(list, `"sha256":"11507a0e`) {
		t.Errorf("the list has the old hash: %s", list)
	}
	s.rename("hello.wasm", "bad")
	if res := s.post(path); res.StatusCode != 422 ||
		!strings.Contains(res.body, "function a/b ("+s.dir+"/hello.wasm): not a WebAssembly module: bad; the old function continues to serve") {
		t.Errorf("a bad module: %d %s", res.StatusCode, res.body)
	}
	if body := s.get("/").body; body != "new" {
		t.Errorf("after a bad module: %q", body)
	}
	if res := s.post("/gojinn/functions/c/reload"); res.StatusCode != 404 || !strings.Contains(res.body, `no function \"c\"`) {
		t.Errorf("an unknown function: %d %s", res.StatusCode, res.body)
	}
	if res := s.admin(path); res.StatusCode != 405 || res.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", res.StatusCode, res.Header)
	}
}

// A replacement under load: each answer comes from one module, and the replaced functions leave the pool.
func TestWatchUnderLoad(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	version := func(i int) string { return strings.Repeat(fmt.Sprintf("version %d ", i), 5000) }
	versions := map[string]int{}
	for i := range 41 {
		versions[version(i)] = i
	}
	s.module("hello.wasm", version(0))
	s.mustLoad(s.simple("watch"))
	end := s.underLoad("/", func() func(string) error {
		last := 0
		return func(body string) error {
			i, ok := versions[body]
			if !ok || i < last {
				return fmt.Errorf("after version %d came %.40q…", last, body)
			}
			last = i
			return nil
		}
	})
	for i := 1; i <= 3; i++ {
		s.rename("hello.wasm", version(i))
		s.answers(fmt.Sprintf("version %d", i), version(i))
	}
	for i := 4; i <= 40; i++ {
		s.rename("hello.wasm", version(i))
		if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 200 {
			t.Errorf("got %d %s", res.StatusCode, res.body)
		}
		if body := s.get("/").body; body != version(i) {
			t.Errorf("after reload %d: %.40q…", i, body)
		}
	}
	if n := end(); n == 0 {
		t.Error("no request was answered meanwhile")
	}
	count := 0
	functions.Range(func(_, _ any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d functions are in the pool, want 1", count)
	}
}

// underLoad sends requests from several clients until end is called, which returns the number of answers. Each client has its
// own check, which sees the bodies in their order, and its own connection: a shared one might lead to the old config after the
// client has seen the new one. Every status but 200 is an error. A lost connection is dialled again, see TestReloadUnderLoad.
func (s *server) underLoad(uri string, newCheck func() func(body string) error) (end func() int64) {
	stop := make(chan bool)
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			check, client, lost := newCheck(), newClient(), 0
			defer client.CloseIdleConnections()
			for lost < 100 {
				select {
				case <-stop:
					return
				default:
				}
				r, _ := http.NewRequest("GET", "http://"+s.addr+uri, nil)
				r.Header.Set("X-Request-Id", "load")
				res, err := client.Do(r)
				if err != nil {
					lost++
					time.Sleep(time.Duration(lost) * time.Millisecond)
					continue
				}
				lost = 0
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err == nil && res.StatusCode != 200 {
					err = fmt.Errorf("got %d", res.StatusCode)
				}
				if err == nil {
					err = check(string(body))
				}
				if err != nil {
					s.t.Errorf("GET %s: %v", uri, err)
					return
				}
				answered.Add(1)
			}
			s.t.Errorf("GET %s: the connection was lost 100 times", uri)
		})
	}
	return func() int64 { close(stop); wg.Wait(); return answered.Load() }
}
