// This file tests stores on other machines, which come and go.

package kvtest

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

// Restart tests that operations fail while the server of a store is away, that they succeed afterwards, and that what was
// acknowledged is there. stop and start are the server's; server is a text that no error may contain.
func Restart(t *testing.T, store kv.Store, server string, stop, start func()) {
	const clients = 8
	ctx := context.Background()
	var acknowledged, failures, sinceRestart atomic.Int64
	end := make(chan bool)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if _, err := store.Increment(ctx, "n", 1, 0); err != nil {
					failures.Add(1)
					if strings.Contains(err.Error(), server) {
						t.Errorf("the error names the server: %v", err)
					}
					time.Sleep(time.Millisecond)
					continue
				}
				acknowledged.Add(1)
				sinceRestart.Add(1)
			}
		})
	}
	wait := func(what string, n *atomic.Int64) {
		t.Helper()
		for begin := time.Now(); n.Load() < 100; time.Sleep(time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("waited a minute for 100 %s", what)
			}
		}
	}
	wait("acknowledged writes", &acknowledged)
	stop()
	failures.Store(0)
	wait("failures", &failures)
	start()
	sinceRestart.Store(0)
	wait("writes after the restart", &sinceRestart)
	close(end)
	wg.Wait()
	n, err := store.Increment(ctx, "n", 0, 0)
	if err != nil || n < acknowledged.Load() {
		t.Errorf("the number is %d %v, and %d additions were acknowledged", n, err, acknowledged.Load())
	}
	// A write whose answer got lost may have been done, by each client once.
	if n > acknowledged.Load()+clients {
		t.Errorf("the number is %d, but only %d additions were acknowledged", n, acknowledged.Load())
	}
}
