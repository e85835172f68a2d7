//go:build cgo

// Benchmarks of a request through the plugin.

package gojinn

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// The cost of a request from Caddy's server inwards, without a network: of the directive respond for comparison, of the plugin
// over an engine that does nothing, and of the smallest function on each backend.
func BenchmarkServeHTTP(b *testing.B) {
	b.Run("respond", func(b *testing.B) {
		s := newServer(b)
		benchmark(b, s, "respond \"{}\"")
	})
	b.Run("glue", func(b *testing.B) {
		s := newServer(b)
		s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return enginetest.OK("{}") }
		benchmark(b, s, "gojinn {\n module DIR/hello.wasm\n }")
	})
	for _, backend := range backends {
		b.Run(backend, func(b *testing.B) {
			s := newRealServer(b)
			path := s.module("tiny.wasm", answering(`{"status":200,"headers":{"Content-Type":["text/plain"]},"body":"{}"}`, "").String())
			benchmark(b, s, fmt.Sprintf("gojinn {\n module %s\n backend %s\n }", path, backend))
		})
	}
}

func benchmark(b *testing.B, s *server, directive string) {
	b.Helper()
	s.mustLoad("{\n admin ADMIN\n log {\n level ERROR\n }\n}\nADDR {\n" + directive + "\n}\n")
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		b.Fatal(err)
	}
	handler := app.(*caddyhttp.App).Servers["srv0"]
	const body = `{"name":"world"}`
	reader := strings.NewReader(body)
	request, err := http.NewRequest("POST", "http://localhost/api/hello?q=1", io.NopCloser(reader))
	if err != nil {
		b.Fatal(err)
	}
	request.RequestURI, request.RemoteAddr, request.ContentLength = "/api/hello?q=1", "127.0.0.1:4711", int64(len(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "*/*", "User-Agent": "benchmark", "X-Request-Id": "abc",
	} {
		request.Header.Set(name, value)
	}
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		// As net/http does it: one context for the connection, one for the request.
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), http.ServerContextKey, (*http.Server)(nil)))
		reader.Reset(body)
		clear(w.header)
		w.status = 0
		handler.ServeHTTP(w, request.WithContext(ctx))
		cancel()
		if w.status != http.StatusOK || w.written != len("{}") {
			b.Fatalf("got %d with %d bytes", w.status, w.written)
		}
	}
}

// discard counts what is written to it.
type discard struct {
	header          http.Header
	status, written int
}

func (d *discard) Header() http.Header { return d.header }

func (d *discard) WriteHeader(status int) { d.status, d.written = status, 0 }

// Caddy sets deadlines for each request, as net/http allows.
func (d *discard) SetReadDeadline(time.Time) error  { return nil }
func (d *discard) SetWriteDeadline(time.Time) error { return nil }
func (d *discard) EnableFullDuplex() error          { return nil }

func (d *discard) Write(p []byte) (int, error) {
	d.written += len(p)
	return len(p), nil
}
