// This file bounds the memory that the bodies of requests and answers take, together with that of the engine's calls.

package gojinn

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

var errMemoryFull = errors.New("the memory of all calls (max_memory) was full for longer than queue_timeout")

// memory is the plugin's part of the memory of all calls. The engine has the only count of it, max_memory; the plugin takes from
// it what it keeps outside of calls, in units, so that few requests have to ask the engine.
//
// Bodies that are arriving and answers that are being written have a share each. A client decides how long they stay, so
// whatever clients do, the rest is for calls. Beyond its share, a body is written to a file that has no name.
type memory struct {
	engine engine.Engine
	// share is how many bytes arriving bodies may have, and answers.
	share int64
	// spare has been taken from the engine and is not used.
	spare    atomic.Int64
	arriving atomic.Int64
	answers  atomic.Int64
	spool    spool

	// waiting is how many requests wait for memory. Those that do not try again just now are in line: a chan struct{} each, which
	// tells it to try again.
	waiting atomic.Int64
	mu      sync.Mutex
	line    list.List
	// given counts how often some was given back while requests waited.
	given uint64
}

const (
	// memoryUnit is how much the plugin takes from the engine at least.
	memoryUnit = 1 << 20
	// maxSpare is how much of it stays unused at most.
	maxSpare = 8 << 20
)

// newMemory returns the account of an engine with this max_memory.
func newMemory(e engine.Engine, maxMemory int64) *memory {
	m := &memory{engine: e, share: maxMemory / 4}
	m.spool.room.Store(spoolFactor * maxMemory)
	return m
}

// take takes n bytes, unless the engine's memory is full.
func (m *memory) take(n int64) bool {
	for {
		spare := m.spare.Load()
		if spare >= n {
			if m.spare.CompareAndSwap(spare, spare-n) {
				return true
			}
			continue
		}
		unit := (n + memoryUnit - 1) / memoryUnit * memoryUnit
		if m.engine.TakeMemory(unit) {
			m.spare.Add(unit - n)
			return true
		}
		m.flush()
		return m.engine.TakeMemory(n)
	}
}

// give gives n bytes back.
func (m *memory) give(n int64) {
	if n == 0 {
		return
	}
	if spare := m.spare.Add(n); spare > maxSpare || m.waiting.Load() > 0 {
		m.flush()
	}
	m.wake()
}

// flush gives the engine what is unused.
func (m *memory) flush() {
	if spare := m.spare.Swap(0); spare > 0 {
		m.engine.GiveMemory(spare)
	}
}

// wakes is how many of those that wait for memory try again when some is given back. Each that gets memory wakes as many when it
// gives some back or waits for something else, so all get their turn; and one that does not get any wakes none.
const wakes = 2

// wake lets the first of those that wait for memory try again.
func (m *memory) wake() {
	if m.waiting.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given++
	for range wakes {
		first := m.line.Front()
		if first == nil {
			return
		}
		close(m.line.Remove(first).(chan struct{}))
	}
}

// within repeats try until it is true, when memory was given back, for as long as timeout, or until the end of ctx. The request
// that has waited longest is the first to try.
func (m *memory) within(ctx context.Context, timeout time.Duration, try func() bool) error {
	if try() {
		return nil
	}
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	again := false
	for {
		m.mu.Lock()
		given := m.given
		m.mu.Unlock()
		m.flush()
		if try() {
			return nil
		}
		place := m.join(given, again)
		select {
		case <-place.Value.(chan struct{}):
			again = true
		case <-ctx.Done():
			m.leave(place)
			return ctx.Err()
		case <-timer.C:
			m.leave(place)
			return errMemoryFull
		}
	}
}

// join takes a place in line: the first one for a request that tries again. If memory was given back since it was given times, the
// place is woken at once and not in line.
func (m *memory) join(given uint64, again bool) *list.Element {
	m.mu.Lock()
	defer m.mu.Unlock()
	woken := make(chan struct{})
	switch {
	case m.given != given:
		close(woken)
		return &list.Element{Value: woken}
	case again:
		return m.line.PushFront(woken)
	default:
		return m.line.PushBack(woken)
	}
}

// leave gives a place up. If it has been woken meanwhile, others are woken instead.
func (m *memory) leave(place *list.Element) {
	m.mu.Lock()
	m.line.Remove(place)
	m.mu.Unlock()
	select {
	case <-place.Value.(chan struct{}):
		m.wake()
	default:
	}
}

// holding is what one request holds of the memory.
type holding struct {
	memory *memory
	bytes  int64
	// class counts these bytes, or is nil.
	class *atomic.Int64
}

// take takes n more bytes.
func (h *holding) take(n int64) bool {
	if h.class != nil && h.class.Add(n) > h.memory.share && h.memory.share > 0 {
		h.class.Add(-n)
		return false
	}
	if !h.memory.take(n) {
		if h.class != nil {
			h.class.Add(-n)
		}
		return false
	}
	h.bytes += n
	return true
}

// takeLong takes what n bytes are more than the first before, of which it took all; but short bodies are not counted.
func (h *holding) takeLong(n, before int) bool {
	if before <= shortBody {
		before = 0
	}
	return n <= shortBody || h.take(int64(n-before))
}

// adopt counts n bytes, which have been taken, as the request's.
func (h *holding) adopt(n int64, class *atomic.Int64) {
	h.bytes, h.class = n, class
	class.Add(n)
}

// enter moves what the request holds into a class, whatever its share.
func (h *holding) enter(class *atomic.Int64) {
	if h.class == nil && h.bytes > 0 {
		h.class = class
		class.Add(h.bytes)
	}
}

// leaveClass moves what the request holds out of its class.
func (h *holding) leaveClass() {
	if h.class != nil {
		h.class.Add(-h.bytes)
		h.class = nil
	}
}

// give gives everything back.
func (h *holding) give() {
	h.leaveClass()
	if h.bytes > 0 {
		h.memory.give(h.bytes)
		h.bytes = 0
	}
}
