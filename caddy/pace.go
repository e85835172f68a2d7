// This file estimates how long a request would wait in a queue, so that one which would wait in vain is refused at once.

package gojinn

import (
	"sync"
	"sync/atomic"
	"time"
)

// pace measures how fast a queue is served. The zero value is that of an empty queue.
type pace struct {
	// waiting is how many wait.
	waiting atomic.Int64

	mu sync.Mutex
	// since is when the queue began to fill.
	since time.Time
	// last is when the last one was served, or when the queue began to fill.
	last time.Time
	// mean is the mean time from one that was served to the next, over the last of so many samples.
	mean    time.Duration
	samples int
}

const (
	// paceSamples is how many samples a mean needs before a request is refused because of it. A queue that was empty starts
	// again, so that a burst is not judged by what was long ago.
	paceSamples = 8
	// paceMemory is over how many samples the mean is taken.
	paceMemory = 32
)

// enter counts one that waits from now on. The caller must call leave.
func (p *pace) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting.Add(1) == 1 {
		p.since = time.Now()
		p.last, p.samples = p.since, 0
	}
}

// leave counts one that waits no more, because it was served or has given up.
func (p *pace) leave(served bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting.Add(-1)
	if !served {
		return
	}
	now := time.Now()
	took := now.Sub(p.last)
	p.last = now
	p.samples = min(p.samples+1, paceMemory)
	if p.samples == 1 {
		p.mean = 0
	}
	p.mean += (took - p.mean) / time.Duration(p.samples)
}

// expected is how long one more would wait (0 if none waits, or if too few have been served to know), and how long ago the queue began to
// fill.
func (p *pace) expected() (wait, age time.Duration) {
	if p.waiting.Load() == 0 {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	age = time.Since(p.since)
	if p.samples >= paceSamples {
		wait = time.Duration(p.waiting.Load()) * p.mean
	}
	return wait, age
}
