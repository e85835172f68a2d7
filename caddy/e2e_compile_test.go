//go:build cgo && linux

// Tests of modules that are expensive to compile, with the real engine.

package gojinn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// costly returns a module of one function with as many locals, which are alive across as many ifs: each sets one of them.
// An if with results has an else, and leaves a value that is stored.
func costly(locals, ifs int, results bool) string {
	number := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	section := func(id byte, content []byte) []byte {
		return append(append([]byte{id}, number(len(content))...), content...)
	}
	load := func(address int) string { return "\x41\x00\x28\x02" + string(number(address)) }
	var code bytes.Buffer
	for i := range locals {
		fmt.Fprintf(&code, "%s\x21%s", load(i%16000*4), number(i))
	}
	for i := range ifs {
		if results {
			fmt.Fprintf(&code, "\x41\x00%s\x04\x7f%s\x05%s\x0b\x36\x02\x10", load(8), load(4), load(12))
		} else {
			fmt.Fprintf(&code, "%s\x04\x40%s\x21%s\x0b", load(8), load(4), number(i%locals))
		}
	}
	for i := range locals {
		fmt.Fprintf(&code, "\x41\x00\x20%s\x36\x02%s", number(i), number(i%16000*4))
	}
	body := append(append([]byte("\x01"), number(locals)...), "\x7f"+code.String()+"\x0b"...)
	module := []byte("\x00asm\x01\x00\x00\x00")
	for _, part := range [][]byte{
		section(1, []byte("\x01\x60\x00\x00")),
		section(3, []byte("\x01\x00")),
		section(5, []byte("\x01\x00\x01")),
		section(7, []byte("\x02\x06memory\x02\x00\x06_start\x00\x00")),
		section(10, append(append([]byte("\x01"), number(len(body))...), body...)),
	} {
		module = append(module, part...)
	}
	return string(module)
}

// compiling returns the processes that compile for this one.
func compiling(t *testing.T) (pids []int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		line, err := os.ReadFile(process + "/cmdline")
		if err != nil || string(line) != "/proc/self/exe\x00gojinn-compile\x00" {
			continue
		}
		status, err := os.ReadFile(process + "/status")
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// compileServer serves a function /good, and has a module to be tried in the file tried.wasm.
func compileServer(t *testing.T) *server {
	s := newRealServer(t)
	s.module("good.wasm", answering(`{"status":200,"body":"good"}`, "").String())
	s.module("tried.wasm", answering(`{"status":200,"body":"tried"}`, "").String())
	return s
}

// config has the function /tried with a backend, if both are named, and these global options.
func compileConfig(backend string, options ...string) string {
	tried := ""
	if backend != "" {
		tried = "gojinn /tried {\nmodule DIR/tried.wasm\nname tried\nbackend " + backend + "\n}\n"
	}
	return "{\nadmin ADMIN\nlog {\noutput file DIR/caddy.log\n}\ngojinn {\ncache off\n" + strings.Join(options, "\n") + "\n}\n}\n" +
		"ADDR {\nroute {\n" + tried + "gojinn {\nmodule DIR/good.wasm\nname good\n}\n}\n}\n"
}

// A small file that would take hours or all memory to compile is an error that names its function. Caddy serves on.
func TestCostlyModulesAreRefused(t *testing.T) {
	s := compileServer(t)
	s.mustLoad(compileConfig(""))
	for _, backend := range backends {
		for _, size := range [][2]int{{5000, 50000}, {50, 200000}, {20000, 20000}} {
			s.module("tried.wasm", costly(size[0], size[1], false))
			err := s.load(compileConfig(backend))
			if err == nil || !strings.Contains(err.Error(), "function 0 ") || !strings.Contains(err.Error(), "allowed") {
				t.Errorf("%s, %v: the error is %v", backend, size, err)
			}
			if got := s.get("/").body; got != "good" {
				t.Errorf("%s, %v: the config before answers %q", backend, size, got)
			}
		}
	}
}

// A watched file that becomes such a module is refused too, and the function before serves on.
func TestCostlyModulesAreRefusedByWatch(t *testing.T) {
	s := compileServer(t)
	s.mustLoad(compileConfig("wasmtime", "watch"))
	s.rename("tried.wasm", costly(5000, 50000, false))
	var refusals []map[string]any
	eventually(t, "the module to be refused", func() bool {
		refusals = s.logs("function", "tried")
		return len(refusals) > 0 && refusals[len(refusals)-1]["reason"] != nil
	})
	if reason := fmt.Sprint(refusals[len(refusals)-1]["reason"]); !strings.Contains(reason, "function 0 ") {
		t.Errorf("the reason is %q", reason)
	}
	if got := s.get("/tried").body; got != "tried" {
		t.Errorf("the function before answers %q", got)
	}
}

// A process that needs more memory than it may have is an error of that deployment, on both backends that compile.
func TestCompileMemory(t *testing.T) {
	s := compileServer(t)
	s.mustLoad(compileConfig(""))
	s.module("tried.wasm", costly(1, 9000, true))
	err := s.load(compileConfig("wasmtime", "compile_memory 256MiB"))
	if err == nil || !strings.Contains(err.Error(), "256 MiB of memory that it may use (compile_memory)") {
		t.Errorf("the error is %v", err)
	}
	if got := s.get("/").body; got != "good" {
		t.Errorf("the config before answers %q", got)
	}
	eventually(t, "the process to end", func() bool { return len(compiling(t)) == 0 })
}

// A compilation ends at compile_timeout.
func TestCompileTimeout(t *testing.T) {
	s := compileServer(t)
	s.mustLoad(compileConfig(""))
	s.module("tried.wasm", costly(500, 5000, false))
	for _, backend := range []string{"wasmtime", "wasmer"} {
		err := s.load(compileConfig(backend, "compile_timeout 300ms"))
		if err == nil || !strings.Contains(err.Error(), "longer than 300ms") || !strings.Contains(err.Error(), "the compilation was ended") {
			t.Errorf("%s: the error is %v", backend, err)
		}
		if got := s.get("/").body; got != "good" {
			t.Errorf("%s: the config before answers %q", backend, got)
		}
		eventually(t, "the process to end", func() bool { return len(compiling(t)) == 0 })
	}
}

// A compilation ends with the config that it is for, and functions serve while it runs.
func TestCompilingEndsWithTheConfig(t *testing.T) {
	s := compileServer(t)
	s.mustLoad(compileConfig("wasmtime", "watch"))
	s.rename("tried.wasm", costly(500, 5000, false))
	eventually(t, "the module to be compiled in a process", func() bool { return len(compiling(t)) == 1 })
	for uri, want := range map[string]string{"/": "good", "/tried": "tried"} {
		if got := s.get(uri).body; got != want {
			t.Errorf("%s answers %q while a module compiles", uri, got)
		}
	}
	s.mustLoad(compileConfig(""))
	eventually(t, "the process to end", func() bool { return len(compiling(t)) == 0 })
	if warned := s.warned(); len(warned) > 0 {
		t.Errorf("there are warnings: %q", warned)
	}
}
