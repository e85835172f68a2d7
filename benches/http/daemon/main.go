// Daemon is the alternative to a function: a native Go program behind reverse_proxy that answers what a Go function answers.
//
//	daemon [-parse] 127.0.0.1:8090
//
// It answers as the hello in Go does. With -parse it parses the JSON of the body, and answers as the function of compare.sh.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	parse := len(os.Args) == 3 && os.Args[1] == "-parse"
	if len(os.Args) != 2 && !parse {
		fmt.Fprintln(os.Stderr, "usage: daemon [-parse] <address>")
		os.Exit(2)
	}
	answer := hello
	if parse {
		answer = parsed
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[len(os.Args)-1], http.HandlerFunc(answer)))
	os.Exit(1)
}

func hello(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "Hello from Go: %s %s trace=%s\n", r.Method, r.RequestURI, r.Header.Get("X-Request-Id"))
}

func parsed(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name   string `json:"name"`
		Number int    `json:"number"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "Hello from Gojinn! Trace: %s", r.Header.Get("X-Request-Id"))
}
