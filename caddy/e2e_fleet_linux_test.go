//go:build cgo

// Tests of Caddys that are killed while functions use a store: several that share Redis, and one with a file.

package gojinn

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/kv/kvtest"
)

// caddyProcess is a Caddy with one function, in a process that can be killed.
type caddyProcess struct {
	t       *testing.T
	addr    string
	config  string
	process *exec.Cmd
}

// start starts the Caddy and waits until it serves.
func (c *caddyProcess) start() {
	c.t.Helper()
	c.process = exec.Command(os.Args[0])
	c.process.Env = append(os.Environ(), caddyfileOfProcess+"="+c.config)
	// It ends with the test, even if the test is killed.
	c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "a Caddy to serve", func() bool {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// kill ends the Caddy as a crash does.
func (c *caddyProcess) kill() {
	if c.process != nil {
		c.process.Process.Kill()
		c.process.Wait()
		c.process = nil
	}
}

// startNATS builds nats-server, starts it and returns its URL. The module of the store's own tests names the server's version.
func startNATS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "nats-server")
	build := exec.Command("go", "build", "-mod=mod", "-o", program, "github.com/nats-io/nats-server/v2")
	build.Dir, build.Env = filepath.Join("kv", "nats", "servertest"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building nats-server: %v\n%s", err, out)
	}
	addr := freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	server := exec.Command(program, "--addr", host, "--port", port, "--jetstream", "--store_dir", filepath.Join(dir, "data"))
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	eventually(t, "nats-server to listen", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "nats://" + addr
}

// While a Caddy is killed and started again, no count that was acknowledged is lost, and none is counted twice.
func TestFleet(t *testing.T) {
	for name, caddys := range map[string]int{"redis": 2, "nats": 2, "file": 1} {
		t.Run(name, func(t *testing.T) {
			s := newCalledOut(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
			store := "file " + filepath.Join(s.dir, "visits.db")
			switch name {
			case "redis":
				store = "redis " + kvtest.StartRedis(t).URL()
			case "nats":
				store = "nats " + startNATS(t)
			}
			var fleet []*caddyProcess
			var addrs []string
			for i := range caddys {
				c := &caddyProcess{t: t, addr: freeAddr(t)}
				_, port, _ := net.SplitHostPort(c.addr)
				text := strings.NewReplacer("admin ADMIN", "admin off", "ADDR", "http://:"+port, "DIR/cache", s.dir+"/cache",
					"DIR/caddy.log", fmt.Sprint(s.dir, "/", i, ".log"), "file DIR/visits.db", store).
					Replace(s.config(s.function(callsGuest(t, "c"), "c")))
				c.config = s.module(fmt.Sprint("Caddyfile", i), text)
				fleet, addrs = append(fleet, c), append(addrs, c.addr)
				t.Cleanup(c.kill)
				c.start()
			}
			s.mustLoad("{\nadmin ADMIN\n}\nADDR {\nreverse_proxy " + strings.Join(addrs, " ") + " {\n" +
				"lb_policy round_robin\nlb_try_duration 30s\nlb_try_interval 20ms\nfail_duration 100ms\n}\n}\n")

			var acknowledged, failed atomic.Int64
			stop := make(chan bool)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						res, err := s.httpClient.Post("http://"+s.addr+"/c", "text/plain", strings.NewReader("x"))
						if err == nil {
							_, err = io.Copy(io.Discard, res.Body)
							res.Body.Close()
						}
						if err != nil || res.StatusCode != 200 {
							failed.Add(1)
							continue
						}
						acknowledged.Add(1)
					}
				})
			}
			counted := func(more int64) {
				t.Helper()
				from := acknowledged.Load()
				eventually(t, fmt.Sprint(more, " counts"), func() bool { return acknowledged.Load() >= from+more })
			}
			counted(100)
			fleet[0].kill()
			if caddys > 1 {
				counted(100) // the other one goes on
			} else {
				time.Sleep(10 * time.Millisecond) // requests wait meanwhile
			}
			fleet[0].start()
			counted(100)
			close(stop)
			wg.Wait()

			res := s.get("/c")
			var last int64
			if _, err := fmt.Sscanf(res.body, "x, visit %d\n", &last); err != nil {
				t.Fatalf("got %d %q", res.StatusCode, res.body)
			}
			least, most := acknowledged.Load()+1, acknowledged.Load()+failed.Load()+1
			if last < least || last > most {
				t.Errorf("counted %d, want %d to %d", last, least, most)
			}
			t.Logf("%d counts, %d acknowledged, %d requests failed", last, acknowledged.Load(), failed.Load())
		})
	}
}

// A Caddy is killed in the middle of a thousand calls of kv.set to a file: each value that was acknowledged to a client is there
// when the next Caddy has started, and is whole.
func TestKilledWhileSetting(t *testing.T) {
	const sets = 1000
	s := newRealServer(t)
	module := buildGo(t, "testdata/keep", filepath.Join(s.dir, "keep.wasm"))
	c := &caddyProcess{t: t, addr: freeAddr(t)}
	_, port, _ := net.SplitHostPort(c.addr)
	c.config = s.module("Caddyfile", fmt.Sprintf(`{
	admin off
	log {
		output file %s/caddy.log
	}
	gojinn {
		cache %[1]s/cache
		kv kept file %[1]s/kept.db
	}
}
http://:%s {
	gojinn {
		module %s
		kv kept
	}
}
`, s.dir, port, module))
	t.Cleanup(c.kill)
	c.start()
	value := func(i int) string { return fmt.Sprint("value ", i, " ", strings.Repeat("0123456789", i%500)) }
	send := func(method string, i int, body string) (string, error) {
		r, err := http.NewRequest(method, fmt.Sprintf("http://%s/key/%d", c.addr, i), strings.NewReader(body))
		if err != nil {
			return "", err
		}
		res, err := s.httpClient.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("%d %s", res.StatusCode, text)
		}
		return string(text), err
	}

	var next, acknowledged atomic.Int64
	var isSet [sets]atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= sets {
					return
				}
				if _, err := send("PUT", i, value(i)); err == nil {
					isSet[i].Store(true)
					acknowledged.Add(1)
				}
			}
		})
	}
	eventually(t, "half of the sets", func() bool { return acknowledged.Load() >= sets/2 })
	c.kill()
	wg.Wait()
	if n := acknowledged.Load(); n >= sets {
		t.Fatalf("all %d sets were acknowledged: the Caddy was killed too late", n)
	}
	c.start()
	for i := range isSet {
		if !isSet[i].Load() {
			continue
		}
		if got, err := send("GET", i, ""); err != nil || got != value(i) {
			t.Errorf("key %d: got %.40q, %v", i, got, err)
		}
	}
	if got, err := send("PUT", 0, "again"); err != nil {
		t.Errorf("the store takes no more: %q, %v", got, err)
	}
	t.Logf("%d of %d sets were acknowledged when the Caddy was killed; each is there", acknowledged.Load(), sets)
}
