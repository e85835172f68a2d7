// The server that tests run: Caddy in this process, over a fake or the real engine.

package gojinn

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// server is Caddy in this process, over real HTTP, with a fake engine under the plugin.
type server struct {
	t          testing.TB
	fake       *enginetest.Fake
	dir        string
	addr       string
	adminAddr  string
	httpClient *http.Client
}

// newServer makes a directory with one module, hello.wasm, and replaces the engine by a fake.
func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t, fake: &enginetest.Fake{}, dir: t.TempDir(), addr: freeAddr(t)}
	// An address that is free may be the one before. Caddy would share it, since it lets sockets share ports.
	for s.adminAddr = freeAddr(t); s.adminAddr == s.addr; {
		s.adminAddr = freeAddr(t)
	}
	s.httpClient = newClient()
	s.module("hello.wasm", "\x00asm hello")
	newEngine = s.fake.New
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(s.dir, "caddy.log")); err == nil && t.Failed() {
			t.Logf("Caddy's log ends with\n%s", log[max(0, len(log)-4000):])
		}
		s.httpClient.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
		newEngine = engine.New
		for name, pool := range map[string]*caddy.UsagePool{"engine": engines, "function": functions} {
			pool.Range(func(key, _ any) bool {
				t.Errorf("an %s is still in its pool after Caddy has stopped: %v", name, key)
				return true
			})
		}
	})
	return s
}

// newClient returns a client that shares no connections with others.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       longestWait,
	}
}

// newRealServer returns a server with the real engine.
func newRealServer(t testing.TB) *server {
	t.Helper()
	s := newServer(t)
	newEngine = engine.New
	return s
}

// module writes a file into the directory and returns its path.
func (s *server) module(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// load runs a Caddyfile, in which ADDR, ADMIN and DIR are replaced by the server's. The config answers all later requests of the
// server's client: load waits for the old config's server, which has only begun to close when Caddy's Load returns.
func (s *server) load(caddyfile string) error {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	text := strings.NewReplacer("ADDR", "http://:"+port, "ADMIN", s.adminAddr, "DIR", s.dir).Replace(caddyfile)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	eventually(s.t, "the socket of the old config to close", func() bool { return s.listening(port) <= 1 })
	s.httpClient.CloseIdleConnections()
	return nil
}

// listening returns how many sockets of this machine listen on a port. Caddy's count goes down a moment before a socket closes.
func (s *server) listening(port string) (sockets int) {
	s.t.Helper()
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/self/net/" + family)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// Number, local address, remote address, state: 0A if it listens.
			f := strings.Fields(line)
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) && f[3] == "0A" {
				sockets++
			}
		}
	}
	return sockets
}

func (s *server) mustLoad(caddyfile string) {
	s.t.Helper()
	if err := s.load(caddyfile); err != nil {
		s.t.Fatal(err)
	}
}

// simple returns the usual Caddyfile: one function, with these lines in its block, and a log of JSON lines.
func (s *server) simple(lines ...string) string {
	return `{
	admin ADMIN
	log {
		output file DIR/caddy.log
		level DEBUG
	}
}
ADDR {
	log
	route {
		gojinn {
			module DIR/hello.wasm
			` + strings.Join(lines, "\n\t\t\t") + `
		}
	}
}
`
}

type response struct {
	*http.Response
	body string
}

// do sends a request and reads the whole answer.
func (s *server) do(r *http.Request) *response {
	s.t.Helper()
	res, err := s.httpClient.Do(r)
	for try := 0; err != nil && r.GetBody != nil && connectionLost(err) && try < 20; try++ {
		// The connection belonged to the server of the old config, which has closed it.
		if r.Body, err = r.GetBody(); err != nil {
			break
		}
		res, err = s.httpClient.Do(r)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return &response{res, string(body)}
}

func connectionLost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (s *server) request(method, uri, body string, headers ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr+uri, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func (s *server) get(uri string, headers ...string) *response {
	s.t.Helper()
	return s.do(s.request("GET", uri, "", headers...))
}

// getPatiently returns the status of the answer to a GET, which it sends again if its connection is lost. Any goroutine may
// call it.
func (s *server) getPatiently(uri string) int {
	for range 100 {
		res, err := s.httpClient.Get("http://" + s.addr + uri)
		if err != nil {
			continue
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil {
			s.t.Errorf("the answer to GET %s was cut off: %v", uri, err)
		}
		return res.StatusCode
	}
	s.t.Errorf("GET %s: the connection was lost 100 times", uri)
	return 0
}

func (s *server) admin(path string) *response {
	s.t.Helper()
	r, err := http.NewRequest("GET", "http://"+s.adminAddr+path, strings.NewReader(""))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r)
}

// raw sends bytes on a new connection and returns the connection.
func (s *server) raw(text string) net.Conn {
	s.t.Helper()
	// Otherwise the system may make the buffer as large as tcp_rmem allows, and take a long answer that the test does not read.
	small := func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10)
		})
		return errors.Join(err, failed)
	}
	dialer := net.Dialer{Control: small}
	conn, err := dialer.DialContext(s.t.Context(), "tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// status reads the status of the answer on a raw connection.
func (s *server) status(conn net.Conn) int {
	s.t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// logs returns the records so far whose field has the value.
func (s *server) logs(field, value string) []map[string]any {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "caddy.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	var found []map[string]any
	for line := range bytes.Lines(text) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			s.t.Fatalf("a log line is not JSON: %v\n%s", err, line)
		}
		if fmt.Sprint(record[field]) == value {
			found = append(found, record)
		}
	}
	return found
}

// freeAddr returns an address of this machine on which no socket listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// longestWait is how long tests wait for other goroutines: longer than a Go module takes to compile, at the lowest priority, on
// a busy machine.
const longestWait = time.Minute

// eventually waits for a condition that other goroutines make true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); time.Since(start) < longestWait; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %s for: %s", longestWait, what)
}

// await receives from a channel that another goroutine sends to or closes.
func await[T any](t testing.TB, what string, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(longestWait):
		t.Fatalf("waited %s for: %s", longestWait, what)
	}
	return value
}
