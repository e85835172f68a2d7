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
	// NewFunction compiles wasm; it may take seconds. Once ctx ends nobody waits for that any more, and the error has
	// CodeCancelled.
	NewFunction(ctx context.Context, wasm []byte, config *FunctionConfig) (Function, error)
	// NewCall takes a permit for a call. Its id goes to exactly one of Function.Call and FreeCall.
	NewCall() (CallID, error)
	// FreeCall gives back the permit of a call that was never used.
	FreeCall(CallID)
	// Cancel ends a call soon. Any goroutine, any time; a stale id does nothing.
	Cancel(CallID)
	// Describe tells what the engine is, as JSON.
	Describe() ([]byte, error)
	// PurgeCache removes all compiled code from the disk and says how much that was. Without a cache it is CodeBadConfig.
	PurgeCache() (Purged, error)
	// Metrics are the engine's own figures, as Prometheus text.
	Metrics() ([]byte, error)
	// Close frees the engine; functions live on. It may be called twice; every other method panics after it.
	Close()
}

// Function is one deployed function. All methods may be called from any goroutine.
type Function interface {
	// Call runs the function once, on the calling thread. It fills answer, whose slices are views into the buffer it
	// returns: out if the frame fits, else a new one. An error is a fault of the caller or the host, never of the guest.
	Call(id CallID, head, body, out []byte, answer *Answer) ([]byte, error)
	// Describe tells what the function is, as JSON.
	Describe() ([]byte, error)
	// Close frees the function; running calls end as usual. It may be called twice; every other method panics after it.
	Close()
}

// CallID names one call. It is never reused.
type CallID uint64

// Config shapes an engine.
type Config struct {
	// Backend runs functions that name none.
	Backend string `json:"backend,omitempty"`
	// MaxConcurrency is the number of permits for running calls.
	MaxConcurrency int `json:"max_concurrency,omitempty"`
	// Pool bounds the memory pool.
	Pool *PoolConfig `json:"pool,omitempty"`
	// CompileTimeout is how long a deployment waits for its code; 0 for a time that depends on the module's size.
	CompileTimeout time.Duration `json:"compile_timeout,omitempty"`
	// Cache keeps compiled code on disk; nil for in memory only.
	Cache *CacheConfig `json:"cache,omitempty"`
}

// CacheConfig says where compiled code is kept.
type CacheConfig struct {
	// Folder is made if it is missing, below a folder that exists.
	Folder string `json:"folder"`
}

// Purged is what was removed from the cache.
type Purged struct {
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

// PoolConfig bounds the memory pool. What is zero is derived from the machine.
type PoolConfig struct {
	// Slots is the most there are; -1 means no pool.
	Slots int `json:"slots,omitempty"`
	// KeepResident is how many bytes of a slot stay resident between two sandboxes.
	KeepResident int64 `json:"keep_resident,omitempty"`
	// Reset is `auto`, `scan`, `copy` or `madvise`.
	Reset string `json:"reset,omitempty"`
}

// FunctionConfig shapes a function. Sizes are bytes.
type FunctionConfig struct {
	Name        string        `json:"name"`
	Program     string        `json:"program,omitempty"`
	Backend     string        `json:"backend,omitempty"`
	Contract    string        `json:"contract,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`
	MemoryLimit int64         `json:"memory_limit,omitempty"`
	MaxBody     int64         `json:"max_body,omitempty"`
	MaxOutput   int64         `json:"max_output,omitempty"`
	MaxLogs     int64         `json:"max_logs,omitempty"`
	// Env are pairs of name and value, Args the arguments after the program's name. A nil value comes with each request.
	Env    [][2]*string `json:"env,omitempty"`
	Args   []*string    `json:"args,omitempty"`
	Mounts []Mount      `json:"mounts,omitempty"`
	// Snapshot is `auto`, `on` or `off`.
	Snapshot string  `json:"snapshot,omitempty"`
	Warmup   *Warmup `json:"warmup,omitempty"`
}

// Warmup runs a request into a function's snapshot.
type Warmup struct {
	// Rounds is how many times.
	Rounds int `json:"rounds"`
	// Sample is the request as it stands on stdin; empty for a default one.
	Sample string `json:"sample,omitempty"`
}

// Mount is a folder of the host that the guest sees.
type Mount struct {
	Host     string `json:"host"`
	Guest    string `json:"guest"`
	Writable bool   `json:"writable"`
}

// Code is a code of the C ABI; the families are in docs/abi.md.
type Code int32

// The codes that callers tell apart.
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

// Outcome is what a call came to.
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

	// Outcomes is how many there are.
	Outcomes
)

// String is the value of the label outcome.
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
