// Tests of hostile clients: floods, trickles, disconnects, malformed and ambiguous requests. A function sees whole and well-formed
// requests only, each once, and other clients are served.

package gojinn

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// witness is a function that notes which requests it saw.
type witness struct {
	mu   sync.Mutex
	seen []string
}

func (w *witness) handle(c *enginetest.Call) enginetest.Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, fmt.Sprintf("%s %s %d", c.Head.Method, c.Head.URI, len(c.Body)))
	for _, h := range c.Head.Headers {
		if strings.ContainsAny(h[0]+h[1], "\r\n\x00") {
			w.seen = append(w.seen, fmt.Sprintf("a bad header %q", h))
		}
	}
	return enginetest.OK("ok")
}

// take returns what was seen, and forgets it.
func (w *witness) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := strings.Join(w.seen, ", ")
	w.seen = nil
	return seen
}

// statuses reads all answers on a connection until it is closed.
func statuses(t *testing.T, conn net.Conn) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(longestWait))
	var all []string
	for reader := bufio.NewReader(conn); ; {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			return strings.Join(all, " ")
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		all = append(all, fmt.Sprint(res.StatusCode))
	}
}

// What each shape of a request leads to: the statuses that the client gets, and what the function sees. A request whose length two
// parties could read in two ways is refused, or read in one way by everything behind it: with a length and chunks, the chunks count.
func TestAmbiguousRequests(t *testing.T) {
	s := newServer(t)
	var w witness
	s.fake.Handle = w.handle
	s.mustLoad(s.simple())
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	chunked := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	for name, c := range map[string]struct{ request, statuses, seen string }{
		"plain":                   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "200", "POST / 3"},
		"two lengths":             {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400", ""},
		"two equal lengths":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "200", "POST / 3"},
		"a list of lengths":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 4\r\n\r\nabcd", "400", ""},
		"a negative length":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400", ""},
		"a length with a sign":    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", "400", ""},
		"a length in hex":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc", "400", ""},
		"a huge length":           {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", "400", ""},
		"unknown encoding":        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501", ""},
		"an obfuscated encoding":  {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n" + smuggled, "501", ""},
		"two encodings":           {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked("abc"), "501", ""},
		"a space before a colon":  {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n" + chunked("abc"), "400", ""},
		"a folded header":         {"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n b\r\nConnection: close\r\n\r\n", "200", "GET / 0"},
		"length and chunks":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked("abc") + smuggled, "200 200", "POST / 3, GET /smuggled 0"},
		"a bad chunk":             {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", "400", ""},
		"a negative chunk":        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n", "400", ""},
		"a huge chunk":            {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "400", ""},
		"a chunk without its end": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", "400", ""},
		"no host":                 {"GET / HTTP/1.1\r\n\r\n", "400", ""},
		"two hosts":               {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", ""},
		"a NUL in a header":       {"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n", "400", ""},
		"a NUL in a name":         {"GET / HTTP/1.1\r\nHost: x\r\nX\x00A: b\r\n\r\n", "400", ""},
		"a NUL in the target":     {"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "400", ""},
		"a bare CR in a header":   {"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\rSmuggled: b\r\n\r\n", "400", ""},
		"a header without colon":  {"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", "400", ""},
		"no version":              {"GET /\r\n\r\n", "400", ""},
		"version 9":               {"GET / HTTP/9.9\r\nHost: x\r\n\r\n", "505", ""},
		"a method of symbols":     {"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", "400", ""},
		"a target of spaces":      {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "400", ""},
		"expects something else":  {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\nContent-Length: 3\r\n\r\nabc", "417", ""},
		"pipelined":               {"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200 200", "GET /1 0, GET /2 0"},
		"a body after a GET":      {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "200", "GET / 3"},
		"nonsense":                {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 64) + "\r\n\r\n", "400", ""},
	} {
		conn := s.raw(c.request)
		if got := statuses(t, closing(conn)); got != c.statuses {
			t.Errorf("%s: the client got %q, want %q", name, got, c.statuses)
		}
		if seen := w.take(); seen != c.seen {
			t.Errorf("%s: the function saw %q, want %q", name, seen, c.seen)
		}
	}
	if res := s.get("/after"); res.StatusCode != 200 {
		t.Errorf("a request afterwards got %d", res.StatusCode)
	}
}

// closing tells the server that no more will be sent.
func closing(conn net.Conn) net.Conn {
	conn.(*net.TCPConn).CloseWrite()
	return conn
}

// Headers beyond what the server takes are refused before a function sees them; what is taken arrives whole.
func TestFloodsOfHeaders(t *testing.T) {
	s := newServer(t)
	var w witness
	s.fake.Handle = w.handle
	s.mustLoad(s.simple())
	for name, headers := range map[string]string{
		"one of 2 MB":        "X-A: " + strings.Repeat("a", 2<<20) + "\r\n",
		"200 000":            strings.Repeat("X-A: b\r\n", 200_000),
		"100 000 names":      manyNames(100_000),
		"a name of 2 MB":     strings.Repeat("a", 2<<20) + ": b\r\n",
		"a target of 2 MB":   "",
		"a cookie of 1.5 MB": "Cookie: " + strings.Repeat("a=b; ", 300_000) + "\r\n",
	} {
		target := "/"
		if name == "a target of 2 MB" {
			target += strings.Repeat("a", 2<<20)
		}
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		// The server may close before it has read everything.
		go io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: x\r\n"+headers+"Connection: close\r\n\r\n")
		// The answer may be lost with the connection, because the server has not read what was sent.
		if got := statuses(t, conn); got != "431" && got != "" {
			t.Errorf("%s: got %q, want 431", name, got)
		}
		conn.Close()
		if seen := w.take(); seen != "" {
			t.Errorf("%s: the function saw %q", name, seen)
		}
	}
	for _, n := range []int{1, 1000, 10_000} {
		if res := s.get("/", "X-A", strings.Repeat("a", n)); res.StatusCode != 200 {
			t.Errorf("a header of %d bytes: got %d", n, res.StatusCode)
		}
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: b\r\n", i)
	}
	return b.String()
}

// Clients that send a byte now and then hold neither a sandbox nor a place in the queue.
func TestTricklingClientsHoldNoSandbox(t *testing.T) {
	s := newServer(t)
	var w witness
	s.fake.Handle = w.handle
	s.mustLoad(strings.Replace(s.simple("max_body 1MB"), "admin ADMIN", "admin ADMIN\n\tgojinn {\n\t\tmax_concurrency 1\n\t}", 1))
	stop := make(chan struct{})
	var trickling sync.WaitGroup
	for i := range 40 {
		text := "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 70_000)
		if i%2 == 0 {
			text = "GET /slow HTTP/1.1\r\nHost: x\r\nX-A: "
		}
		conn := s.raw(text)
		trickling.Go(func() {
			for {
				select {
				case <-stop:
					conn.Close()
					return
				case <-time.After(5 * time.Millisecond):
					io.WriteString(conn, "y")
				}
			}
		})
	}
	for range 50 {
		if res := s.do(s.request("POST", "/fast", "a body")); res.StatusCode != 200 {
			t.Errorf("another request got %d", res.StatusCode)
		}
	}
	close(stop)
	trickling.Wait()
	if seen := w.take(); strings.Contains(seen, "/slow") {
		t.Errorf("the function saw a request that was not whole: %s", seen)
	}
	eventually(t, "all permits to be given back", func() bool { return s.fake.Permits.Load() == 0 })
}

// Clients that go away at any stage leave nothing behind: no permit, no memory, no file; the function's call is cancelled.
func TestDisconnectsAtEveryStage(t *testing.T) {
	s := newServer(t)
	var cancelled, running atomic.Int64
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if c.Head.URI != "/wait" {
			return enginetest.OK(strings.Repeat("x", 300_000))
		}
		running.Add(1)
		<-c.Cancelled
		cancelled.Add(1)
		return enginetest.Refused(6, 499, "")
	}
	s.mustLoad(s.simple())
	body := strings.Repeat("x", 200_000)
	whole := "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + body
	const reset = true
	for _, abort := range []bool{false, reset} {
		for _, n := range []int{0, 1, 10, 20, 40, 55, 60, 100, 70_000, 150_000, len(whole) - 1, len(whole)} {
			conn := s.raw(whole[:n])
			if abort {
				conn.(*net.TCPConn).SetLinger(0)
			}
			conn.Close()
		}
		conn := s.raw(whole)
		one := make([]byte, 1)
		if _, err := io.ReadFull(conn, one); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		before := running.Load()
		conn = s.raw("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		eventually(t, "the call to run", func() bool { return running.Load() > before })
		if abort {
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
		eventually(t, "the call to be cancelled", func() bool { return cancelled.Load() == running.Load() })
	}
	if res := s.get("/"); res.StatusCode != 200 || len(res.body) != 300_000 {
		t.Errorf("a request afterwards got %d and %d bytes", res.StatusCode, len(res.body))
	}
	eventually(t, "everything to be given back", func() bool {
		return s.fake.Permits.Load() == 0 && s.fake.Memory.Load() <= maxSpare+memoryUnit
	})
}

// newTLSServer returns a server for HTTPS with a fake function that echoes bodies, or waits at /wait until its call is cancelled.
func newTLSServer(t *testing.T, options ...string) (s *server, running, cancelled *atomic.Int64) {
	t.Helper()
	s, running, cancelled = newServer(t), new(atomic.Int64), new(atomic.Int64)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if c.Head.URI != "/wait" {
			return enginetest.OK("got " + string(c.Body))
		}
		running.Add(1)
		<-c.Cancelled
		cancelled.Add(1)
		return enginetest.Refused(6, 499, "")
	}
	config := strings.Replace(s.simple(options...), "ADDR {", "ADDR {\n\ttls internal", 1)
	config = strings.Replace(config, "admin ADMIN", "admin ADMIN\n\tskip_install_trust\n\tauto_https disable_redirects\n\tlocal_certs", 1)
	s.mustLoad(strings.ReplaceAll(config, "ADDR", "https://"+s.addr))
	return s, running, cancelled
}

// askOver posts a body by a client that must use this major version of HTTP, and returns the status and the body of the answer.
func askOver(ctx context.Context, version int, s *server, client *http.Client, path, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", "https://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.ProtoMajor != version {
		return "", fmt.Errorf("the answer came over %s", res.Proto)
	}
	text, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, text), err
}

// Over HTTP/2, streams that are reset at once, by the hundred, cancel their calls; those beside them are answered.
func TestStreamsThatAreReset(t *testing.T) {
	s, running, cancelled := newTLSServer(t)
	client := &http.Client{Timeout: longestWait, Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
	defer client.CloseIdleConnections()
	ask := func(ctx context.Context, path, body string) (string, error) {
		return askOver(ctx, 2, s, client, path, body)
	}
	eventually(t, "the certificate", func() bool {
		got, err := ask(t.Context(), "/", "x")
		return err == nil && got == "200 got x"
	})
	for round := range 30 {
		var streams sync.WaitGroup
		for i := range 10 {
			ctx, reset := context.WithCancel(t.Context())
			streams.Go(func() {
				defer reset()
				if i%2 == 0 {
					want := strings.Repeat("y", i*1000)
					if got, err := ask(ctx, "/", want); err != nil || got != "200 got "+want {
						t.Errorf("a stream beside others that were reset: %d bytes, %v", len(got), err)
					}
					return
				}
				go func() {
					time.Sleep(time.Duration(round*i) * 10 * time.Microsecond)
					reset()
				}()
				if _, err := ask(ctx, "/wait", strings.Repeat("x", 100_000)); !errors.Is(err, context.Canceled) {
					t.Errorf("a stream that was reset: %v", err)
				}
			})
		}
		streams.Wait()
	}
	eventually(t, "all calls to be cancelled", func() bool {
		return cancelled.Load() == running.Load() && s.fake.Permits.Load() == 0
	})
}

// Bytes that are not UTF-8, in every place of a request, reach the function as the contract says or not at all, and never break
// the answer.
func TestInvalidUTF8Everywhere(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if !utf8.ValidString(c.Head.URI) || strings.ContainsAny(c.Head.URI, " \x00") {
			t.Errorf("the function got the target %q", c.Head.URI)
		}
		return enginetest.OK(string(c.Body))
	}
	s.mustLoad(s.simple())
	for name, request := range map[string]string{
		"target": "GET /\xff\xfe?\xc0\x80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"header": "GET / HTTP/1.1\r\nHost: x\r\nX-A: \xff\xfe\xed\xa0\x80\r\nConnection: close\r\n\r\n",
		"body":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\xff\xfe\x00\x80",
	} {
		if got := statuses(t, s.raw(request)); got != "200" && got != "400" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	for name, request := range map[string]string{
		"host":   "GET / HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n",
		"name":   "GET / HTTP/1.1\r\nHost: x\r\n\xff: b\r\n\r\n",
		"method": "G\xffT / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if got := statuses(t, s.raw(request)); got != "400" {
			t.Errorf("%s: got %q, want 400", name, got)
		}
	}
}
