// Mux is a small site behind net/http's own router, served by package gojinnhttp.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s\n", r.PathValue("name"))
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		if _, err := io.Copy(w, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"form": r.PostForm, "trace": gojinnhttp.FromContext(r.Context()).TraceID})
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("mux: asked to panic") })
	gojinnhttp.Serve(mux)
}
