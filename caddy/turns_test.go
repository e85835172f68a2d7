// Tests of turns, and of how they are shared when more is asked for than there is. Time is that of synctest, so that the figures are
// exact, however busy the machine is.

package gojinn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// testCores is how many cores the turns of these tests are for.
const testCores = 2

// allFree fails the test unless all turns have come back.
func (t *turns) allFree(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free != t.cores || t.waiting != 0 || t.lent != 0 || len(t.backlog) != 0 {
		tb.Errorf("%d of %d turns are free, %d calls wait in %d lines, and %d turns are lent", t.free, t.cores, t.waiting, len(t.backlog), t.lent)
	}
}

// No more guests run at once than there are turns, and each gets one.
func TestTurns(t *testing.T) {
	all, most := newTurns(testCores), int64(testCores)
	lines := []*line{newLine(all, true), newLine(all, false), newLine(all, true)}
	var running, seen atomic.Int64
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			var mine turn
			for range 50 {
				if err := mine.goOn(t.Context(), lines[i%len(lines)]); err != nil {
					t.Error(err)
					return
				}
				now := running.Add(1)
				for old := seen.Load(); now > old && !seen.CompareAndSwap(old, now); old = seen.Load() {
				}
				runtime.Gosched()
				running.Add(-1)
				mine.release()
			}
		})
	}
	group.Wait()
	// A turn that was lent is one more; on a machine that stops this test for milliseconds that happens.
	if n := seen.Load(); n > most+64 {
		t.Errorf("%d guests ran at once, with %d turns", n, most)
	}
	all.allFree(t)
}

// A guest that runs for long lends its turn, to another function at first and then to its own, and does not return it a second time.
func TestALongTurnIsLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newTurns(testCores)
		l, other := newLine(all, true), newLine(all, true)
		begun := time.Now()
		long := make([]turn, all.cores)
		for at := range long {
			if err := long[at].goOn(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		taken := make(chan error, 1)
		var short, beside turn
		go func() { taken <- short.goOn(t.Context(), l) }()
		synctest.Wait()
		if waiting, _ := all.counts(); waiting != 1 {
			t.Fatal("nothing waits for a turn")
		}
		if err := beside.goOn(t.Context(), other); err != nil || time.Since(begun) != lendAfter {
			t.Fatalf("another function had its turn after %s: %v", time.Since(begun), err)
		}
		beside.release()
		if err := <-taken; err != nil || time.Since(begun) != longAfter {
			t.Fatalf("the same function had another turn after %s: %v", time.Since(begun), err)
		}
		short.release()
		synctest.Wait()
		if _, lent := all.counts(); lent != all.cores || l.long != all.cores {
			t.Errorf("%d turns are lent", lent)
		}
		for at := range long {
			long[at].release()
		}
		if l.running != 0 || l.long != 0 {
			t.Errorf("%d guests run, %d for long", l.running, l.long)
		}
		all.allFree(t)
	})
}

// Giving up takes no turn.
func TestATurnThatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newTurns(testCores)
		l := newLine(all, true)
		holders := make([]turn, all.cores)
		for at := range holders {
			if err := holders[at].goOn(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var mine turn
		if err := mine.goOn(ctx, l); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := mine.begin(ctx, l, time.Hour, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if waited, err := mine.begin(t.Context(), l, lendAfter/2, nil); !errors.Is(err, errQueueTimeout) || waited != lendAfter/2 {
			t.Fatalf("%v after %s", err, waited)
		}
		for at := range holders {
			holders[at].release()
		}
		all.allFree(t)
	})
}

// Turns that are handed over at the very moment a call gives up must not get lost.
func TestNoTurnIsLost(t *testing.T) {
	all := newTurns(testCores)
	lines := []*line{newLine(all, true), newLine(all, true)}
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			var mine turn
			if _, err := mine.begin(t.Context(), lines[i%2], time.Duration(i%30)*30*time.Microsecond, nil); err == nil {
				runtime.Gosched()
				mine.release()
			}
		})
	}
	wg.Wait()
	all.allFree(t)
}

// load is a function under load in synctest's time.
type load struct {
	name string
	f    *sharedFunction
	// needs is how much of a core a call needs, and every how often one comes.
	needs, every time.Duration

	mu                sync.Mutex
	good              int
	refused, late     int
	longest, refusing time.Duration
}

// cores runs guests in synctest's time: those that run share the cores, as threads do.
type cores struct {
	mu      sync.Mutex
	running int
}

// run takes as long as a guest needs, more if there are more guests than cores.
func (c *cores) run(needs time.Duration) {
	c.mu.Lock()
	c.running++
	c.mu.Unlock()
	const slice = 500 * time.Microsecond
	for needs > 0 {
		part := min(needs, slice)
		c.mu.Lock()
		shared := max(1, float64(c.running)/float64(testCores))
		c.mu.Unlock()
		time.Sleep(time.Duration(float64(part) * shared))
		needs -= part
	}
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
}

// request is one request: admitted, run, or refused.
func (l *load) request(ctx context.Context, c *cores) {
	const timeout = time.Second
	begun := time.Now()
	_, err := l.f.admit(ctx, timeout, nil)
	if err == nil {
		defer l.f.leave()
		var mine turn
		if _, err = mine.begin(ctx, l.f.line, burstFactor*timeout, nil); err == nil {
			c.run(l.needs)
			mine.release()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	took := time.Since(begun)
	switch {
	case err == nil:
		l.good++
		l.longest = max(l.longest, took)
	case errors.Is(err, errOverload), errors.Is(err, errQueueFull):
		l.refused++
		l.refusing = max(l.refusing, took)
	default:
		l.late++
	}
}

// overload runs loads together for so long, and then waits until all requests have ended. It returns how long that took.
func overload(t *testing.T, duration time.Duration, loads ...*load) time.Duration {
	t.Helper()
	var all sync.WaitGroup
	var c cores
	for _, l := range loads {
		all.Go(func() {
			for begun := time.Now(); time.Since(begun) < duration; time.Sleep(l.every) {
				all.Go(func() { l.request(t.Context(), &c) })
			}
		})
	}
	time.Sleep(duration)
	ended := time.Now()
	all.Wait()
	for _, l := range loads {
		t.Logf("%s: %d good, the longest in %s; %d refused within %s, %d late", l.name, l.good, l.longest, l.refused, l.refusing, l.late)
		l.f.engine.turns.allFree(t)
		l.f.engine.admission.allFree(t)
	}
	return time.Since(ended)
}

// newLoads returns functions of one engine.
func newLoads(loads ...*load) []*load {
	e := &sharedEngine{admission: newAdmission(defaultConcurrency), turns: newTurns(testCores)}
	for _, l := range loads {
		l.f = &sharedFunction{engine: e, line: newLine(e.turns, true), facts: functionFacts{Suspends: true}}
	}
	return loads
}

// At three times of what the cores can do, nearly as much is done, nearly all others are refused at once, and a second later
// all is over.
func TestOverload(t *testing.T) {
	for _, needs := range []time.Duration{200 * time.Microsecond, 3 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(needs.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				duration := max(5*time.Second, 200*needs)
				l := newLoads(&load{name: "function", needs: needs, every: needs / testCores / 3})[0]
				after := overload(t, duration, l)
				if most := int(duration * testCores / needs); l.good < most*9/10 {
					t.Errorf("%d of %d that are possible", l.good, most)
				}
				if l.refusing > 0 || l.late > (l.refused+l.late)/100 {
					t.Errorf("%d were refused within %s, %d late", l.refused, l.refusing, l.late)
				}
				if after > time.Second+crowd*needs {
					t.Errorf("it was over %s after the last request", after)
				}
			})
		})
	}
}

// A function that is asked for too much does not take from others what they need, and no function gets more than its part of what
// all ask for, however long its guests run.
func TestOverloadIsFair(t *testing.T) {
	for _, needs := range []time.Duration{200 * time.Microsecond, 3 * time.Millisecond, 40 * time.Millisecond} {
		t.Run(needs.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The second asks for a tenth of the cores, the others for three times as much as there is.
				greedy := &load{name: "greedy", needs: needs, every: needs / testCores / 3}
				modest := &load{name: "modest", needs: 500 * time.Microsecond, every: 500 * time.Microsecond / testCores * 10}
				other := &load{name: "other", needs: 10 * time.Millisecond, every: 10 * time.Millisecond / testCores / 3}
				const duration = 10 * time.Second
				overload(t, duration, newLoads(greedy, modest, other)...)
				if modest.refused+modest.late > 0 || modest.longest > 50*time.Millisecond {
					t.Errorf("the modest one was harmed")
				}
				parts := []time.Duration{time.Duration(greedy.good) * greedy.needs, time.Duration(other.good) * other.needs}
				if whole := duration * testCores * 9 / 10; slices.Min(parts) < whole*35/100 {
					t.Errorf("parts %s of %s", fmt.Sprint(parts), whole)
				}
			})
		})
	}
}

// A burst is served, although it takes longer than queue_timeout, unless it would take much longer; and a function that was slow once
// is not refused for that later.
func TestABurstIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoads(&load{name: "function"})[0]
		for _, needs := range []time.Duration{time.Second, time.Millisecond} {
			l.needs = needs
			var all sync.WaitGroup
			var c cores
			for range 4 * time.Second / needs * testCores {
				all.Go(func() { l.request(t.Context(), &c) })
			}
			all.Wait()
			if l.refused+l.late > 0 {
				t.Errorf("%d of a burst were refused, %d late", l.refused, l.late)
			}
		}
	})
}
