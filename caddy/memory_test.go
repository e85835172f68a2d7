// Tests of the memory that bodies and answers take.

package gojinn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// someMemory is an engine that has memory and nothing else.
type someMemory struct {
	engine.Engine
	free, asked atomic.Int64
}

func (e *someMemory) TakeMemory(n int64) bool {
	e.asked.Add(1)
	if e.free.Add(-n) >= 0 {
		return true
	}
	e.free.Add(n)
	return false
}

func (e *someMemory) GiveMemory(n int64) { e.free.Add(n) }

// Requests that wait for memory get it in turns, and what is given back does not wake all of them.
func TestManyWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests, room = 1000, 4
		e := &someMemory{}
		e.free.Store(room)
		m := &memory{engine: e}
		var running, most, tries atomic.Int64
		var all sync.WaitGroup
		for range requests {
			all.Go(func() {
				err := m.within(t.Context(), time.Hour, func() bool {
					tries.Add(1)
					if !e.TakeMemory(1) {
						return false
					}
					now := running.Add(1)
					for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
					}
					// It waits, as a guest does that sleeps, and then ends.
					time.Sleep(time.Second)
					running.Add(-1)
					e.GiveMemory(1)
					m.wake()
					return true
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if most.Load() != room || m.waiting.Load() != 0 || m.line.Len() != 0 {
			t.Errorf("%d ran at once, %d wait and %d are in line at the end", most.Load(), m.waiting.Load(), m.line.Len())
		}
		// Each tries when it comes, before it is in line and when it is woken: then it gets memory, or another one has been faster.
		if n := tries.Load(); n > 10*requests {
			t.Errorf("%d requests tried %d times", requests, n)
		}
	})
}

// A request that stops waiting when it has just been woken wakes another one.
func TestNoWakeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &someMemory{}
		m := &memory{engine: e}
		ctx, cancel := context.WithCancel(t.Context())
		impatient := make(chan error, wakes)
		for range wakes {
			go func() {
				impatient <- m.within(ctx, time.Hour, func() bool { return false })
			}()
			synctest.Wait()
		}
		patient := make(chan error, 1)
		go func() { patient <- m.within(t.Context(), time.Hour, func() bool { return e.TakeMemory(1) }) }()
		late := make(chan error, 1)
		go func() { late <- m.within(t.Context(), time.Minute, func() bool { return false }) }()
		synctest.Wait()
		cancel()
		e.GiveMemory(1)
		m.wake()
		for range wakes {
			if err := <-impatient; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if err := <-patient; err != nil {
			t.Error(err)
		}
		if err := <-late; !errors.Is(err, errMemoryFull) {
			t.Error(err)
		}
		if m.waiting.Load() != 0 || m.line.Len() != 0 {
			t.Errorf("%d wait and %d are in line at the end", m.waiting.Load(), m.line.Len())
		}
	})
}
