// Command cgi is a program of the Common Gateway Interface over Go's net/http/cgi, with nothing of Gojinn in it. It is served with
// `contract cgi`, and by any other web server that speaks CGI.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", hello)
	mux.HandleFunc("POST /count", count)
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("GET /events", events)
	mux.HandleFunc("GET /bytes", zeros)
	mux.HandleFunc("/env", environment)
	if err := cgi.Serve(mux); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

// hello answers the client by its address.
func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Hello %s, this is %s over %s.\n", r.RemoteAddr, r.Host, r.Proto)
}

// count reads a body of any length, and answers with its size and its hash.
func count(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"bytes\":%d,\"sha256\":\"%x\"}\n", n, sum.Sum(nil))
}

// echo sends each part of the body back when it has arrived.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	part := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(part)
		if n > 0 {
			w.Write(part[:n])
			w.(http.Flusher).Flush()
		}
		if err != nil {
			return
		}
	}
}

// events sends server-sent events: so many (n), so many milliseconds apart (ms).
func events(w http.ResponseWriter, r *http.Request) {
	n, pause := number(r, "n", 3), number(r, "ms", 1000)
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 1; i <= n; i++ {
		if i > 1 {
			time.Sleep(time.Duration(pause) * time.Millisecond)
		}
		fmt.Fprintf(w, "data: %d\n\n", i)
		w.(http.Flusher).Flush()
	}
}

// zeros sends so many bytes (n).
func zeros(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	part := make([]byte, 32<<10)
	for n := number(r, "n", 1); n > 0; n -= len(part) {
		w.Write(part[:min(n, len(part))])
	}
}

// environment shows the variables of the request.
func environment(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	variables := os.Environ()
	slices.Sort(variables)
	io.WriteString(w, strings.Join(variables, "\n")+"\n")
}

// number reads a parameter of the query.
func number(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.Atoi(r.FormValue(name)); err == nil {
		return n
	}
	return otherwise
}
