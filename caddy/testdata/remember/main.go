// Remember is a function for the tests of snapshots. It echoes the body, or the variable SHOW, and keeps the body in a variable
// that only a request with the header X-Reveal can see. No sample has that header, so what a warm-up leaves there changes no
// other answer.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// started is the time at which the program started, if the variable DATE is set.
var started time.Time

// last is the body of the last request. A pristine sandbox has had none.
var last string

func init() {
	if line := os.Getenv("SAY"); line != "" {
		fmt.Fprintln(os.Stderr, line)
	}
	if os.Getenv("DATE") != "" {
		started = time.Now()
	}
	if path := os.Getenv("OPEN"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		last = string(text)
	}
}

func main() {
	var request struct {
		Headers map[string][]string `json:"headers"`
		Body    string              `json:"body"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	headers := map[string][]string{
		"Content-Type": {"text/plain"},
		"X-Random":     {fmt.Sprint(rand.Uint64())},
		"X-Tenant":     {os.Getenv("TENANT")},
	}
	if !started.IsZero() {
		headers["X-Up"] = []string{fmt.Sprint(time.Since(started).Nanoseconds())}
	}
	body := request.Body
	if show := os.Getenv("SHOW"); show != "" {
		body = show
	}
	if request.Headers["X-Reveal"] != nil {
		body = last
	}
	last = request.Body
	err := json.NewEncoder(os.Stdout).Encode(map[string]any{"status": 200, "headers": headers, "body": body})
	if err != nil {
		os.Exit(1)
	}
}
