// Package gojinn answers HTTP requests from a function for Gojinn: one line in main, and the request as a Go value.
//
//	func main() {
//		gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
//			return gojinn.Text(200, "Hello, "+r.Query().Get("name")+"\n")
//		})
//	}
//
// Build it with GOOS=wasip1 GOARCH=wasm go build. For an http.Handler see the package gojinnhttp beside this one.
//
// Each request has a fresh sandbox: nothing of it reaches the next one. A function that computes its answers from the request
// alone may ask to be warmed up, see [WarmUp].
//
// Outside wasip1 everything works the same on the process's stdin and stdout, so a handler can be tried and tested with
// plain go run and go test.
package gojinn

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
)

// asked tells the host that the program waits for a request, and returns whether a snapshot is about to be taken. Without the
// question, the host does not warm the program up. A program that does not call WarmUp does not import what it takes, either.
var asked = func() bool { return false }

// WarmUp says that the function may be warmed up. Call it in main, before Serve:
//
//	func main() {
//		gojinn.WarmUp()
//		gojinn.Serve(handler)
//	}
//
// When the function is deployed, Gojinn then gives it a few sample requests (GET / if the operator has set no other) and takes its
// snapshot afterwards, so that every request starts with caches that are filled. What those requests leave in variables is there
// in every later request. So call it only if nothing that a handler keeps must be fresh: no random numbers, ids, keys, dates, counters
// or buffers that are written out later. Gojinn refuses a warm-up in which it sees such a thing, but it does not see all of them.
func WarmUp() { asked = ready }

// Serve reads requests from stdin, calls handler for each and writes its response to stdout, until stdin ends. Call it once,
// from main, and read stdin nowhere else.
//
// What cannot be answered ends the process, and the client gets 502: a request that is not one (exit code 1, the reason on
// stderr), and a panic of the handler (exit code 2, the stack on stderr).
func Serve(handler func(*Request) *Response) {
	if err := serve(os.Stdin, os.Stdout, asked, handler); err != nil {
		fmt.Fprintln(os.Stderr, "gojinn:", err)
		os.Exit(1)
	}
}

// serve is Serve over any streams. It asks ready before each read whether a snapshot is about to be taken.
func serve(in io.Reader, out io.Writer, ready func() bool, handler func(*Request) *Response) error {
	reader, writer := &reader{in: in}, newWriter(out)
	for {
		if ready() {
			collect()
		}
		request, err := reader.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		response := handler(request)
		if response == nil {
			panic("gojinn: the handler returned no response for " + request.Method + " " + request.URI + "; want a *gojinn.Response")
		}
		write := writer.write
		if reader.framed {
			write = writer.writeFrame
		}
		if err := write(response); err != nil {
			return fmt.Errorf("response: %w", err)
		}
	}
}

// collect collects garbage if the next collection is near, which would otherwise be part of every request that starts from the
// snapshot. If it is not, collecting costs such requests more than it saves: it empties what the allocator keeps at hand.
func collect() {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/goal:bytes"}}
	metrics.Read(heap)
	if now, goal := heap[0].Value.Uint64(), heap[1].Value.Uint64(); now > goal/2 {
		runtime.GC()
	}
}
