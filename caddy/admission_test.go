package gojinn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func far() time.Time { return time.Now().Add(time.Hour) }

func (a *admission) state() (free, waiting int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.free, a.waiting.Len()
}

func TestAdmissionNeverExceedsItsBound(t *testing.T) {
	a := newAdmission(3)
	a.maxQueue = 1000
	var running, peak atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
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
	if peak.Load() > 3 {
		t.Errorf("%d ran at once, want at most 3", peak.Load())
	}
	if free, waiting := a.state(); free != 3 || waiting != 0 {
		t.Errorf("afterwards %d are free and %d wait", free, waiting)
	}
}

func TestAdmissionIsFirstComeFirstServed(t *testing.T) {
	a := newAdmission(1)
	if err := a.acquire(context.Background(), far()); err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 5)
	for i := range 5 {
		go func() {
			if a.acquire(context.Background(), far()) == nil {
				order <- i
				a.release()
			}
		}()
		eventually(t, "the next to wait", func() bool { _, waiting := a.state(); return waiting == i+1 })
	}
	a.release()
	for want := range 5 {
		if got := await(t, "a permit", order); got != want {
			t.Errorf("number %d came as number %d", got, want)
		}
	}
}

func TestAdmissionQueueIsBounded(t *testing.T) {
	a := newAdmission(1)
	a.maxQueue = 1
	if err := a.acquire(context.Background(), far()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- a.acquire(context.Background(), far()) }()
	eventually(t, "one to wait", func() bool { _, waiting := a.state(); return waiting == 1 })
	if err := a.acquire(context.Background(), far()); !errors.Is(err, errQueueFull) {
		t.Errorf("got %v", err)
	}
	a.release()
	if err := await(t, "the permit", done); err != nil {
		t.Error(err)
	}
}

func TestAdmissionGivesUp(t *testing.T) {
	a := newAdmission(1)
	if err := a.acquire(context.Background(), far()); err != nil {
		t.Fatal(err)
	}
	if err := a.acquire(context.Background(), time.Now()); !errors.Is(err, errQueueTimeout) {
		t.Errorf("past the deadline: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.acquire(ctx, far()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	a.release()
	if free, waiting := a.state(); free != 1 || waiting != 0 {
		t.Errorf("afterwards %d are free and %d wait", free, waiting)
	}
}

// Permits that are handed over at the very moment a waiter gives up must not get lost.
func TestAdmissionLosesNoPermit(t *testing.T) {
	a := newAdmission(2)
	a.maxQueue = 1000
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
	if free, waiting := a.state(); free != 2 || waiting != 0 {
		t.Errorf("afterwards %d are free and %d wait", free, waiting)
	}
}
