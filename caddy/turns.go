// This file bounds how many guests run at the same moment: a turn is the right to run one.

package gojinn

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// lendAfter is how long a guest runs before it lends its turn to another one, and goes on without: a guest that computes for long
// must not stop those that need microseconds.
const lendAfter = 5 * time.Millisecond

// turns has a turn for each core. Guests that ran at once beyond that would take cores from each other in the middle of their
// work, and evict each other's caches. A guest that waits has no turn.
type turns struct {
	free *semaphore.Weighted
	// waiting counts the calls that wait for a turn, lent the guests that run without one.
	waiting, lent atomic.Int64
}

func newTurns() *turns {
	return &turns{free: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))}
}

// turn is one call's part in the turns. It is used again by the next call.
type turn struct {
	timer *time.Timer

	mu    sync.Mutex
	turns *turns
	// held says that the turn is neither returned nor lent.
	held bool
}

// take waits for a turn, first come first served, or for the end of ctx. After nil, the caller must call release.
func (t *turn) take(ctx context.Context, turns *turns) error {
	if !turns.free.TryAcquire(1) {
		turns.waiting.Add(1)
		err := turns.free.Acquire(ctx, 1)
		turns.waiting.Add(-1)
		if err != nil {
			return err
		}
	}
	t.mu.Lock()
	t.turns, t.held = turns, true
	t.mu.Unlock()
	if t.timer == nil {
		t.timer = time.AfterFunc(lendAfter, t.lend)
	} else {
		t.timer.Reset(lendAfter)
	}
	return nil
}

// lend returns the turn, although its guest goes on. It may run late, when the turn has been returned or belongs to the next call
// of the exchange; that call then lends its turn early, which is harmless.
func (t *turn) lend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		t.held = false
		t.turns.lent.Add(1)
		t.turns.free.Release(1)
	}
}

// release returns the turn, if it was not lent.
func (t *turn) release() {
	t.timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.held {
		t.turns.lent.Add(-1)
		return
	}
	t.held = false
	t.turns.free.Release(1)
}
