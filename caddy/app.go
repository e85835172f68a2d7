// Package gojinn answers HTTP requests with WebAssembly functions. Each request runs in its own sandbox.
//
// It is a Caddy plugin: the app gojinn (settings for all functions), the handler http.handlers.gojinn (one function), and
// the admin routes under /gojinn/.
package gojinn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App holds what all functions share: the engine and its limits.
type App struct {
	// Backend is the engine of functions that name none: `wasmtime`, `wasmer` or `wasmi`. Default: `wasmtime`.
	Backend string `json:"backend,omitempty"`

	// MaxConcurrency is how many sandboxes may run at once, over all functions; further requests wait in a queue of bounded
	// length. Default: 32, or 8 for each CPU that Go uses, whichever is more.
	MaxConcurrency int `json:"max_concurrency,omitempty"`

	// MaxMemory is how many bytes all requests may hold together: memory and tables of sandboxes, bodies of requests and answers,
	// and what free slots keep. Default: half of the machine's memory, or of the control group's limit.
	MaxMemory int64 `json:"max_memory,omitempty"`

	// PoolSlots is the largest number of memory slots in the pool, one for each sandbox that runs or is kept for reuse; -1
	// turns the pool off. Default: derived from the machine's cores, memory and address space.
	PoolSlots int `json:"pool_slots,omitempty"`

	// PoolKeepResident is how much of a slot stays in physical memory between two sandboxes, in bytes. Default: 2097152 (2 MiB).
	PoolKeepResident int64 `json:"pool_keep_resident,omitempty"`

	// PoolReset is how a slot is made pristine: `scan`, `copy`, `madvise`, or `auto` for the best that the kernel supports.
	// Default: `auto`.
	PoolReset string `json:"pool_reset,omitempty"`

	// Isolation is `strict` to close a side channel between the requests of one function, at the price of slower requests: slots keep
	// no page resident (PoolReset is `madvise`), and clocks show whole milliseconds. Default: `default`.
	Isolation string `json:"isolation,omitempty"`

	// Cache is the directory for compiled modules, or `off`. Compiled code is run as it is, so only the user that Caddy runs
	// as may own the directory and write to it. Default: `gojinn/cache` in Caddy's data directory.
	Cache string `json:"cache,omitempty"`

	// CompileTimeout is how long the deployment of a function waits for its compiled code. Default: 1m, and 10s for each MiB
	// of the module.
	CompileTimeout caddy.Duration `json:"compile_timeout,omitempty"`

	// CompileMemory is how many bytes of memory the process that compiles a module may have. Default: half of the machine's
	// memory, at least 512 MiB and at most 2 GiB.
	CompileMemory int64 `json:"compile_memory,omitempty"`

	// Snapshot is how sandboxes of functions start that do not set it, see the handler's `snapshot`. Default: `auto`.
	Snapshot string `json:"snapshot,omitempty"`

	// Watch makes functions that do not set it watch their files, see the handler's `watch`. Default: false.
	Watch bool `json:"watch,omitempty"`

	// StoresRaw has the key-value stores that functions can be given, by name: each is a module `memory`, `file`, `redis`, `nats`,
	// or of a plugin. Default: none.
	StoresRaw map[string]json.RawMessage `json:"kv,omitempty" caddy:"namespace=gojinn.kv inline_key=module"`

	// stores are made from StoresRaw, and never changed afterwards.
	stores map[string]*configStore

	mu     sync.Mutex
	engine *sharedEngine
	key    *engineKey
	// deployments has one for each handler of the config, and watched those of them whose files are watched.
	deployments, watched []*deployment
	// logger is that of the handlers, so that the engine's warnings are logged beside those of functions. It is nil if there
	// is no function.
	logger *zap.Logger
	// stopWatching ends what Start began.
	stopWatching context.CancelFunc
	// names maps each function's label to the identity of the function that got it first.
	names map[string]string
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "gojinn",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets defaults and registers the metrics with the config's registry. The engine is made when the first function
// needs it.
func (a *App) Provision(ctx caddy.Context) error {
	if a.Backend == "" {
		a.Backend = defaultBackend
	}
	if a.MaxConcurrency == 0 {
		a.MaxConcurrency = defaultConcurrency
	}
	if a.Snapshot == "" {
		a.Snapshot = snapshotAuto
	}
	a.names = map[string]string{}
	if err := a.Validate(); err != nil {
		return err
	}
	if err := a.provisionStores(ctx); err != nil {
		return err
	}
	return registerMetrics(ctx.GetMetricsRegistry())
}

// Validate implements caddy.Validator.
func (a *App) Validate() error {
	return errors.Join(
		checkBackend(a.Backend),
		checkConcurrency("max_concurrency", a.MaxConcurrency),
		a.checkMaxMemory(),
		checkPoolSlots(a.PoolSlots),
		a.checkPoolKeepResident(),
		checkPoolReset(a.PoolReset),
		a.checkIsolation(),
		a.checkCompileTimeout(),
		a.checkCompileMemory(),
		checkSnapshot(a.Snapshot),
	)
}

// Start opens the stores, makes the admin API show this config, and begins to watch files and the engine's warnings.
func (a *App) Start() error {
	if err := a.openStores(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	started.push(a)
	if a.engine == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stopWatching = cancel
	go a.engine.watchWarnings(ctx, a.logger, warningsInterval)
	// If all files change at once, half of the CPUs go on serving.
	turn := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	for _, d := range a.watched {
		go d.watch(ctx, turn)
	}
	return nil
}

// Stop implements caddy.App. It does not wait for a module that is being compiled: the end of the config's context cancels it.
func (a *App) Stop() error {
	started.remove(a)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopWatching != nil {
		a.stopWatching()
		a.stopWatching = nil
		a.engine.logWarnings(a.logger)
	}
	return nil
}

// Cleanup drops the config's references to the engine and the stores; running requests keep theirs. It may be called twice, and after a
// Provision that failed.
func (a *App) Cleanup() error {
	if err := a.Stop(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deployments, a.watched = nil, nil
	err := a.closeStores()
	if a.key == nil {
		return err
	}
	_, failed := engines.Delete(*a.key)
	a.key, a.engine = nil, nil
	return errors.Join(err, failed)
}

// add records a handler's deployment. watch is the handler's setting, or nil for the app's.
func (a *App) add(d *deployment, watch *bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deployments = append(a.deployments, d)
	a.logger = d.logger
	if watch != nil && *watch || watch == nil && a.Watch {
		a.watched = append(a.watched, d)
	}
}

// running returns the config's deployments, one for each handler.
func (a *App) running() []*deployment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.deployments)
}

// acquireEngine returns the config's engine, which the first call makes.
func (a *App) acquireEngine() (*sharedEngine, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.engine == nil {
		cache, err := cacheDirectory(a.Cache)
		if err != nil {
			return nil, fmt.Errorf("gojinn: %w", err)
		}
		key := engineKey{
			maxConcurrency: a.MaxConcurrency,
			maxMemory:      a.MaxMemory,
			compileTimeout: time.Duration(a.CompileTimeout),
			compileMemory:  a.CompileMemory,
			cache:          cache,
			pool: engine.PoolConfig{
				Slots:        a.PoolSlots,
				KeepResident: a.PoolKeepResident,
				Reset:        a.poolReset(),
			},
		}
		e, err := loadEngine(key)
		if err != nil {
			return nil, fmt.Errorf("gojinn: %w", err)
		}
		a.engine, a.key = e, &key
	}
	return a.engine, nil
}

// poolReset returns how slots are made pristine.
func (a *App) poolReset() string {
	if a.Isolation == isolationStrict {
		return resetMadvise
	}
	return a.PoolReset
}

// runningEngine returns the config's engine, or nil if no function has needed one.
func (a *App) runningEngine() *sharedEngine {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.engine
}

// claimName returns a function's default label: the stem of its file's name, or the stem and a short hash if another function
// has that label. Two functions are the same if their identities are equal.
func (a *App) claimName(stem, identity string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if owner, taken := a.names[stem]; taken && owner != identity {
		return stem + "-" + identity[:8]
	}
	a.names[stem] = identity
	return stem
}

// noteName records a label that the user chose, so that no default label collides with it.
func (a *App) noteName(name, identity string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.names[name]; !taken {
		a.names[name] = identity
	}
}

// started holds the apps between their Start and their Stop, for the admin API and the metrics. While Caddy replaces a config
// there are two, and the older one goes on serving if another app of the newer config fails to start.
var started apps

type apps struct {
	mu   sync.Mutex
	list []*App
}

func (s *apps) push(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, a)
}

func (s *apps) remove(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(other *App) bool { return other == a })
}

// newest returns the app of the config that serves, or nil if none does.
func (s *apps) newest() *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return nil
	}
	return s.list[len(s.list)-1]
}

// deployments returns those of the config that serves.
func (s *apps) deployments() []*deployment {
	if a := s.newest(); a != nil {
		return a.running()
	}
	return nil
}

// engine returns the engine of the config that serves, or nil if it has none.
func (s *apps) engine() *sharedEngine {
	if a := s.newest(); a != nil {
		return a.runningEngine()
	}
	return nil
}

// cacheDirectory returns the absolute path of the directory for compiled modules, or "" if there is to be none.
func cacheDirectory(setting string) (string, error) {
	switch setting {
	case "off":
		return "", nil
	case "":
		return filepath.Join(caddy.AppDataDir(), "gojinn", "cache"), nil
	}
	return absolute(caddy.NewReplacer(), "cache", setting)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
