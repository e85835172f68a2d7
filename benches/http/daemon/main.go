// Daemon is the alternative to a function: a native Go program behind reverse_proxy that answers what the Go hello answers.
//
//	daemon 127.0.0.1:8090
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: daemon <address>")
		os.Exit(2)
	}
	hello := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "Hello from Go: %s %s trace=%s\n", r.Method, r.RequestURI, r.Header.Get("X-Request-Id"))
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], http.HandlerFunc(hello)))
	os.Exit(1)
}
