package gojinn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler answers requests with a WebAssembly function. Each request gets a sandbox of its own.
type Handler struct {
	// Module is the path of the `.wasm` file, relative to the process's working directory. Required. Placeholders that do
	// not depend on a request may be used.
	Module string `json:"module,omitempty"`

	// Name labels the function in metrics and logs. Default: the file's name without its ending, with a short hash where
	// another function has that name.
	Name string `json:"name,omitempty"`

	// Backend runs the function: `wasmtime`, `wasmer` or `wasmi`. Default: the one of the app `gojinn`, or `wasmtime`.
	Backend string `json:"backend,omitempty"`

	// Contract is how the function is spoken to. Default and only value: `json`.
	Contract string `json:"contract,omitempty"`

	// Timeout bounds a call from its admission to the guest's end, whatever the guest does. Default: 60s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// QueueTimeout is how long a request waits for a free sandbox. Default: 1s.
	QueueTimeout caddy.Duration `json:"queue_timeout,omitempty"`

	// MemoryLimit bounds the linear memory of one sandbox, in bytes, from 64 KiB to 4 GiB. Default: 128000000.
	MemoryLimit int64 `json:"memory_limit,omitempty"`

	// MaxBody bounds the body of a request, in bytes. Default: 10000000.
	MaxBody int64 `json:"max_body,omitempty"`

	// MaxOutput bounds what the function may write to stdout, in bytes. Default: 10000000.
	MaxOutput int64 `json:"max_output,omitempty"`

	// MaxLogs bounds the log lines of one call that are kept (what the function writes to stderr, and `host_log`), in bytes;
	// the rest is dropped and counted. Default: 65536.
	MaxLogs int64 `json:"max_logs,omitempty"`

	// MaxConcurrency is how many sandboxes of this function may run at once. Default: no bound but the app's.
	MaxConcurrency int `json:"max_concurrency,omitempty"`

	// Env are the function's environment variables; it sees no others. Placeholders in the values are resolved once, those
	// of the request for each request. Default: none.
	Env map[string]string `json:"env,omitempty"`

	// Args are the function's arguments, after its file's name. Placeholders as in `env`. Default: none.
	Args []string `json:"args,omitempty"`

	// Mounts are the folders that the function sees. Default: none.
	Mounts []Mount `json:"mounts,omitempty"`

	// Snapshot says whether sandboxes start from a snapshot, which is taken when the function is deployed, just before its
	// program reads the first request: `auto` where that changes nothing but the time it takes, `on` also where the program has used
	// entropy, clocks or files by then, `off` never. Default: the app's setting, or `auto`.
	Snapshot string `json:"snapshot,omitempty"`

	// Warmup runs a sample request into the snapshot. What the program keeps of it, every request will find. Default: none.
	Warmup *Warmup `json:"warmup,omitempty"`

	// Watch follows the module's file, and the sample's of a warm-up: when it has changed, the function is replaced, and stays
	// if the new file is no good. Default: the app's setting.
	Watch *bool `json:"watch,omitempty"`

	deployment *deployment
	meters     *meters
	logger     *zap.Logger
	guestLog   guestLog
	// late are the values that each request brings, in the order of the ABI.
	late []value
}

// Mount gives a function a folder of the host.
type Mount struct {
	// Host is the folder's path on the host, relative to the process's working directory.
	Host string `json:"host"`

	// Guest is the absolute path at which the function sees it.
	Guest string `json:"guest"`

	// Writable lets the function write there. Default: false.
	Writable bool `json:"writable,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.gojinn",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Defaults, as docs/contract.md promises them.
const (
	defaultTimeout      = 60 * time.Second
	defaultQueueTimeout = time.Second
	defaultMemoryLimit  = 128_000_000
	defaultMaxBody      = 10_000_000
	defaultMaxOutput    = 10_000_000
	defaultMaxLogs      = 64 << 10
)

// Provision loads the module and deploys the function, unless another config has done so with the same settings.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	value, err := ctx.App("gojinn")
	if err != nil {
		return err
	}
	app := value.(*App)
	h.setDefaults(app)
	if err := h.Validate(); err != nil {
		return err
	}
	repl := caddy.NewReplacer()
	module, err := absolute(repl, "module", h.Module)
	if err != nil {
		return err
	}
	config, err := h.functionConfig(repl, module)
	if err != nil {
		return err
	}
	sample := ""
	if h.Warmup != nil && h.Warmup.Sample != "" {
		if sample, err = absolute(repl, "warmup", h.Warmup.Sample); err != nil {
			return err
		}
	}
	if err := h.label(app, config, module, sample); err != nil {
		return err
	}
	h.deployment = &deployment{
		ctx: ctx, module: module, sample: sample, config: config, maxConcurrency: h.MaxConcurrency, logger: h.logger,
	}
	err = h.deployment.deploy(app)
	if err != nil {
		// The engine names the function too, but knows nothing of its path.
		return fmt.Errorf("function %s (%s): %w", config.Name, module, withoutName(config.Name, err))
	}
	app.add(h.deployment, h.Watch)
	h.meters = newMeters(config.Name, config.Backend)
	h.guestLog = newGuestLog(h.logger, config.Name)
	return nil
}

// Validate implements caddy.Validator.
func (h *Handler) Validate() error {
	if h.Module == "" {
		return errors.New("no module is given; name the .wasm file")
	}
	return errors.Join(
		checkBackend(h.Backend),
		checkContract(h.Contract),
		checkDuration("timeout", h.Timeout),
		checkDuration("queue_timeout", h.QueueTimeout),
		checkSize("memory_limit", h.MemoryLimit),
		checkSize("max_body", h.MaxBody),
		checkSize("max_output", h.MaxOutput),
		checkSize("max_logs", h.MaxLogs),
		h.checkMaxConcurrency(),
		checkEnv(h.Env),
		checkArgs(h.Args),
		checkMounts(h.Mounts),
		h.checkSnapshot(),
		h.checkName(),
	)
}

// Cleanup drops the config's hold on the function; requests keep theirs. It may be called twice, and after a Provision
// that failed.
func (h *Handler) Cleanup() error {
	if h.deployment == nil {
		return nil
	}
	return h.deployment.close()
}

// ServeHTTP runs the function for one request. It ends the chain: the next handler is never called.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	// Taken once, so that the answer is wholly that of one function, whatever replaces it meanwhile.
	f := h.deployment.function.Load()
	x := exchanges.Get().(*exchange)
	defer x.done()
	t := startTrace(r, f.info.Name)
	x.figures = figures{}

	answer := &x.answer
	*answer = engine.Answer{Verdict: engine.VerdictError}
	err := h.call(w, r, f, x, &t)
	x.figures.publish(r, answer)
	t.end(answer.Verdict)
	h.meters.observe(answer.Verdict, x.figures.duration.Seconds(), &t)
	if err != nil {
		return err
	}
	h.guestLog.write(answer, t.id)
	if answer.Verdict != engine.VerdictOK {
		return h.refuse(f, answer, &t)
	}
	return writeResponse(w, r, answer)
}

// call admits the request and runs the guest. Without an error the answer holds the verdict; with one it holds the label
// of the outcome.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, f *sharedFunction, x *exchange, t *traced) error {
	ctx := r.Context()
	arrived := time.Now()
	var err error
	if x.body, err = readBody(r, h.MaxBody, x.body); err != nil {
		return h.notCalled(x, arrived, err)
	}
	if err := writeHead(&x.head, r, t, h.late); err != nil {
		return h.notCalled(x, arrived, caddyhttp.Error(http.StatusBadRequest, err))
	}

	if x.figures.queued, err = f.admit(ctx, time.Duration(h.QueueTimeout)); err != nil {
		return h.notCalled(x, time.Now().Add(-x.figures.queued), f.notAdmitted(w, ctx, err))
	}
	defer f.leave()
	id, err := f.engine.NewCall()
	if err != nil {
		return h.notCalled(x, time.Now().Add(-x.figures.queued), f.notAdmitted(w, ctx, err))
	}

	x.watch.begin(ctx, f.engine, id)
	f.active.Add(1)
	h.meters.active.Inc()
	x.out, err = f.Call(id, x.head.Bytes(), x.body, x.out, &x.answer)
	h.meters.active.Dec()
	f.active.Add(-1)
	x.watch.end()
	x.figures.duration = x.answer.Duration
	if err != nil {
		x.answer.Verdict = engine.VerdictError
		return caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("function %s: %w", f.info.Name, err))
	}
	return nil
}

// notCalled ends a request whose guest never ran.
func (h *Handler) notCalled(x *exchange, since time.Time, err error) error {
	x.figures.duration = time.Since(since)
	x.answer.Verdict = engine.VerdictRejected
	var failed caddyhttp.HandlerError
	if errors.As(err, &failed) && failed.StatusCode == statusClientGone {
		x.answer.Verdict = engine.VerdictCancelled
	}
	return err
}

// notAdmitted is the error for a request that got no sandbox.
func (f *sharedFunction) notAdmitted(w http.ResponseWriter, ctx context.Context, err error) error {
	name := f.info.Name
	if ctx.Err() != nil {
		return caddyhttp.Error(statusClientGone, fmt.Errorf("function %s: the client went away while it waited", name))
	}
	w.Header().Set("Retry-After", "1")
	return caddyhttp.Error(http.StatusServiceUnavailable, fmt.Errorf("function %s: %w", name, err))
}

// refuse is the error for an answer that is not the function's. The one record that says which rule was broken is written
// here: Caddy's own record of the error goes to the debug level where the site has handle_errors.
func (h *Handler) refuse(f *sharedFunction, answer *engine.Answer, t *traced) error {
	name := f.info.Name
	if answer.Verdict == engine.VerdictCancelled {
		return caddyhttp.Error(statusClientGone, fmt.Errorf("function %s: the client went away", name))
	}
	if c := h.logger.Check(zapcore.ErrorLevel, "the function's answer was refused"); c != nil {
		c.Write(
			zap.String("function", name),
			zap.String("trace_id", t.id),
			zap.Stringer("outcome", answer.Verdict),
			zap.String("reason", escapeControl(string(answer.Reason))),
			zap.Duration("duration", answer.Duration),
		)
	}
	return caddyhttp.Error(answer.Status, fmt.Errorf("function %s: %s", name, answer.Verdict))
}

// setDefaults fills in what the config left out.
func (h *Handler) setDefaults(app *App) {
	if h.Backend == "" {
		h.Backend = app.Backend
	}
	if h.Contract == "" {
		h.Contract = contractJSON
	}
	if h.Timeout == 0 {
		h.Timeout = caddy.Duration(defaultTimeout)
	}
	if h.QueueTimeout == 0 {
		h.QueueTimeout = caddy.Duration(defaultQueueTimeout)
	}
	if h.MemoryLimit == 0 {
		h.MemoryLimit = defaultMemoryLimit
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	if h.MaxOutput == 0 {
		h.MaxOutput = defaultMaxOutput
	}
	if h.MaxLogs == 0 {
		h.MaxLogs = defaultMaxLogs
	}
	if h.Snapshot == "" {
		h.Snapshot = app.Snapshot
	}
}

// functionConfig turns the settings into the engine's, resolves placeholders and notes the late values.
func (h *Handler) functionConfig(repl *caddy.Replacer, module string) (*engine.FunctionConfig, error) {
	config := &engine.FunctionConfig{
		Program:     filepath.Base(module),
		Backend:     h.Backend,
		Contract:    h.Contract,
		Timeout:     time.Duration(h.Timeout),
		MemoryLimit: h.MemoryLimit,
		MaxBody:     h.MaxBody,
		MaxOutput:   h.MaxOutput,
		MaxLogs:     h.MaxLogs,
		Snapshot:    h.Snapshot,
	}
	if h.Warmup != nil {
		config.Warmup = &engine.Warmup{Rounds: h.Warmup.Rounds}
	}
	h.late = nil
	for _, name := range slices.Sorted(maps.Keys(h.Env)) {
		text, err := h.resolve(repl, "env "+name, h.Env[name])
		if err != nil {
			return nil, err
		}
		config.Env = append(config.Env, [2]*string{&name, text})
	}
	for i, arg := range h.Args {
		text, err := h.resolve(repl, fmt.Sprintf("args, number %d", i+1), arg)
		if err != nil {
			return nil, err
		}
		config.Args = append(config.Args, text)
	}
	for _, m := range h.Mounts {
		host, err := absolute(repl, "mount", m.Host)
		if err != nil {
			return nil, err
		}
		config.Mounts = append(config.Mounts, engine.Mount{Host: host, Guest: m.Guest, Writable: m.Writable})
	}
	return config, nil
}

// resolve is the value of a setting, or nil if each request has its own.
func (h *Handler) resolve(repl *caddy.Replacer, setting, text string) (*string, error) {
	v, unset := parseValue(text, repl)
	for _, placeholder := range unset {
		h.logger.Warn("a placeholder of the config is empty: the environment variable is not set",
			zap.String("setting", setting), zap.String("placeholder", placeholder))
	}
	if static, ok := v.static(); ok {
		return &static, checkNUL(setting, static)
	}
	h.late = append(h.late, v)
	return nil, h.checkLate(setting, &v)
}

// label names the function. Two functions share a name only where the user says so.
func (h *Handler) label(app *App, config *engine.FunctionConfig, module, sample string) error {
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte(module+"\x00"+sample+"\x00"), text...))
	identity := hex.EncodeToString(sum[:])
	if h.Name != "" {
		config.Name = h.Name
		app.noteName(h.Name, identity)
		return nil
	}
	base := filepath.Base(module)
	config.Name = app.claimName(strings.TrimSuffix(base, filepath.Ext(base)), identity)
	return nil
}

// absolute is a path of the config, its placeholders resolved.
func absolute(repl *caddy.Replacer, setting, path string) (string, error) {
	resolved, err := repl.ReplaceOrErr(path, true, true)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w; a path cannot depend on the request", setting, path, err)
	}
	return filepath.Abs(resolved)
}

// exchange is what one request needs while it is answered. Exchanges are used again: a request makes next to no garbage.
type exchange struct {
	head    engine.Head
	body    []byte
	out     []byte
	answer  engine.Answer
	figures figures
	watch   watch
}

var exchanges = sync.Pool{New: func() any { return &exchange{out: make([]byte, 0, 16<<10)} }}

// maxKept is the largest buffer that is kept for the next request.
const maxKept = 256 << 10

func (x *exchange) done() {
	if cap(x.body) > maxKept {
		x.body = nil
	}
	if cap(x.out) > maxKept {
		x.out = make([]byte, 0, 16<<10)
	}
	x.answer = engine.Answer{}
	exchanges.Put(x)
}

// figures are what placeholders tell about the call.
type figures struct {
	queued, duration time.Duration
}

// publish sets the placeholders {http.gojinn.*}.
func (f *figures) publish(r *http.Request, answer *engine.Answer) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	// A function and not four values: hardly any config asks for them, and every request would pay.
	told, verdict, peak := *f, min(answer.Verdict, engine.VerdictError), answer.MemoryPeak
	repl.Map(func(key string) (any, bool) {
		name, ours := strings.CutPrefix(key, "http.gojinn.")
		if !ours {
			return nil, false
		}
		switch name {
		case "duration_ms":
			return told.duration.Seconds() * 1e3, true
		case "queued_ms":
			return told.queued.Seconds() * 1e3, true
		case "outcome":
			return verdict.String(), true
		case "memory_peak":
			return peak, true
		default:
			return nil, false
		}
	})
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
