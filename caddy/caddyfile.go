// This file reads the Caddyfile: the global option and the directive gojinn.

package gojinn

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("gojinn", parseApp)
	httpcaddyfile.RegisterDirective("gojinn", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("gojinn", httpcaddyfile.Before, "reverse_proxy")
}

// parseApp reads the global option, which may be given once.
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option gojinn is given twice")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "gojinn", Value: caddyconfig.JSON(app, nil)}, nil
}

// parseDirective does what httpcaddyfile.RegisterHandlerDirective arranges, but keeps the matcher's text for an error:
// `gojinn /srv/fn.wasm` is a path matcher for Caddy, and hardly ever what the user meant.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher := ""
	if h.NextArg() {
		matcher = h.Val()
	}
	h.Reset()
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(Handler)
	if err := handler.unmarshal(h.Dispenser, matcher); err != nil {
		return nil, err
	}
	return h.NewRoute(matchers, handler), nil
}

// globalOptions lists the subdirectives of the global option.
var globalOptions = []string{
	"backend", "max_concurrency", "max_memory", "pool_slots", "pool_keep_resident", "pool_reset", "isolation", "cache", "compile_timeout",
	"compile_memory", "snapshot", "watch", "kv",
}

// UnmarshalCaddyfile reads the global option:
//
//	gojinn {
//		backend            wasmtime|wasmer|wasmi
//		max_concurrency    <number>
//		max_memory         <size>
//		pool_slots         <number>|off
//		pool_keep_resident <size>
//		pool_reset         auto|scan|copy|madvise
//		isolation          default|strict
//		cache              <directory>|off
//		compile_timeout    <duration>
//		compile_memory     <size>
//		snapshot           auto|on|off
//		watch
//		kv                 <name> [<module> ...]
//	}
//
// Each subdirective is optional, and may be given once; kv may be repeated with other names.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := seenLines{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if !slices.Contains(globalOptions, option) {
			return d.Errf("unknown option %q in the global option gojinn%s", option, didYouMean(option, globalOptions))
		}
		if err := seen.once(d, option); err != nil {
			return err
		}
		if option == "kv" {
			if err := a.parseStore(d); err != nil {
				return err
			}
			continue
		}
		if option == "watch" {
			if d.NextArg() {
				return d.Err("watch takes no argument; leave watch out if no file is to be watched")
			}
			a.Watch = true
			continue
		}
		text, err := oneArg(d, option)
		if err != nil {
			return err
		}
		switch option {
		case "backend":
			a.Backend, err = text, checkBackend(text)
		case "max_concurrency":
			a.MaxConcurrency, err = parseConcurrency(option, text)
		case "max_memory":
			a.MaxMemory, err = parseMaxMemory(text)
		case "pool_slots":
			a.PoolSlots, err = parsePoolSlots(text)
		case "pool_keep_resident":
			a.PoolKeepResident, err = parseSize(option, text)
		case "pool_reset":
			a.PoolReset, err = text, checkPoolReset(text)
		case "isolation":
			a.Isolation, err = text, checkIsolation(text)
		case "compile_timeout":
			a.CompileTimeout, err = parseDuration(option, text)
		case "compile_memory":
			a.CompileMemory, err = parseCompileMemory(text)
		case "snapshot":
			a.Snapshot, err = text, checkSnapshot(text)
		case "cache":
			a.Cache = text
			if text == "" {
				err = errors.New("cache is empty; name a directory, or write `cache off`")
			}
		}
		if err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// UnmarshalCaddyfile reads the directive:
//
//	gojinn [<matcher>] [<file.wasm>] {
//		module          <file.wasm>
//		timeout         <duration>
//		queue_timeout   <duration>
//		memory_limit    <size>
//		max_body        <size>
//		max_output      <size>
//		max_logs        <size>
//		max_concurrency <number>
//		env             <name> <value>
//		args            <argument>...
//		mount           <host directory> <guest directory> [rw]
//		backend         wasmtime|wasmer|wasmi
//		contract        json|cgi|http-wasm
//		include         <field>...
//		guest_config    <text>
//		guest_config    file <path>
//		name            <name>
//		snapshot        auto|on|off
//		warmup          <rounds> [<sample.json>]
//		watch           [off]
//		outbound        { … }
//		kv              <store> [readonly]
//		secret          <name> <placeholder>
//	}
//
// The module is named once: beside the directive or by the subdirective. An absolute path needs the subdirective, because
// Caddy takes an argument with a leading slash for a path matcher. env, mount, kv and secret may be repeated with other names and
// guest directories, everything else may be given once. The values of env and args may have placeholders. Sizes are written as
// elsewhere in Caddy: 128MB is 128 million bytes, 128MiB is 134217728.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return h.unmarshal(d, "")
}

// unmarshal reads the directive. matcher is the text of the matcher that was removed from it, or "".
func (h *Handler) unmarshal(d *caddyfile.Dispenser, matcher string) error {
	d.Next()
	directive := d.Token()
	if d.NextArg() {
		h.Module = d.Val()
		if d.NextArg() {
			return d.Errf("gojinn takes one module, so the argument %q is too many; write the function's arguments into `args`", d.Val())
		}
	}
	seen := seenLines{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if err := seen.once(d, name); err != nil {
			return err
		}
		parse, ok := subdirectives[name]
		if !ok {
			return d.WrapErr(unknownSubdirective(name))
		}
		if err := parse(h, d); err != nil {
			return err
		}
	}
	if h.Module != "" {
		return nil
	}
	at := func(format string, args ...any) error {
		return fmt.Errorf("%s, at %s:%d", fmt.Sprintf(format, args...), directive.File, directive.Line)
	}
	if strings.HasPrefix(matcher, "/") {
		return at("gojinn %s: an argument with a leading slash is a path matcher, so this names no module; "+
			"write `module %s` in the block of gojinn", matcher, matcher)
	}
	return at("gojinn names no module; write `gojinn <file.wasm>`, or `module <file.wasm>` in its block")
}

// subdirectives maps each name to the function that parses its line. The dispenser's current token is the name.
var subdirectives = map[string]func(*Handler, *caddyfile.Dispenser) error{
	"args":            parseArgs,
	"backend":         textOption(func(h *Handler) *string { return &h.Backend }, checkBackend),
	"contract":        parseContract,
	"env":             parseEnv,
	"guest_config":    parseGuestConfig,
	"include":         parseInclude,
	"max_body":        sizeOption(func(h *Handler) *int64 { return &h.MaxBody }),
	"max_concurrency": parseMaxConcurrency,
	"max_logs":        sizeOption(func(h *Handler) *int64 { return &h.MaxLogs }),
	"max_output":      sizeOption(func(h *Handler) *int64 { return &h.MaxOutput }),
	"kv":              parseStoreUse,
	"memory_limit":    sizeOption(func(h *Handler) *int64 { return &h.MemoryLimit }),
	"module":          parseModule,
	"mount":           parseMount,
	"name":            textOption(func(h *Handler) *string { return &h.Name }, checkName),
	"outbound":        parseOutbound,
	"queue_timeout":   durationOption(func(h *Handler) *caddy.Duration { return &h.QueueTimeout }),
	"secret":          parseSecret,
	"snapshot":        parseSnapshot,
	"timeout":         durationOption(func(h *Handler) *caddy.Duration { return &h.Timeout }),
	"warmup":          parseWarmup,
	"watch":           parseWatch,
}

func parseModule(h *Handler, d *caddyfile.Dispenser) error {
	text, err := oneArg(d, "module")
	switch {
	case err != nil:
		return err
	case h.Module != "":
		return d.Errf("the module is named twice: %s beside gojinn and %s here", h.Module, text)
	case text == "":
		return d.Err("module is empty; name the .wasm file")
	}
	h.Module = text
	return nil
}

func parseGuestConfig(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1:
		h.GuestConfig = args[0]
	case len(args) == 2 && args[0] == "file" && args[1] != "":
		h.GuestConfigFile = args[1]
	default:
		return d.Err("guest_config takes one text, which may be a heredoc, or `file` and a path")
	}
	return nil
}

func parseArgs(h *Handler, d *caddyfile.Dispenser) error {
	h.Args = d.RemainingArgs()
	if len(h.Args) == 0 {
		return d.ArgErr()
	}
	if err := checkArgs(h.Args); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseEnv(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("env takes a name and a value, as in `env DB_HOST localhost`, and got %d arguments; "+
			"quote a value that has spaces", len(args))
	}
	if _, ok := h.Env[args[0]]; ok {
		return d.Errf("env %s is given twice", args[0])
	}
	if err := checkEnvPair(args[0], args[1]); err != nil {
		return d.WrapErr(err)
	}
	if h.Env == nil {
		h.Env = map[string]string{}
	}
	h.Env[args[0]] = args[1]
	return nil
}

func parseMount(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 || len(args) == 3 && args[2] != "rw" {
		return d.Err("mount takes a directory of the host, a directory of the guest and optionally rw, as in `mount ./data /data rw`")
	}
	m := Mount{Host: args[0], Guest: args[1], Writable: len(args) == 3}
	if err := checkMount(m); err != nil {
		return d.WrapErr(err)
	}
	h.Mounts = append(h.Mounts, m)
	if err := checkMounts(h.Mounts); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseSnapshot(h *Handler, d *caddyfile.Dispenser) error {
	text, err := oneArg(d, "snapshot")
	if err != nil {
		return err
	}
	h.Snapshot = text
	return h.parsedSnapshot(d, checkSnapshot(text))
}

func parseWarmup(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.Errf("warmup takes a number of rounds and optionally the file of a sample request, as in `warmup 3 ./sample.json`, "+
			"and got %d arguments", len(args))
	}
	rounds, err := strconv.Atoi(args[0])
	if err != nil {
		return d.Errf("warmup %q is not a number; the number of rounds comes first, as in `warmup 3 ./sample.json`", args[0])
	}
	h.Warmup = &Warmup{Rounds: rounds}
	if len(args) == 2 {
		if h.Warmup.Sample = args[1]; args[1] == "" {
			return d.Err("the file of warmup is empty; leave it out for a default request")
		}
	}
	return h.parsedSnapshot(d, checkRounds(rounds))
}

// parsedSnapshot returns the error of a line about snapshots: err, or that snapshot and warmup exclude each other.
func (h *Handler) parsedSnapshot(d *caddyfile.Dispenser, err error) error {
	if err == nil && h.Warmup != nil {
		err = checkWarmup(h.Snapshot)
	}
	if err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseWatch(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) > 1 || len(args) == 1 && args[0] != "off" {
		return d.Err("watch takes no argument but off: write `watch` or `watch off`")
	}
	on := len(args) == 0
	h.Watch = &on
	return nil
}

func parseMaxConcurrency(h *Handler, d *caddyfile.Dispenser) error {
	text, err := oneArg(d, "max_concurrency")
	if err != nil {
		return err
	}
	if h.MaxConcurrency, err = parseConcurrency("max_concurrency", text); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseConcurrency(option, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a number; write for example 64", option, text)
	}
	return n, checkConcurrency(option, n)
}

func parsePoolSlots(text string) (int, error) {
	if text == "off" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("pool_slots %q is not a number from 1 to %d; write for example 512, or off", text, maxPoolSlots)
	}
	return n, checkPoolSlots(n)
}

func textOption(field func(*Handler) *string, check func(string) error) func(*Handler, *caddyfile.Dispenser) error {
	return func(h *Handler, d *caddyfile.Dispenser) error {
		text, err := oneArg(d, d.Val())
		if err != nil {
			return err
		}
		*field(h) = text
		if err := check(text); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

func sizeOption(field func(*Handler) *int64) func(*Handler, *caddyfile.Dispenser) error {
	return func(h *Handler, d *caddyfile.Dispenser) error {
		name := d.Val()
		text, err := oneArg(d, name)
		if err != nil {
			return err
		}
		if *field(h), err = parseSize(name, text); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// parseSize reads a size as Caddy does: 128MB is 128 million bytes, 128MiB is 134217728.
func parseSize(setting, text string) (int64, error) {
	size, err := parseBytes(setting, text, maxSize)
	if err != nil {
		return 0, err
	}
	return size, checkSize(setting, size)
}

func parseMaxMemory(text string) (int64, error) {
	size, err := parseBytes("max_memory", text, maxMaxMemory)
	if err != nil {
		return 0, err
	}
	return size, checkMaxMemory(size)
}

func parseCompileMemory(text string) (int64, error) {
	size, err := parseBytes("compile_memory", text, maxCompileMemory)
	if err != nil {
		return 0, err
	}
	return size, checkCompileMemory(size)
}

// parseBytes reads a size. One beyond most is cut to just above it, which a check then names.
func parseBytes(setting, text string, most uint64) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a size; write for example 128MB or 64MiB", setting, text)
	}
	return int64(min(n, most+1)), nil
}

func durationOption(field func(*Handler) *caddy.Duration) func(*Handler, *caddyfile.Dispenser) error {
	return func(h *Handler, d *caddyfile.Dispenser) error {
		name := d.Val()
		text, err := oneArg(d, name)
		if err != nil {
			return err
		}
		if *field(h), err = parseDuration(name, text); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

func parseDuration(name, text string) (caddy.Duration, error) {
	duration, err := caddy.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a duration; write for example 500ms, 2s or 1m", name, text)
	}
	return caddy.Duration(duration), checkDuration(name, caddy.Duration(duration))
}

// oneArg returns the only argument of an option.
func oneArg(d *caddyfile.Dispenser, option string) (string, error) {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.Errf("%s takes one argument and got %d", option, len(args))
	}
	return args[0], nil
}

// seenLines maps each subdirective to the line in which it was given.
type seenLines map[string]int

// once returns an error for a subdirective that was given before, unless it may be repeated.
func (s seenLines) once(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "env", "mount", "kv", "secret":
		return nil
	}
	if line, ok := s[name]; ok {
		return d.Errf("%s is given twice, first in line %d", name, line)
	}
	s[name] = d.Line()
	return nil
}

// unknownSubdirective returns the error for a name that is no subdirective: one of the predecessor's, or a typo.
func unknownSubdirective(name string) error {
	if name == "{" || name == "}" {
		return fmt.Errorf("unexpected %s: no subdirective of gojinn but outbound and contract cgi has a block", name)
	}
	for _, g := range gone {
		if ok, _ := path.Match(g.pattern, name); ok {
			return fmt.Errorf("%s is gone: %s", name, g.instead)
		}
	}
	known := slices.Sorted(maps.Keys(subdirectives))
	if hint := didYouMean(name, known); hint != "" {
		return fmt.Errorf("unknown subdirective %q of gojinn%s", name, hint)
	}
	return fmt.Errorf("unknown subdirective %q of gojinn; known are %s", name, strings.Join(known, ", "))
}

// gone lists the predecessor's subdirectives that have no meaning here, by pattern, and what to write instead.
var gone = []struct{ pattern, instead string }{
	{"wasm_file", "write `gojinn <file.wasm>`, or `module <file.wasm>`"},
	{"path", "write `gojinn <file.wasm>`, or `module <file.wasm>`"},
	{"pool_size", "a sandbox is made for each request; limit them with max_concurrency, here or in the global option gojinn"},
	{"debug_secret", "what a function writes to stderr is in Caddy's log; use the directive `log` and `debug`"},
	{"fuel_limit", "limit a call with timeout, which counts waiting as well"},
	{"record_crashes", "every refused answer is in Caddy's log, with its reason"},
	{"crash_path", "every refused answer is in Caddy's log, with its reason"},
	{"api_key", "use Caddy's own directives before the function, such as `basic_auth`, `forward_auth` or a matcher on a header"},
	{"cors_origin", "use the directive `header`"},
	{"allow_host", "write `outbound { allow https://<host> }`, with the allow in a line by itself"},
	{"rate_limit", "limit a function with max_concurrency, or use a rate limiting plugin for Caddy"},
	{"permissions", "functions reach what the subdirectives outbound, kv, secret and mount give them, and nothing else"},
	{"perms", "functions reach what the subdirectives outbound, kv, secret and mount give them, and nothing else"},
	{"security", "modules are validated when they are loaded; verify signatures when you deploy them"},
	{"data_dir", "give the function a directory with `mount <host> <guest> rw`"},
	{"cron", "call the function's URL from cron or a systemd timer"},
	{"db_*", "functions have no database; run one beside Caddy and serve it with reverse_proxy"},
	{"kv_*", "name a store in the global option gojinn, as in `kv sessions file`, and give it to the function, as in `kv sessions`"},
	{"s3_*", "functions have no storage but directories of the host, see mount"},
	{"nats_*", "Gojinn has no message broker; run one beside Caddy"},
	{"trusted_nats_users", "Gojinn has no message broker; run one beside Caddy"},
	{"mqtt_*", "Gojinn has no message broker; run one beside Caddy"},
	{"ai_*", "functions have no AI service; run one beside Caddy"},
	{"cluster_*", "Gojinn forms no clusters; put a load balancer before several Caddys"},
	{"leaf_*", "Gojinn forms no clusters; put a load balancer before several Caddys"},
	{"server_name", "Gojinn forms no clusters; put a load balancer before several Caddys"},
}

// Interface guards
var (
	_ caddyfile.Unmarshaler       = (*App)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
