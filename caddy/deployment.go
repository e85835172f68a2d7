// This file deploys the function of one handler, and replaces it once its files have changed.

package gojinn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/quickjs"
)

// deployment is the function that one handler serves, and what is needed to replace it.
type deployment struct {
	// ctx ends with the config.
	ctx    context.Context
	engine *sharedEngine
	// module is the absolute path of the module's file or of the script, and sample that of the warm-up's sample, or empty. They may contain
	// symlinks, which each read follows again.
	module, sample string
	// script is what a script has to know of the config.
	script *scriptSettings
	// config lacks the sample's text and the script, which each deployment reads from their files.
	config         *engine.FunctionConfig
	maxConcurrency int
	logger         *zap.Logger
	// reach is what the handler gives to the function.
	reach reach
	// seen are the files as they were when the function was deployed, without those that may change unseen.
	seen fileStates

	// function answers requests. A replaced one lives until its last request has ended.
	function atomic.Pointer[sharedFunction]

	// reloading lets one reload run at a time. It is held while a module is compiled; mu never is.
	reloading sync.Mutex
	// refusal is the hash of the module that was refused last, and the reason; empty if the last reload did not fail. It is
	// guarded by reloading.
	refusal string

	mu sync.Mutex
	// inputs are the files that a script was made from, and those with mistakes if it cannot be bundled.
	inputs []string
	// key is that of the function as long as the config holds a reference to it, then nil.
	key *functionKey
}

// reloaded is what a reload did, for the admin API.
type reloaded struct {
	Name    string `json:"name"`
	Hash    string `json:"sha256"`
	Changed bool   `json:"changed"`
	// Source is where the compiled code came from, see functionFacts; `config` if nothing changed.
	Source   string  `json:"code_from"`
	Duration float64 `json:"duration_ms"`
}

// errReplaced is the error of a reload during which the config was replaced.
var errReplaced = errors.New("the config was replaced in the meantime")

// deploy reads the files and takes the config's reference to the function. close returns it.
func (d *deployment) deploy(app *App) error {
	wasm, config, s, seen, err := d.read()
	if err != nil {
		return err
	}
	if d.engine, err = app.acquireEngine(); err != nil {
		return err
	}
	key, err := newFunctionKey(d.engine, wasm, config, d.maxConcurrency)
	if err != nil {
		return err
	}
	start := time.Now()
	f, loaded, err := loadFunction(d.ctx, key, wasm, d.module, config, s)
	if err != nil {
		return inSample(d.sample, config.Name, err)
	}
	d.key = &key
	d.function.Store(f)
	d.seen = seen.settled()
	source := "config" // an earlier config has deployed it
	if !loaded {
		source = f.facts.Source
	}
	d.report("function is ready", s.size(wasm), source, time.Since(start))
	d.warn(s)
	return nil
}

// read returns the module, and the settings with the sample of the warm-up, from the files. For a script, that is the module
// that runs it, and the script is in the settings.
func (d *deployment) read() ([]byte, *engine.FunctionConfig, *script, fileStates, error) {
	var seen fileStates
	wasm, s, file, err := d.readModule()
	if err != nil {
		return nil, nil, nil, seen, err
	}
	config := *d.config
	if s != nil {
		config.Data = s.data
		seen.inputs = statAll(d.watched())
	}
	seen.module = file
	if d.sample == "" {
		return wasm, &config, s, seen, nil
	}
	// The engine refuses half of a sample, so there is no need to wait until the file stays as it is.
	text, sample, err := readSample(d.sample)
	config.Warmup = &engine.Warmup{Rounds: d.config.Warmup.Rounds, Sample: text}
	seen.sample = sample
	return wasm, &config, s, seen, err
}

// readModule returns the module of the function, or the script and the module that runs it.
func (d *deployment) readModule() ([]byte, *script, fs.FileInfo, error) {
	if !isScript(d.module) {
		wasm, file, err := readSettled(d.module)
		return wasm, nil, file, err
	}
	file := stat(d.module)
	s, err := bundleSettled(d.module, d.script)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		// Until it can be bundled again, the files that were read before may matter as well as those with mistakes.
		if failed := (*scriptError)(nil); errors.As(err, &failed) {
			d.inputs = append(slices.Clip(d.inputs), failed.files...)
		}
		return nil, nil, nil, err
	}
	d.inputs = s.inputs
	return quickjs.Module, s, file, nil
}

// watched returns the paths that are watched for a script; none for a module.
func (d *deployment) watched() []string {
	if !isScript(d.module) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return watchedFor(d.module, d.inputs)
}

// size returns the bytes of a script, or of a module if there is no script.
func (s *script) size(wasm []byte) int {
	if s == nil {
		return len(wasm)
	}
	return len(s.data)
}

// warn logs what is odd in a script.
func (d *deployment) warn(s *script) {
	if s == nil {
		return
	}
	for _, warning := range s.warnings {
		d.logger.Warn("the script may have a mistake", zap.String("function", d.config.Name), zap.String("warning", escapeControl(warning)))
	}
}

// reload replaces the function if the content of its module's file, or of its sample's, has changed. Until the new function is
// ready the old one answers all requests, and it stays if the new one is refused. The reason is logged once.
func (d *deployment) reload() (*reloaded, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	start := time.Now()
	done := &reloaded{Name: d.config.Name}
	size, err := d.replace(done)
	switch {
	case errors.Is(err, errReplaced):
		return nil, err
	case err != nil:
		if refusal := done.Hash + err.Error(); refusal != d.refusal {
			d.refusal = refusal
			d.logger.Error(refusedMessage(err),
				zap.String("function", d.config.Name), zap.String("module", d.module), zap.String("reason", escapeControl(err.Error())))
		}
		return nil, err
	}
	d.refusal = ""
	took := time.Since(start)
	done.Duration = took.Seconds() * 1e3
	if done.Changed {
		d.report("function was replaced", size, done.Source, took)
	}
	return done, nil
}

// replace does what reload does, without the log. It returns the size of the module.
func (d *deployment) replace(done *reloaded) (int, error) {
	wasm, config, s, _, err := d.read()
	if err != nil {
		return 0, err
	}
	key, err := newFunctionKey(d.engine, wasm, config, d.maxConcurrency)
	if err != nil {
		return 0, err
	}
	done.Hash, done.Source = contentHash(key.wasm, config), "config"
	if key == d.function.Load().key {
		return s.size(wasm), nil
	}
	f, loaded, err := loadFunction(d.ctx, key, wasm, d.module, config, s)
	switch {
	case err != nil && d.ctx.Err() != nil:
		return 0, errReplaced
	case err != nil:
		return 0, withoutName(d.config.Name, inSample(d.sample, config.Name, err))
	}
	done.Changed, done.Source = true, f.facts.Source
	if loaded {
		done.Source = "memory" // another handler with the same settings has deployed it
	}

	d.mu.Lock()
	unheld := d.key
	if unheld != nil {
		d.key = &key
		d.function.Store(f)
	}
	d.mu.Unlock()
	if unheld == nil {
		unheld, err = &key, errReplaced
	}
	_, failed := functions.Delete(*unheld)
	d.warn(s)
	return s.size(wasm), errors.Join(err, failed)
}

// close drops the config's reference to the function; requests keep theirs. It may be called twice.
func (d *deployment) close() error {
	d.mu.Lock()
	key := d.key
	d.key = nil
	d.mu.Unlock()
	if key == nil {
		return nil
	}
	_, err := functions.Delete(*key)
	return err
}

// refusedMessage returns the log message for a changed file that was refused.
func refusedMessage(err error) string {
	if bad := (*sampleError)(nil); errors.As(err, &bad) {
		return "the sample of warmup has changed and was refused; the function before serves on"
	}
	return "the module's file has changed and was refused; the function before serves on"
}

// report logs that a function serves from now on, what its sandboxes start from, and all warnings.
func (d *deployment) report(message string, size int, source string, took time.Duration) {
	d.engine.logWarnings(d.logger)
	facts := &d.function.Load().facts
	d.logger.Info(message, append([]zap.Field{
		zap.String("function", d.config.Name), zap.String("backend", d.config.Backend), zap.String("module", d.module),
		zap.Int("bytes", size), zap.String("code_from", source), zap.Duration("duration", took),
	}, facts.Snapshot.fields()...)...)
	if source != "config" {
		d.logWarnings(facts)
		d.logStart(&facts.Snapshot)
	}
}

// withoutName removes a function's name from an error of the engine, for callers that add the name and the path.
func withoutName(name string, err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "function "+name+": "); ok {
		return errors.New(text)
	}
	return err
}

// maxModule is the largest file of a module, in bytes. It is read as a whole, and compiling takes about a second for each
// megabyte.
const maxModule = 64 << 20

// readModule returns the module's content, and the state of its file just before it was read.
func readModule(path string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, errors.New("there is no such file; build the function, or correct the path")
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("this is not a regular file but a %s; name the .wasm file itself", describeMode(info.Mode()))
	case info.Size() > maxModule:
		return nil, nil, fmt.Errorf("the module has %d bytes, more than the %d that are allowed; "+
			"strip its debug information, or embed less data", info.Size(), maxModule)
	}
	wasm, err := os.ReadFile(path)
	return wasm, info, err
}

// readSettled returns a module's content, and the state of its file, which did not change while it was read: a mixture of the
// old and the new content may be valid.
func readSettled(path string) ([]byte, fs.FileInfo, error) {
	for range 10 {
		wasm, before, err := readModule(path)
		if err != nil {
			return nil, nil, err
		}
		if sameFile(before, stat(path)) && int64(len(wasm)) == before.Size() {
			return wasm, before, nil
		}
		time.Sleep(settlePoll)
	}
	return nil, nil, errors.New("the file changes while it is read; try again once it is completely written")
}

func describeMode(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	default:
		return "device"
	}
}
