// Tests of a function inside and around other handlers of Caddy.

package gojinn

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// A function inside other handlers of Caddy behaves as `respond` does there: both get the same requests.
func TestFunctionsInsideOfHandlersAreAsRespond(t *testing.T) {
	s := newServer(t)
	bodies := []string{"", "short", strings.Repeat("{{upper `long`}}. ", 30), strings.Repeat("0123456789", 3000)}
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		var status, body int
		if _, err := fmt.Sscanf(c.Head.URI, "/function/%d/%d", &status, &body); err != nil {
			t.Errorf("%s: %v", c.Head.URI, err)
		}
		return enginetest.Reply{
			Answer: engine.Answer{Status: status}, Body: []byte(bodies[body]), Headers: [][2]string{{"Content-Type", "text/plain; charset=utf-8"}},
		}
	}
	for name, around := range map[string]string{
		"nothing":       "",
		"encode":        "encode gzip",
		"header":        "header X-A 1\nheader -Server\nheader >X-B 2\nheader ?X-C 3",
		"templates":     "templates",
		"log":           "log_append a b",
		"request_body":  "request_body {\n\tmax_size 100\n}",
		"tracing":       "tracing",
		"vars and map":  "vars a b\nmap {path} {c} {\n\tdefault d\n}",
		"replace":       "intercept {\n\t@some status 200 404\n\treplace_status @some 410\n}",
		"intercept":     "intercept {\n\t@some status 2xx 404\n\thandle_response @some {\n\t\trespond \"a nicer page\" 404\n\t}\n}",
		"longer":        "intercept {\n\thandle_response {\n\t\trespond \"" + strings.Repeat("a longer page. ", 600) + "\"\n\t}\n}",
		"no body":       "intercept {\n\thandle_response {\n\t\theader X-Seen {resp.status_code}\n\t}\n}",
		"both":          "encode gzip\nintercept {\n\thandle_response {\n\t\trespond \"" + strings.Repeat("zip me. ", 300) + "\" 201\n\t}\n}",
		"encode behind": "intercept {\n\thandle_response {\n\t\trespond \"short\" 201\n\t}\n}\nencode gzip",
	} {
		sites := ""
		for _, status := range []int{200, 404, 204, 304} {
			for i, body := range bodies {
				sites += fmt.Sprintf("\thandle /respond/%d/%d {\n%s\nrespond %q %[1]d\n\t}\n", status, i, around, body)
			}
		}
		s.mustLoad("{\n\tadmin ADMIN\n\torder log_append before encode\n}\nADDR {\n" + sites + "\thandle /function/* {\n" + around + "\n" +
			"\t\tgojinn {\n\t\t\tmodule DIR/hello.wasm\n\t\t}\n\t}\n}\n")
		for _, status := range []int{200, 404, 204, 304} {
			for i, body := range bodies {
				for _, method := range []string{"GET", "HEAD"} {
					for _, accept := range []string{"", "gzip"} {
						where := fmt.Sprintf("%s of %d %.10q within %s, accepting %q", method, status, body, name, accept)
						get := func(path string) *response {
							r := s.request(method, path, "")
							if accept != "" {
								r.Header.Set("Accept-Encoding", accept)
							}
							// Fails if the body is shorter or longer than Content-Length.
							return s.do(r)
						}
						ours, right := get(fmt.Sprintf("/function/%d/%d", status, i)), get(fmt.Sprintf("/respond/%d/%d", status, i))
						if ours.StatusCode != right.StatusCode || plain(t, ours) != plain(t, right) {
							t.Errorf("%s: got %d %.50q, and of respond %d %.50q", where, ours.StatusCode, ours.body, right.StatusCode, right.body)
						}
						length := ours.Header.Get("Content-Length")
						if method == "GET" && length != "" && length != fmt.Sprint(len(ours.body)) {
							t.Errorf("%s: Content-Length is %s for %d bytes", where, length, len(ours.body))
						}
						for _, h := range []*response{ours, right} {
							// net/http adds the headers of a body if respond leaves them out.
							h.Header.Del("Content-Length")
							h.Header.Del("Date")
							if h.body == "" {
								h.Header.Del("Content-Type")
								h.Header.Del("Content-Encoding")
								h.Header.Del("Vary")
							}
						}
						if got, want := fmt.Sprint(ours.Header), fmt.Sprint(right.Header); got != want {
							t.Errorf("%s: got %s, and of respond %s", where, got, want)
						}
					}
				}
			}
		}
	}
}

// plain returns a body without its encoding.
func plain(t *testing.T, res *response) string {
	t.Helper()
	if res.Header.Get("Content-Encoding") != "gzip" || res.body == "" {
		return res.body
	}
	reader, err := gzip.NewReader(strings.NewReader(res.body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A function in handle_errors whose response has no status gets the status of the error.
func TestStatusOfAnErrorPage(t *testing.T) {
	s := newServer(t)
	reply := enginetest.Reply{}
	s.module("page.wasm", "\x00asm page")
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if c.Config.Program == "page.wasm" {
			return reply
		}
		return enginetest.Refused(engine.OutcomeTimeout, 504, "the deadline passed")
	}
	s.mustLoad(`{
	admin ADMIN
}
ADDR {
	handle /teapot {
		error "no coffee" 418
	}
	handle /odd {
		error 204
	}
	handle /worse {
		error 999
	}
	handle /function {
		gojinn {
			module DIR/hello.wasm
		}
	}
	handle /page {
		gojinn {
			module DIR/page.wasm
		}
	}
	handle {
		root DIR/nothing
		file_server
	}
	handle_errors {
		header X-Error {err.status_code}
		gojinn {
			module DIR/page.wasm
		}
	}
}
`)
	for _, c := range []struct {
		path          string
		status, named int
	}{
		{"/missing", 404, 0},
		{"/teapot", 418, 0},
		{"/odd", 204, 0},
		{"/worse", 999, 0},
		{"/function", 504, 0},
		{"/missing", 200, 200},
		{"/missing", 503, 503},
		{"/page", 200, 0},
	} {
		reply = enginetest.Reply{Answer: engine.Answer{Status: c.named}, Body: []byte("sorry")}
		want := "sorry"
		if c.status == 204 {
			want = ""
		}
		if res := s.get(c.path); res.StatusCode != c.status || res.body != want {
			t.Errorf("%s, and the function names %d: got %d %q, want %d", c.path, c.named, res.StatusCode, res.body, c.status)
		}
	}
}

// A function that handles a response of reverse_proxy, before or instead of copying it.
func TestFunctionsHandleResponses(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		got = c
		return enginetest.OK(strings.Repeat("the function's. ", 300))
	}
	upstream := freeAddr(t)
	s.mustLoad(`{
	admin ADMIN
}
ADDR {
	reverse_proxy ` + upstream + ` {
		@missing status 404
		handle_response @missing {
			copy_response_headers {
				include X-Upstream
			}
			gojinn {
				module DIR/hello.wasm
				env STATUS {rp.status_code}
			}
		}
		handle_response {
			copy_response
		}
	}
}
http://` + upstream + ` {
	header X-Upstream yes
	respond /found "found" 200
	respond "missing, says the upstream" 404
}
`)
	res := s.do(s.request("POST", "/", "a body that the proxy has read"))
	if res.StatusCode != 200 || res.body != strings.Repeat("the function's. ", 300) || res.Header.Get("X-Upstream") != "yes" {
		t.Errorf("got %d %v %.100q", res.StatusCode, res.Header, res.body)
	}
	// The headers of the body describe the body that the function gets.
	if strings.Join(got.Head.PerRequest, "") != "404" || got.Header("Content-Length") != fmt.Sprint(len(got.Body)) {
		t.Errorf("got %q, Content-Length %s of %d bytes", got.Head.PerRequest, got.Header("Content-Length"), len(got.Body))
	}
	if res := s.get("/found"); res.StatusCode != 200 || res.body != "found" {
		t.Errorf("copied: got %d %q", res.StatusCode, res.body)
	}
}

func TestAFunctionAfterAFunction(t *testing.T) {
	s := newServer(t)
	s.module("second.wasm", "\x00asm second")
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply {
		if c.Config.Program == "second.wasm" {
			return enginetest.OK("second", [2]string{"X-Second", "2"})
		}
		return enginetest.Reply{Answer: engine.Answer{Status: 404}, Body: bytes.Repeat([]byte("first"), 1000), Headers: [][2]string{{"X-First", "1"}}}
	}
	s.mustLoad(strings.Replace(s.simple(), "route {", `route {
		intercept {
			@missing status 404
			handle_response @missing {
				gojinn {
					module DIR/second.wasm
				}
			}
		}`, 1))
	res := s.get("/")
	if res.StatusCode != 200 || res.body != "second" || res.ContentLength != 6 || res.Header.Get("X-Second") != "2" {
		t.Errorf("got %d %v %.20q", res.StatusCode, res.Header, res.body)
	}
}

// A 205 tells the client to reset its form, and has no body (RFC 9110, 15.3.6).
func TestResetContent(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		return enginetest.Reply{Answer: engine.Answer{Status: 205}, Body: []byte("dropped")}
	}
	s.mustLoad(s.simple())
	for range 2 {
		if res := s.get("/"); res.StatusCode != http.StatusResetContent || res.body != "" || res.ContentLength != 0 {
			t.Errorf("got %d, length %d, %q", res.StatusCode, res.ContentLength, res.body)
		}
	}
}

func TestContentLengthOfTheRequest(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	load := func(directive string) {
		s.mustLoad(strings.Replace(s.simple(), "route {", "route {\n\t\t"+directive, 1))
	}
	send := func(body io.Reader, length int64) string {
		r := s.request("POST", "/", "")
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(body), length, nil
		s.do(r)
		for _, header := range got.Head.Headers {
			if header[0] == "Content-Length" {
				return header[1]
			}
		}
		return "none"
	}
	load("")
	if length := send(strings.NewReader("four"), 4); length != "4" || string(got.Body) != "four" {
		t.Errorf("a body: got %s for %q", length, got.Body)
	}
	if length := send(strings.NewReader("four"), -1); length != "none" || string(got.Body) != "four" {
		t.Errorf("a body of unknown length: got %s for %q", length, got.Body)
	}
	s.get("/")
	if got.Header("Content-Length") != "" {
		t.Errorf("no body: got %s", got.Header("Content-Length"))
	}
	for _, set := range []string{"x", "a body that is longer than before", `{"a": {"b": "{method}"}}`} {
		load("request_body {\n\t\t\tset `" + set + "`\n\t\t}")
		want := strings.ReplaceAll(set, "{method}", "POST")
		for _, length := range []int64{4, -1} {
			if sent := send(strings.NewReader("four"), length); sent != fmt.Sprint(len(want)) || string(got.Body) != want {
				t.Errorf("set to %s: got %s for %q", set, sent, got.Body)
			}
		}
	}
}

// The access log records a function's answer as any other.
func TestAccessLog(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		return enginetest.Reply{Answer: engine.Answer{Status: 404}, Body: []byte("0123456789"), Headers: [][2]string{{"X-A", "1"}}}
	}
	s.mustLoad(s.simple())
	s.do(s.request("POST", "/", "a body"))
	var records []map[string]any
	eventually(t, "the access log", func() bool { records = s.logs("msg", "handled request"); return len(records) == 1 })
	record := records[0]
	headers, _ := record["resp_headers"].(map[string]any)
	if fmt.Sprint(record["status"], record["size"], record["bytes_read"], headers["X-A"]) != "404 10 6 [1]" {
		t.Errorf("got %v", record)
	}
}

// Trailers are not passed: a function has its whole request before them, and headers of that name would mean something else.
func TestTrailersAreDropped(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	s.mustLoad(s.simple())
	status := s.status(s.raw("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n"))
	if status != 200 || string(got.Body) != "body" || got.Header("X-Sum") != "" || got.Header("Trailer") != "" {
		t.Errorf("got %d, %q with %v", status, got.Body, got.Head.Headers)
	}
}

// Over HTTP/2 the length is sent too, and is that of what is sent.
func TestContentLengthOverHTTP2(t *testing.T) {
	s := newServer(t)
	body := ""
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return enginetest.OK(body) }
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: longestWait}
	for _, around := range []string{"", "intercept {\n\thandle_response {\n\t\trespond \"another page\" 201\n\t}\n}"} {
		s.mustLoad("{\n\tadmin ADMIN\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\nADDR {\n" + around + "\n\tgojinn {\n\t\tmodule DIR/hello.wasm\n\t}\n}\n")
		for _, body = range []string{"", "short", strings.Repeat("0123456789", 3000)} {
			want := body
			if around != "" {
				want = "another page"
			}
			for _, method := range []string{"GET", "HEAD"} {
				res, err := client.Do(s.request(method, "/", ""))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if method == "HEAD" {
					got = []byte(want)
				}
				if err != nil || res.ProtoMajor != 2 || string(got) != want || res.ContentLength != int64(len(want)) && method == "GET" {
					t.Errorf("%s of %d bytes within %q: %s, length %d, %.20q, %v", method, len(body), around, res.Proto, res.ContentLength, got, err)
				}
			}
		}
		transport.CloseIdleConnections()
	}
}
