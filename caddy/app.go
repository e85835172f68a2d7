// Package gojinn answers HTTP requests with WebAssembly functions, each request in a sandbox of its own.
//
// It is a Caddy plugin: the app gojinn (settings for all functions), the handler http.handlers.gojinn (one function), and
// the admin routes under /gojinn/.
package gojinn

import (
	"context"
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

// App holds what all functions share: the engine and its bounds.
type App struct {
	// Backend runs the functions that name none: `wasmtime`, `wasmer` or `wasmi`. Default: `wasmtime`.
	Backend string `json:"backend,omitempty"`

	// MaxConcurrency is how many sandboxes may run at once, over all functions. More requests wait in a queue of bounded
	// length. Default: 32, or 8 for each CPU that Go uses, whichever is more.
	MaxConcurrency int `json:"max_concurrency,omitempty"`

	// PoolSlots is how many memory slots the pool has at most, one for each sandbox that runs or waits to be used again; -1
	// turns the pool off. Default: derived from the machine's cores, memory and address space.
	PoolSlots int `json:"pool_slots,omitempty"`

	// PoolKeepResident is how many bytes of a slot stay resident between two sandboxes. Default: 2 MiB.
	PoolKeepResident int64 `json:"pool_keep_resident,omitempty"`

	// PoolReset is how a slot is made pristine: `scan`, `copy`, `madvise`, or `auto` for the best the kernel has.
	// Default: `auto`.
	PoolReset string `json:"pool_reset,omitempty"`

	// Cache is the folder for compiled modules, or `off`. Compiled code is run as it is, so the folder must belong to the
	// user Caddy runs as and be writable by nobody else. Default: `gojinn/cache` in Caddy's data folder.
	Cache string `json:"cache,omitempty"`

	// CompileTimeout bounds how long the deployment of a function waits for its code. Default: a minute, and ten seconds for
	// each MiB of the module.
	CompileTimeout caddy.Duration `json:"compile_timeout,omitempty"`

	// Snapshot says how sandboxes start where the function does not say it, see the handler's `snapshot`. Default: `auto`.
	Snapshot string `json:"snapshot,omitempty"`

	// Watch follows the files of all modules whose functions do not say otherwise, see the handler's `watch`.
	// Default: false.
	Watch bool `json:"watch,omitempty"`

	mu     sync.Mutex
	engine *sharedEngine
	key    *engineKey
	// deployments are the config's functions, one for each handler, and watched those whose files are watched.
	deployments, watched []*deployment
	// logger is that of the handlers: the engine's warnings are logged beside those of functions. Nil without a function.
	logger *zap.Logger
	// stopWatching ends what Start began.
	stopWatching context.CancelFunc
	// names maps the label of each function to what it was first given to.
	names map[string]string
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "gojinn",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets defaults and puts the metrics on the config's registry. The engine is made when the first function asks
// for it.
func (a *App) Provision(ctx caddy.Context) error {
	if a.Backend == "" {
		a.Backend = defaultBackend
	}
	if a.MaxConcurrency == 0 {
		a.MaxConcurrency = max(32, 8*runtime.GOMAXPROCS(0))
	}
	if a.Snapshot == "" {
		a.Snapshot = snapshotAuto
	}
	a.names = map[string]string{}
	if err := a.Validate(); err != nil {
		return err
	}
	return registerMetrics(ctx.GetMetricsRegistry())
}

// Validate implements caddy.Validator.
func (a *App) Validate() error {
	return errors.Join(
		checkBackend(a.Backend),
		checkConcurrency("max_concurrency", a.MaxConcurrency),
		checkPoolSlots(a.PoolSlots),
		a.checkPoolKeepResident(),
		checkPoolReset(a.PoolReset),
		a.checkCompileTimeout(),
		checkSnapshot(a.Snapshot),
	)
}

// Start begins to watch the modules' files, and makes the admin API show this config.
func (a *App) Start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	started.push(a)
	if a.engine == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stopWatching = cancel
	go a.engine.watchWarnings(ctx, a.logger, warningsInterval)
	// Where all files change at once, serving must not suffer.
	turn := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	for _, d := range a.watched {
		go d.watch(ctx, turn)
	}
	return nil
}

// Stop implements caddy.App. It does not wait for a module that compiles: that is cancelled with the config.
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

// Cleanup drops the config's hold on the engine; requests that run keep theirs. It may be called twice, and after a
// Provision that failed.
func (a *App) Cleanup() error {
	if err := a.Stop(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deployments, a.watched = nil, nil
	if a.key == nil {
		return nil
	}
	_, err := engines.Delete(*a.key)
	a.key, a.engine = nil, nil
	return err
}

// add makes a handler's function one of the config's.
func (a *App) add(d *deployment, watch *bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deployments = append(a.deployments, d)
	a.logger = d.logger
	if watch != nil && *watch || watch == nil && a.Watch {
		a.watched = append(a.watched, d)
	}
}

// running are the config's functions, one for each handler.
func (a *App) running() []*deployment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.deployments)
}

// acquireEngine is the config's engine, made at the first call.
func (a *App) acquireEngine() (*sharedEngine, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.engine == nil {
		folder, err := cacheFolder(a.Cache)
		if err != nil {
			return nil, fmt.Errorf("gojinn: %w", err)
		}
		key := engineKey{
			maxConcurrency: a.MaxConcurrency,
			compileTimeout: time.Duration(a.CompileTimeout),
			cache:          folder,
			pool: engine.PoolConfig{
				Slots:        a.PoolSlots,
				KeepResident: a.PoolKeepResident,
				Reset:        a.PoolReset,
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

// runningEngine is the config's engine if there is one.
func (a *App) runningEngine() *sharedEngine {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.engine
}

// claimName gives a function its default label: the stem, or the stem and a short hash if another function has that.
// identity tells functions apart.
func (a *App) claimName(stem, identity string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if owner, taken := a.names[stem]; taken && owner != identity {
		return stem + "-" + identity[:8]
	}
	a.names[stem] = identity
	return stem
}

// noteName records a label that the user chose: a default one must not collide with it.
func (a *App) noteName(name, identity string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.names[name]; !taken {
		a.names[name] = identity
	}
}

// started are the apps between their Start and their Stop, for the admin API and metrics. There are two while Caddy goes from one config
// to the next, and the older one serves on if another app of the newer one fails to start.
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

// newest is the app of the config that serves; nil if none does.
func (s *apps) newest() *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return nil
	}
	return s.list[len(s.list)-1]
}

// deployments are the functions of the config that serves.
func (s *apps) deployments() []*deployment {
	if a := s.newest(); a != nil {
		return a.running()
	}
	return nil
}

// engine is that of the config that serves, if it has one.
func (s *apps) engine() *sharedEngine {
	if a := s.newest(); a != nil {
		return a.runningEngine()
	}
	return nil
}

// cacheFolder is the absolute folder for compiled modules; empty for none.
func cacheFolder(setting string) (string, error) {
	switch setting {
	case "off":
		return "", nil
	case "":
		return filepath.Join(caddy.AppDataDir(), "gojinn", "cache"), nil
	}
	folder, err := absolute(caddy.NewReplacer(), "cache", setting)
	if err != nil {
		return "", err
	}
	return folder, nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
