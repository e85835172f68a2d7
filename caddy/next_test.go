// Tests of requests that a function lets go on to the next handler.

package gojinn

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// received is a request as an upstream server got it.
type received struct {
	Method, URI, Host, Body string
	Length                  int64
	Encoding                []string
	Header, Trailer         http.Header
}

// echoUpstream starts a server that answers with the request it got, after it has set its headers.
func echoUpstream(t *testing.T, headers ...string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		json.NewEncoder(w).Encode(received{
			r.Method, r.RequestURI, r.Host, string(body), r.ContentLength, r.TransferEncoding, r.Header, r.Trailer,
		})
	}))
	t.Cleanup(server.Close)
	return server
}

func (r *response) received(t *testing.T) (got received) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatalf("%d %s: %v", r.StatusCode, r.body, err)
	}
	return got
}

// nextSite returns a Caddyfile whose site has these directives, in Caddy's order.
func nextSite(lines ...string) string {
	return "{\n\tadmin ADMIN\n\tlog {\n\t\toutput file DIR/caddy.log\n\t\tlevel DEBUG\n\t}\n}\nADDR {\n\tlog\n\t" + strings.Join(lines, "\n\t") + "\n}\n"
}

// goOn makes the fake let each request go on as next says.
func (s *server) goOn(next engine.Next) {
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return enginetest.Reply{Next: &next} }
}

const function = "gojinn {\n\t\tmodule DIR/hello.wasm\n\t}"

// Without changes the next handler gets the request as it would without the function, and its body whole.
func TestNextGetsTheRequest(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	s.goOn(engine.Next{})
	bodies := map[string]string{"none": "", "short": "short", "large": strings.Repeat("0123456789", 100_000)}
	for _, site := range []string{
		nextSite("reverse_proxy "+up.Listener.Addr().String(), function),
		nextSite("handle {\n\t\treverse_proxy "+up.Listener.Addr().String(), function+"\n\t}"),
		nextSite("route {\n\t\t"+function, "reverse_proxy "+up.Listener.Addr().String()+"\n\t}"),
	} {
		s.mustLoad(site)
		for name, body := range bodies {
			for _, chunked := range []bool{false, true} {
				r := s.request("POST", "/a%2Fb?c=d", body, "X-A", "1", "X-A", "2")
				if chunked {
					r.ContentLength, r.GetBody = -1, nil
					r.Body = io.NopCloser(strings.NewReader(body))
				}
				got := s.do(r).received(t)
				if got.Body != body || got.Method != "POST" || got.URI != "/a%2Fb?c=d" || fmt.Sprint(got.Header["X-A"]) != "[1 2]" {
					t.Errorf("body %s, chunked %t: got %.300v", name, chunked, got)
				}
				if got.Length != int64(len(body)) || len(got.Encoding) > 0 {
					t.Errorf("body %s, chunked %t: got length %d, encoding %v", name, chunked, got.Length, got.Encoding)
				}
			}
		}
	}
}

func TestNextGetsTrailers(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	s.goOn(engine.Next{})
	s.mustLoad(nextSite("reverse_proxy "+up.Listener.Addr().String(), function))
	r := s.request("POST", "/", "")
	r.ContentLength, r.GetBody, r.Trailer = -1, nil, http.Header{"X-T": {"end"}}
	r.Body = io.NopCloser(strings.NewReader("body"))
	got := s.do(r).received(t)
	if got.Body != "body" || got.Trailer.Get("X-T") != "end" {
		t.Errorf("got %+v", got)
	}
}

// Requests at once, whose bodies share the plugin's buffers.
func TestNextBodiesAreNotMixedUp(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	s.goOn(engine.Next{})
	s.mustLoad(nextSite("reverse_proxy "+up.Listener.Addr().String(), function))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				want := strings.Repeat(fmt.Sprintf("%d/%d ", i, j), 1+(i*j*997)%90000)
				res, err := s.httpClient.Post("http://"+s.addr, "text/plain", strings.NewReader(want))
				if err != nil {
					t.Error(err)
					return
				}
				var got received
				err = json.NewDecoder(res.Body).Decode(&got)
				res.Body.Close()
				if err != nil || got.Body != want {
					t.Errorf("%v: %d bytes came back as %d others", err, len(want), len(got.Body))
				}
			}
		})
	}
	wg.Wait()
}

func TestNextChangesTheRequest(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	s.goOn(engine.Next{
		Method: "PUT",
		URI:    "/new%2Fpath?q=%zz",
		Headers: engine.HeaderChanges{
			Set:    [][2]string{{"X-User", "alice"}, {"X-Two", "1"}, {"X-Two", "2"}, {"Host", "inner.example:81"}, {"X-Latin", "\xe9"}},
			Delete: []string{"Cookie", "X-Absent"},
		},
	})
	s.mustLoad(nextSite("reverse_proxy "+up.Listener.Addr().String(), function, "log_append uri {uri}", "header X-Uri {uri}",
		"header >X-Method {method}"))
	res := s.do(s.request("POST", "/old?x", "body", "Cookie", "a=1", "X-User", "mallory", "X-Kept", "1"))
	got := res.received(t)
	if got.Method != "PUT" || got.URI != "/new%2Fpath?q=%zz" || got.Host != "inner.example:81" || got.Body != "body" {
		t.Errorf("got %+v", got)
	}
	for name, want := range map[string]string{
		"X-User": "[alice]", "X-Two": "[1 2]", "Cookie": "[]", "X-Kept": "[1]", "X-Latin": "[\xe9]", "X-Forwarded-Host": "[inner.example:81]",
	} {
		if name == "X-Latin" {
			// JSON replaces the byte.
			want = "[\ufffd]"
		}
		if values := fmt.Sprint(got.Header[name]); values != want {
			t.Errorf("%s: got %s, want %s", name, values, want)
		}
	}
	// Earlier handlers saw the client's request, and what they do later that of the function.
	if res.Header.Get("X-Uri") != "/old?x" || res.Header.Get("X-Method") != "PUT" {
		t.Errorf("got the headers %v", res.Header)
	}
}

// A client cannot have a header removed that the function sets by naming it in `Connection`.
func TestNextHeadersAreNotHopByHop(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	s.goOn(engine.Next{Headers: engine.HeaderChanges{Set: [][2]string{{"X-User", "alice"}}}})
	s.mustLoad(nextSite("reverse_proxy "+up.Listener.Addr().String(), function))
	for _, named := range [][]string{{"x-user"}, {"keep-alive, X-User ,X-Other"}, {"X-Other", "close,X-USER"}} {
		r := s.request("GET", "/", "", "X-User", "mallory", "X-Other", "1")
		r.Header["Connection"] = named
		got := s.do(r).received(t)
		if fmt.Sprint(got.Header["X-User"]) != "[alice]" {
			t.Errorf("Connection %q: the upstream got X-User %q", named, got.Header["X-User"])
		}
		if got.Header.Get("X-Other") != "" && len(named[0]) > len("x-user") {
			t.Errorf("Connection %q: X-Other reached the upstream", named)
		}
	}
}

func TestNextSetsVariables(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if c.Config.Name == "first" {
			return enginetest.Reply{Next: &engine.Next{Vars: [][2]string{{"user", "alice"}, {"first", "{env.HOME}"}}}}
		}
		return enginetest.Reply{Answer: engine.Answer{MemoryPeak: 77}, Next: &engine.Next{Vars: [][2]string{{"user", "bob"}}}}
	}
	s.mustLoad(nextSite("route {",
		"gojinn {\n module DIR/hello.wasm\n name first\n }",
		"gojinn /two {\n module DIR/hello.wasm\n name second\n }",
		"respond \"{http.vars.user} {http.gojinn.vars.user} {vars.first} {http.gojinn.vars.none}. {http.gojinn.memory_peak} {http.gojinn.outcome}\"\n}"))
	for uri, want := range map[string]string{
		"/":    "alice alice {env.HOME} . 0 ok",
		"/two": "bob bob {env.HOME} . 77 ok",
	} {
		if got := s.get(uri).body; got != want {
			t.Errorf("%s: got %q, want %q", uri, got, want)
		}
	}
}

// Variables that Caddy reads itself are refused, before anything of the request has changed.
func TestNextCannotSetVariablesOfCaddy(t *testing.T) {
	s := newServer(t)
	name := ""
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		return enginetest.Reply{Next: &engine.Next{Method: "DELETE", Vars: [][2]string{{"user", "alice"}, {name, "x"}}}}
	}
	s.mustLoad(nextSite("route {\n\t\t"+function, "respond next\n\t}", "handle_errors {\n\t\trespond \"{err.status_code} {http.gojinn.outcome} {http.vars.user}\"\n\t}"))
	for name = range reservedVars {
		if res := s.get("/"); res.StatusCode != 502 || res.body != "502 bad_output " {
			t.Errorf("%s: got %d %q", name, res.StatusCode, res.body)
		}
		if len(s.logs("reason", fmt.Sprintf("the variable %q belongs to Caddy; choose another name", name))) != 1 {
			t.Errorf("%s: the reason is not in the log", name)
		}
	}
	name = "Client_IP"
	if res := s.get("/"); res.StatusCode != 502 {
		t.Errorf("%s: got %d", name, res.StatusCode)
	}
}

// Headers for the response are in the answer of whichever handler, and win over it.
func TestNextSetsResponseHeaders(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t, "X-Frame-Options", "upstream", "X-Powered-By", "php", "Set-Cookie", "up=1", "Vary", "Origin", "X-Two", "0")
	s.goOn(engine.Next{ResponseHeaders: engine.HeaderChanges{
		Set: [][2]string{
			{"X-Frame-Options", "DENY"}, {"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}, {"Vary", "Cookie"}, {"X-Two", "1"}, {"X-Two", "2"},
		},
		Delete: []string{"X-Powered-By", "Server", "X-Early"},
	}})
	s.module("page.html", "<p>page")
	for name, c := range map[string]struct {
		next          string
		status        int
		cookies, vary string
	}{
		"reverse_proxy": {"reverse_proxy " + up.Listener.Addr().String(), 200, "[a=1 b=2 up=1]", "[Cookie Origin]"},
		"respond":       {"respond here 203", 203, "[a=1 b=2]", "[Cookie]"},
		"file_server":   {"file_server {\n\t\troot DIR\n\t}", 200, "[a=1 b=2]", "[Cookie Accept-Encoding]"},
		"nothing":       {"", 200, "[a=1 b=2]", "[Cookie]"},
		"error":         {"error \"no\" 418", 418, "[a=1 b=2]", "[Cookie]"},
		"redir":         {"redir * /there 303", 303, "[a=1 b=2]", "[Cookie]"},
		"handle":        {"handle {\n\t\theader X-Two 3\n\t\theader X-Powered-By php\n\t\trespond ok\n\t}", 200, "[a=1 b=2]", "[Cookie]"},
		"handle_errors": {"error \"no\" 418\n}\nhandle_errors {\n\trespond \"nicer\" 404", 404, "[a=1 b=2]", "[Cookie]"},
	} {
		s.mustLoad(nextSite("header X-Early 1", "route {\n\t\t"+function, c.next+"\n\t}"))
		res := s.get("/page.html")
		if res.StatusCode != c.status {
			t.Errorf("%s: got status %d, want %d", name, res.StatusCode, c.status)
		}
		for header, want := range map[string]string{
			"X-Frame-Options": "[DENY]", "X-Powered-By": "[]", "Server": "[]", "X-Early": "[]", "X-Two": "[1 2]",
			"Set-Cookie": c.cookies, "Vary": c.vary,
		} {
			if got := fmt.Sprint(res.Header[header]); got != want {
				t.Errorf("%s: %s: got %s, want %s", name, header, got, want)
			}
		}
	}
}

// `encode`, `intercept`, `templates` and `handle_errors` work before and behind a function that lets a request go on.
func TestNextBetweenHandlers(t *testing.T) {
	s := newServer(t)
	s.goOn(engine.Next{URI: "/rewritten", ResponseHeaders: engine.HeaderChanges{Set: [][2]string{{"X-F", "1"}}}})
	long := strings.Repeat("{{.Req.URL.Path}} ", 200)
	for name, c := range map[string]struct {
		lines    []string
		encoding string
		body     string
	}{
		"encode before":     {[]string{"encode gzip", function, "respond \"" + long + "\""}, "gzip", long},
		"encode behind":     {[]string{function, "encode gzip", "respond \"" + long + "\""}, "gzip", long},
		"templates before":  {[]string{"templates", function, "header Content-Type text/plain", "respond \"{{.Req.URL.Path}}\""}, "", "/rewritten"},
		"intercept before":  {[]string{"intercept {\n handle_response {\n respond \"seen {resp.header.X-F}\"\n }\n }", function, "respond x"}, "", "seen 1"},
		"intercept behind":  {[]string{function, "intercept {\n handle_response {\n respond \"seen {path}\"\n }\n }", "respond x"}, "", "seen /rewritten"},
		"matcher behind":    {[]string{function, "@r path /rewritten", "respond @r yes", "respond no"}, "", "yes"},
		"handle behind":     {[]string{function, "handle /rewritten {\n respond yes\n }", "handle {\n respond no\n }"}, "", "yes"},
		"rewrite behind":    {[]string{function, "uri strip_prefix /re", "respond {path}"}, "", "/written"},
		"a function behind": {[]string{function, "respond {uri}"}, "", "/rewritten"},
	} {
		s.mustLoad(nextSite("route {\n\t\t" + strings.Join(c.lines, "\n\t\t") + "\n\t}"))
		res := s.get("/first", "Accept-Encoding", "gzip")
		body := plain(t, res)
		if res.StatusCode != 200 || body != c.body || res.Header.Get("Content-Encoding") != c.encoding || res.Header.Get("X-F") != "1" {
			t.Errorf("%s: got %d %v %.100q", name, res.StatusCode, res.Header, body)
		}
	}
}

// In handle_errors a function may let the request go on, too, to the rest of the error's route.
func TestNextInHandleErrors(t *testing.T) {
	s := newServer(t)
	s.goOn(engine.Next{Vars: [][2]string{{"hint", "try /a"}}})
	s.mustLoad(nextSite("error \"no\" 404", "handle_errors {", "route {\n"+function+"\nrespond \"{err.status_code} {http.gojinn.vars.hint}\" 404\n}\n}"))
	if res := s.get("/"); res.StatusCode != 404 || res.body != "404 try /a" {
		t.Errorf("got %d %q", res.StatusCode, res.body)
	}
}

// While the next handler works, the function's permit is free.
func TestNextHoldsNoPermit(t *testing.T) {
	s := newServer(t)
	s.goOn(engine.Next{})
	arrived, release := make(chan bool), make(chan bool)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- true
		<-release
		io.WriteString(w, "released")
	}))
	t.Cleanup(up.Close)
	s.mustLoad(nextSite("gojinn {\n module DIR/hello.wasm\n max_concurrency 1\n }", "reverse_proxy "+up.Listener.Addr().String()))
	done := make(chan string)
	for range 3 {
		go func() {
			res, err := s.httpClient.Get("http://" + s.addr)
			if err != nil {
				done <- err.Error()
				return
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			done <- string(body)
		}()
		await(t, "a request at the upstream", arrived)
	}
	if permits := s.fake.Permits.Load(); permits != 0 {
		t.Errorf("%d permits are held", permits)
	}
	close(release)
	for range 3 {
		if got := await(t, "an answer", done); got != "released" {
			t.Errorf("got %q", got)
		}
	}
}

// A client that goes away ends the next handler, and nothing is left over.
func TestNextEndsWithItsClient(t *testing.T) {
	s := newServer(t)
	s.goOn(engine.Next{ResponseHeaders: engine.HeaderChanges{Set: [][2]string{{"X-F", "1"}}}})
	arrived, gone := make(chan bool), make(chan bool)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(up.Close)
	s.mustLoad(nextSite(function, "reverse_proxy "+up.Listener.Addr().String()))
	conn := s.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	await(t, "the request at the upstream", arrived)
	conn.Close()
	await(t, "the end of the request at the upstream", gone)
}

// A WebSocket's handshake passes through, and then its bytes do, in both directions.
func TestNextPassesUpgradesOn(t *testing.T) {
	s := newServer(t)
	s.goOn(engine.Next{
		URI:             "/socket",
		Headers:         engine.HeaderChanges{Set: [][2]string{{"X-User", "alice"}}},
		ResponseHeaders: engine.HeaderChanges{Set: [][2]string{{"X-F", "1"}}},
	})
	up := echoSocket(t, func(r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.RequestURI != "/socket" || r.Header.Get("X-User") != "alice" {
			t.Errorf("the upstream got %s %v", r.RequestURI, r.Header)
		}
	})
	s.mustLoad(nextSite(function, "reverse_proxy "+up))
	if res := s.upgrade("Upgrade, X-User"); res.Header.Get("X-F") != "1" {
		t.Errorf("got %v", res)
	}
}

// echoSocket starts an upstream that upgrades each connection, and echoes one line. It returns its address.
func echoSocket(t *testing.T, check func(*http.Request)) string {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		check(r)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		line, err := buffered.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		io.WriteString(conn, "echo "+line)
	}))
	t.Cleanup(up.Close)
	return up.Listener.Addr().String()
}

// upgrade upgrades a connection to echoSocket, and hears its line echoed. connection is the value of the header Connection.
func (s *server) upgrade(connection string) *http.Response {
	s.t.Helper()
	conn := s.raw("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: " + connection + "\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		s.t.Fatalf("got %v, %v", res, err)
	}
	io.WriteString(conn, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
		s.t.Errorf("got %q, %v", line, err)
	}
	// The upstream has closed. Caddy's proxy writes to a connection that is still open when its config ends, without a lock.
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		s.t.Errorf("after the echo: %q, %v", rest, err)
	}
	conn.Close()
	return res
}

// What flushes or is read from before a status is written has the headers, too.
func TestNextWriterWritesHeadersFirst(t *testing.T) {
	changes := &engine.HeaderChanges{Set: [][2]string{{"X-F", "1"}}}
	for name, write := range map[string]func(http.ResponseWriter) error{
		"write":     func(w http.ResponseWriter) error { _, err := w.Write([]byte("x")); return err },
		"read from": func(w http.ResponseWriter) error { _, err := io.Copy(w, strings.NewReader("x")); return err },
		"flush":     func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"hints": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("X-F")
			w.WriteHeader(http.StatusOK)
			w.WriteHeader(http.StatusTeapot)
			return nil
		},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := write(newNextWriter(w, changes)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}))
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		text, err := io.ReadAll(conn)
		conn.Close()
		server.Close()
		final := string(text[strings.LastIndex(string(text), "HTTP/1.1 "):])
		if err != nil || !strings.HasPrefix(final, "HTTP/1.1 200 OK\r\n") || !strings.Contains(final, "X-F: 1\r\n") {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
	}
}
