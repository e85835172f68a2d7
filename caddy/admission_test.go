// Tests of the admission of calls.

package gojinn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func far() time.Time { return time.Now().Add(time.Hour) }

// waiting is how many calls wait while all permits are taken.
func (a *admission) waiting() int64 { return max(0, a.inside.Load()-a.permitted()) }

// allFree fails the test unless all permits can be taken at once, and no more than these.
func (a *admission) allFree(t testing.TB) {
	t.Helper()
	if inside := a.inside.Load(); inside != 0 {
		t.Errorf("%d calls are counted where none is", inside)
	}
	if a.permits.TryAcquire(a.permitted() + 1) {
		t.Errorf("there are more than %d permits", a.permitted())
	}
	if !a.permits.TryAcquire(a.permitted()) {
		t.Errorf("not all of %d permits came back", a.permitted())
		return
	}
	a.permits.Release(a.permitted())
}

func TestAdmissionNeverExceedsItsBound(t *testing.T) {
	a := newAdmission(30)
	var running, peak atomic.Int64
	var wg sync.WaitGroup
	for range 30 * (1 + queueFactor) {
		wg.Go(func() {
			if err := a.acquire(context.Background(), far()); err != nil {
				t.Error(err)
				return
			}
			n := running.Add(1)
			for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
			}
			time.Sleep(100 * time.Microsecond)
			running.Add(-1)
			a.release()
		})
	}
	wg.Wait()
	if peak.Load() > 30 {
		t.Errorf("%d ran at once, want at most 30", peak.Load())
	}
	a.allFree(t)
}

func TestAdmissionIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		if err := a.acquire(t.Context(), far()); err != nil {
			t.Fatal(err)
		}
		order := make(chan int, 5)
		for i := range 5 {
			go func() {
				if a.acquire(t.Context(), far()) == nil {
					order <- i
					a.release()
				}
			}()
			synctest.Wait()
			if n := a.waiting(); n != int64(i+1) {
				t.Errorf("%d calls wait, want %d", n, i+1)
			}
		}
		a.release()
		for want := range 5 {
			if got := <-order; got != want {
				t.Errorf("number %d came as number %d", got, want)
			}
		}
		synctest.Wait()
		a.allFree(t)
	})
}

func TestAdmissionQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		if err := a.acquire(t.Context(), far()); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, queueFactor)
		for range queueFactor {
			go func() { done <- a.acquire(t.Context(), far()) }()
		}
		synctest.Wait()
		if err := a.acquire(t.Context(), far()); !errors.Is(err, errQueueFull) {
			t.Errorf("got %v", err)
		}
		if a.tryAcquire() {
			t.Error("a permit was taken past the queue")
		}
		for range queueFactor {
			a.release()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		a.release()
		a.allFree(t)
	})
}

// As many clients as may run and wait, each of which comes back as soon as it is done, never find the queue full.
func TestAdmissionHasRoomForAsManyAsItSays(t *testing.T) {
	a := newAdmission(2)
	var wg sync.WaitGroup
	for range 2 * (1 + queueFactor) {
		wg.Go(func() {
			for range 500 {
				if err := a.acquire(context.Background(), far()); err != nil {
					t.Error(err)
					return
				}
				a.release()
			}
		})
	}
	wg.Wait()
	a.allFree(t)
}

func TestAdmissionGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		if err := a.acquire(t.Context(), far()); err != nil {
			t.Fatal(err)
		}
		if err := a.acquire(t.Context(), time.Now()); !errors.Is(err, errQueueTimeout) {
			t.Errorf("past the deadline: got %v", err)
		}
		start := time.Now()
		if err := a.acquire(t.Context(), start.Add(time.Second)); !errors.Is(err, errQueueTimeout) || time.Since(start) != time.Second {
			t.Errorf("at the deadline: got %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := a.acquire(ctx, far()); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while it waited: got %v", err)
		}
		if err := a.acquire(ctx, far()); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: got %v", err)
		}
		a.release()
		a.allFree(t)
	})
}

// Permits that are handed over at the very moment a waiter gives up must not get lost.
func TestAdmissionLosesNoPermit(t *testing.T) {
	a := newAdmission(60)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%50)*20*time.Microsecond)
			defer cancel()
			if a.acquire(ctx, time.Now().Add(time.Duration(i%30)*30*time.Microsecond)) == nil {
				time.Sleep(10 * time.Microsecond)
				a.release()
			}
		})
	}
	wg.Wait()
	a.allFree(t)
}

// A function's own bound and the engine's, taken together: whatever fails, both come back.
func TestAdmitTakesBothPermitsOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &sharedEngine{admission: newAdmission(1)}
		bounded := &sharedFunction{engine: e, admission: newAdmission(1), line: newLine(newTurns(testCores), true)}
		other := &sharedFunction{engine: e, line: newLine(newTurns(testCores), true)}
		if queued, err := other.admit(t.Context(), time.Second, nil); err != nil || queued != 0 {
			t.Fatalf("the first: %s, %v", queued, err)
		}
		if queued, err := bounded.admit(t.Context(), time.Second, nil); !errors.Is(err, errQueueTimeout) || queued != time.Second {
			t.Errorf("without a permit of the engine: %s, %v", queued, err)
		}
		bounded.admission.allFree(t)
		done := make(chan error)
		go func() { _, err := bounded.admit(t.Context(), time.Second, nil); done <- err }()
		synctest.Wait()
		other.leave()
		if err := <-done; err != nil {
			t.Errorf("once the engine has a permit: %v", err)
		}
		if _, err := bounded.admit(t.Context(), time.Second, nil); !errors.Is(err, errQueueTimeout) {
			t.Errorf("without a permit of the function: %v", err)
		}
		if n := e.admission.inside.Load(); n != 1 {
			t.Errorf("a call that waits for its function's permit holds one of the engine: %d", n)
		}
		bounded.leave()
		bounded.admission.allFree(t)
		e.admission.allFree(t)
	})
}
