package gojinn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// Engines and functions live here, over all configs: what a reload leaves as it was is neither made again nor recompiled.
//
// Who holds what:
//
//	config ──UsagePool──▶ shared ◀── handler ◀── requests of that config
//
// Caddy cleans a config up while its requests run, and some of them may not even have reached our handler yet: they sit in
// an earlier one. No count can know of those, but the garbage collector does: a handler that a request can still reach
// keeps its function. So Cleanup only takes the entry out of the pool, and the collector closes what nobody reaches any
// more (internal/engine). A request holds its function simply by having it.
var (
	engines   = caddy.NewUsagePool()
	functions = caddy.NewUsagePool()
)

// newEngine is a variable so that tests can stand a fake in.
var newEngine = engine.New

// engineKey is what shapes an engine. Nothing of a function is in it: adding one must not replace the engine. The default
// backend is not either, each function names its own.
type engineKey struct {
	maxConcurrency int
	pool           engine.PoolConfig
	compileTimeout time.Duration
	// cache is the folder for compiled code; empty for none.
	cache string
}

// sharedEngine is an engine and the queue before it.
type sharedEngine struct {
	engine.Engine
	admission *admission

	mu sync.Mutex
	// logged is how many of the engine's warnings have been logged.
	logged int
}

// Destruct implements caddy.Destructor: the pool has forgotten the engine, the collector closes it.
func (*sharedEngine) Destruct() error { return nil }

// loadEngine takes a reference on the engine of key, making it if need be. engines.Delete(key) gives it back.
func loadEngine(key engineKey) (*sharedEngine, error) {
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		config := &engine.Config{MaxConcurrency: key.maxConcurrency, Pool: &key.pool, CompileTimeout: key.compileTimeout}
		if key.cache != "" {
			// The engine makes the folder itself, private. What is wrong with it is one of the engine's warnings.
			_ = os.MkdirAll(filepath.Dir(key.cache), 0o700)
			config.Cache = &engine.CacheConfig{Folder: key.cache}
		}
		e, err := newEngine(config)
		if err != nil {
			return nil, err
		}
		return &sharedEngine{Engine: e, admission: newAdmission(key.maxConcurrency)}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*sharedEngine), nil
}

// functionKey is what shapes a function.
type functionKey struct {
	engine         *sharedEngine
	wasm           [sha256.Size]byte
	config         string
	maxConcurrency int
}

// sharedFunction is a deployed function and the queue before it.
type sharedFunction struct {
	engine.Function
	engine *sharedEngine
	// admission is nil where the function has no max_concurrency of its own.
	admission *admission
	info      functionInfo
	facts     functionFacts
	key       functionKey
	// active is how many calls run.
	active atomic.Int64
}

// functionInfo is what the admin API tells about a function.
type functionInfo struct {
	Name    string `json:"name"`
	Backend string `json:"backend"`
	Module  string `json:"module"`
	Hash    string `json:"sha256"`
	Active  int64  `json:"active"`
	// Snapshot is how sandboxes start, see snapshotFacts; SnapshotMillis is how long it took to make and prove.
	Snapshot       string  `json:"snapshot"`
	SnapshotWhyNot string  `json:"snapshot_why_not,omitempty"`
	SnapshotMillis float64 `json:"snapshot_ms,omitempty"`
	// Warnings are what could not be done as configured, although the function serves.
	Warnings []string `json:"warnings,omitempty"`
}

// Destruct implements caddy.Destructor: the pool has forgotten the function, the collector closes it.
func (*sharedFunction) Destruct() error { return nil }

// newFunctionKey is the key of a function.
func newFunctionKey(e *sharedEngine, wasm []byte, config *engine.FunctionConfig, maxConcurrency int) (functionKey, error) {
	text, err := json.Marshal(config)
	return functionKey{engine: e, wasm: sha256.Sum256(wasm), config: string(text), maxConcurrency: maxConcurrency}, err
}

// loadFunction takes a reference on the function of key, deploying it if need be; loaded is whether it was there before. wasm
// and config are what key was made of. functions.Delete(key) gives the reference back. Once ctx ends nobody waits.
func loadFunction(
	ctx context.Context, key functionKey, wasm []byte, module string, config *engine.FunctionConfig,
) (f *sharedFunction, loaded bool, err error) {
	value, loaded, err := functions.LoadOrNew(key, func() (caddy.Destructor, error) {
		f, err := key.engine.NewFunction(ctx, wasm, config)
		if err != nil {
			return nil, err
		}
		facts := factsOf(f)
		shared := &sharedFunction{
			Function: f,
			engine:   key.engine,
			facts:    facts,
			key:      key,
			info: functionInfo{
				Name:           config.Name,
				Backend:        config.Backend,
				Module:         module,
				Hash:           hex.EncodeToString(key.wasm[:]),
				Snapshot:       facts.Snapshot.Kind,
				SnapshotWhyNot: facts.Snapshot.WhyNot,
				SnapshotMillis: facts.Snapshot.Took,
				Warnings:       facts.warnings(config),
			},
		}
		if key.maxConcurrency > 0 {
			shared.admission = newAdmission(key.maxConcurrency)
		}
		return shared, nil
	})
	if failed := (*engine.Error)(nil); loaded && errors.As(err, &failed) && failed.Code == engine.CodeCancelled && ctx.Err() == nil {
		// Who deployed it gave up; that was somebody else.
		return loadFunction(ctx, key, wasm, module, config)
	}
	if err != nil {
		return nil, false, err
	}
	return value.(*sharedFunction), loaded, nil
}

// Interface guards
var (
	_ caddy.Destructor = (*sharedEngine)(nil)
	_ caddy.Destructor = (*sharedFunction)(nil)
)
