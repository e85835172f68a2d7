// Package engine is Gojinn's engine as Go sees it: engines, functions and calls over the C ABI of docs/abi.md.
//
// It is the only package of the plugin that imports "C". Built without cgo it still compiles, and [New] says what to run.
package engine

import (
	"context"
	"fmt"
	"time"
)

// Engine runs functions. All methods may be called from any goroutine.
type Engine interface {
	// NewFunction compiles and deploys wasm, which may take seconds. At the end of ctx it stops waiting and returns an error
	// with CodeCancelled.
	NewFunction(ctx context.Context, wasm []byte, config *FunctionConfig) (Function, error)
	// Resume goes on with a call that waits, on the calling thread, with the reply to its event: code is 0 or the negative code
	// of a host call. It returns as Function.Call does. A call that was cancelled or whose deadline has passed ends here.
	Resume(id CallID, code int32, reply, out []byte, result *Result) ([]byte, error)
	// Drop ends a call that waits, without an answer. With a stale id it does nothing.
	Drop(CallID)
	// NewCall takes a permit for a call. The id must be passed to exactly one of Function.Call and FreeCall.
	NewCall() (CallID, error)
	// FreeCall returns the permit of a call that was not passed to Function.Call.
	FreeCall(CallID)
	// Cancel ends a call soon. It may be called at any time; with a stale id it does nothing.
	Cancel(CallID)
	// TakeMemory takes bytes of the memory that all calls may hold together, and says whether it could.
	TakeMemory(bytes int64) bool
	// GiveMemory gives back what TakeMemory took, or an answer held.
	GiveMemory(bytes int64)
	// Describe returns a description of the engine, as JSON.
	Describe() ([]byte, error)
	// PurgeCache removes all compiled code from the disk and returns how much that was. Without a cache the error has
	// CodeBadConfig.
	PurgeCache() (Purged, error)
	// Metrics returns the engine's metrics, as Prometheus text.
	Metrics() ([]byte, error)
	// Close frees the engine. Its functions continue to work. It may be called twice; every other method panics after it.
	Close()
}

// Function is one deployed function. All methods may be called from any goroutine.
type Function interface {
	// Call runs the function until it has answered or waits, on the calling thread. It fills result, whose slices are views
	// into the buffer it returns (out if the frame fits, else a new one) or, if the frame of an answer is long, into memory that
	// Answer.Free frees. After a result that waits, the caller must pass the id to Engine.Resume or Engine.Drop. An error is a
	// fault of the caller or the host, never of the guest.
	Call(id CallID, head, body, out []byte, result *Result) ([]byte, error)
	// Describe returns a description of the function, as JSON.
	Describe() ([]byte, error)
	// Close frees the function. Running calls end as usual. It may be called twice; every other method panics after it.
	Close()
}

// Result is how far a call has come.
type Result struct {
	// Waits says that the guest waits for Event; else it has ended with Answer.
	Waits  bool
	Answer Answer
	Event  Event
}

// Event is what a guest waits for. Its slices are views into the buffer that the call returned.
type Event struct {
	Kind EventKind
	// Until is the time from now until the guest wants to be resumed without a reply; negative for never.
	Until time.Duration
	// Deadline is the time from now until the call must have ended.
	Deadline time.Duration
	// HasHead says that Head is the head of a stream, whose body begins with Output; it has a status and headers only.
	HasHead bool
	Head    Answer
	// Output is what the guest has written to the body of its stream since the last event.
	Output []byte
	// Operation and Request are those of a host call.
	Operation, Request []byte
}

// EventKind is the kind of an event.
type EventKind uint32

// The kinds of events, numbered as in the C ABI.
const (
	// EventSleep: the guest sleeps.
	EventSleep EventKind = 1
	// EventCall: the guest has called the host.
	EventCall EventKind = 2
	// EventNext: the guest waits for the response of the next handler. See Event.Next; the request's body is in Request if it was
	// replaced.
	EventNext EventKind = 3
	// EventOutput: the guest has written as much of a stream as may wait.
	EventOutput EventKind = 4
	// EventBody: the guest waits for more of the request's body, and until Until at most. The reply is what has arrived; its code
	// is BodyEnds if that is the last of it.
	EventBody EventKind = 5
)

// BodyEnds is the code of a reply to EventBody after which no more follows.
const BodyEnds = 1

// CallID identifies one call. No two calls have the same.
type CallID uint64

// Config has the settings of an engine.
type Config struct {
	// Backend is the backend of functions that name none.
	Backend string `json:"backend,omitempty"`
	// MaxConcurrency is the number of permits for running calls.
	MaxConcurrency int `json:"max_concurrency,omitempty"`
	// MaxMemory is how many bytes all calls may hold together; 0 for a default that depends on the machine.
	MaxMemory int64 `json:"max_memory,omitempty"`
	// HoldAnswers keeps long answers counted in it until GiveMemory, see Answer.Held.
	HoldAnswers bool `json:"hold_answers,omitempty"`
	// Pool has the settings of the memory pool; nil for the defaults.
	Pool *PoolConfig `json:"pool,omitempty"`
	// CompileTimeout is how long a deployment waits for its compiled code; 0 for a time that depends on the module's size.
	CompileTimeout time.Duration `json:"compile_timeout,omitempty"`
	// CompileCommand starts a process that compiles one module, see [CompileCommand]; nil to compile in this process.
	CompileCommand []string `json:"compile_command,omitempty"`
	// CompileMemory bounds the memory of that process in bytes; 0 for a default that depends on the machine.
	CompileMemory int64 `json:"compile_memory,omitempty"`
	// Cache keeps compiled code on disk; nil keeps it in memory only.
	Cache *CacheConfig `json:"cache,omitempty"`
}

// CacheConfig says where compiled code is kept.
type CacheConfig struct {
	// Directory is created if it does not exist. The directory above it must exist.
	Directory string `json:"directory"`
}

// Purged is what was removed from the cache.
type Purged struct {
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

// PoolConfig has the settings of the memory pool. What is zero is derived from the machine.
type PoolConfig struct {
	// Slots is the largest number of slots; -1 means no pool.
	Slots int `json:"slots,omitempty"`
	// KeepResident is how many bytes of a slot stay in physical memory between two sandboxes.
	KeepResident int64 `json:"keep_resident,omitempty"`
	// Reset is `auto`, `scan`, `copy` or `madvise`.
	Reset string `json:"reset,omitempty"`
}

// FunctionConfig has the settings of a function. Sizes are in bytes.
type FunctionConfig struct {
	Name     string `json:"name"`
	Program  string `json:"program,omitempty"`
	Backend  string `json:"backend,omitempty"`
	Contract string `json:"contract,omitempty"`
	// Include are the fields of a request that the function gets besides those that all get.
	Include     []string      `json:"include,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`
	MemoryLimit int64         `json:"memory_limit,omitempty"`
	MaxBody     int64         `json:"max_body,omitempty"`
	MaxOutput   int64         `json:"max_output,omitempty"`
	MaxLogs     int64         `json:"max_logs,omitempty"`
	// ClockResolution is what the clocks that the guest sees count in; 0 for nanoseconds.
	ClockResolution time.Duration `json:"clock_resolution,omitempty"`
	// Env are pairs of name and value, Args the arguments after the program's name. What is nil is a per-request value.
	Env    [][2]*string `json:"env,omitempty"`
	Args   []*string    `json:"args,omitempty"`
	Mounts []Mount      `json:"mounts,omitempty"`
	// Snapshot is `auto`, `on` or `off`.
	Snapshot string  `json:"snapshot,omitempty"`
	Warmup   *Warmup `json:"warmup,omitempty"`
	// Data is what the module gets by the operation `deployment.data`; nil for none.
	Data []byte `json:"data,omitempty"`
}

// Warmup runs a sample request before a function's snapshot is taken.
type Warmup struct {
	// Rounds is how many times the sample runs.
	Rounds int `json:"rounds"`
	// Sample is the request as the function reads it from stdin; empty for a default one.
	Sample string `json:"sample,omitempty"`
}

// Mount is a directory of the host that the guest can use.
type Mount struct {
	Host     string `json:"host"`
	Guest    string `json:"guest"`
	Writable bool   `json:"writable"`
}

// Code is a code of the C ABI; the families are in docs/abi.md.
type Code int32

// The codes that callers distinguish.
const (
	CodeBadConfig     Code = 101
	CodeRejected      Code = 105
	CodeCancelled     Code = 106
	CodeInvalidModule Code = 200
	CodeHost          Code = 300
)

// Error is a failed call of the C ABI.
type Error struct {
	Code    Code
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("engine error %d", e.Code)
	}
	return e.Message
}

// Outcome is how a call ended.
type Outcome uint32

// The outcomes, numbered as in the C ABI.
const (
	OutcomeOK Outcome = iota
	OutcomeTimeout
	OutcomeTrap
	OutcomeOOM
	OutcomeBadOutput
	OutcomeRejected
	OutcomeCancelled
	OutcomeError

	// Outcomes is the number of outcomes.
	Outcomes
)

// String returns the value of the label outcome.
func (o Outcome) String() string {
	if o >= Outcomes {
		o = OutcomeError
	}
	return outcomeLabels[o]
}

var outcomeLabels = [Outcomes]string{"ok", "timeout", "trap", "oom", "bad_output", "rejected", "cancelled", "error"}

// Interface guards
var (
	_ error        = (*Error)(nil)
	_ fmt.Stringer = Outcome(0)
)
