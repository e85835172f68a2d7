// This file decides which requests run now, which wait for a sandbox, and which are turned away.

package gojinn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Why a request was not admitted.
var (
	errQueueFull    = fmt.Errorf("the queue is full: %d requests wait for each call that max_concurrency allows", queueFactor)
	errQueueTimeout = errors.New("no sandbox became free within queue_timeout")
	errOverload     = errors.New("more requests wait than can begin within queue_timeout")
)

// admission lets a bounded number of calls run and a bounded number wait, first come first served.
//
// A call waits here and not in the engine: a waiting goroutine costs some kilobytes, but a thread that waits in C is never
// given back to the system.
type admission struct {
	// permits has one for each call that may run.
	permits *semaphore.Weighted
	// inside is how many calls hold a permit or wait for one, and limit the most that may.
	inside atomic.Int64
	limit  int64
	pace   pace
}

// queueFactor is how many requests may wait for each one that may run.
const queueFactor = 8

func newAdmission(permits int) *admission {
	return &admission{permits: semaphore.NewWeighted(int64(permits)), limit: int64(permits) * (1 + queueFactor)}
}

// acquire takes a permit, waiting for one until deadline or the end of ctx. The caller of one that returns nil must call
// release.
func (a *admission) acquire(ctx context.Context, deadline time.Time) error {
	if !a.enter() {
		return errQueueFull
	}
	if a.permits.TryAcquire(1) {
		return nil
	}
	wait, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	a.pace.enter()
	err := a.permits.Acquire(wait, 1)
	a.pace.leave(err == nil)
	if err == nil {
		return nil
	}
	a.inside.Add(-1)
	if err := ctx.Err(); err != nil {
		return err
	}
	return errQueueTimeout
}

// permitted is how many calls may run.
func (a *admission) permitted() int64 { return a.limit / (1 + queueFactor) }

// tryAcquire takes a permit if one is free.
func (a *admission) tryAcquire() bool {
	if !a.enter() {
		return false
	}
	if a.permits.TryAcquire(1) {
		return true
	}
	a.inside.Add(-1)
	return false
}

// release returns a permit, which goes to the call that has waited longest.
func (a *admission) release() {
	a.permits.Release(1)
	a.inside.Add(-1)
}

// enter counts a call that wants a permit, unless there are as many as may run and wait. A call that has got its permit but
// not yet gone on must not count as one that waits, so running and waiting calls share one count.
func (a *admission) enter() bool {
	for n := a.inside.Load(); n < a.limit; n = a.inside.Load() {
		if a.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// defaultConcurrency is how many calls may be in flight unless the config says otherwise. It is high because a call that waits
// costs memory and no thread; how many guests run at once is bounded by turns.
const defaultConcurrency = 8192

// maxBlocking returns how many calls of functions may be in flight together on backends that block a thread for each guest that
// waits.
func maxBlocking() int { return max(32, 8*runtime.GOMAXPROCS(0)) }

// admit takes a permit of the function and then one of the engine, within one queue timeout for all, and says how long that
// took. A request that waits for its function's permit holds none of the engine's. Those that wait are counted in queued, if it is
// not nil. One that would probably wait for too long, here or for its first turn, is refused at once. After nil, the caller must
// call leave.
func (f *sharedFunction) admit(ctx context.Context, timeout time.Duration, queued prometheus.Gauge) (time.Duration, error) {
	if f.overloaded(timeout) {
		return 0, errOverload
	}
	if f.admission == nil && f.facts.Suspends && f.engine.admission.tryAcquire() {
		return 0, nil
	}
	if queued != nil {
		queued.Inc()
		defer queued.Dec()
	}
	start := time.Now()
	deadline := start.Add(timeout)
	gates := f.gates()
	for at, gate := range gates {
		if gate == nil {
			continue
		}
		if err := gate.acquire(ctx, deadline); err != nil {
			release(gates[:at])
			return time.Since(start), err
		}
	}
	return time.Since(start), nil
}

const (
	// burstFactor is how many times as long as queue_timeout a call may wait for its first turn.
	burstFactor = 20
	// waitingFactor is how many times as long as queue_timeout a burst may last of a function whose calls wait: thousands of them
	// in flight are no overload.
	waitingFactor = 20
)

// overloaded reports whether one more request would wait for too long, for its permits or for its first turn. The estimate is not
// exact: with the whole timeout, many that wait would be refused at its end.
//
// A queue for turns that is not older than the timeout, or than some timeouts if the function's calls wait, is a burst, which may
// take longer, unless so much waits for turns that few permits are left for other functions.
func (f *sharedFunction) overloaded(timeout time.Duration) bool {
	limit := timeout / 4 * 3
	var sum time.Duration
	for _, gate := range f.gates() {
		if gate != nil {
			wait, _ := gate.pace.expected()
			sum += wait
		}
	}
	wait, age := f.line.pace.expected()
	burst, factor := timeout, time.Duration(burstFactor)
	if f.line.waits.Load() {
		// How long a turn takes says little here: most of it may be the start of a guest that waits for much longer.
		burst, factor = timeout*waitingFactor, burstFactor*waitingFactor
	}
	if wait > limit && age <= burst && 4*int64(f.engine.turns.count()) < 3*f.engine.admission.permitted() {
		wait /= factor
	}
	return sum+wait > limit
}

// leave returns what admit took.
func (f *sharedFunction) leave() {
	gates := f.gates()
	release(gates[:])
}

// gates returns what a call of the function must be admitted by, in this order; nil where it need not be.
func (f *sharedFunction) gates() [3]*admission {
	gates := [3]*admission{f.admission, nil, f.engine.admission}
	if !f.facts.Suspends {
		gates[1] = f.engine.blocking
	}
	return gates
}

// release returns a permit of each gate.
func release(gates []*admission) {
	for _, gate := range slices.Backward(gates) {
		if gate != nil {
			gate.release()
		}
	}
}
