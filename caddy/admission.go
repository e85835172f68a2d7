package gojinn

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Why a request was not admitted.
var (
	errQueueFull    = errors.New("the queue is full")
	errQueueTimeout = errors.New("no sandbox became free within queue_timeout")
)

// admission lets a bounded number of calls run and a bounded number wait, first come first served.
//
// A call waits here and not in the engine: a waiting goroutine costs some kilobytes, a thread that waits in C costs a thread
// for ever.
type admission struct {
	mu sync.Mutex
	// free is the number of permits that can be taken at once; above zero only while no call waits.
	free     int
	waiting  list.List // of chan struct{}, closed when the permit is theirs
	maxQueue int
}

// queueFactor is how many requests may wait for each one that may run.
const queueFactor = 8

func newAdmission(permits int) *admission {
	return &admission{free: permits, maxQueue: queueFactor * permits}
}

// acquire takes a permit, waiting for one until deadline or the end of ctx. Nil means that release is owed.
func (a *admission) acquire(ctx context.Context, deadline time.Time) error {
	a.mu.Lock()
	if a.free > 0 {
		a.free--
		a.mu.Unlock()
		return nil
	}
	if a.waiting.Len() >= a.maxQueue {
		a.mu.Unlock()
		return errQueueFull
	}
	ready := make(chan struct{})
	element := a.waiting.PushBack(ready)
	a.mu.Unlock()

	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errQueueTimeout
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-ready:
		// A permit came at the same moment. It is no use to a client that has gone.
		if errors.Is(err, errQueueTimeout) {
			return nil
		}
		a.hand()
	default:
		a.waiting.Remove(element)
	}
	return err
}

// release gives a permit to the next in line.
func (a *admission) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hand()
}

// hand passes one permit on; the lock is held.
func (a *admission) hand() {
	if first := a.waiting.Front(); first != nil {
		close(a.waiting.Remove(first).(chan struct{}))
		return
	}
	a.free++
}

// tryAcquire takes a permit that is free.
func (a *admission) tryAcquire() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.free == 0 {
		return false
	}
	a.free--
	return true
}

// admit takes a permit for the function and then one in the engine, within one queue timeout for both, and says how long it
// took. A request that waits for its function holds no permit of others. On nil, leave is owed.
func (f *sharedFunction) admit(ctx context.Context, timeout time.Duration) (time.Duration, error) {
	if f.admission == nil && f.engine.admission.tryAcquire() {
		return 0, nil
	}
	start := time.Now()
	deadline := start.Add(timeout)
	if f.admission != nil {
		if err := f.admission.acquire(ctx, deadline); err != nil {
			return time.Since(start), err
		}
	}
	err := f.engine.admission.acquire(ctx, deadline)
	if err != nil && f.admission != nil {
		f.admission.release()
	}
	return time.Since(start), err
}

// leave gives back what admit took.
func (f *sharedFunction) leave() {
	f.engine.admission.release()
	if f.admission != nil {
		f.admission.release()
	}
}
