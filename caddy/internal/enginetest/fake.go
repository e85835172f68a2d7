// Package enginetest has a fake engine: tests of the plugin define in Go what a function does.
package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// Fake makes engines whose functions run Handle.
type Fake struct {
	// Make may refuse the settings of an engine. Nil accepts everything.
	Make func(*engine.Config) error
	// About returns an engine's description, as JSON. Nil describes nothing.
	About func() string
	// Metrics returns an engine's metrics, as Prometheus text. Nil returns one counter, gojinn_fake_total.
	Metrics func() ([]byte, error)
	// Admit may refuse a call. Nil refuses only calls beyond the engine's MaxConcurrency.
	Admit func() error
	// Handle answers one call. Nil answers 200 and echoes the body.
	Handle func(*Call) Reply
	// Steps answers one call that waits: it is called for each event, with the reply to the one before, and returns an event
	// or, at the end, nil and an answer. Nil lets no call wait.
	Steps func(call *Call, step int, code int32, reply []byte) (*engine.Event, Reply)
	// Deploy may refuse a module. Nil accepts everything.
	Deploy func(wasm []byte, config *engine.FunctionConfig) error
	// Describe returns a function's description, as JSON. Nil describes nothing.
	Describe func(config *engine.FunctionConfig) string

	// Purge empties the cache. Nil finds nothing in it.
	Purge func() (engine.Purged, error)

	// Engines and Functions count what was made, Open what is neither closed nor collected.
	Engines, Functions, Open atomic.Int64
	// Permits is how many calls hold a permit.
	Permits atomic.Int64
	// Memory is how much of its engines' memory the plugin has taken.
	Memory atomic.Int64

	next atomic.Uint64
	// Dropped counts the calls that were dropped while they waited.
	Dropped atomic.Int64

	mu        sync.Mutex
	cancelled map[engine.CallID]chan struct{}
	waiting   map[engine.CallID]*waitingCall
}

// waitingCall is a call of Steps.
type waitingCall struct {
	call *Call
	step int
}

// Call is a call as the engine gets it.
type Call struct {
	Config *engine.FunctionConfig
	// Module is what the function was deployed from.
	Module []byte
	Head   *engine.DecodedHead
	Body   []byte
	// Cancelled is closed when the call is cancelled.
	Cancelled <-chan struct{}
}

// Header returns the first value of a header, or "".
func (c *Call) Header(name string) string {
	for _, h := range c.Head.Headers {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

// Reply is the result of a fake function. A response without a status leaves Status zero.
type Reply struct {
	engine.Answer
	Headers [][2]string
	Reason  string
	Logs    []engine.LogLine
	Body    []byte
	// Next lets the request go on to the next handler. Nil answers it.
	Next *engine.Next
	Err  error
}

// OK returns a reply with status 200.
func OK(body string, headers ...[2]string) Reply {
	return Reply{Answer: engine.Answer{Status: 200}, Headers: headers, Body: []byte(body)}
}

// Refused returns a reply with an outcome that is not ok.
func Refused(outcome engine.Outcome, status int, reason string) Reply {
	return Reply{Answer: engine.Answer{Outcome: outcome, Status: status}, Reason: reason}
}

// New replaces engine.New.
func (f *Fake) New(config *engine.Config) (engine.Engine, error) {
	if f.Make != nil {
		if err := f.Make(config); err != nil {
			return nil, err
		}
	}
	f.Engines.Add(1)
	e := &fakeEngine{fake: f, config: *config}
	e.handle.open(f)
	return e, nil
}

// handle counts an engine or a function as open until it is closed or, as the real ones, collected.
type handle struct {
	closed  atomic.Bool
	cleanup runtime.Cleanup
}

func (h *handle) open(f *Fake) {
	f.Open.Add(1)
	h.cleanup = runtime.AddCleanup(h, func(open *atomic.Int64) { open.Add(-1) }, &f.Open)
}

func (h *handle) close(f *Fake) {
	if !h.closed.Swap(true) {
		h.cleanup.Stop()
		f.Open.Add(-1)
	}
}

type fakeEngine struct {
	fake   *Fake
	config engine.Config
	handle handle
}

func (e *fakeEngine) NewFunction(ctx context.Context, wasm []byte, config *engine.FunctionConfig) (engine.Function, error) {
	if e.handle.closed.Load() {
		panic("enginetest: used after Close")
	}
	if e.fake.Deploy != nil {
		if err := e.fake.Deploy(wasm, config); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, &engine.Error{Code: engine.CodeCancelled, Message: "cancelled"}
	}
	e.fake.Functions.Add(1)
	f := &fakeFunction{engine: e, config: config, module: wasm}
	f.handle.open(e.fake)
	return f, nil
}

func (e *fakeEngine) NewCall() (engine.CallID, error) {
	f := e.fake
	if f.Admit != nil {
		if err := f.Admit(); err != nil {
			return 0, err
		}
	}
	if limit := int64(e.config.MaxConcurrency); f.Permits.Add(1) > limit && limit > 0 {
		f.Permits.Add(-1)
		return 0, &engine.Error{Code: engine.CodeRejected, Message: "every permit is taken"}
	}
	id := engine.CallID(f.next.Add(1))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancelled == nil {
		f.cancelled = map[engine.CallID]chan struct{}{}
	}
	f.cancelled[id] = make(chan struct{})
	return id, nil
}

func (e *fakeEngine) FreeCall(id engine.CallID) {
	e.fake.mu.Lock()
	defer e.fake.mu.Unlock()
	delete(e.fake.cancelled, id)
	e.fake.Permits.Add(-1)
}

func (e *fakeEngine) Cancel(id engine.CallID) {
	e.fake.mu.Lock()
	defer e.fake.mu.Unlock()
	if c, ok := e.fake.cancelled[id]; ok {
		select {
		case <-c:
		default:
			close(c)
		}
	}
}

func (e *fakeEngine) Resume(id engine.CallID, code int32, reply, out []byte, result *engine.Result) ([]byte, error) {
	fake := e.fake
	fake.mu.Lock()
	w := fake.waiting[id]
	delete(fake.waiting, id)
	fake.mu.Unlock()
	if w == nil {
		return out, &engine.Error{Code: 104, Message: "stale call"}
	}
	select {
	case <-w.call.Cancelled:
		return e.finish(id, out, Refused(engine.OutcomeCancelled, 499, "cancelled"), result)
	default:
	}
	return e.step(id, w, code, reply, out, result)
}

// step makes the next step of a call.
func (e *fakeEngine) step(id engine.CallID, w *waitingCall, code int32, reply, out []byte, result *engine.Result) ([]byte, error) {
	event, answer := e.fake.Steps(w.call, w.step, code, reply)
	w.step++
	if event == nil {
		return e.finish(id, out, answer, result)
	}
	result.Waits, result.Event = true, *event
	e.fake.mu.Lock()
	defer e.fake.mu.Unlock()
	if e.fake.waiting == nil {
		e.fake.waiting = map[engine.CallID]*waitingCall{}
	}
	e.fake.waiting[id] = w
	return out, nil
}

// finish ends a call with an answer.
func (e *fakeEngine) finish(id engine.CallID, out []byte, reply Reply, result *engine.Result) ([]byte, error) {
	e.FreeCall(id)
	if reply.Err != nil {
		return out, reply.Err
	}
	result.Waits = false
	answer := &result.Answer
	*answer = reply.Answer
	if answer.NamesStatus = answer.Status != 0; !answer.NamesStatus {
		answer.Status = 200
	}
	if reply.Next != nil {
		return engine.NewChanged(out, answer, reply.Next, reply.Reason, reply.Logs, reply.Body), nil
	}
	return engine.NewAnswer(out, answer, reply.Headers, reply.Reason, reply.Logs, reply.Body), nil
}

func (e *fakeEngine) Drop(id engine.CallID) {
	e.fake.mu.Lock()
	_, waits := e.fake.waiting[id]
	delete(e.fake.waiting, id)
	e.fake.mu.Unlock()
	if waits {
		e.fake.Dropped.Add(1)
		e.FreeCall(id)
	}
}

func (e *fakeEngine) TakeMemory(bytes int64) bool {
	if most := e.config.MaxMemory; e.fake.Memory.Add(bytes) > most && most > 0 {
		e.fake.Memory.Add(-bytes)
		return false
	}
	return true
}

func (e *fakeEngine) GiveMemory(bytes int64) { e.fake.Memory.Add(-bytes) }

func (e *fakeEngine) Describe() ([]byte, error) {
	if e.fake.About != nil {
		return []byte(e.fake.About()), nil
	}
	return fmt.Appendf(nil, `{"max_concurrency":%d,"max_memory":%d}`, e.config.MaxConcurrency, e.config.MaxMemory), nil
}

func (e *fakeEngine) PurgeCache() (engine.Purged, error) {
	if e.fake.Purge == nil {
		return engine.Purged{}, nil
	}
	return e.fake.Purge()
}

func (e *fakeEngine) Metrics() ([]byte, error) {
	if e.fake.Metrics != nil {
		return e.fake.Metrics()
	}
	return []byte("# HELP gojinn_fake_total A counter of the fake.\n# TYPE gojinn_fake_total counter\ngojinn_fake_total 3\n"), nil
}

func (e *fakeEngine) Close() { e.handle.close(e.fake) }

type fakeFunction struct {
	engine *fakeEngine
	config *engine.FunctionConfig
	module []byte
	handle handle
}

func (f *fakeFunction) Call(id engine.CallID, head, body, out []byte, result *engine.Result) ([]byte, error) {
	if f.handle.closed.Load() {
		panic("enginetest: used after Close")
	}
	fake := f.engine.fake
	fake.mu.Lock()
	cancelled, ok := fake.cancelled[id]
	fake.mu.Unlock()
	if !ok {
		return out, &engine.Error{Code: 104, Message: "stale call"}
	}
	decoded, err := engine.DecodeHead(head)
	if err != nil {
		f.engine.FreeCall(id)
		return out, err
	}
	if fake.Steps != nil {
		call := &Call{Config: f.config, Module: f.module, Head: decoded, Body: bytes.Clone(body), Cancelled: cancelled}
		return f.engine.step(id, &waitingCall{call: call}, 0, nil, out, result)
	}
	defer f.engine.FreeCall(id)
	reply := OK(string(body))
	start := time.Now()
	if fake.Handle != nil {
		reply = fake.Handle(&Call{Config: f.config, Module: f.module, Head: decoded, Body: body, Cancelled: cancelled})
	}
	if reply.Err != nil {
		return out, reply.Err
	}
	result.Waits = false
	answer := &result.Answer
	*answer = reply.Answer
	if answer.NamesStatus = answer.Status != 0; !answer.NamesStatus {
		answer.Status = 200
	}
	answer.Duration = time.Since(start)
	if n := int64(len(reply.Body)); n > 64<<10 && f.engine.TakeMemory(n) {
		answer.Held = n
	}
	if f.handle.closed.Load() {
		panic("enginetest: closed during a call")
	}
	if reply.Next != nil {
		return engine.NewGoesOn(out, answer, reply.Next, reply.Logs), nil
	}
	return engine.NewAnswer(out, answer, reply.Headers, reply.Reason, reply.Logs, reply.Body), nil
}

func (f *fakeFunction) Describe() ([]byte, error) {
	if describe := f.engine.fake.Describe; describe != nil {
		return []byte(describe(f.config)), nil
	}
	return []byte(`{}`), nil
}

func (f *fakeFunction) Close() { f.handle.close(f.engine.fake) }

// Interface guards
var (
	_ engine.Engine   = (*fakeEngine)(nil)
	_ engine.Function = (*fakeFunction)(nil)
)
