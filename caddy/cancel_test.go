// Tests of cancelling calls.

package gojinn

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// cancelled is an engine that records which calls are cancelled.
type cancelled struct {
	engine.Engine
	mu  sync.Mutex
	ids []engine.CallID
}

func (c *cancelled) Cancel(id engine.CallID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = append(c.ids, id)
}

func (c *cancelled) seen() []engine.CallID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ids)
}

func TestWatchCancelsARunningCall(t *testing.T) {
	var w canceller
	var e cancelled
	for id := range engine.CallID(3) {
		// The client goes away before the call begins, before the call listens for it, and while the call listens.
		ctx, cancel := context.WithCancel(t.Context())
		if id == 0 {
			cancel()
		}
		w.begin(ctx, &e, id)
		if id == 2 {
			eventually(t, "the call to listen", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.stop != nil })
		}
		cancel()
		eventually(t, "the call to be cancelled", func() bool { return slices.Contains(e.seen(), id) })
		w.end()
	}
	if seen := e.seen(); len(seen) != 3 {
		t.Errorf("cancelled were %v", seen)
	}
}

// A call that has ended is never cancelled, and its client does not cancel the next call.
func TestWatchForgetsWhatHasEnded(t *testing.T) {
	var w canceller
	var e cancelled
	for id := range engine.CallID(2000) {
		ctx, cancel := context.WithCancel(t.Context())
		w.begin(ctx, &e, id)
		if id%500 == 0 {
			time.Sleep(2 * listenDelay)
		}
		w.end()
		cancel()
	}
	time.Sleep(2 * listenDelay)
	if seen := e.seen(); len(seen) != 0 {
		t.Errorf("cancelled were %v", seen)
	}
	// The timer of an ended call may still run. It finds no call.
	w.listen()
}
