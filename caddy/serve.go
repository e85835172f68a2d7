// This file has the life of a request: read, admitted, run, and answered or refused.

package gojinn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// ServeHTTP runs the function for one request. The function answers, or lets the request go on to the next handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	w, err := h.serve(w, r, next)
	if err != nil || w == nil {
		return err
	}
	// Nothing of the function's call is held here but the request's body: no sandbox, no permit and no other buffer.
	if kept, ok := r.Body.(*keptBody); ok {
		defer kept.free()
	}
	return next.ServeHTTP(w, r)
}

// serve runs the function and answers the request, or changes it for the next handler and returns that handler's writer.
//
// With the contract http-wasm the next handler runs within it, and it answers the request in any case.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (http.ResponseWriter, error) {
	// Loaded once: the whole answer comes from one function, even if it is replaced in the meantime.
	f := h.deployment.function.Load()
	x := exchanges.Get().(*exchange)
	defer x.done()
	t := startTrace(r, f.info.Name)
	x.stats = callStats{}

	answer := &x.result.Answer
	*answer = engine.Answer{Outcome: engine.OutcomeError}
	x.request, x.trace = r, &t
	if h.Contract == contractHTTPWasm {
		x.passage = &passage{w: w, next: next, maxOutput: h.MaxOutput}
	}
	x.stream = stream{w: w}
	err := h.call(w, r, f, x, &t)
	if x.stream.begun {
		return nil, h.endStream(r, f, x, &t, err)
	}
	if err == nil && h.Contract == contractCGI {
		checkLength(r, answer)
	}
	var on *goesOn
	if err == nil && x.passage == nil {
		on, err = readNext(answer)
	}
	if on == nil {
		x.body.done()
	}
	h.report(r, x, &t)
	if err != nil {
		return nil, err
	}
	h.logGuest(f, answer, &t)
	if answer.Outcome != engine.OutcomeOK {
		if answer.Status == http.StatusServiceUnavailable && (x.passage == nil || !x.passage.begun()) {
			w.Header().Set("Retry-After", "1")
		}
		err := h.refuse(f, answer, &t)
		if x.passage != nil && x.passage.begun() {
			// The client has got a response already, or a part of it. An error page would be added to that.
			return nil, nil
		}
		if x.passage != nil {
			x.passage.forget()
		}
		return nil, err
	}
	if x.passage != nil {
		return nil, x.passage.respond(r, x)
	}
	if on != nil {
		return on.apply(w, r, x), nil
	}
	return nil, writeResponse(w, r, x)
}

// endStream ends the response of a function that streams, after its guest has ended. With an error, the outcome is not ok.
func (h *Handler) endStream(r *http.Request, f *sharedFunction, x *exchange, t *traced, err error) error {
	answer := &x.result.Answer
	if x.stream.bodiless && answer.Outcome == engine.OutcomeCancelled && r.Context().Err() == nil {
		// It was dropped because there is no body to send.
		answer.Outcome = engine.OutcomeOK
	}
	h.report(r, x, t)
	h.logGuest(f, answer, t)
	// For the log: no error page can be sent any more.
	logCut := func(why error) {
		h.logger.Error("the stream of a function was cut",
			zap.String("function", f.info.Name), zap.String("trace_id", t.id), zap.Error(why))
	}
	switch failed := (caddyhttp.HandlerError{}); {
	case err == nil && answer.Outcome == engine.OutcomeOK:
	case err == nil:
		_ = h.refuse(f, answer, t)
	case errors.As(err, &failed) && failed.StatusCode == statusClientGone:
	default:
		logCut(err)
	}
	err = x.stream.end(answer)
	if errors.Is(err, errLength) {
		logCut(err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// report publishes the stats and the outcome of a call: placeholders, span and metrics.
func (h *Handler) report(r *http.Request, x *exchange, t *traced) {
	answer := &x.result.Answer
	x.stats.publish(r, answer)
	t.end(answer.Outcome)
	h.meters.observe(answer.Outcome, x.stats.duration.Seconds(), t)
	if x.stream.begun {
		h.meters.firstByte.Observe(x.stream.headAt.Sub(x.stats.arrived).Seconds())
	}
	if n := x.stats.received; n > 0 {
		h.meters.received.Add(float64(n))
	}
	if n := x.stream.sent + int64(len(answer.Body)); n > 0 {
		h.meters.sent.Add(float64(n))
	}
}

// logGuest writes what the guest has logged.
func (h *Handler) logGuest(f *sharedFunction, answer *engine.Answer, t *traced) {
	log := h.guestLog
	log.positions = f.positions
	log.write(answer, t.id)
}

// call admits the request and runs the guest. x.result.Answer has the outcome, also if there is an error.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, f *sharedFunction, x *exchange, t *traced) error {
	ctx := r.Context()
	arrived := time.Now()
	x.stats.arrived = arrived
	var err error
	m := f.engine.memory
	x.answered.memory = m
	if h.Contract == contractCGI {
		err = h.readCGI(x, f, r, t)
	} else {
		err = h.readWhole(x, f, r, t)
	}
	if err != nil {
		return h.notCalled(x, arrived, err)
	}

	turnedAway := func(err error) error {
		return h.notCalled(x, time.Now().Add(-x.stats.queued), f.notAdmitted(w, ctx, err))
	}
	if x.stats.queued, err = f.admit(ctx, time.Duration(h.QueueTimeout), h.meters.queued); err != nil {
		return turnedAway(err)
	}
	defer f.leave()
	// A call for whose start the engine has no memory has not begun: it is tried again when some was given back.
	var refused error
	full := m.within(ctx, time.Duration(h.QueueTimeout), func() bool {
		var id engine.CallID
		if id, refused = f.engine.NewCall(); refused != nil {
			return true
		}
		f.active.Add(1)
		h.meters.active.Inc()
		defer func() {
			h.meters.active.Dec()
			f.active.Add(-1)
			x.canceller.end()
		}()
		err = h.run(ctx, f, x, id)
		return err != nil || !x.result.Answer.MemoryFull()
	})
	if refused == nil {
		refused = full
	}
	if refused != nil {
		return turnedAway(refused)
	}
	if x.result.Answer.Held > 0 {
		x.answered.adopt(x.result.Answer.Held, &m.answers)
	}
	m.wake()
	x.stats.duration = x.result.Answer.Duration
	if failed := (caddyhttp.HandlerError{}); errors.As(err, &failed) {
		// The rest of the body could not be read, or there is no memory for a response.
		return h.notCalled(x, arrived, err)
	}
	if err != nil && (ctx.Err() != nil || errors.Is(err, errQueueTimeout)) {
		return turnedAway(err)
	}
	if err != nil {
		x.result.Answer.Outcome = engine.OutcomeError
		return caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("function %s: %w", f.info.Name, err))
	}
	return nil
}

// readWhole prepares a request for a function that gets the whole body with the call: it reads the body and writes the head.
func (h *Handler) readWhole(x *exchange, f *sharedFunction, r *http.Request, t *traced) (err error) {
	if x.unread = x.passage != nil && !f.facts.ReadsBody; x.unread {
		x.body.reset()
	} else if err = h.readBody(x, f, r); err != nil {
		return err
	}
	body := x.body.bytes()
	if x.passage != nil {
		x.passage.memory = f.engine.memory
		x.passage.writeHead(&x.head, r, h.noter)
	} else {
		writeHead(&x.head, r, t, h.noter, int64(len(body)), nil)
	}
	if err := writePerRequest(&x.head, r, h.perRequest, body); err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	return nil
}

// readBody reads the whole body of the request, within the memory of all calls.
func (h *Handler) readBody(x *exchange, f *sharedFunction, r *http.Request) error {
	if err := x.body.read(r, h.MaxBody, f.engine.memory); err != nil {
		return err
	}
	err := x.body.load(r.Context(), time.Duration(h.QueueTimeout), f.engine.memory)
	if err != nil {
		return f.notAdmitted(x.stream.w, r.Context(), err)
	}
	x.stats.received = int64(len(x.body.bytes()))
	return nil
}

// notCalled sets the stats and the outcome of a request whose guest did not run, and returns its error.
func (h *Handler) notCalled(x *exchange, since time.Time, err error) error {
	x.stats.duration = time.Since(since)
	x.result.Answer.Outcome = engine.OutcomeRejected
	var failed caddyhttp.HandlerError
	if errors.As(err, &failed) && failed.StatusCode == statusClientGone {
		x.result.Answer.Outcome = engine.OutcomeCancelled
	}
	return err
}

// notAdmitted returns the error for a request that got no permit.
func (f *sharedFunction) notAdmitted(w http.ResponseWriter, ctx context.Context, err error) error {
	name := f.info.Name
	if ctx.Err() != nil {
		return caddyhttp.Error(statusClientGone, fmt.Errorf("function %s: the client went away while its request waited", name))
	}
	w.Header().Set("Retry-After", "1")
	return caddyhttp.Error(http.StatusServiceUnavailable, fmt.Errorf("function %s: %w", name, err))
}

// refuse returns the error for a call that did not end well. It also logs the broken rule, because Caddy logs the error at the
// debug level if the site has handle_errors.
func (h *Handler) refuse(f *sharedFunction, answer *engine.Answer, t *traced) error {
	name := f.info.Name
	if answer.Outcome == engine.OutcomeCancelled {
		return caddyhttp.Error(statusClientGone, fmt.Errorf("function %s: the client went away", name))
	}
	if c := h.logger.Check(zapcore.ErrorLevel, "the function's answer was refused"); c != nil {
		c.Write(
			zap.String("function", name),
			zap.String("trace_id", t.id),
			zap.Stringer("outcome", answer.Outcome),
			zap.String("reason", escapeControl(string(answer.Reason))),
			zap.Duration("duration", answer.Duration),
		)
	}
	return caddyhttp.Error(answer.Status, fmt.Errorf("function %s: %s", name, answer.Outcome))
}

// exchange has the buffers and the state of one request. Exchanges are reused, so that a request makes hardly any garbage.
type exchange struct {
	head   engine.Head
	body   incoming
	out    []byte
	result engine.Result
	// answered is the memory that the answer holds.
	answered  holding
	stats     callStats
	canceller canceller
	turn      turn
	// request and trace are those of the running request, for what its guest asks of the host; use is what it has used.
	request *http.Request
	trace   *traced
	use     *callUse
	// passage is that of a request with the contract http-wasm. unread says that the request's body was not read into body.
	passage *passage
	unread  bool
	stream  stream
	// upload is the body of a request that its guest reads as it arrives, or nil.
	upload *upload
}

var exchanges = sync.Pool{New: func() any { return &exchange{out: make([]byte, 0, 16<<10)} }}

// maxKept is the largest buffer that is kept for another request, in bytes.
const maxKept = 256 << 10

func (x *exchange) done() {
	x.body.done()
	x.result.Answer.Free()
	x.answered.give()
	if cap(x.out) > maxKept {
		x.out = make([]byte, 0, 16<<10)
	}
	if x.passage != nil {
		x.passage.free()
	}
	x.result = engine.Result{}
	x.request, x.trace, x.use, x.passage = nil, nil, nil, nil
	x.unread = false
	x.upload.close()
	x.upload = nil
	x.stream = stream{}
	exchanges.Put(x)
}

// callStats are the figures of a call, for placeholders and metrics.
type callStats struct {
	queued, duration time.Duration
	arrived          time.Time
	// received is how many bytes of the request's body were read.
	received int64
}

// published are the stats of the function that ran last for a request, as placeholders show them.
type published struct {
	callStats
	outcome engine.Outcome
	peak    uint64
}

// publishedVar is the variable of a request that holds its [published], if more than one function may run for it.
const publishedVar = "gojinn.published"

// publish sets the placeholders {http.gojinn.*}.
func (s *callStats) publish(r *http.Request, answer *engine.Answer) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	vars := requestVars(r)
	now := published{*s, min(answer.Outcome, engine.OutcomeError), answer.MemoryPeak}
	if earlier, ok := vars[publishedVar].(*published); ok {
		*earlier = now
		return
	}
	// Few configs use these placeholders. Setting four values would cost every request more than one function does.
	if answer.Outcome == engine.OutcomeOK && !answer.GoesOn() {
		repl.Map(func(key string) (any, bool) { return now.get(key, nil) })
		return
	}
	// The replacer asks the first function's values first, so a later function replaces them.
	latest := new(published)
	*latest = now
	if vars != nil {
		vars[publishedVar] = latest
	}
	repl.Map(func(key string) (any, bool) { return latest.get(key, vars) })
}

// get returns the value of a placeholder {http.gojinn.*}.
func (p published) get(key string, vars map[string]any) (any, bool) {
	name, ours := strings.CutPrefix(key, "http.gojinn.")
	if !ours {
		return nil, false
	}
	switch name {
	case "duration_ms":
		return p.duration.Seconds() * 1e3, true
	case "queued_ms":
		return p.queued.Seconds() * 1e3, true
	case "outcome":
		return p.outcome.String(), true
	case "memory_peak":
		return p.peak, true
	}
	if name, ours = strings.CutPrefix(name, "vars."); ours {
		set, _ := vars[functionVars].(map[string]string)
		// As with {http.vars.*}, one that is not set is empty.
		return set[name], true
	}
	return nil, false
}

// Interface guards
var _ caddyhttp.MiddlewareHandler = (*Handler)(nil)
