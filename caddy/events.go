// This file serves what a guest waits for while its call is suspended.

package gojinn

import (
	"context"
	"errors"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// run runs the guest of a call to its end, through all that it waits for. The call has its permit, and no turn, for the first of
// which it may wait for longer than queue_timeout, in a burst.
func (h *Handler) run(ctx context.Context, f *sharedFunction, x *exchange, id engine.CallID) error {
	waited, err := x.turn.begin(ctx, f.line, burstFactor*time.Duration(h.QueueTimeout), h.meters.queued)
	x.stats.queued += waited
	if err != nil {
		f.engine.FreeCall(id)
		return err
	}
	// Not before it has its turn: calls that wait for one may be many, and most of them need no listener.
	x.canceller.begin(ctx, f.engine, id)
	x.out, err = f.Call(id, x.head.Bytes(), x.body.bytes(), x.out, &x.result)
	x.turn.release()
	if err != nil || !x.result.Waits {
		return err
	}
	if !f.line.waits.Load() {
		f.line.waits.Store(true)
	}
	defer func() {
		if x.result.Waits {
			// Serving an event has failed or panicked.
			f.engine.Drop(id)
			x.result.Waits = false
		}
	}()
	if x.passage == nil {
		// The deadline is the engine's; this context only ends what is done for the guest. With http-wasm the engine's clock
		// stops while the next handler works.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.result.Event.Deadline)
		defer cancel()
	}
	for x.result.Waits {
		// The engine has lent what a guest that waits does not need of its memory.
		f.engine.memory.wake()
		var reply []byte
		var code int32
		if failed := h.send(x); failed == nil {
			reply, code, err = h.serveEvent(ctx, x)
			if err != nil {
				return err
			}
		} else {
			// Nothing more can be sent: the guest is dropped where it waits.
			f.engine.Cancel(id)
		}
		// The client has gone: the guest is dropped where it waits. A call that is overdue ends by itself.
		if ctx.Err() == context.Canceled {
			f.engine.Cancel(id)
		}
		// A call that must end needs no turn.
		turned := x.turn.goOn(ctx, f.line) == nil
		x.out, err = f.engine.Resume(id, code, reply, x.out, &x.result)
		if turned {
			x.turn.release()
		}
		if err != nil {
			x.result.Waits = false
			return err
		}
	}
	return nil
}

// send sends what the guest has written to a stream.
func (h *Handler) send(x *exchange) error {
	h.meters.sending.Inc()
	defer h.meters.sending.Dec()
	return x.stream.take(x.request, &x.result.Event)
}

// serveEvent does what the guest waits for, or waits until ctx ends.
func (h *Handler) serveEvent(ctx context.Context, x *exchange) (reply []byte, code int32, err error) {
	event := &x.result.Event
	switch event.Kind {
	case engine.EventCall:
		h.meters.calling.Inc()
		defer h.meters.calling.Dec()
		if x.use == nil {
			x.use = newCallUse(x.request, x.trace)
		}
		reply, code = h.hostCall(withCallUse(ctx, x.use), string(event.Operation), event.Request)
		return reply, code, nil
	case engine.EventBody:
		if x.upload == nil {
			return nil, 0, errors.New("a bug: the guest waits for a body that there is not")
		}
		h.meters.receiving.Inc()
		defer h.meters.receiving.Dec()
		part, ends, err := x.upload.next(ctx, event.Until)
		if err != nil {
			return nil, 0, bodyError(x.request, err)
		}
		x.stats.received += int64(len(part))
		if ends {
			code = engine.BodyEnds
		}
		return part, code, nil
	case engine.EventNext:
		if x.passage == nil || x.passage.passed {
			return nil, 0, errors.New("a bug: the guest waits for a next handler that it cannot have")
		}
		h.meters.passing.Inc()
		defer h.meters.passing.Dec()
		return x.passage.run(x.request, x, event)
	case engine.EventSleep:
		h.meters.asleep.Inc()
		defer h.meters.asleep.Dec()
		if event.Until < 0 {
			<-ctx.Done()
		} else {
			sleep(ctx, event.Until)
		}
	}
	return nil, 0, nil
}
