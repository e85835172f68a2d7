// Tests of the contract cgi.

package gojinn

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// variablesOf returns the variables that the server sets, as NAME=value, sorted.
func variablesOf(c *enginetest.Call) []string {
	var variables []string
	for _, h := range c.Head.Headers {
		if name, ok := strings.CutPrefix(h[0], ":cgi:"); ok && name != "SERVER_SOFTWARE" {
			variables = append(variables, name+"="+h[1])
		}
	}
	slices.Sort(variables)
	return variables
}

// What of the path is the script's, by the config around the function.
func TestCGIPaths(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		return enginetest.OK(strings.Join(variablesOf(c), " "))
	}
	const function = "gojinn {\n module DIR/hello.wasm\n contract cgi"
	const split = function + " {\n split .cgi .Php\n }\n }\n"
	for _, test := range []struct{ site, uri, want string }{
		{function + "\n }\n", "/a/b?c", "PATH_INFO=/a/b SCRIPT_NAME="},
		{function + "\n }\n", "/a%20b%2Fc", "PATH_INFO=/a b/c SCRIPT_NAME="},
		{"handle_path /app/* {\n" + function + "\n }\n }\n", "/app/x/y", "PATH_INFO=/x/y SCRIPT_NAME=/app"},
		{"handle_path /app/* {\n" + function + "\n }\n }\n", "/app/", "PATH_INFO=/ SCRIPT_NAME=/app"},
		{"handle /app/* {\n" + function + "\n }\n }\n", "/app/x", "PATH_INFO=/app/x SCRIPT_NAME="},
		{"route {\n rewrite /old /new\n" + function + "\n }\n }\n", "/old", "PATH_INFO=/new SCRIPT_NAME="},
		{"route {\n uri strip_prefix /v1\n" + function + "\n }\n }\n", "/v1/x", "PATH_INFO=/x SCRIPT_NAME=/v1"},
		{split, "/a/b.cgi/c/d", "PATH_INFO=/c/d SCRIPT_NAME=/a/b.cgi"},
		{split, "/a.cgi", "PATH_INFO= SCRIPT_NAME=/a.cgi"},
		{split, "/a.CGI/x", "PATH_INFO=/x SCRIPT_NAME=/a.CGI"},
		{split, "/a.php/x.cgi/y", "PATH_INFO=/y SCRIPT_NAME=/a.php/x.cgi"},
		{split, "/a.cgix/b.cgi/c", "PATH_INFO=/c SCRIPT_NAME=/a.cgix/b.cgi"},
		{split, "/none/x", "PATH_INFO=/none/x SCRIPT_NAME="},
		{"handle_path /app/* {\n" + split + "}\n", "/app/a.cgi/x", "PATH_INFO=/x SCRIPT_NAME=/app/a.cgi"},
		{"root * /srv\n" + function + "\n }\n", "/a/../b", "DOCUMENT_ROOT=/srv PATH_INFO=/a/../b PATH_TRANSLATED=/srv/b SCRIPT_NAME="},
		{"root * /srv\n" + split, "/a.cgi/b", "DOCUMENT_ROOT=/srv PATH_INFO=/b PATH_TRANSLATED=/srv/b SCRIPT_FILENAME=/srv/a.cgi SCRIPT_NAME=/a.cgi"},
	} {
		s.mustLoad("{\n admin ADMIN\n order gojinn before respond\n}\nADDR {\n" + test.site + "}\n")
		if res := s.get(test.uri); res.body != test.want {
			t.Errorf("%s within\n%s\ngot  %s\nwant %s", test.uri, test.site, res.body, test.want)
		}
	}
	if res := s.get("/a%00b"); res.StatusCode != 400 {
		t.Errorf("a NUL in the path: %d", res.StatusCode)
	}
}

// Authorization reaches a program only if the config says so. The user that Caddy has found is known in any case.
func TestCGIAuthorization(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		return enginetest.OK(c.Header("Authorization") + " " + strings.Join(variablesOf(c), " "))
	}
	// The password is "Hiccup".
	const auth = "basic_auth /private {\n Bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n }\n"
	for _, pass := range []string{"", " {\n pass_authorization\n }"} {
		s.mustLoad("{\n admin ADMIN\n}\nADDR {\n route {\n" + auth + "gojinn {\n module DIR/hello.wasm\n contract cgi" + pass + "\n }\n }\n}\n")
		for _, user := range []string{"", "Bob"} {
			r := s.request("GET", "/", "", "Authorization", "Bearer x")
			header, want := "Bearer x", "PATH_INFO=/ SCRIPT_NAME="
			if user != "" {
				r = s.request("GET", "/private", "")
				r.SetBasicAuth("Bob", "hiccup")
				header, want = r.Header.Get("Authorization"), "AUTH_TYPE=Basic PATH_INFO=/private REMOTE_USER=Bob SCRIPT_NAME="
			}
			if pass == "" {
				header = ""
			}
			res := s.do(r)
			if res.StatusCode == 401 && user != "" {
				t.Fatal("the password of the test is wrong")
			}
			if res.body != header+" "+want {
				t.Errorf("%q, %q: got %q, want %q", pass, user, res.body, header+" "+want)
			}
		}
	}
}

// readingBodies makes functions that wait for their body until it ends, and answer with its parts in quotation marks.
func readingBodies(s *server) {
	var parts []string
	s.fake.Steps = func(c *enginetest.Call, step int, code int32, reply []byte) (*engine.Event, enginetest.Reply) {
		if step == 0 {
			parts = []string{c.Header("Content-Length"), fmt.Sprintf("%q", c.Body)}
		} else if len(reply) > 0 {
			parts = append(parts, fmt.Sprintf("%q", reply))
		}
		select {
		case <-c.Cancelled:
			return nil, enginetest.Refused(engine.OutcomeCancelled, 499, "gone")
		default:
		}
		if step > 0 && code == engine.BodyEnds || c.Header("Content-Length") == "" || len(c.Body) > 0 {
			return nil, enginetest.OK(strings.Join(parts, " "))
		}
		return &engine.Event{Kind: engine.EventBody, Until: -1, Deadline: hour}, enginetest.Reply{}
	}
}

// cgi returns the usual Caddyfile for a function of the contract.
func (s *server) cgi(lines ...string) string {
	return s.simple(append([]string{"contract cgi"}, lines...)...)
}

// A body is read as it arrives, if its length is known. Otherwise it is read first.
func TestCGIBodies(t *testing.T) {
	s := newServer(t)
	readingBodies(s)
	s.mustLoad(s.cgi("max_body 1kB"))

	in, out := io.Pipe()
	r := s.request("POST", "/", "")
	r.Body, r.ContentLength = in, 6
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = out.Write([]byte("abc"))
		eventually(t, "the function to wait for the rest", func() bool { return s.fake.Permits.Load() == 1 })
		_, _ = out.Write([]byte("def"))
		out.Close()
	}()
	res := s.do(r)
	<-sent
	if got := strings.ReplaceAll(res.body, `" "`, ""); !strings.HasPrefix(got, `6 "`) || !strings.HasSuffix(got, `abcdef"`) {
		t.Errorf("got %s", res.body)
	}

	r = s.request("POST", "/", "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("chunked")), -1
	if res := s.do(r); res.body != ` "chunked"` {
		t.Errorf("in chunks: got %s", res.body)
	}
	if res := s.get("/"); res.body != ` ""` {
		t.Errorf("no body: got %s", res.body)
	}
	if res := s.do(s.request("POST", "/", strings.Repeat("x", 1001))); res.StatusCode != 413 {
		t.Errorf("an announced body over the limit: %d", res.StatusCode)
	}

	s.mustLoad(s.cgi("env BODY {http.request.body}"))
	if res := s.do(s.request("POST", "/", "whole")); res.body != `5 "whole"` {
		t.Errorf("with a placeholder of the body: got %s", res.body)
	}
}

// A body that does not arrive ends the call, and the client is told why.
func TestCGIBodiesThatFail(t *testing.T) {
	s := newServer(t)
	readingBodies(s)
	s.mustLoad(strings.Replace(s.cgi(), "admin ADMIN", "admin ADMIN\n\tservers {\n\t\ttimeouts {\n\t\t\tread_body 300ms\n\t\t}\n\t}", 1))
	stalled := s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	if status := s.status(stalled); status != 408 {
		t.Errorf("a stalled upload: %d", status)
	}
	gone := s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	eventually(t, "the function to wait for the rest", func() bool { return s.fake.Permits.Load() == 1 })
	gone.Close()
	eventually(t, "the log of a client that went away", func() bool { return len(s.logs("status", "499")) > 0 })
	s.mustLoad(strings.Replace(s.cgi(), "route {", "request_body {\n max_size 5\n }\n route {", 1))
	r := s.request("POST", "/", "more than five")
	if res := s.do(r); res.StatusCode != 413 {
		t.Errorf("more than max_size: %d", res.StatusCode)
	}
	if n := s.fake.Permits.Load(); n != 0 {
		t.Errorf("%d permits were not returned", n)
	}
}

// A deadline that passes while the body does not arrive is the engine's to answer.
func TestCGIDeadlineOfABody(t *testing.T) {
	s := newServer(t)
	s.fake.Steps = func(_ *enginetest.Call, step int, _ int32, reply []byte) (*engine.Event, enginetest.Reply) {
		if step == 0 {
			return &engine.Event{Kind: engine.EventBody, Until: -1, Deadline: 1}, enginetest.Reply{}
		}
		if len(reply) > 0 {
			t.Errorf("got %q after the deadline", reply)
		}
		return nil, enginetest.Refused(engine.OutcomeTimeout, 504, "late")
	}
	s.mustLoad(s.cgi())
	if status := s.status(s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")); status != 504 {
		t.Errorf("got %d", status)
	}
}

// A guest may answer before it has read its body, and go on reading.
func TestCGIReadsWhileItWrites(t *testing.T) {
	s := newServer(t)
	s.fake.Steps = func(c *enginetest.Call, step int, code int32, reply []byte) (*engine.Event, enginetest.Reply) {
		if code == engine.BodyEnds {
			end := enginetest.OK(string(reply))
			end.IsRest = true
			return nil, end
		}
		event := &engine.Event{Kind: engine.EventBody, Until: -1, Deadline: hour, Output: []byte("go on\n")}
		if step == 0 {
			event.HasHead, event.Head = true, streamHead(200)
		} else {
			event.Output = slices.Clone(reply)
		}
		return event, enginetest.Reply{}
	}
	s.mustLoad(s.cgi())
	conn := s.raw("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 8\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(res.Body)
	for _, part := range []string{"one\n", "two\n"} {
		if line, err := body.ReadString('\n'); err != nil || line == "" {
			t.Fatalf("got %q, %v", line, err)
		}
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(rest), "two\n") {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

// The Content-Length of a program is sent, and held to what it writes.
func TestCGIContentLength(t *testing.T) {
	s := newServer(t)
	reply := enginetest.Reply{}
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return reply }
	s.mustLoad(s.cgi())
	for _, test := range []struct {
		method, length, body string
		code, status         int
		want                 string
	}{
		{"GET", "5", "hello", 200, 200, "5"},
		{"GET", "4", "hello", 200, 502, ""},
		{"GET", "6", "hello", 200, 502, ""},
		{"GET", "0", "", 200, 200, "0"},
		{"HEAD", "1000", "", 200, 200, "1000"},
		// net/http sends no length with this status.
		{"GET", "10", "", 304, 304, ""},
		{"GET", "10", "", 204, 502, ""},
		{"GET", "0", "", 204, 204, ""},
	} {
		reply = enginetest.OK(test.body, [2]string{"Content-Length", test.length})
		reply.Status, reply.NamesStatus = test.code, true
		res := s.do(s.request(test.method, "/", ""))
		if res.StatusCode != test.status || test.status != 502 && res.Header.Get("Content-Length") != test.want {
			t.Errorf("%+v: got %d, length %q", test, res.StatusCode, res.Header.Get("Content-Length"))
		}
	}

	// Of a stream the length is sent before the body.
	const cut = "the stream of a function was cut"
	for length, whole := range map[string]bool{"7": true, "6": false, "8": false} {
		before := len(s.logs("msg", cut))
		next := streaming(s, enginetest.OK("end"), "part")
		steps := s.fake.Steps
		s.fake.Steps = func(c *enginetest.Call, step int, code int32, reply []byte) (*engine.Event, enginetest.Reply) {
			event, end := steps(c, step, code, reply)
			if event != nil {
				event.Head = streamHead(200, [2]string{"Content-Length", length})
			}
			return event, end
		}
		go func() { next <- struct{}{} }()
		res, err := newClient().Do(s.request("GET", "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if whole != (err == nil && string(body) == "partend") || fmt.Sprint(res.ContentLength) != length {
			t.Errorf("a stream of 7 bytes with the length %s: got %q, length %d, %v", length, body, res.ContentLength, err)
		}
		if logged := len(s.logs("msg", cut)) > before; whole && logged {
			t.Error("a stream of the right length is logged as cut")
		} else if !whole {
			eventually(t, "the log of the stream", func() bool { return len(s.logs("msg", cut)) > before })
		}
	}
}
