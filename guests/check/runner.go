// Package check runs every guest on wazero, a runtime that is not one of Gojinn's backends, and compares the results with what the guests promise.
package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// Call is one request to a guest.
type Call struct {
	Stdin []byte
	Args  []string
	// Env holds alternating names and values.
	Env []string
	// Mount is a directory of the host that the guest sees as /data; empty for none.
	Mount string
	// Timeout ends the guest; zero is a minute.
	Timeout time.Duration
	// RunUp is what gojinn.ready answers: whether a snapshot is about to be taken.
	RunUp bool
	// Operations serves what the guest calls by gojinn.call; nil knows none.
	Operations func(operation string, request []byte) (reply []byte, code int32)
}

// Result is what a guest did.
type Result struct {
	Stdout, Stderr []byte
	// Exit is the exit code; 0 where the guest simply returned.
	Exit uint32
	// Trap is the reason where it did not end by itself.
	Trap error
	// Slept is the sum of what it asked to sleep. No sleep really takes longer than longestSleep.
	Slept time.Duration
	// Ready is how often it said that it waits for a request.
	Ready int
	// Before is what it asked of the host before its first read of stdin.
	Before Census
}

// Census counts what a snapshot at the first read of stdin would freeze.
type Census struct {
	// Random is bytes of entropy; Go's runtime asks for 32.
	Random int
	// Realtime is readings of the wall clock.
	Realtime int
}

const (
	// memoryPages is the limit that guests run under: 128 MiB, Gojinn's default.
	memoryPages = 128 << 20 / (64 << 10)
	// longestSleep lets a guest that sleeps for an hour come back at once.
	longestSleep = time.Second
)

// A Guest is a compiled module. It lives until the process ends.
type Guest struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
	file    string
}

// Load compiles the module in file.
func Load(ctx context.Context, file string) (*Guest, error) {
	code, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfig().WithCloseOnContextDone(true).WithMemoryLimitPages(memoryPages)
	runtime := wazero.NewRuntimeWithConfig(ctx, config)
	module, err := runtime.CompileModule(ctx, code)
	if err == nil {
		_, err = wasi_snapshot_preview1.Instantiate(ctx, runtime)
	}
	if err == nil {
		_, err = runtime.NewHostModuleBuilder("gojinn").NewFunctionBuilder().WithFunc(ready).Export("ready").
			NewFunctionBuilder().WithFunc(operate).Export("call").
			NewFunctionBuilder().WithFunc(reply).Export("reply").
			Instantiate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, runtime.Close(ctx))
	}
	return &Guest{runtime: runtime, module: module, file: file}, nil
}

// Run gives the guest one request, in a fresh instance. An error means that it could not be instantiated, and not by the guest's fault.
func (g *Guest) Run(ctx context.Context, call Call) (*Result, error) {
	if call.Timeout == 0 {
		call.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, call.Timeout)
	defer cancel()

	var stdout, stderr bytes.Buffer
	result := &Result{}
	stdin, reading := bytes.NewReader(call.Stdin), false
	ctx = context.WithValue(ctx, readyKey{}, func() int32 {
		result.Ready++
		if call.RunUp {
			return 1
		}
		return 0
	})
	ctx = context.WithValue(ctx, operationsKey{}, &operations{serve: call.Operations})
	config := wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithStdin(readerFunc(func(p []byte) (int, error) {
			reading = true
			return stdin.Read(p)
		})).
		WithStdout(&stdout).
		WithStderr(&stderr).
		WithArgs(append([]string{filepath.Base(g.file)}, call.Args...)...).
		WithWalltime(func() (int64, int32) {
			if !reading {
				result.Before.Realtime++
			}
			now := time.Now()
			return now.Unix(), int32(now.Nanosecond())
		}, 1000).
		WithSysNanotime().
		WithNanosleep(func(ns int64) {
			result.Slept += time.Duration(ns)
			time.Sleep(min(time.Duration(ns), longestSleep))
		}).
		WithRandSource(readerFunc(func(p []byte) (int, error) {
			if !reading {
				result.Before.Random += len(p)
			}
			return rand.Read(p)
		}))
	for i := 0; i+1 < len(call.Env); i += 2 {
		config = config.WithEnv(call.Env[i], call.Env[i+1])
	}
	if call.Mount != "" {
		config = config.WithFSConfig(wazero.NewFSConfig().WithDirMount(call.Mount, "/data"))
	}

	instance, err := g.runtime.InstantiateModule(ctx, g.module, config)
	if err != nil {
		if ctx.Err() != nil {
			return &Result{Trap: err}, nil
		}
		return nil, err
	}
	defer instance.Close(ctx)
	entries := []string{"_start"}
	if instance.ExportedFunction("_start") == nil {
		entries = []string{"_initialize", "gojinn_handle"}
	}
	for _, name := range entries {
		entry := instance.ExportedFunction(name)
		if entry == nil {
			return nil, fmt.Errorf("%s exports neither _start nor %s", g.file, name)
		}
		if _, err = entry.Call(ctx); err != nil {
			break
		}
	}
	result.Stdout, result.Stderr = stdout.Bytes(), stderr.Bytes()
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit) && ctx.Err() == nil:
		result.Exit = exit.ExitCode()
	case err != nil:
		result.Trap = err
	}
	return result, nil
}

// ready is gojinn.ready for whichever call the guest runs in.
func ready(ctx context.Context) int32 {
	return ctx.Value(readyKey{}).(func() int32)()
}

type readyKey struct{}

// operations is what a guest calls, and the reply to the last call.
type operations struct {
	serve func(operation string, request []byte) (reply []byte, code int32)
	reply []byte
}

type operationsKey struct{}

// operate is gojinn.call for whichever call the guest runs in.
func operate(ctx context.Context, module api.Module, name, nameLength, request, requestLength uint32) int32 {
	o := ctx.Value(operationsKey{}).(*operations)
	operation, ok := module.Memory().Read(name, nameLength)
	text, ok2 := module.Memory().Read(request, requestLength)
	if !ok || !ok2 {
		o.reply = []byte("a pointer is outside of the memory")
		return -3
	}
	if o.serve == nil {
		o.reply = []byte("there is no operation " + string(operation))
		return -1
	}
	var code int32
	if o.reply, code = o.serve(string(operation), bytes.Clone(text)); code < 0 {
		return code
	}
	return int32(len(o.reply))
}

// reply is gojinn.reply.
func reply(ctx context.Context, module api.Module, at, length uint32) int32 {
	o := ctx.Value(operationsKey{}).(*operations)
	part := o.reply[:min(len(o.reply), int(length))]
	if !module.Memory().Write(at, part) {
		return 0
	}
	return int32(len(part))
}

// readerFunc is an io.Reader that watches what is read.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
