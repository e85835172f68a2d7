//go:build cgo

// Tests of guests that wait, in the real engine.

package gojinn

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Guests that sleep hold no thread, do not stop others, and are gone when their clients go.
func TestSleepersHoldNoThread(t *testing.T) {
	const sleepers, most = 400, 64
	for _, backend := range []string{"wasmtime", "wasmi"} {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			name := strings.ToLower(t.Name()[strings.LastIndex(t.Name(), "/")+1:]) + "-sleepers"
			s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	gojinn {
		backend %s
	}
}
ADDR {
	gojinn {
		module %s
		name %s
		timeout 1h
	}
}`, backend, guest(t, "go-inspect"), name))
			asleep := waitingCalls.WithLabelValues(name, backend, "sleep")
			active := activeSandboxes.WithLabelValues(name, backend)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: sleepers}, Timeout: time.Hour}
			before := threads(t)
			var all sync.WaitGroup
			for range sleepers {
				all.Go(func() {
					res, err := client.Do(s.request("GET", "/?sleep=1h", "").WithContext(ctx))
					if err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
						t.Errorf("a sleeper answered %d", res.StatusCode)
					}
				})
			}
			eventually(t, "all to sleep", func() bool { return testutil.ToFloat64(asleep) == sleepers })
			if n := threads(t); n > max(before, most) {
				t.Errorf("%d threads while %d guests sleep, %d before", n, sleepers, before)
			}
			// One that sleeps for a moment, beside them.
			if res := s.get("/?sleep=10ms"); res.StatusCode != 200 || !strings.Contains(res.body, `"slept_nano":`) {
				t.Errorf("got %d %s", res.StatusCode, res.body)
			}
			cancel()
			all.Wait()
			eventually(t, "all guests to be gone", func() bool {
				return testutil.ToFloat64(asleep) == 0 && testutil.ToFloat64(active) == 0
			})
		})
	}
}
