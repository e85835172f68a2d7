//go:build cgo

// Tests of real functions that are asked for more than they can do.

package gojinn

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// While a function is flooded it answers, the rest is refused at once, and a light function and a file beside it are served all the
// while. Afterwards nothing is missing. How soon they are served is in TestOverloadIsFair, which does not depend on the machine.
func TestAFloodedFunctionHarmsNoOther(t *testing.T) {
	const clients, enough = 128, 100
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			if err := os.WriteFile(filepath.Join(s.dir, "file"), []byte("file"), 0o644); err != nil {
				t.Fatal(err)
			}
			s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	gojinn {
		backend %s
	}
}
ADDR {
	handle /busy {
		gojinn {
			module %s
			queue_timeout 100ms
			name busy
		}
	}
	handle /light {
		gojinn {
			module %s
			queue_timeout 1h
		}
	}
	handle /file {
		root * DIR
		file_server
	}
	handle_errors {
		respond "{err.message}"
	}
}`, backend, guest(t, "go-inspect"), guest(t, "c-hello")))

			// A call that takes long enough for the flood to outrun the function.
			work := 500
			for took := time.Duration(0); took < 10*time.Millisecond; work *= 2 {
				begun := time.Now()
				if res := s.get(fmt.Sprintf("/busy?work=%d", work)); res.StatusCode != http.StatusOK {
					t.Fatalf("got %d %s", res.StatusCode, res.body)
				}
				took = time.Since(begun)
			}
			s.httpClient.Transport.(*http.Transport).MaxIdleConnsPerHost = clients + 2
			var good, refused, light, files atomic.Int64
			var all sync.WaitGroup
			// A client that was refused tries again when others were answered, so that refusals do not take the whole machine.
			again, enoughSeen := make(chan struct{}, clients), make(chan struct{})
			var once sync.Once
			for range clients {
				all.Go(func() {
					for {
						status, body, err := s.tryGet(fmt.Sprintf("/busy?work=%d", work))
						switch {
						case err != nil:
							t.Error(err)
							return
						case status == http.StatusOK:
							good.Add(1)
							for range 3 {
								select {
								case again <- struct{}{}:
								default:
								}
							}
						case status == http.StatusServiceUnavailable && strings.Contains(body, errOverload.Error()):
							refused.Add(1)
						case status != http.StatusServiceUnavailable:
							t.Errorf("got %d %s", status, body)
						}
						if good.Load() >= enough && refused.Load() >= enough && light.Load() >= enough/4 && files.Load() >= enough/4 {
							once.Do(func() { close(enoughSeen) })
							return
						}
						if strings.Contains(body, errOverload.Error()) {
							select {
							case <-again:
							case <-enoughSeen:
								return
							}
						}
					}
				})
			}
			done := make(chan struct{})
			var others sync.WaitGroup
			for path, count := range map[string]*atomic.Int64{"/light": &light, "/file": &files} {
				others.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						if status := s.getPatiently(path); status != http.StatusOK {
							t.Errorf("%s: got %d", path, status)
						}
						if refused.Load() > 0 {
							count.Add(1)
						}
					}
				})
			}
			all.Wait()
			close(done)
			others.Wait()
			t.Logf("%d answered and %d refused of the flood; %d of the light function, %d files", good.Load(), refused.Load(), light.Load(), files.Load())
			e := started.engine()
			eventually(t, "all calls to end", func() bool { return e.admission.inside.Load() == 0 })
			e.turns.allFree(t)
			e.admission.allFree(t)
			if res := s.get("/busy?work=1"); res.StatusCode != http.StatusOK {
				t.Errorf("afterwards: got %d %s", res.StatusCode, res.body)
			}
		})
	}
}

// tryGet sends a GET request. Any goroutine may call it.
func (s *server) tryGet(uri string) (status int, body string, err error) {
	res, err := s.httpClient.Get("http://" + s.addr + uri)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}
