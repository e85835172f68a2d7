// This file has the engines and functions that exist in the process, shared by all configs that use them.

package gojinn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// engines and functions outlive configs: a reload neither makes nor compiles again what it leaves unchanged. References:
//
//	config ──UsagePool──▶ shared ◀── handler ◀── requests of that config
//
// Caddy cleans up a config while its requests still run, and some of them may not have reached our handler yet. They cannot
// be counted, but the garbage collector knows them: a handler that a request can reach keeps its function. So Cleanup only
// removes the entry from the pool, and once nothing refers to a function or an engine the collector closes it (see
// internal/engine).
var (
	engines   = caddy.NewUsagePool()
	functions = caddy.NewUsagePool()
)

// newEngine is a variable so that tests can replace the engine by a fake.
var newEngine = engine.New

// engineKey has the settings of an engine. It has none of a function, because another function must not replace the engine,
// and no default backend, because the plugin names a backend for each function.
type engineKey struct {
	maxConcurrency int
	maxMemory      int64
	pool           engine.PoolConfig
	compileTimeout time.Duration
	compileMemory  int64
	// cache is the directory for compiled code; empty for none.
	cache string
}

// sharedEngine is an engine and the admission of its calls.
type sharedEngine struct {
	engine.Engine
	admission *admission
	// blocking bounds the calls on backends that block a thread for each guest that waits.
	blocking *admission
	turns    *turns
	memory   *memory

	mu sync.Mutex
	// logged is how many of the engine's warnings have been logged.
	logged int
}

// Destruct implements caddy.Destructor. It does nothing, because the collector closes the engine.
func (*sharedEngine) Destruct() error { return nil }

// loadEngine takes a reference to the engine of key, which it makes if there is none. engines.Delete(key) returns the
// reference.
func loadEngine(key engineKey) (*sharedEngine, error) {
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		config := &engine.Config{
			MaxConcurrency: key.maxConcurrency,
			MaxMemory:      key.maxMemory,
			HoldAnswers:    true,
			Pool:           &key.pool,
			CompileTimeout: key.compileTimeout,
		}
		if command := engine.CompileCommand(); command != nil {
			config.CompileCommand, config.CompileMemory = command, key.compileMemory
		}
		if key.cache != "" {
			// The engine makes the directory itself, with permissions for its user only; this makes the one above. If
			// there is something wrong with either, the engine warns about it.
			_ = os.MkdirAll(filepath.Dir(key.cache), 0o700)
			config.Cache = &engine.CacheConfig{Directory: key.cache}
		}
		e, err := newEngine(config)
		if err != nil {
			return nil, err
		}
		bounds, err := boundsOf(e)
		if err != nil {
			return nil, err
		}
		return &sharedEngine{
			Engine: e, admission: newAdmission(bounds.MaxConcurrency), blocking: newAdmission(min(bounds.MaxConcurrency, maxBlocking())),
			turns: newTurns(runtime.GOMAXPROCS(0)), memory: newMemory(e, bounds.MaxMemory),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*sharedEngine), nil
}

// bounds are those of an engine, which may be lower than the configured ones.
type bounds struct {
	MaxConcurrency int   `json:"max_concurrency"`
	MaxMemory      int64 `json:"max_memory"`
}

func boundsOf(e engine.Engine) (b bounds, err error) {
	text, err := e.Describe()
	if err != nil {
		return b, err
	}
	return b, json.Unmarshal(text, &b)
}

// functionKey has the settings of a function, and its code.
type functionKey struct {
	engine *sharedEngine
	wasm   [sha256.Size]byte
	// config is the hash of the settings, which may contain a whole program as data.
	config         [sha256.Size]byte
	maxConcurrency int
}

// sharedFunction is a deployed function and the admission of its calls.
type sharedFunction struct {
	engine.Function
	engine *sharedEngine
	// admission is nil if the function has no max_concurrency.
	admission *admission
	line      *line
	info      functionInfo
	facts     functionFacts
	key       functionKey
	// active is the number of calls that have begun and not ended.
	active atomic.Int64
	// positions leads to the sources of a script; nil for a module.
	positions *positions
}

// functionInfo is a function in the answer of GET /gojinn/functions.
type functionInfo struct {
	Name    string `json:"name"`
	Backend string `json:"backend"`
	Module  string `json:"module"`
	Hash    string `json:"sha256"`
	Active  int64  `json:"active"`
	// Snapshot is what sandboxes start from, see snapshotFacts; SnapshotMillis is how long it took to make and check that.
	Snapshot       string  `json:"snapshot"`
	SnapshotWhyNot string  `json:"snapshot_why_not,omitempty"`
	SnapshotMillis float64 `json:"snapshot_ms,omitempty"`
	// Frames says that the function takes requests and answers in frames, in place of JSON.
	Frames bool `json:"frames,omitempty"`
	// Warnings says what could not be done as configured, although the function serves.
	Warnings []string `json:"warnings,omitempty"`
}

// Destruct implements caddy.Destructor. It does nothing, because the collector closes the function.
func (*sharedFunction) Destruct() error { return nil }

// newFunctionKey returns the key of a function.
func newFunctionKey(e *sharedEngine, wasm []byte, config *engine.FunctionConfig, maxConcurrency int) (functionKey, error) {
	if warmup := config.Warmup; warmup != nil {
		keyed := *config
		keyed.Warmup = &engine.Warmup{Rounds: warmup.Rounds, Sample: sampleKey(warmup.Sample)}
		config = &keyed
	}
	text, err := json.Marshal(config)
	return functionKey{engine: e, wasm: sha256.Sum256(wasm), config: sha256.Sum256(text), maxConcurrency: maxConcurrency}, err
}

// contentHash returns the SHA-256 of a function's file, or of a script with all that it imports.
func contentHash(wasm [sha256.Size]byte, config *engine.FunctionConfig) string {
	if config.Data != nil {
		wasm = sha256.Sum256(config.Data)
	}
	return hex.EncodeToString(wasm[:])
}

// loadFunction takes a reference to the function of key, which it deploys if there is none; loaded says that there was one.
// wasm and config are what key was made from, s is nil unless the function is a script. functions.Delete(key) returns the reference. The end of ctx ends the wait for
// the deployment.
func loadFunction(
	ctx context.Context, key functionKey, wasm []byte, module string, config *engine.FunctionConfig, s *script,
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
			line:     newLine(key.engine.turns, facts.Suspends),
			facts:    facts,
			key:      key,
			info: functionInfo{
				Name:           config.Name,
				Backend:        config.Backend,
				Module:         module,
				Hash:           contentHash(key.wasm, config),
				Snapshot:       facts.Snapshot.Kind,
				SnapshotWhyNot: facts.Snapshot.WhyNot,
				SnapshotMillis: facts.Snapshot.Took,
				Frames:         facts.Frames,
				Warnings:       facts.warnings(config),
			},
		}
		if key.maxConcurrency > 0 {
			shared.admission = newAdmission(key.maxConcurrency)
		}
		if s != nil {
			shared.positions = s.positions
			if err := checkScript(ctx, shared, config, s.positions); err != nil {
				f.Close()
				return nil, err
			}
		}
		return shared, nil
	})
	if failed := (*engine.Error)(nil); loaded && errors.As(err, &failed) && failed.Code == engine.CodeCancelled && ctx.Err() == nil {
		// We waited for the deployment of another config, which was cancelled. Deploy the function for this one.
		return loadFunction(ctx, key, wasm, module, config, s)
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
