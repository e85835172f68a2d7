// This file cancels a running call when its client goes away.

package gojinn

import (
	"context"
	"sync"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// listenDelay is how long a call runs before it listens for the end of its request's context. Most calls end sooner, and to
// listen costs more than everything else around a call: context.AfterFunc makes five objects and walks the whole context.
const listenDelay = time.Millisecond

// canceller cancels one call at a time when its client goes away. The call's thread cannot do so: it is in the guest until the
// guest ends.
type canceller struct {
	timer *time.Timer

	mu sync.Mutex
	// ctx, engine and id are those of the running call; ctx is nil if none runs.
	ctx    context.Context
	engine engine.Engine
	id     engine.CallID
	// stop ends the listening; nil before listening has begun.
	stop func() bool
}

// begin starts to cancel a call at the end of ctx. The caller must call end when the call has ended.
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

// end ends what begin has begun, if it has: the call is not cancelled any more.
func (c *canceller) end() {
	if c.timer == nil {
		return
	}
	c.timer.Stop()
	c.mu.Lock()
	stop := c.stop
	c.ctx, c.engine, c.stop = nil, nil, nil
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// listen is what the timer runs. It may run after the end of the call that set the timer. Then it finds no call, or the next
// one, and listening for that one early is harmless.
func (c *canceller) listen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.stop != nil {
		return
	}
	e, id := c.engine, c.id
	// Cancelling a call that has ended does nothing, because no other call gets its id.
	c.stop = context.AfterFunc(c.ctx, func() { e.Cancel(id) })
}
