// Package probe is an awkward program, in the pieces that its arguments ask for.
//
// Arguments, before the read of the first request; all but the last six while packages are initialised:
//
//	env=NAME       keeps the value of a variable                     -> env
//	file=/path     keeps the size of a file, -1 where it has none    -> file
//	clock          keeps the time of day                             -> clock
//	key            draws a key from crypto/rand                      -> key
//	id             draws an id from math/rand                        -> id
//	draw           draws from math/rand and throws it away
//	seeded         makes generators with seeds that it chooses       -> own, with ?own=1
//	static         seeds one that is a package variable              -> own, with ?own=1
//	heap=MB        fills and keeps that much memory                  -> heap, with ?heap=1
//	gc             leaves a garbage collection in flight             -> gc
//	collect        runs a whole collection
//	timers         arms a ticker and two timers                      -> timers, with ?timers=1
//	sleep=1ms      sleeps
//	goroutines=N   lets N goroutines wait in a row                   -> goroutines
//	finalizers     sets some                                         -> finalized, with ?collect=1
//	stack          lets the stack grow and move
//	lock           locks the goroutine to its thread
//	stderr=TEXT    writes a line to stderr
//	stdout=TEXT    writes to stdout
//	panic          panics
//	exit=N         exits
//	quiet          tells nothing of all that                         -> with ?start=1
//	loop           answers every request on stdin
//	all            reads stdin to its end, then answers
//	reader         reads on another goroutine
//	deep=N         reads below N calls
//	recover        answers 500 where answering panics
//
// The query, where the answer is to tell more than the same for the same request, or to end otherwise:
//
//	draws=1        draws from every generator of the runtime         -> draws
//	own=1          draws from the program's own generators           -> own
//	heap=1         a checksum of the kept memory                     -> heap
//	timers=1       waits for ticker and timers                       -> timers
//	clocks=1       readings of both clocks                           -> clocks
//	collect=1      collects garbage, waits for finalizers            -> finalized
//	count=1        how many requests this process has had            -> count
//	recurse=N      calls itself                                      -> depth
//	panic=1, exit=N, sleep=5ms
package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

// Main is the program as a command.
func Main() {
	if asked("recover") {
		defer func() {
			if reason := recover(); reason != nil {
				check(contract.Text(500, fmt.Sprintf("probe: recovered: %v\n", reason)).Write(os.Stdout))
			}
		}()
	}
	switch {
	case asked("reader"):
		done := make(chan struct{})
		go func() {
			defer close(done)
			Handle()
		}()
		<-done
	case asked("deep"):
		descend(number("deep"), Handle)
	case asked("loop"):
		for stdin := json.NewDecoder(os.Stdin); ; {
			var req contract.Request
			err := stdin.Decode(&req)
			if errors.Is(err, io.EOF) {
				return
			}
			check(err)
			respond(&req)
		}
	default:
		Handle()
	}
}

// Handle reads one request and answers it.
func Handle() {
	var stdin io.Reader = os.Stdin
	if asked("all") {
		text, err := io.ReadAll(os.Stdin)
		check(err)
		stdin = bytes.NewReader(text)
	}
	req, err := contract.Read(stdin)
	check(err)
	respond(req)
}

// count is how many requests this process has had.
var count int

func respond(req *contract.Request) {
	count++
	query, err := req.Query()
	if err != nil {
		check(contract.Text(400, err.Error()+"\n").Write(os.Stdout))
		return
	}
	resp, err := contract.JSON(200, answer(req, query))
	check(err)
	check(resp.Write(os.Stdout))
}

// answer does what the query asks for and tells what there is to tell.
func answer(req *contract.Request, query url.Values) map[string]any {
	if query.Has("sleep") {
		duration, err := time.ParseDuration(query.Get("sleep"))
		check(err)
		time.Sleep(duration)
	}
	if query.Has("exit") {
		code, err := strconv.Atoi(query.Get("exit"))
		check(err)
		os.Exit(code)
	}
	if query.Has("panic") {
		panic("probe: asked to panic")
	}

	facts := map[string]any{}
	if !asked("quiet") || query.Has("start") {
		facts = started.facts()
	}
	facts["method"], facts["uri"], facts["trace_id"] = req.Method, req.URI, req.TraceID
	facts["generics"] = generics(req.Method + req.URI)
	if query.Has("draws") {
		facts["draws"] = draws()
	}
	if query.Has("own") {
		facts["own"] = ownDraws()
	}
	if query.Has("heap") {
		facts["heap"] = started.heapSum()
	}
	if query.Has("timers") {
		facts["timers"] = started.timers.wait()
	}
	if query.Has("clocks") {
		facts["clocks"] = clocks()
	}
	if query.Has("collect") {
		runtime.GC()
		facts["finalized"] = started.finalized()
	}
	if query.Has("count") {
		facts["count"] = count
	}
	if query.Has("recurse") {
		depth, err := strconv.Atoi(query.Get("recurse"))
		check(err)
		descend(depth, func() { facts["depth"] = depth })
	}
	return facts
}

// check ends the program with exit code 1 where something is wrong.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
