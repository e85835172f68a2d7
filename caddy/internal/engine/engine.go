//go:build cgo

// This file has the engine over the C ABI.

package engine

/*
#cgo pkg-config: gojinn

#cgo noescape gojinn_engine_new
#cgo nocallback gojinn_engine_new
#cgo noescape gojinn_engine_free
#cgo nocallback gojinn_engine_free
#cgo noescape gojinn_engine_describe
#cgo nocallback gojinn_engine_describe
#cgo noescape gojinn_engine_metrics
#cgo nocallback gojinn_engine_metrics
#cgo noescape gojinn_engine_purge_cache
#cgo nocallback gojinn_engine_purge_cache
#cgo noescape gojinn_cancel_new
#cgo nocallback gojinn_cancel_new
#cgo noescape gojinn_cancel_set
#cgo nocallback gojinn_cancel_set
#cgo noescape gojinn_cancel_free
#cgo nocallback gojinn_cancel_free
#cgo noescape gojinn_function_new
#cgo nocallback gojinn_function_new
#cgo noescape gojinn_function_free
#cgo nocallback gojinn_function_free
#cgo noescape gojinn_function_describe
#cgo nocallback gojinn_function_describe
#cgo noescape gojinn_call_new
#cgo nocallback gojinn_call_new
#cgo noescape gojinn_call_free
#cgo nocallback gojinn_call_free
#cgo noescape gojinn_call_cancel
#cgo nocallback gojinn_call_cancel
#cgo noescape gojinn_function_call
#cgo nocallback gojinn_function_call
#cgo noescape gojinn_call_resume
#cgo nocallback gojinn_call_resume
#cgo noescape gojinn_call_drop
#cgo nocallback gojinn_call_drop
#cgo noescape gojinn_rest_read
#cgo nocallback gojinn_rest_read
#cgo noescape gojinn_rest_free
#cgo nocallback gojinn_rest_free
#cgo noescape gojinn_memory_take
#cgo nocallback gojinn_memory_take
#cgo noescape gojinn_memory_give
#cgo nocallback gojinn_memory_give
#cgo noescape gojinn_error_message
#cgo nocallback gojinn_error_message
#cgo noescape gojinn_error_free
#cgo nocallback gojinn_error_free
#cgo noescape gojinn_abi_version
#cgo nocallback gojinn_abi_version

#include "gojinn.h"
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// New makes an engine.
func New(config *Config) (Engine, error) {
	if got := C.gojinn_abi_version(); got != C.GOJINN_ABI_VERSION {
		return nil, fmt.Errorf("the Gojinn library has version %d of its ABI, and this Caddy was built for version %d; "+
			"build both from one checkout with `make lib caddy`", uint32(got), uint32(C.GOJINN_ABI_VERSION))
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var ptr *C.gojinn_engine
	var failure *C.gojinn_error
	code := C.gojinn_engine_new(pointer(text), C.size_t(len(text)), &ptr, &failure)
	if code != C.GOJINN_OK {
		return nil, takeError(code, failure)
	}
	e := &engine{}
	e.handle.open(unsafe.Pointer(ptr), &liveEngines, func(p unsafe.Pointer) { C.gojinn_engine_free((*C.gojinn_engine)(p)) })
	return e, nil
}

// Live returns how many engines and functions were made and not yet freed, in the whole process.
func Live() (engines, functions int64) {
	return liveEngines.Load(), liveFunctions.Load()
}

var liveEngines, liveFunctions atomic.Int64

type engine struct {
	handle handle
}

func (e *engine) NewFunction(ctx context.Context, wasm []byte, config *FunctionConfig) (Function, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cancel, free := newCancel(ctx)
	defer free()
	var ptr *C.gojinn_function
	var failure *C.gojinn_error
	code := C.gojinn_function_new(e.ptr(), pointer(wasm), C.size_t(len(wasm)),
		pointer(text), C.size_t(len(text)), cancel, &ptr, &failure)
	runtime.KeepAlive(e)
	if code != C.GOJINN_OK {
		return nil, takeError(code, failure)
	}
	f := &function{}
	f.handle.open(unsafe.Pointer(ptr), &liveFunctions, func(p unsafe.Pointer) { C.gojinn_function_free((*C.gojinn_function)(p)) })
	return f, nil
}

// newCancel returns the object by which the library learns of the end of ctx. The caller must call free after the last use.
func newCancel(ctx context.Context) (cancel *C.gojinn_cancel, free func()) {
	cancel = C.gojinn_cancel_new()
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(set)
		C.gojinn_cancel_set(cancel)
	})
	return cancel, func() {
		if !stop() {
			<-set
		}
		C.gojinn_cancel_free(cancel)
	}
}

func (e *engine) NewCall() (CallID, error) {
	var id C.uint64_t
	code := C.gojinn_call_new(e.ptr(), &id)
	runtime.KeepAlive(e)
	if code != C.GOJINN_OK {
		return 0, codeError(code)
	}
	return CallID(id), nil
}

func (e *engine) FreeCall(id CallID) {
	C.gojinn_call_free(e.ptr(), C.uint64_t(id))
	runtime.KeepAlive(e)
}

func (e *engine) Cancel(id CallID) {
	C.gojinn_call_cancel(e.ptr(), C.uint64_t(id))
	runtime.KeepAlive(e)
}

func (e *engine) TakeMemory(bytes int64) bool {
	code := C.gojinn_memory_take(e.ptr(), C.uint64_t(bytes))
	runtime.KeepAlive(e)
	return code == C.GOJINN_OK
}

func (e *engine) GiveMemory(bytes int64) {
	C.gojinn_memory_give(e.ptr(), C.uint64_t(bytes))
	runtime.KeepAlive(e)
}

func (e *engine) Describe() ([]byte, error) {
	defer runtime.KeepAlive(e)
	return readAll(func(out []byte, n *C.size_t) C.int32_t {
		return C.gojinn_engine_describe(e.ptr(), pointer(out), C.size_t(len(out)), n)
	})
}

func (e *engine) PurgeCache() (Purged, error) {
	var entries, bytes C.uint64_t
	var failure *C.gojinn_error
	code := C.gojinn_engine_purge_cache(e.ptr(), &entries, &bytes, &failure)
	runtime.KeepAlive(e)
	if code != C.GOJINN_OK {
		return Purged{}, takeError(code, failure)
	}
	return Purged{Entries: uint64(entries), Bytes: uint64(bytes)}, nil
}

func (e *engine) Metrics() ([]byte, error) {
	defer runtime.KeepAlive(e)
	return readAll(func(out []byte, n *C.size_t) C.int32_t {
		return C.gojinn_engine_metrics(e.ptr(), pointer(out), C.size_t(len(out)), n)
	})
}

func (e *engine) Close() { e.handle.close() }

func (e *engine) ptr() *C.gojinn_engine { return (*C.gojinn_engine)(e.handle.use()) }

type function struct {
	handle handle
}

func (f *function) Call(id CallID, head, body, out []byte, result *Result) ([]byte, error) {
	var raw filled
	out = out[:cap(out)]
	code := C.gojinn_function_call(f.ptr(), C.uint64_t(id),
		pointer(head), C.size_t(len(head)), pointer(body), C.size_t(len(body)),
		pointer(out), C.size_t(len(out)), &raw.answer, &raw.event, &raw.rest)
	runtime.KeepAlive(f)
	return raw.read(code, out, result)
}

func (e *engine) Resume(id CallID, code int32, reply, out []byte, result *Result) ([]byte, error) {
	var raw filled
	out = out[:cap(out)]
	status := C.gojinn_call_resume(e.ptr(), C.uint64_t(id), C.int32_t(code), pointer(reply), C.size_t(len(reply)),
		pointer(out), C.size_t(len(out)), &raw.answer, &raw.event, &raw.rest)
	runtime.KeepAlive(e)
	return raw.read(status, out, result)
}

func (e *engine) Drop(id CallID) {
	C.gojinn_call_drop(e.ptr(), C.uint64_t(id))
	runtime.KeepAlive(e)
}

// filled is what the library fills in a call.
type filled struct {
	answer C.gojinn_answer
	event  C.gojinn_event
	rest   *C.gojinn_rest
}

// read makes a result of what the library has filled in, with its frame in out or in a larger buffer.
func (raw *filled) read(code C.int32_t, out []byte, result *Result) ([]byte, error) {
	var parts lengths
	switch code {
	case C.GOJINN_OK:
		parts = lengths{
			headers: uint64(raw.answer.headers_len),
			reason:  uint64(raw.answer.reason_len),
			logs:    uint64(raw.answer.logs_len),
			body:    uint64(raw.answer.body_len),
			next:    uint64(raw.answer.next_len),
		}
	case C.GOJINN_WAITING:
		// The four parts of an event, by the names of an answer's.
		parts = lengths{
			headers: uint64(raw.event.headers_len),
			reason:  uint64(raw.event.output_len),
			logs:    uint64(raw.event.operation_len),
			body:    uint64(raw.event.request_len),
		}
	default:
		return out, codeError(code)
	}
	n, ok := parts.total()
	frame := out
	var mapped []byte
	if raw.rest != nil {
		read := C.int32_t(C.GOJINN_OK)
		if ok && n > longFrame && code == C.GOJINN_OK {
			var err error
			if mapped, err = NewBuffer(n); err != nil {
				C.gojinn_rest_free(raw.rest)
				return out, &Error{Code: CodeHost, Message: "no memory for the answer: " + err.Error()}
			}
			frame = mapped
		} else if ok {
			out = make([]byte, n)
			frame = out
		}
		if ok {
			read = C.gojinn_rest_read(raw.rest, pointer(frame), C.size_t(len(frame)))
		}
		C.gojinn_rest_free(raw.rest)
		if read != C.GOJINN_OK {
			return out, codeError(read)
		}
	}
	if !ok || n > len(frame) {
		return out, &Error{Code: CodeHost, Message: "the frame of a call is longer than its buffer"}
	}
	result.Waits = code == C.GOJINN_WAITING
	if result.Waits {
		rest := out[parts.headers:n]
		event := &result.Event
		*event = Event{
			Kind:      EventKind(raw.event.kind),
			Until:     nanoseconds(raw.event.until_ns),
			Deadline:  nanoseconds(raw.event.deadline_ns),
			HasHead:   raw.event.status != 0,
			Output:    rest[:parts.reason],
			Operation: rest[parts.reason : parts.reason+parts.logs],
			Request:   rest[parts.reason+parts.logs:],
		}
		event.Head = Answer{
			Status:      int(raw.event.status),
			NamesStatus: raw.event.names_status != 0,
			HeaderCount: int(raw.event.headers),
		}
		return out, event.Head.split(out[:parts.headers], lengths{headers: parts.headers})
	}
	answer := &result.Answer
	*answer = Answer{
		Outcome:         Outcome(raw.answer.outcome),
		Status:          int(raw.answer.status),
		NamesStatus:     raw.answer.names_status != 0,
		IsRest:          raw.answer.is_rest != 0,
		Duration:        time.Duration(raw.answer.duration_ns),
		MemoryPeak:      uint64(raw.answer.memory_peak),
		LogsDropped:     uint64(raw.answer.logs_dropped),
		LogLinesDropped: uint64(raw.answer.log_lines_dropped),
		HeaderCount:     int(raw.answer.headers),
		Held:            int64(raw.answer.held),
		mapped:          mapped,
	}
	return out, answer.split(frame[:n], parts)
}

// nanoseconds converts a time of the library, whose largest value means never.
func nanoseconds(n C.uint64_t) time.Duration {
	if n > math.MaxInt64 {
		return -1
	}
	return time.Duration(n)
}

func (f *function) Describe() ([]byte, error) {
	defer runtime.KeepAlive(f)
	return readAll(func(out []byte, n *C.size_t) C.int32_t {
		return C.gojinn_function_describe(f.ptr(), pointer(out), C.size_t(len(out)), n)
	})
}

func (f *function) Close() { f.handle.close() }

func (f *function) ptr() *C.gojinn_function { return (*C.gojinn_function)(f.handle.use()) }

// handle owns one opaque pointer of the library. The garbage collector closes a handle that was not closed.
type handle struct {
	ptr     atomic.Pointer[owned]
	cleanup runtime.Cleanup
}

// owned is the part of a handle that the collector's cleanup gets. It must not refer to the handle.
type owned struct {
	ptr  unsafe.Pointer
	live *atomic.Int64
	free func(unsafe.Pointer)
}

func (o *owned) release() {
	o.free(o.ptr)
	o.live.Add(-1)
}

func (h *handle) open(ptr unsafe.Pointer, live *atomic.Int64, free func(unsafe.Pointer)) {
	live.Add(1)
	o := &owned{ptr: ptr, live: live, free: free}
	h.ptr.Store(o)
	h.cleanup = runtime.AddCleanup(h, (*owned).release, o)
}

// use returns the pointer for one call, during which the caller must keep the handle alive.
func (h *handle) use() unsafe.Pointer {
	o := h.ptr.Load()
	if o == nil {
		panic("engine: used after Close")
	}
	return o.ptr
}

// close frees the pointer the first time it is called.
func (h *handle) close() {
	if o := h.ptr.Swap(nil); o != nil {
		h.cleanup.Stop()
		o.release()
	}
	runtime.KeepAlive(h)
}

// readAll reads a text whose length only the library knows. It grows the buffer until the text fits.
func readAll(read func(out []byte, n *C.size_t) C.int32_t) ([]byte, error) {
	out := make([]byte, 4096)
	for {
		var n C.size_t
		if code := read(out, &n); code != C.GOJINN_OK {
			return nil, codeError(code)
		}
		if int(n) <= len(out) {
			return out[:n], nil
		}
		// The text may be longer when it is read again.
		out = make([]byte, int(n)+int(n)/4)
	}
}

// takeError returns a failure of the library as an error, and frees the failure.
func takeError(code C.int32_t, failure *C.gojinn_error) error {
	if failure == nil {
		return codeError(code)
	}
	defer C.gojinn_error_free(failure)
	n := C.gojinn_error_message(failure, nil, 0)
	text := make([]byte, int(n))
	C.gojinn_error_message(failure, pointer(text), n)
	return &Error{Code: Code(code), Message: string(text)}
}

func codeError(code C.int32_t) error {
	var text string
	switch code {
	case C.GOJINN_REJECTED:
		text = "as many calls are running as max_concurrency allows"
	case C.GOJINN_PANIC:
		text = "the engine panicked; this is a bug in Gojinn, please report it"
	case C.GOJINN_BAD_FRAME:
		text = "the engine could not read the request; this is a bug in Gojinn, please report it"
	default:
		text = fmt.Sprintf("the engine failed with code %d", int32(code))
	}
	return &Error{Code: Code(code), Message: text}
}

// pointer returns the address of b's bytes for C, or nil if there are none.
func pointer(b []byte) *C.uint8_t {
	if len(b) == 0 {
		return nil
	}
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b)))
}

// Interface guards
var (
	_ Engine   = (*engine)(nil)
	_ Function = (*function)(nil)
)
