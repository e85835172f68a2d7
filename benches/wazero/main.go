// Wazero is the reference of the group snapshot: a function on wazero, compiled once, with a fresh instance for each
// request, as Go programs use that engine.
//
//	wazero [-seconds 3] [-contains text] <module.wasm> <request.json>
//	wazero -turns [-contains text] <module.wasm> <request.json>
//
// Every request finds the file on stdin. The first answer must be a response with status 200 whose body contains the text; all
// others must equal it to the byte, or the program ends with exit code 1.
//
// The first form prints rows as target/bench/results.json has them. With -turns it is a contender of the engine bench: for each
// line on stdin, a number of nanoseconds, it makes requests for about so long, and prints one line
// {"nanos":[...],"cpu_ns":n}: how long each took, and the CPU time of the whole process for them together. The line that it
// prints first, {"version":"v1.12.0"}, says that it is ready.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

func main() {
	turns := flag.Bool("turns", false, "take turns, as stdin says")
	seconds := flag.Float64("seconds", 3, "how long to make requests")
	contains := flag.String("contains", "", "what every body must contain")
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*turns, *seconds, *contains, flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "wazero:", err)
		os.Exit(1)
	}
}

func run(turns bool, seconds float64, contains, module, request string) error {
	guest, err := load(context.Background(), module, request, contains)
	if err != nil {
		return err
	}
	// Everything lazy happens now.
	if _, err := guest.take(0); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if turns {
		return takeTurns(guest, out)
	}
	if _, err := guest.take(time.Duration(seconds / 10 * float64(time.Second))); err != nil {
		return err
	}
	samples, err := guest.take(time.Duration(seconds * float64(time.Second)))
	if err != nil {
		return err
	}
	out.SetIndent("", "  ")
	return out.Encode([]row{samples.row()})
}

func takeTurns(guest *guest, out *json.Encoder) error {
	if err := out.Encode(map[string]string{"version": version()}); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		nanos, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return fmt.Errorf("a turn is a number of nanoseconds: %w", err)
		}
		samples, err := guest.take(time.Duration(nanos))
		if err != nil {
			return err
		}
		if err := out.Encode(samples); err != nil {
			return err
		}
	}
	return lines.Err()
}

// version is that of wazero.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/tetratelabs/wazero" {
			return module.Version
		}
	}
	return "unknown"
}

// samples is what one turn came to.
type samples struct {
	Nanos []int64 `json:"nanos"`
	CPU   int64   `json:"cpu_ns"`
}

// row is one of target/bench/results.json.
type row struct {
	Group   string `json:"group"`
	Guest   string `json:"guest"`
	Backend string `json:"backend"`
	Mode    string `json:"mode"`
	Callers int    `json:"callers"`
	P50     int64  `json:"p50_ns"`
	P99     int64  `json:"p99_ns"`
	CPU     int64  `json:"cpu_ns"`
	N       int    `json:"n"`
}

func (s samples) row() row {
	slices.Sort(s.Nanos)
	n := len(s.Nanos)
	at := func(percent int) int64 { return s.Nanos[min(n*percent/100, n-1)] }
	return row{
		Group: "snapshot", Guest: "Go JSON", Backend: "wazero", Mode: "plain", Callers: 1,
		P50: at(50), P99: at(99), CPU: s.CPU / int64(n), N: n,
	}
}

// guest is a module, compiled once.
type guest struct {
	runtime  wazero.Runtime
	module   wazero.CompiledModule
	request  []byte
	contains string
	// expected is the first answer.
	expected []byte
	out      bytes.Buffer
}

func load(ctx context.Context, module, request, contains string) (*guest, error) {
	code, err := os.ReadFile(module)
	if err != nil {
		return nil, err
	}
	g := &guest{contains: contains}
	if g.request, err = os.ReadFile(request); err != nil {
		return nil, err
	}
	// Without a deadline (WithCloseOnContextDone), which would cost wazero more: it gets its best.
	g.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	if _, err = wasi_snapshot_preview1.Instantiate(ctx, g.runtime); err != nil {
		return nil, err
	}
	g.module, err = g.runtime.CompileModule(ctx, code)
	return g, err
}

// take makes requests for about so long, at least one.
func (g *guest) take(length time.Duration) (samples, error) {
	var taken samples
	cpu, err := processCPU()
	if err != nil {
		return taken, err
	}
	begun := time.Now()
	for last := begun; ; {
		if err := g.answer(context.Background()); err != nil {
			return taken, err
		}
		now := time.Now()
		taken.Nanos = append(taken.Nanos, now.Sub(last).Nanoseconds())
		if last = now; now.Sub(begun) >= length {
			break
		}
	}
	after, err := processCPU()
	taken.CPU = (after - cpu).Nanoseconds()
	return taken, err
}

// answer makes one request, in a fresh instance, and checks the answer.
func (g *guest) answer(ctx context.Context) error {
	g.out.Reset()
	config := wazero.NewModuleConfig().
		WithName("").
		WithArgs("bench").
		WithStdin(bytes.NewReader(g.request)).
		WithStdout(&g.out).
		WithSysWalltime().
		WithSysNanotime().
		WithRandSource(rand.Reader)
	instance, err := g.runtime.InstantiateModule(ctx, g.module, config)
	var exit *sys.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0 {
		err = nil
	}
	if err != nil {
		return err
	}
	if instance != nil {
		if err := instance.Close(ctx); err != nil {
			return err
		}
	}
	return g.check()
}

func (g *guest) check() error {
	if g.expected != nil {
		if !bytes.Equal(g.out.Bytes(), g.expected) {
			return fmt.Errorf("the answer is %q instead of %q", g.out.Bytes(), g.expected)
		}
		return nil
	}
	var response struct {
		Status int    `json:"status"`
		Body   string `json:"body"`
	}
	if err := json.Unmarshal(g.out.Bytes(), &response); err != nil {
		return fmt.Errorf("the answer %q is no response: %w", g.out.Bytes(), err)
	}
	if response.Status != 200 || !strings.Contains(response.Body, g.contains) {
		return fmt.Errorf("the answer is %q, whose body lacks %q or whose status is not 200", g.out.Bytes(), g.contains)
	}
	g.expected = bytes.Clone(g.out.Bytes())
	return nil
}

// processCPU is the CPU time of all threads so far: that of the garbage collector is part of what a request costs.
func processCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
