package gojinn

import (
	"context"
	"sync"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// listenDelay is how long a call runs before somebody listens for its client going away. Most calls end sooner, and listening
// costs more than all else that is done around a call (context.AfterFunc makes five objects and walks the whole context).
const listenDelay = time.Millisecond

// canceller cancels one call at a time when its client goes away: the call's own thread is in the guest until the guest ends.
type canceller struct {
	timer *time.Timer

	mu sync.Mutex
	// ctx, engine and id are those of the running call; ctx is nil where none runs.
	ctx    context.Context
	engine engine.Engine
	id     engine.CallID
	// stop ends the listening, once it has begun.
	stop func() bool
}

// begin watches over a call; end is owed.
func (c *canceller) begin(ctx context.Context, e engine.Engine, id engine.CallID) {
	c.mu.Lock()
	c.ctx, c.engine, c.id, c.stop = ctx, e, id, nil
	c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(listenDelay, c.listen)
	} else {
		c.timer.Reset(listenDelay)
	}
}

// end is the end of the call, after which nobody cancels it.
func (c *canceller) end() {
	c.timer.Stop()
	c.mu.Lock()
	stop := c.stop
	c.ctx, c.engine, c.stop = nil, nil, nil
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// listen is what the timer does. It may come late, after the call that set the timer: then it finds no call, or the next
// one, which it may as well listen for.
func (c *canceller) listen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.stop != nil {
		return
	}
	e, id := c.engine, c.id
	// A cancellation that comes too late does nothing: an id is never used again.
	c.stop = context.AfterFunc(c.ctx, func() { e.Cancel(id) })
}
