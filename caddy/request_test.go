// Tests of what the engine gets of a request.

package gojinn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// The head of a request as the engine gets it.
func TestHeadOfARequest(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	load := func(options string) {
		s.mustLoad(`{
	admin ADMIN
	` + options + `
}
ADDR {
	handle_path /api/* {
		gojinn {
			module DIR/hello.wasm
		}
	}
	handle {
		rewrite /rewritten /ü?ö=1
		gojinn {
			module DIR/hello.wasm
		}
	}
}
`)
	}
	load("")
	r := s.request("PATCH", "/api/a%20b/c?q=%C3%A9&x", "body",
		"X-Two", "1", "X-Two", "2", "X-Bytes", "\xff", "X-Request-Id", "id-1", "Proxy", "evil",
		"X-Forwarded-For", "9.9.9.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example")
	r.Host = "site.example"
	s.do(r)
	h := got.Head
	for _, c := range []struct{ name, got, want string }{
		{"method", h.Method, "PATCH"},
		{"uri", h.URI, "/a%20b/c?q=%C3%A9&x"},
		{"original uri", h.OriginalURI, "/api/a%20b/c?q=%C3%A9&x"},
		{"trace id", h.TraceID, "id-1"},
		{"client ip", h.ClientIP, "127.0.0.1"},
		{"scheme", h.Scheme, "http"},
		{"host", h.Host, "site.example"},
		{"proto", h.Proto, "HTTP/1.1"},
		{"body", string(got.Body), "body"},
		{"bytes", got.Header("X-Bytes"), "\xff"},
		{"for", got.Header("X-Forwarded-For"), ""},
		{"forwarded proto", got.Header("X-Forwarded-Proto"), ""},
		{"forwarded host", got.Header("X-Forwarded-Host"), ""},
		{"host header", got.Header("Host"), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
	if host, _, err := net.SplitHostPort(h.RemoteAddr); err != nil || host != "127.0.0.1" {
		t.Errorf("remote address: %q", h.RemoteAddr)
	}
	var two []string
	for _, header := range h.Headers {
		if header[0] == "X-Two" {
			two = append(two, header[1])
		}
	}
	if strings.Join(two, ",") != "1,2" {
		t.Errorf("a header with two values: %v", two)
	}

	s.get("/rewritten")
	if got.Head.URI != "/%C3%BC?%C3%B6=1" || got.Head.OriginalURI != "/rewritten" {
		t.Errorf("rewritten: got %q from %q", got.Head.URI, got.Head.OriginalURI)
	}

	load("servers {\n\t\ttrusted_proxies static private_ranges 127.0.0.1/8\n\t}")
	s.get("/api/", "X-Forwarded-For", "9.9.9.9")
	if got.Head.ClientIP != "9.9.9.9" {
		t.Errorf("behind a trusted proxy: client %s", got.Head.ClientIP)
	}
	if len(got.Head.TraceID) != 32 {
		t.Errorf("a fresh trace id: %q", got.Head.TraceID)
	}
}

func TestAbsoluteFormIsMadeOriginForm(t *testing.T) {
	s := newServer(t)
	uri := make(chan string, 1)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { uri <- c.Head.URI; return enginetest.OK("") }
	s.mustLoad(s.simple())
	for line, want := range map[string]string{
		"GET http://other.example/a?b HTTP/1.1": "/a?b",
		"GET http://other.example HTTP/1.1":     "/",
		"GET //double?? HTTP/1.1":               "//double??",
		"GET /? HTTP/1.1":                       "/?",
	} {
		s.status(s.raw(line + "\r\nHost: x\r\n\r\n"))
		if got := await(t, line, uri); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestBodies(t *testing.T) {
	s := newServer(t)
	var calls atomic.Int64
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		calls.Add(1)
		return enginetest.OK(fmt.Sprint(len(c.Body)))
	}
	config := strings.Replace(s.simple("max_body 100kB", "max_concurrency 1"), "admin ADMIN",
		"admin ADMIN\n\tservers {\n\t\ttimeouts {\n\t\t\tread_body 300ms\n\t\t}\n\t}", 1)
	s.mustLoad(config)
	chunked := func(body io.Reader) *response {
		r := s.request("POST", "/", "")
		r.Body, r.ContentLength = io.NopCloser(body), -1
		return s.do(r)
	}
	fits, tooMuch := strings.Repeat("x", 100_000), strings.Repeat("x", 100_001)
	if res := s.do(s.request("POST", "/", fits)); res.body != "100000" {
		t.Errorf("a body of max_body: %d %s", res.StatusCode, res.body)
	}
	if res := chunked(strings.NewReader(fits)); res.body != "100000" {
		t.Errorf("the same in chunks: %d %s", res.StatusCode, res.body)
	}
	before := calls.Load()
	if res := s.do(s.request("POST", "/", tooMuch)); res.StatusCode != 413 {
		t.Errorf("a byte too many: %d", res.StatusCode)
	}
	if res := chunked(strings.NewReader(tooMuch)); res.StatusCode != 413 {
		t.Errorf("a byte too many, in chunks: %d", res.StatusCode)
	}
	// A length over the limit is refused before anything is read: no 100 Continue comes first.
	conn := s.raw("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100001\r\n\r\n")
	if status := s.status(conn); status != 413 {
		t.Errorf("an announced body over the limit: %d", status)
	}
	if status := s.status(s.raw("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")); status != 400 {
		t.Errorf("bad framing: %d", status)
	}
	stalled := s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	// The stalled upload holds no permit, of which the function has one.
	if res := s.get("/"); res.body != "0" {
		t.Errorf("beside a stalled upload: %d", res.StatusCode)
	}
	if status := s.status(stalled); status != 408 {
		t.Errorf("a stalled upload: %d", status)
	}
	gone := s.raw("POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: 10\r\n\r\nabc")
	gone.Close()
	eventually(t, "the log of a client that went away", func() bool { return len(s.logs("status", "499")) > 0 })
	if calls.Load() != before+1 {
		t.Errorf("%d guests ran on broken bodies", calls.Load()-before-1)
	}
}

func TestQueuedClientGoesAway(t *testing.T) {
	s := newServer(t)
	release := make(chan bool)
	var running atomic.Int64
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		running.Add(1)
		<-release
		return enginetest.OK("")
	}
	s.mustLoad(s.simple("max_concurrency 1", "queue_timeout 1m"))
	first := s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "the first call", func() bool { return running.Load() == 1 })
	second := s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	queue := func() (waiting int64) {
		functions.Range(func(_, f any) bool {
			waiting = f.(*sharedFunction).admission.waiting()
			return true
		})
		return waiting
	}
	eventually(t, "the second to wait", func() bool { return queue() == 1 })
	second.Close()
	eventually(t, "the queue to be empty", func() bool { return queue() == 0 })
	eventually(t, "the log of a client that went away", func() bool { return len(s.logs("status", "499")) > 0 })
	close(release)
	if status := s.status(first); status != 200 {
		t.Errorf("the first call got %d", status)
	}
	if running.Load() != 1 {
		t.Errorf("%d guests ran, want 1", running.Load())
	}
}

// The status of a body that cannot be read depends on the cause.
func TestBodyErrors(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		err    error
		status int
	}{
		{"an earlier handler's", t.Context(), caddyhttp.Error(418, errors.New("teapot")), 418},
		{"too large for an earlier handler", t.Context(), &http.MaxBytesError{Limit: 1}, 413},
		{"a deadline", t.Context(), os.ErrDeadlineExceeded, 408},
		{"a deadline, wrapped", t.Context(), &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, 408},
		{"cut off", t.Context(), io.ErrUnexpectedEOF, 499},
		{"reset", t.Context(), &net.OpError{Op: "read", Err: syscall.ECONNRESET}, 499},
		{"closed", t.Context(), net.ErrClosed, 499},
		{"the client went away", gone, errors.New("http2: stream closed"), 499},
		{"bad framing", t.Context(), errors.New("malformed chunked encoding"), 400},
	} {
		r := httptest.NewRequest("POST", "/", iotest.ErrReader(c.err)).WithContext(c.ctx)
		err := new(incoming).read(r, 100, newTestMemory(t, 0))
		var failed caddyhttp.HandlerError
		if !errors.As(err, &failed) || failed.StatusCode != c.status || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want the status %d", c.name, err, c.status)
		}
	}
}

// Without Caddy's replacer there are no placeholders to set.
func TestStatsWithoutAReplacer(t *testing.T) {
	(&callStats{}).publish(httptest.NewRequest("GET", "/", nil), &engine.Answer{})
}
