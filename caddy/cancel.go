package gojinn

import (
	"context"
	"sync"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// patience is how long a call runs before somebody listens for its client going away. Most calls end sooner, and listening
// costs more than all else that is done around a call (context.AfterFunc makes five objects and walks the whole context).
const patience = time.Millisecond

// watch cancels one call at a time when its client goes away: the call's own thread is in the guest until the guest ends.
type watch struct {
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
func (w *watch) begin(ctx context.Context, e engine.Engine, id engine.CallID) {
	w.mu.Lock()
	w.ctx, w.engine, w.id, w.stop = ctx, e, id, nil
	w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(patience, w.listen)
	} else {
		w.timer.Reset(patience)
	}
}

// end is the end of the call, after which nobody cancels it.
func (w *watch) end() {
	w.timer.Stop()
	w.mu.Lock()
	stop := w.stop
	w.ctx, w.engine, w.stop = nil, nil, nil
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// listen is what the timer does. It may come late, after the call that set the timer: then it finds no call, or the next
// one, which it may as well listen for.
func (w *watch) listen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.stop != nil {
		return
	}
	e, id := w.engine, w.id
	// A cancellation that comes too late does nothing: an id is never used again.
	w.stop = context.AfterFunc(w.ctx, func() { e.Cancel(id) })
}
