//go:build cgo

// Tests of the contract cgi with the real engine: a program of Go's net/http/cgi that knows nothing of Gojinn, and one in C.

package gojinn

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCGI(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			name := func(program string) string { return "cgi-" + program + "-" + backend }
			s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
		level DEBUG
	}
	servers {
		protocols h1 h2c
	}
	gojinn {
		backend %s
	}
	order gojinn before respond
}
ADDR {
	root * /srv/site
	log
	handle_path /c/* {
		gojinn {
			module %s
			name %s
			contract cgi
			timeout 30s
			max_output 1kB
		}
	}
	handle_path /rust/* {
		gojinn {
			module %s
			name %s
			contract cgi
			timeout 30s
		}
	}
	handle_path /own/* {
		gojinn {
			module %s
			name %s
			contract cgi {
				split .cgi
				pass_authorization
			}
			env REQUEST_URI {http.request.uri}
			env OWN 1
			env SERVER_SOFTWARE mine
			timeout 30s
		}
	}
	handle_path /late/* {
		gojinn {
			module %[6]s
			name late
			contract cgi
			env REQUEST_URI {http.request.uri}
			timeout 1s
		}
	}
	handle {
		encode /encoded/* gzip
		uri strip_prefix /encoded
		rewrite /old/env /env?rewritten
		gojinn {
			module %[6]s
			name %[8]s
			contract cgi
			max_body 100MB
			timeout 60s
		}
	}
	handle_errors {
		respond "page for {err.status_code}"
	}
}
`, backend, guest(t, "c-cgi"), name("c"), guest(t, "rust-cgi"), name("rust"), guest(t, "go-cgi"), name("own"), name("go")))
			t.Run("environment", func(t *testing.T) { testCGIEnvironment(t, s) })
			t.Run("responses", func(t *testing.T) { testCGIResponses(t, s) })
			t.Run("bodies", func(t *testing.T) { testCGIBodies(t, s) })
			t.Run("streams", func(t *testing.T) { testCGIStreams(t, s) })
			t.Run("languages", func(t *testing.T) { testCGILanguages(t, s) })
			for _, program := range []string{"c", "rust", "own", "go"} {
				active := activeSandboxes.WithLabelValues(name(program), backend)
				eventually(t, "all programs to end", func() bool { return testutil.ToFloat64(active) == 0 })
			}
		})
	}
}

// What a program finds in its environment.
func testCGIEnvironment(t *testing.T, s *server) {
	environment := func(r *http.Request) map[string]string {
		t.Helper()
		res := s.do(r)
		if res.StatusCode != 200 {
			t.Fatalf("%s: %d %s", r.URL, res.StatusCode, res.body)
		}
		variables := map[string]string{}
		for line := range strings.Lines(res.body) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if _, twice := variables[name]; twice {
				t.Errorf("%s is there twice", name)
			}
			variables[name] = value
		}
		return variables
	}
	host := s.addr
	_, port, _ := strings.Cut(host, ":")
	get := func(uri string, headers ...string) *http.Request { return s.request("GET", uri, "", headers...) }
	post := func(body string, headers ...string) *http.Request { return s.request("POST", "/env", body, headers...) }
	for what, test := range map[string]struct {
		r    *http.Request
		want map[string]string
	}{
		"the request": {get("/env?a=b&c=%20d"), map[string]string{
			"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", "REQUEST_SCHEME": "http",
			"REQUEST_URI": "/env?a=b&c=%20d", "QUERY_STRING": "a=b&c=%20d", "SCRIPT_NAME": "", "PATH_INFO": "/env",
			"SERVER_NAME": "127.0.0.1", "SERVER_PORT": port, "HTTP_HOST": host, "HTTPS": "", "CONTENT_LENGTH": "", "CONTENT_TYPE": "",
			"REMOTE_ADDR": "127.0.0.1", "REMOTE_HOST": "127.0.0.1", "DOCUMENT_ROOT": "/srv/site", "PATH_TRANSLATED": "/srv/site/env",
		}},
		"an empty query":          {get("/env"), map[string]string{"QUERY_STRING": ""}},
		"another method":          {s.request("DELETE", "/env", ""), map[string]string{"REQUEST_METHOD": "DELETE"}},
		"headers":                 {get("/env", "X-A-b", "1", "X-2", "2"), map[string]string{"HTTP_X_A_B": "1", "HTTP_X_2": "2"}},
		"repeated headers":        {get("/env", "X-A", "1", "X-A", "2"), map[string]string{"HTTP_X_A": "1, 2"}},
		"cookies":                 {get("/env", "Cookie", "a=1", "Cookie", "b=2"), map[string]string{"HTTP_COOKIE": "a=1; b=2"}},
		"httpoxy":                 {get("/env", "Proxy", "http://evil"), map[string]string{"HTTP_PROXY": ""}},
		"no authorization":        {get("/env", "Authorization", "Basic x"), map[string]string{"HTTP_AUTHORIZATION": ""}},
		"authorization":           {get("/own/env", "Authorization", "Basic x"), map[string]string{"HTTP_AUTHORIZATION": "Basic x"}},
		"an underscore":           {get("/env", "X_A", "forged"), map[string]string{"HTTP_X_A": ""}},
		"hop-by-hop headers":      {get("/env", "Te", "trailers", "Keep-Alive", "1"), map[string]string{"HTTP_TE": "", "HTTP_KEEP_ALIVE": ""}},
		"named by Connection":     {get("/env", "X-A", "1", "Connection", "x-a"), map[string]string{"HTTP_X_A": "", "HTTP_CONNECTION": ""}},
		"a value of many kinds":   {get("/env", "X-A", "a=b; \"c\" \u00e9"), map[string]string{"HTTP_X_A": "a=b; \"c\" \u00e9"}},
		"a body":                  {post("12345", "Content-Type", "text/x"), map[string]string{"CONTENT_LENGTH": "5", "CONTENT_TYPE": "text/x", "HTTP_CONTENT_LENGTH": "", "HTTP_CONTENT_TYPE": ""}},
		"a stripped prefix":       {get("/own/env?x"), map[string]string{"SCRIPT_NAME": "/own", "PATH_INFO": "/env", "REQUEST_URI": "/env?x"}},
		"the config's variables":  {get("/own/env"), map[string]string{"OWN": "1", "SERVER_SOFTWARE": "mine"}},
		"a rewrite":               {get("/old/env"), map[string]string{"PATH_INFO": "/env", "QUERY_STRING": "rewritten", "REQUEST_URI": "/old/env"}},
		"a stripped prefix again": {get("/encoded/env"), map[string]string{"SCRIPT_NAME": "/encoded", "PATH_INFO": "/env", "REQUEST_URI": "/encoded/env"}},
	} {
		// net/http's client drops or changes some of these.
		if what == "a rewrite" || what == "a stripped prefix again" {
			// Go's net/http/cgi routes by REQUEST_URI, which is the client's: these paths are not this program's.
			if res := s.do(test.r); res.StatusCode != 404 {
				t.Errorf("%s: %d", what, res.StatusCode)
			}
			continue
		}
		got := environment(test.r)
		for name, want := range test.want {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q", what, name, got[name], want)
			}
		}
	}
	if trace := environment(get("/env", "Traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")); !strings.Contains(trace["HTTP_TRACEPARENT"], trace["TRACE_ID"]) || len(trace["TRACE_ID"]) != 32 {
		t.Errorf("the trace is %q, the id %q", trace["HTTP_TRACEPARENT"], trace["TRACE_ID"])
	}
	// Nothing of the host's environment is there.
	t.Setenv("GOJINN_TEST_SECRET", "x")
	if _, ok := environment(get("/env"))["GOJINN_TEST_SECRET"]; ok {
		t.Error("the host's environment reaches a program")
	}
}

// What becomes of a program's output.
func testCGIResponses(t *testing.T, s *server) {
	long := strings.Repeat("x", 1001)
	for output, want := range map[string]string{
		"Content-Type: text/plain\n\nhello":     "200 [] hello",
		"Content-Type: text/plain\r\n\r\nhello": "200 [] hello",
		"Content-Type: text/plain\n\n":          "200 [] ",
		"X-A: 1\n\n<html>":                      "200 [1] <html>",
		"x-a:1\n\n":                             "200 [1] ",
		"X-A: 1\nX-B: 2\nX-A: 3\n\n":            "200 [1 3] ",
		"X-A: caf\xc3\xa9\n\n":                  "200 [caf\u00e9] ",
		"Status: 404 Not Found\n\nno":           "404 [] no",
		"Status: 418\nX-A: 1\n\n":               "418 [1] ",
		"Status: 599 Odd\n\nx":                  "599 [] x",
		"STATUS: 201\n\nx":                      "201 [] x",
		"Status: 204 No Content\n\nx":           "204 [] ",
		"Status: 304\nX-A: 1\n\nx":              "304 [1] ",
		"Location: /x\n\n":                      "302 [] ",
		"Location: https://example.com/\n\nx":   "302 [] x",
		"Status: 301\nLocation: /x\n\n":         "301 [] ",
		"Content-Length: 3\nX-A: 1\n\nabc":      "200 [1] abc",
		"Content-Length: 4\n\nabc":              "502 [] page for 502",
		"Content-Length: x\n\nabc":              "502 [] page for 502",
		"X-A: 1\nConnection: x-a\n\nx":          "200 [] x",
		"X-A: 1\nTransfer-Encoding: gzip\n\nx":  "200 [1] x",
		"X-A: 1\n\n\x00\xff\n\n":                "200 [1] \x00\xff\n\n",
		"":                                      "502 [] page for 502",
		"hello":                                 "502 [] page for 502",
		"hello\n\n":                             "502 [] page for 502",
		"\nhello":                               "502 [] page for 502",
		"<html>\n<body>\n":                      "502 [] page for 502",
		"Content-Type: text/plain":              "502 [] page for 502",
		"Content-Type: text/plain\n":            "502 [] page for 502",
		"HTTP/1.0 200 OK\n\nx":                  "502 [] page for 502",
		"Status: 99\n\n":                        "502 [] page for 502",
		"Status: 100\n\n":                       "502 [] page for 502",
		"Status: abc\n\n":                       "502 [] page for 502",
		"Status: 200\nStatus: 404\n\n":          "502 [] page for 502",
		"X A: 1\n\n":                            "502 [] page for 502",
		"X-A: 1\x00\n\n":                        "502 [] page for 502",
		"X-A: 1\n continued\n\n":                "502 [] page for 502",
		"Content-Type: text/plain\n\n" + long:   "502 [] page for 502",
	} {
		res := s.get("/c/print?" + strings.ReplaceAll(url.QueryEscape(output), "+", "%20"))
		got := fmt.Sprintf("%d %s %s", res.StatusCode, res.Header["X-A"], res.body)
		if got != want {
			t.Errorf("%.80q: got %.100q, want %q", output, got, want)
		}
	}
	if res := s.do(s.request("HEAD", "/c/print?Content-Type:%20text/plain%0A%0Ahello", "")); res.StatusCode != 200 || res.body != "" {
		t.Errorf("HEAD: %d %q", res.StatusCode, res.body)
	}
	if res := s.get("/c/print?Set-Cookie:a=1%0ASet-Cookie:b=2%0A%0A"); !slices.Equal(res.Header["Set-Cookie"], []string{"a=1", "b=2"}) {
		t.Errorf("the cookies are %v", res.Header["Set-Cookie"])
	}
	if res := s.get("/c/print?Status:%20206%0AContent-Range:%20bytes%200-2/9%0AContent-Length:%203%0A%0Aabc"); res.StatusCode != 206 || res.body != "abc" || res.Header.Get("Content-Range") != "bytes 0-2/9" {
		t.Errorf("a range: %d %v %q", res.StatusCode, res.Header, res.body)
	}
}

// Bodies of all lengths are counted, in each form in which a client sends them.
func testCGIBodies(t *testing.T, s *server) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	for _, client := range []*http.Client{s.httpClient, {Transport: transport, Timeout: longestWait}} {
		for _, size := range []int{0, 1, 4096, 65_536, 65_537, 3_000_000} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			want := fmt.Sprintf("{\"bytes\":%d,\"sha256\":\"%x\"}\n", size, sha256.Sum256(body))
			for _, length := range []int64{int64(size), -1} {
				r := s.request("POST", "/count", "")
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), length
				if size == 0 && length == 0 {
					r.Body = http.NoBody
				}
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != want {
					t.Errorf("%s, %d bytes, length %d: %d %q, %v", res.Proto, size, length, res.StatusCode, got, err)
				}
			}
		}
	}
	r := s.request("POST", "/count", "expected")
	r.Header.Set("Expect", "100-continue")
	if res := s.do(r); !strings.HasPrefix(res.body, `{"bytes":8,`) {
		t.Errorf("Expect: %d %s", res.StatusCode, res.body)
	}
	// A program that does not read the body answers all the same.
	if res := s.do(s.request("POST", "/nothing", strings.Repeat("x", 100_000))); res.StatusCode != 404 {
		t.Errorf("not read: %d", res.StatusCode)
	}
	// Each part comes back before the next one is sent.
	conn := s.raw("POST /echo HTTP/1.1\r\nHost: " + s.addr + "\r\nConnection: close\r\nContent-Length: 8\r\n\r\none\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); line != "one\n" || err != nil {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := io.WriteString(conn, "two\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); string(rest) != "two\n" || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

// Responses are sent as they are written.
func testCGIStreams(t *testing.T, s *server) {
	for _, uri := range []string{"/events?n=3&ms=100", "/c/events?3", "/rust/events?3"} {
		res := s.get(uri)
		if res.Header.Get("Content-Type") != "text/event-stream" || res.body != "data: 1\n\ndata: 2\n\ndata: 3\n\n" {
			t.Errorf("%s: %v %q", uri, res.Header, res.body)
		}
	}
	// The first event comes while the program sleeps for an hour.
	res, err := newClient().Do(s.request("GET", "/events?n=2&ms=3600000", ""))
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	res.Body.Close()
	if line != "data: 1\n" || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
	// A deadline that passes after the head was sent cuts the response: HTTP/1.1 without a last chunk, HTTP/2 by a reset.
	conn := s.raw("GET /late/events?n=2&ms=3600000 HTTP/1.1\r\nHost: " + s.addr + "\r\n\r\n")
	text, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(text), "Transfer-Encoding: chunked") || !strings.HasSuffix(string(text), "\r\ndata: 1\n\n\r\n") {
		t.Errorf("over HTTP/1.1: got %q, %v", text, err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	res, err = (&http.Client{Transport: transport, Timeout: longestWait}).Do(s.request("GET", "/late/events?n=2&ms=3600000", ""))
	if err != nil {
		t.Fatal(err)
	}
	text, err = io.ReadAll(res.Body)
	res.Body.Close()
	if err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR; received from peer") || string(text) != "data: 1\n\n" {
		t.Errorf("over HTTP/2: got %q, %v", text, err)
	}
	const size = 1_000_000
	res, err = newClient().Do(s.request("GET", fmt.Sprintf("/bytes?n=%d", size), ""))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if n != size || err != nil || res.ContentLength != -1 {
		t.Errorf("%d bytes of %d, length %d, %v", n, size, res.ContentLength, err)
	}
}

func testCGILanguages(t *testing.T, s *server) {
	for uri, want := range map[string]string{
		"/c/":          "Hello 127.0.0.1, this is C with CGI/1.1.\n",
		"/rust/":       "Hello 127.0.0.1, this is Rust with CGI/1.1.\n",
		"/c/missing":   "There is no /missing here.\n",
		"/rust/m?n":    "There is no /m here.\n",
		"/c/mis%20ing": "There is no /mis ing here.\n",
	} {
		if res := s.get(uri); res.body != want {
			t.Errorf("%s: %d %q", uri, res.StatusCode, res.body)
		}
	}
	for _, uri := range []string{"/c/count", "/rust/count"} {
		if res := s.do(s.request("POST", uri, strings.Repeat("x", 100_000))); res.body != "100000\n" {
			t.Errorf("%s: %d %q", uri, res.StatusCode, res.body)
		}
	}
}
