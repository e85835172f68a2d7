// Hello is the function of the README: one JSON request in on stdin, one JSON response out on stdout.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// request holds the part of the request that this function looks at; the other keys are ignored.
type request struct {
	Method  string `json:"method"`
	URI     string `json:"uri"`
	TraceID string `json:"trace_id"`
}

type response struct {
	Status  int                 `json:"status"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run() error {
	args := os.Args[min(1, len(os.Args)):]
	if slices.Contains(args, "--verbose") {
		list, err := json.Marshal(args)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "hello: verbose, args=%s\n", list)
	}

	var req request
	if err := json.NewDecoder(os.Stdin).Decode(&req); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	headers := map[string][]string{"Content-Type": {"text/plain"}}
	if db := os.Getenv("DB_HOST"); db != "" {
		headers["X-Db-Host"] = []string{db}
	}
	return json.NewEncoder(os.Stdout).Encode(response{
		Status:  200,
		Headers: headers,
		Body:    fmt.Sprintf("Hello from Go: %s %s trace=%s\n", req.Method, req.URI, req.TraceID),
	})
}
