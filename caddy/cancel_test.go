package gojinn

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// cancelled is an engine that notes what is cancelled.
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
		// Gone before the call begins, before anybody listens, and while somebody does.
		ctx, cancel := context.WithCancel(t.Context())
		if id == 0 {
			cancel()
		}
		w.begin(ctx, &e, id)
		if id == 2 {
			eventually(t, "somebody to listen", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.stop != nil })
		}
		cancel()
		eventually(t, "the call to be cancelled", func() bool { return slices.Contains(e.seen(), id) })
		w.end()
	}
	if seen := e.seen(); len(seen) != 3 {
		t.Errorf("cancelled were %v", seen)
	}
}

// A call that has ended is never cancelled, and the one after it not for its sake.
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
	// The timer of an ended call may still come: it finds nothing to do.
	w.listen()
}
