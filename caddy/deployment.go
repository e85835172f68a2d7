package gojinn

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// deployment is the function that one handler serves, and what it takes to replace it once its module's file has changed.
type deployment struct {
	// ctx ends with the config.
	ctx    context.Context
	engine *sharedEngine
	// module is the absolute path, with the symlinks that it may have: they are followed anew each time. sample is the one of the
	// warm-up's sample; empty for none.
	module, sample string
	// config is without the sample's text, which is read anew each time.
	config         *engine.FunctionConfig
	maxConcurrency int
	logger         *zap.Logger
	// seen are the files as they were when the function was deployed; nil for one of which that says too little.
	seen fileStates

	// function answers requests. One that was replaced lives until its last request has ended.
	function atomic.Pointer[sharedFunction]

	// reloading lets one reload run at a time. It is held while a module compiles; mu never is.
	reloading sync.Mutex
	// refusal is the content that was refused last, and why; empty if the last reload did not fail. Guarded by reloading.
	refusal string

	mu sync.Mutex
	// key is set as long as the config holds the function.
	key *functionKey
}

// reloaded is what a reload did, as the admin API tells it.
type reloaded struct {
	Name    string `json:"name"`
	Hash    string `json:"sha256"`
	Changed bool   `json:"changed"`
	// Source is where the compiled code came from, see functionFacts; `config` where nothing changed.
	Source   string  `json:"code_from"`
	Duration float64 `json:"duration_ms"`
}

// errReplaced ends a reload during which the config was replaced.
var errReplaced = errors.New("the config was replaced meanwhile")

// deploy reads the files and takes the config's hold on the function; close gives it back.
func (d *deployment) deploy(app *App) error {
	wasm, config, seen, err := d.read()
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
	f, loaded, err := loadFunction(d.ctx, key, wasm, d.module, config)
	if err != nil {
		return err
	}
	d.key = &key
	d.function.Store(f)
	d.seen = seen.settled()
	source := "config" // it was there before this config was loaded
	if !loaded {
		source = f.facts.Source
	}
	d.report("function is ready", len(wasm), source, time.Since(start))
	return nil
}

// read is the module, and the settings with the sample of the warm-up, as the files have them now.
func (d *deployment) read() ([]byte, *engine.FunctionConfig, fileStates, error) {
	var seen fileStates
	wasm, file, err := readSettled(d.module)
	if err != nil || d.sample == "" {
		seen.module = file
		return wasm, d.config, seen, err
	}
	// Half a sample is no JSON, so nobody need wait for its writer.
	text, sample, err := readSample(d.sample, d.config.MaxBody)
	config := *d.config
	config.Warmup = &engine.Warmup{Rounds: d.config.Warmup.Rounds, Sample: text}
	return wasm, &config, fileStates{module: file, sample: sample}, err
}

// reload replaces the function if the file of its module, or of its warm-up's sample, has other content now. Requests that run, and those that come until the
// new one is ready, are answered by the old one; it stays if the new one is refused. The reason is logged once.
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

// replace is what reload does, without telling. It says how many bytes the module has.
func (d *deployment) replace(done *reloaded) (int, error) {
	wasm, config, _, err := d.read()
	if err != nil {
		return 0, err
	}
	key, err := newFunctionKey(d.engine, wasm, config, d.maxConcurrency)
	if err != nil {
		return 0, err
	}
	done.Hash, done.Source = hex.EncodeToString(key.wasm[:]), "config"
	if key == d.function.Load().key {
		return len(wasm), nil
	}
	f, loaded, err := loadFunction(d.ctx, key, wasm, d.module, config)
	switch {
	case err != nil && d.ctx.Err() != nil:
		return 0, errReplaced
	case err != nil:
		return 0, withoutName(d.config.Name, err)
	}
	done.Changed, done.Source = true, f.facts.Source
	if loaded {
		done.Source = "memory" // another handler with these settings has it
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
	return len(wasm), errors.Join(err, failed)
}

// close drops the config's hold on the function; requests keep theirs. It may be called twice.
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

// refusedMessage is the log's for a file that has changed.
func refusedMessage(err error) string {
	if bad := (*sampleError)(nil); errors.As(err, &bad) {
		return "the sample of warmup has changed and was refused; the function before serves on"
	}
	return "the module's file has changed and was refused; the function before serves on"
}

// report logs a function that serves from now on, how its sandboxes start, and what the engine warns about.
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

// withoutName takes a function's name from an error of the engine: who tells about it says name and path.
func withoutName(name string, err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "function "+name+": "); ok {
		return errors.New(text)
	}
	return err
}

// maxModule bounds the file of a module: it is read whole, and compiling takes about a second for each megabyte.
const maxModule = 64 << 20

// readModule is the module's content, and its file as it was just before.
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
			"strip debug information, or embed less data", info.Size(), maxModule)
	}
	wasm, err := os.ReadFile(path)
	return wasm, info, err
}

// readSettled is the content of a module that nobody writes, and its file: half an old file and half a new one may be valid.
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
	return nil, nil, errors.New("the file is being written; try again once it is complete")
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
