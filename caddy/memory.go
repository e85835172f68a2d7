// This file bounds the memory that the bodies of requests and answers take, together with that of the engine's calls.

package gojinn

import (
	"context"
	"encoding/json"
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

	// waiting is how many calls wait for memory, and changed is closed when some was given back.
	waiting atomic.Int64
	mu      sync.Mutex
	changed chan struct{}
}

const (
	// memoryUnit is how much the plugin takes from the engine at least.
	memoryUnit = 1 << 20
	// maxSpare is how much of it stays unused at most.
	maxSpare = 8 << 20
)

// newMemory returns the account of an engine.
func newMemory(e engine.Engine) (*memory, error) {
	var about struct {
		MaxMemory int64 `json:"max_memory"`
	}
	text, err := e.Describe()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return nil, err
	}
	m := &memory{engine: e, share: about.MaxMemory / 4, changed: make(chan struct{})}
	m.spool.room.Store(spoolFactor * about.MaxMemory)
	return m, nil
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

// wake lets the calls that wait for memory try again.
func (m *memory) wake() {
	if m.waiting.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// within repeats try until it is true, whenever memory was given back, for as long as timeout, or until the end of ctx.
func (m *memory) within(ctx context.Context, timeout time.Duration, try func() bool) error {
	if try() {
		return nil
	}
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		m.flush()
		if try() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errMemoryFull
		}
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
