// Reactor is hello in reactor form: no main, an exported gojinn_handle that the host calls once per request.
//
// Build it with -buildmode=c-shared; the module then exports _initialize in place of _start.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

//go:wasmexport gojinn_handle
func handle() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

// main is never called: the go command asks for it, a reactor has none.
func main() {}

func run() error {
	args := os.Args[min(1, len(os.Args)):]
	if slices.Contains(args, "--verbose") {
		list, err := json.Marshal(args)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "hello: verbose, args=%s\n", list)
	}

	req, err := contract.Read(os.Stdin)
	if err != nil {
		return err
	}
	resp := contract.Text(200, fmt.Sprintf("Hello from Go: %s %s trace=%s\n", req.Method, req.URI, req.TraceID))
	if db := os.Getenv("DB_HOST"); db != "" {
		resp.Headers["X-Db-Host"] = []string{db}
	}
	return resp.Write(os.Stdout)
}
