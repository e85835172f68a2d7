// This file has the handler of one function: its settings, and what is done with them when a config is loaded.

package gojinn

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler answers requests with a WebAssembly function. Each request runs in its own sandbox.
type Handler struct {
	// Module is the path of the `.wasm` file, or of a script in JavaScript or TypeScript, relative to the process's working directory. Required. Placeholders that do
	// not depend on a request may be used.
	Module string `json:"module,omitempty"`

	// Name labels the function in metrics and logs. Default: the file's name without its extension, and with a short hash if
	// another function has that name.
	Name string `json:"name,omitempty"`

	// Backend is the engine that runs the function: `wasmtime`, `wasmer` or `wasmi`. Default: that of the app `gojinn`, or
	// `wasmtime`.
	Backend string `json:"backend,omitempty"`

	// Contract is the form in which the function gets requests and returns responses: `json`, `cgi` for programs of the Common
	// Gateway Interface, or `http-wasm` for the guests of http-wasm.io. Default: `json`.
	Contract string `json:"contract,omitempty"`

	// CGI has the settings of a function with the contract `cgi`. Default: see there.
	CGI *CGI `json:"cgi,omitempty"`

	// Include are the fields that the function gets of each request besides `method`, `uri`, `headers`, `body` and `trace_id`:
	// `remote_addr`, `client_ip`, `scheme`, `host`, `proto` and `original_uri`. Scripts get all of them. Default: none.
	Include []string `json:"include,omitempty"`

	// GuestConfig is what a function with the contract `http-wasm` gets as its configuration. Placeholders that do not depend on
	// a request are resolved when the config is loaded. Default: none.
	GuestConfig string `json:"guest_config,omitempty"`

	// GuestConfigFile is the path of a file with that configuration, as it is. Placeholders that do not depend on a request may
	// be used in the path. Default: none.
	GuestConfigFile string `json:"guest_config_file,omitempty"`

	// Timeout is the longest time from a call's admission to the guest's end, whatever the guest does. Default: 60s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// QueueTimeout is the longest time that a request waits for a free sandbox. Default: 1s.
	QueueTimeout caddy.Duration `json:"queue_timeout,omitempty"`

	// MemoryLimit is the largest linear memory of a sandbox, in bytes, from 64 KiB to 4 GiB. Default: 128000000.
	MemoryLimit int64 `json:"memory_limit,omitempty"`

	// MaxBody is the largest body of a request, in bytes. Default: 10000000.
	MaxBody int64 `json:"max_body,omitempty"`

	// MaxOutput is the largest body of a response, decoded, in bytes. Default: 10000000.
	MaxOutput int64 `json:"max_output,omitempty"`

	// MaxLogs is how much of a call's log lines is kept (what the function writes to stderr, and `host_log`), in bytes, and at
	// most one line for each 64 of them; the rest is dropped and counted. Default: 65536.
	MaxLogs int64 `json:"max_logs,omitempty"`

	// MaxConcurrency is how many sandboxes of this function may run at once. Default: the app's limit only.
	MaxConcurrency int `json:"max_concurrency,omitempty"`

	// Env has the function's environment variables, and it gets no others. Placeholders in the values are resolved when the
	// config is loaded, or for each request if they depend on it. Other text in braces is text. Default: none.
	Env map[string]string `json:"env,omitempty"`

	// Args are the function's arguments, after the name of its file. They may have placeholders as in `env`. Default: none.
	Args []string `json:"args,omitempty"`

	// Mounts are the directories that the function can use. Default: none.
	Mounts []Mount `json:"mounts,omitempty"`

	// Snapshot says whether sandboxes start from a snapshot, which is taken when the function is deployed, just before its
	// program reads the first request: `auto` if that changes nothing but the time it takes, `on` even if the program has used
	// entropy, clocks or files before, or `off`. Default: the app's setting, or `auto`.
	Snapshot string `json:"snapshot,omitempty"`

	// Warmup runs a sample request before the snapshot is taken. Every request finds what the program keeps of it. Default: none.
	Warmup *Warmup `json:"warmup,omitempty"`

	// Watch watches the module's file, and that of the warm-up's sample: when one has changed the function is replaced, or stays
	// if the new file is refused. Default: the app's setting.
	Watch *bool `json:"watch,omitempty"`

	// Outbound says which servers the function may call by HTTP. Default: none.
	Outbound *Outbound `json:"outbound,omitempty"`

	// Stores are the key-value stores that the function may use, of those that the app defines. Default: none.
	Stores []StoreUse `json:"kv,omitempty"`

	// Secrets maps names, by which the function asks, to placeholders such as `{file./run/secrets/api_key}`, which are resolved
	// each time that it asks. Default: none.
	Secrets map[string]string `json:"secrets,omitempty"`

	deployment *deployment
	meters     *meters
	// hostCallMeters and denials are about the operations that the function calls.
	hostCallMeters hostCallMeters
	denials        *denials
	stores         map[string]functionStore
	logger         *zap.Logger
	guestLog       guestLog
	// noter notes which headers came from the client; nil outside of a server.
	noter *clientNoter
	// perRequest are the per-request values, in the order in which the engine expects them.
	perRequest []value
}

// Mount gives a function a directory of the host.
type Mount struct {
	// Host is the directory's path on the host, relative to the process's working directory. Required.
	Host string `json:"host"`

	// Guest is the absolute path at which the function sees the directory. Required.
	Guest string `json:"guest"`

	// Writable lets the function change the directory. Default: false.
	Writable bool `json:"writable,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.gojinn",
		New: func() caddy.Module { return new(Handler) },
	}
}

// The defaults, as in docs/contract.md.
const (
	defaultTimeout      = 60 * time.Second
	defaultQueueTimeout = time.Second
	defaultMemoryLimit  = 128_000_000
	defaultMaxBody      = 10_000_000
	defaultMaxOutput    = 10_000_000
	defaultMaxLogs      = 64 << 10
)

// Provision deploys the function, unless another config has deployed the same module with the same settings.
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
	config, err := h.functionConfig(repl, module, newOtherNames(ctx))
	if err != nil {
		return err
	}
	if app.Isolation == isolationStrict {
		config.ClockResolution = strictClocks
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
	if err := h.provisionReach(ctx, app, repl); err != nil {
		return fmt.Errorf("function %s: %w", config.Name, err)
	}
	h.deployment = &deployment{
		ctx: ctx, module: module, script: h.scriptSettings(), sample: sample, config: config, maxConcurrency: h.MaxConcurrency, logger: h.logger,
		reach: h.reach(),
	}
	err = h.deployment.deploy(app)
	if err != nil {
		// The engine's error has the function's name, but not the path.
		return fmt.Errorf("function %s (%s): %w", config.Name, module, withoutName(config.Name, err))
	}
	app.add(h.deployment, h.Watch)
	h.noter = noteClientValues(ctx)
	h.meters = newMeters(config.Name, config.Backend)
	h.hostCallMeters, h.denials = hostCallMeters{function: config.Name}, new(denials)
	h.guestLog = newGuestLog(h.logger, config.Name)
	return nil
}

// Validate implements caddy.Validator.
func (h *Handler) Validate() error {
	if h.Module == "" {
		return errors.New("no module is given; name the .wasm file or the script")
	}
	return errors.Join(
		checkBackend(h.Backend),
		checkContract(h.Contract),
		h.CGI.check(h.Contract),
		h.checkGuestConfig(),
		h.checkInclude(),
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
		checkStoreUses(h.Stores),
		checkSecrets(h.Secrets),
	)
}

// Cleanup drops the config's reference to the function; requests keep theirs. It may be called twice, and after a Provision
// that failed.
func (h *Handler) Cleanup() error {
	err := h.Outbound.cleanup()
	if h.deployment == nil {
		return err
	}
	return errors.Join(err, h.deployment.close())
}

// functionName returns the name of the function in logs and metrics.
func (h *Handler) functionName() string { return h.hostCallMeters.function }

// setDefaults sets what the config leaves out.
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

// functionConfig returns the settings as the engine expects them, resolves placeholders and sets h.perRequest. names are the
// names of placeholders that requests can have besides Caddy's.
func (h *Handler) functionConfig(repl *caddy.Replacer, module string, names *otherNames) (*engine.FunctionConfig, error) {
	config := &engine.FunctionConfig{
		Program:     filepath.Base(module),
		Backend:     h.Backend,
		Contract:    h.Contract,
		Include:     h.include(module),
		Timeout:     time.Duration(h.Timeout),
		MemoryLimit: h.MemoryLimit,
		MaxBody:     h.MaxBody,
		MaxOutput:   h.MaxOutput,
		MaxLogs:     h.MaxLogs,
		Snapshot:    h.Snapshot,
	}
	if err := h.guestConfig(repl, config, names); err != nil {
		return nil, err
	}
	if h.Warmup != nil {
		config.Warmup = &engine.Warmup{Rounds: h.Warmup.Rounds}
	}
	h.perRequest = nil
	for _, name := range slices.Sorted(maps.Keys(h.Env)) {
		text, err := h.resolve(repl, "env "+name, h.Env[name], names)
		if err != nil {
			return nil, err
		}
		config.Env = append(config.Env, [2]*string{&name, text})
	}
	for i, arg := range h.Args {
		text, err := h.resolve(repl, fmt.Sprintf("args, number %d", i+1), arg, names)
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

// resolve returns the value of a setting, or nil if it is a per-request value.
func (h *Handler) resolve(repl *caddy.Replacer, setting, text string, names *otherNames) (*string, error) {
	v, doubts := parseValue(text, repl, names)
	for _, placeholder := range doubts.unset {
		h.logger.Warn("a placeholder of the config is empty: the environment variable is not set",
			zap.String("setting", setting), zap.String("placeholder", placeholder))
	}
	for _, placeholder := range doubts.unknown {
		h.logger.Warn("Caddy has no such placeholder, so it is kept as text; write \\{ and \\} if you mean text",
			zap.String("setting", setting), zap.String("placeholder", placeholder))
	}
	if static, ok := v.static(); ok {
		return &static, checkNUL(setting, static)
	}
	h.perRequest = append(h.perRequest, v)
	return nil, h.checkPerRequest(setting, &v)
}

// label sets the function's name. Two functions have the same name only if the user gave it to both.
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

// absolute returns a path of the config as an absolute path, with its placeholders resolved.
func absolute(repl *caddy.Replacer, setting, path string) (string, error) {
	resolved, err := repl.ReplaceOrErr(path, true, true)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w; a path cannot depend on the request", setting, path, err)
	}
	return filepath.Abs(resolved)
}

// Interface guards
var (
	_ caddy.Provisioner  = (*Handler)(nil)
	_ caddy.Validator    = (*Handler)(nil)
	_ caddy.CleanerUpper = (*Handler)(nil)
)
