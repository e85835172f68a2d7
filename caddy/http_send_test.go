// Tests of the operation http.send.

package gojinn

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// loopback lets a function reach the servers of tests.
var loopback = []string{"127.0.0.0/8", "::1"}

// Ways to reach a server on this machine, the metadata services of clouds and private networks. All are refused, and no address
// is connected to.
func TestNoWayIn(t *testing.T) {
	var reached atomic.Int64
	victim := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// Another process may try a port that was its server's.
		if r.UserAgent() == "Gojinn" {
			reached.Add(1)
		}
	}))
	defer victim.Close()
	_, port, _ := net.SplitHostPort(victim.Listener.Addr().String())

	// Names that are allowed, and resolve to an address that is not.
	addresses := map[string]string{
		"loopback": "127.0.0.1", "loopback-other": "127.255.255.254", "zero": "0.0.0.0", "this-network": "0.1.2.3",
		"ten": "10.0.0.1", "docker": "172.17.0.1", "home": "192.168.1.1", "cgnat": "100.64.0.1", "alibaba": "100.100.100.200",
		"metadata": "169.254.169.254", "ecs": "169.254.170.2", "oracle": "192.0.0.192", "azure": "168.63.129.16",
		"benchmark": "198.18.0.1", "documentation": "203.0.113.7", "relay": "192.88.99.1", "multicast": "224.0.0.1", "reserved": "240.0.0.1",
		"broadcast": "255.255.255.255",
		"loopback6": "::1", "unspecified6": "::", "mapped": "::ffff:127.0.0.1", "mapped-metadata": "::ffff:169.254.169.254",
		"compatible": "::127.0.0.1", "nat64": "64:ff9b::7f00:1", "nat64-metadata": "64:ff9b::a9fe:a9fe", "nat64-local": "64:ff9b:1::a00:1",
		"6to4": "2002:7f00:1::", "teredo": "2001:0:7f00:1::", "ula": "fd00::1", "aws6": "fd00:ec2::254", "link-local6": "fe80::1",
		"site-local6": "fec0::1", "multicast6": "ff02::1", "documentation6": "2001:db8::1", "discard6": "100::1",
	}
	names := map[string][][]string{}
	allow := []string{"https://api.example.com", "http://localhost:" + port, "http://127.0.0.1:" + port, "http://[::1]:" + port,
		"http://*.allowed.example:" + port, "http://*.allowed.example", "http://169.254.169.254", "http://[::ffff:127.0.0.1]:" + port}
	type way struct{ what, url string }
	var ways []way
	for what, address := range addresses {
		host := what + ".allowed.example"
		names[host] = [][]string{{address}}
		ways = append(ways, way{"a name of " + address, "http://" + host + ":" + port})
	}
	// The second look-up of these has another answer than the first.
	names["rebinding.allowed.example"] = [][]string{{"198.51.100.1"}, {"127.0.0.1"}}
	names["both.allowed.example"] = [][]string{{"10.0.0.1", "127.0.0.1", "::1"}}
	ways = append(ways,
		way{"a name that changes its address", "http://rebinding.allowed.example:" + port},
		way{"the same, once more", "http://rebinding.allowed.example:" + port},
		way{"a name with several addresses", "http://both.allowed.example:" + port},
		way{"a name of /etc/hosts that is allowed", "http://localhost:" + port},
		way{"an address that is allowed, and private", "http://127.0.0.1:" + port},
		way{"an IPv6 address that is allowed, and local", "http://[::1]:" + port},
		way{"a mapped address that is allowed", "http://[::ffff:127.0.0.1]:" + port},
		way{"the metadata service that is allowed", "http://169.254.169.254/latest/meta-data/"},
	)
	for what, host := range map[string]string{
		"decimal": "2130706433", "octal": "0177.0.0.1", "octal, long": "00000177.0.0.1", "octal, one number": "017700000001", "hexadecimal": "0x7f.0.0.1",
		"hexadecimal, one number": "0x7f000001", "two parts": "127.1", "three parts": "127.0.1", "too large": "4294967297",
		"leading zero": "127.0.0.01", "a dot at the end": "127.0.0.1.", "localhost with a dot": "localhost.", "another loopback": "127.0.0.2",
		"localhost in capitals, another port": "LOCALHOST:1", "full-width": "１２７.０.０.１", "circled": "①②⑦.⓪.⓪.①", "ideographic dots": "127。0。0。1",
		"expanded": "[0:0:0:0:0:0:0:2]", "mapped in hex": "[::ffff:7f00:2]", "compatible": "[::7f00:1]", "zone": "[::1%25lo]", "unspecified": "[::]",
		"a zone without a name": "[::1%25]", "a name in brackets": "[localhost]", "encoded": "%6c%6f%63alhost", "encoded full-width": "%EF%BC%91%EF%BC%92%EF%BC%97.1",
		"userinfo": "api.example.com@127.0.0.1:" + port, "userinfo, allowed host": "x:y@localhost:" + port, "empty userinfo": "@localhost:" + port,
		"backslash": "127.0.0.1:" + port + "\\@api.example.com", "two ats": "api.example.com@x@127.0.0.1", "fragment": "127.0.0.3#@api.example.com",
		"query": "127.0.0.3?@api.example.com", "tab": "127.0.0.1\t:" + port, "newline": "127.0.0.1\n.example.com", "NUL": "127.0.0.1\x00.allowed.example",
		"a name that is not allowed": "evil.example", "a suffix": "evilapi.example.com", "a prefix": "api.example.com.evil.example",
		"the parent of the wildcard": "allowed.example", "two labels": "a.b.allowed.example", "an empty label": ".allowed.example",
		"a star": "*.evil.example", "port 0": "localhost:0", "port as text": "localhost:http", "a large port": "localhost:65616", "wrapped port": fmt.Sprintf("localhost:%s%s", "0x", port),
		"a soft hyphen": "local­host:1", "Kelvin sign": "loopbacK.evil.example", "long s": "localhoſt:1", "right to left": "\u202elocalhost:" + port,
	} {
		ways = append(ways, way{what, "http://" + host})
	}
	ways = append(ways,
		way{"another scheme", "ftp://localhost:" + port}, way{"a file", "file:///etc/passwd"}, way{"a socket", "unix:///run/docker.sock"},
		way{"gopher", "gopher://localhost:" + port}, way{"no scheme", "//localhost:" + port}, way{"no slashes", "http:localhost:" + port},
		way{"one slash", "http:/localhost:" + port}, way{"three slashes", "http:///localhost:" + port}, way{"https in place of http", "https://localhost:" + port},
		way{"data", "data:text/plain,x"}, way{"javascript", "javascript:alert(1)"}, way{"leading space", " http://localhost:" + port},
	)

	w := newWorld(t, names)
	g := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: allow}})
	if len(ways) < 100 {
		t.Errorf("only %d ways are tried", len(ways))
	}
	for _, way := range ways {
		_, text, code := g.request().get(way.url)
		connected := w.takeConnected()
		if way.what == "a name that changes its address" {
			// The first answer is an address of the documentation, too, and refused.
			if code != codeDenied || len(connected) > 0 {
				t.Errorf("%s, %q: code %d %s, connected to %v", way.what, way.url, code, text, connected)
			}
			continue
		}
		if code != codeDenied && code != codeBadRequest {
			t.Errorf("%s, %q: code %d, want denied or a bad request: %s", way.what, way.url, code, text)
		}
		if len(connected) > 0 {
			t.Errorf("%s, %q: connected to %v", way.what, way.url, connected)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the server of this machine was reached %d times", n)
	}
}

// A name whose address is public when it is looked up first and private afterwards gains nothing: each look-up is one dial.
func TestNamesThatChange(t *testing.T) {
	w := newWorld(t, map[string][][]string{"moving.example": {{"93.184.216.34"}, {"127.0.0.1"}, {"10.0.0.1"}}})
	g := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{"http://moving.example"}}})
	if _, text, code := g.get("http://moving.example"); code != codeFailed {
		t.Errorf("the public address: %d %s", code, text)
	}
	if got := w.takeConnected(); !slices.Equal(got, []string{"93.184.216.34:80"}) {
		t.Errorf("connected to %v", got)
	}
	for range 2 {
		if _, text, code := g.get("http://moving.example"); code != codeDenied || strings.Contains(text, "127.0.0.1") {
			t.Errorf("the private address: %d %s", code, text)
		}
	}
	if got := w.takeConnected(); got != nil {
		t.Errorf("connected to %v", got)
	}
}

// allow_private gives exactly the addresses that it names.
func TestAllowPrivate(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "inside") }))
	defer upstream.Close()
	_, port, _ := net.SplitHostPort(upstream.Listener.Addr().String())
	w := newWorld(t, map[string][][]string{
		"one.internal": {{"127.0.0.1"}}, "two.internal": {{"127.0.0.2"}}, "ten.internal": {{"10.1.2.3"}}, "mapped.internal": {{"::ffff:127.0.0.1"}},
		"six.internal": {{"::1"}},
	})
	allow := []string{"http://*.internal:" + port}
	g := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: allow, AllowPrivate: []string{"127.0.0.1"}}})
	if _, body, code := g.get("http://one.internal:" + port); code < 0 || body != "inside" {
		t.Errorf("the named address: %d %s", code, body)
	}
	w.takeConnected()
	for _, name := range []string{"two", "ten", "six"} {
		if _, text, code := g.get("http://" + name + ".internal:" + port); code != codeDenied || w.takeConnected() != nil {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	// A function with another policy does not get the connection that the first one left open.
	other := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: allow}})
	if _, text, code := other.get("http://one.internal:" + port); code != codeDenied || w.takeConnected() != nil {
		t.Errorf("a function without allow_private: %d %s", code, text)
	}
}

// upstream is a server that answers with what it got.
func upstream(t *testing.T, handle http.HandlerFunc) (server *httptest.Server, g *testGuest) {
	t.Helper()
	server = httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server, newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback}})
}

func TestSendHTTP(t *testing.T) {
	server, g := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["X-Seen"] = []string{r.Method + " " + r.RequestURI, fmt.Sprint(r.ContentLength)}
		w.Header().Set("X-Latin", "caf\xe9")
		w.Header().Set("Connection", "X-Gone")
		w.Header().Set("X-Gone", "1")
		for _, name := range []string{"X-In", "User-Agent", "Te", "Proxy-Authorization", "Expect", "Proxy", "X-Named", "Content-Type"} {
			if v, ok := r.Header[name]; ok {
				w.Header()["Got-"+name] = v
			}
		}
		w.WriteHeader(http.StatusTeapot)
		w.Write(body)
	})
	head, body, code := g.call("http.send", `{"method":"POST","url":"`+server.URL+`/a%20b?c#d","headers":{
		"x-in":["one","\u00fc\udbff\udfe9"],"TE":"trailers","proxy-authorization":["x"],"expect":["100-continue"],"Proxy":["http://x"],"connection":"x-named, close",
		"X-Named":["x"],"Content-Length":["999"],"content-type":"a/b","Host":"`+strings.TrimPrefix(server.URL, "http://")+`"}}`+"\nraw \x00\xff\nbytes")
	if code != codeBadRequest {
		t.Errorf("a head of several lines: %d %s", code, body)
	}
	head, body, code = g.call("http.send", strings.ReplaceAll(`{"method":"POST","url":"`+server.URL+`/a%20b?c#d","headers":{
		"x-in":["one","\u00fc\udbff\udfe9"],"TE":"trailers","proxy-authorization":["x"],"expect":["100-continue"],"Proxy":["http://x"],"connection":"x-named, close",
		"X-Named":["x"],"Content-Length":["999"],"content-type":"a/b","Host":"`+strings.TrimPrefix(server.URL, "http://")+`"}}`, "\n", " ")+"\nraw \x00\xff\nbytes")
	if code < 0 {
		t.Fatalf("%d %s", code, body)
	}
	if body != "raw \x00\xff\nbytes" || head["status"] != 418.0 || head["url"] != server.URL+"/a%20b?c" {
		t.Errorf("%v %q", head, body)
	}
	headers := head["headers"].(map[string]any)
	for name, want := range map[string]string{
		"X-Seen": "[POST /a%20b?c 12]", "Got-X-In": "[one ü\U0010ffe9]", "Got-User-Agent": "[Gojinn]", "Got-Content-Type": "[a/b]",
		"X-Latin": "[caf\U0010ffe9]",
	} {
		if got := fmt.Sprint(headers[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"Got-Te", "Got-Proxy-Authorization", "Got-Expect", "Got-Proxy", "Got-X-Named", "X-Gone", "Connection"} {
		if v, ok := headers[name]; ok {
			t.Errorf("%s is %v, want nothing", name, v)
		}
	}
}

func TestBadRequests(t *testing.T) {
	server, g := upstream(t, func(http.ResponseWriter, *http.Request) { t.Error("the server got a request") })
	for request, want := range map[string]string{
		"":                                       "there is no url",
		"\nbody":                                 "there is no url",
		"{}":                                     "there is no url",
		"null":                                   "not a JSON object",
		"[]":                                     "not a JSON object",
		`{"url":"URL"`:                           "not a JSON object",
		`{"url":"URL"}}`:                         "not a JSON object, and nothing else",
		`{"url":"URL"} {}`:                       "not a JSON object, and nothing else",
		`{"url":"URL","url":"URL"}`:              `"url" of the request is given twice`,
		`{"URL":"x"}`:                            `"URL" of the request is unknown`,
		`{"url":1}`:                              `"url" of the request is wrong`,
		"{\"url\":\"\xff\"}":                     "not UTF-8",
		`{"url":"URL","method":"CONNECT"}`:       "the method CONNECT is not available",
		`{"url":"URL","method":"TRACE"}`:         "the method TRACE is not available",
		`{"url":"URL","method":"G T"}`:           "not a token",
		`{"url":"URL","method":"GET\r\nX:"}`:     "not a token",
		`{"url":"URL","method":""}`:              "the method is empty",
		`{"url":"URL","redirect":"error"}`:       "want follow or manual",
		`{"url":"URL","timeout_ms":-1}`:          "timeout_ms is -1",
		`{"url":"URL","timeout_ms":0}`:           "timeout_ms is 0",
		`{"url":"URL","headers":{"A":"\ud800"}}`: "surrogate",
		`{"url":"URL","timeout_ms":"1"}`:         "timeout_ms",
		`{"url":"URL","headers":{"A B":["x"]}}`:  "not a token",
		`{"url":"URL","headers":{"":["x"]}}`:     "not a token",
		`{"url":"URL","headers":{"A:":["x"]}}`:   "not a token",
		`{"url":"URL","headers":{"A":["x\r\nHost: y"]}}`:                       "control character",
		`{"url":"URL","headers":{"A":["x\u0000"]}}`:                            "control character",
		`{"url":"URL","headers":{"A":["\udbff\udf8d\n"]}}`:                     "control character",
		`{"url":"URL","headers":{"A":[null]}}`:                                 "a value is null",
		`{"url":"URL","headers":{"A":1}}`:                                      "want strings",
		`{"url":"URL","headers":[["A","x"]]}`:                                  `"headers" of the request is wrong`,
		`{"url":"URL","headers":{"host":["evil.example"]}}`:                    "the header Host",
		`{"url":"URL","headers":{"A":["` + strings.Repeat("x", 70000) + `"]}}`: "bytes of them",
	} {
		_, text, code := g.call("http.send", strings.ReplaceAll(request, "URL", server.URL))
		if request == `{"URL":"x"}` {
			_, text, code = g.call("http.send", request)
		}
		if code != codeBadRequest || !strings.Contains(text, want) {
			t.Errorf("%.80q: %d %s, want %s", request, code, text, want)
		}
	}
	if _, text, code := g.call("http.sent", "{}"); code != codeUnknown || !strings.Contains(text, "http.sent") {
		t.Errorf("an unknown operation: %d %s", code, text)
	}
}

func TestRedirects(t *testing.T) {
	type seen struct{ method, auth, cookie, custom, body string }
	var last seen
	record := func(r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last = seen{r.Method, r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("X-Custom"), string(body)}
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { record(r); io.WriteString(w, "other") }))
	defer other.Close()
	forbidden := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the forbidden server got a request") }))
	defer forbidden.Close()
	var one *httptest.Server
	one = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record(r)
		status := 302
		fmt.Sscan(r.URL.Query().Get("status"), &status)
		if to := r.URL.Query().Get("to"); to != "" {
			if to == "long" {
				to += strings.Repeat("x", 20_000)
			}
			w.Header().Set("Location", to)
			w.WriteHeader(status)
		}
		io.WriteString(w, "one")
	}))
	defer one.Close()
	to := func(target string, more ...string) string {
		return one.URL + "/?to=" + url.QueryEscape(target) + strings.Join(more, "")
	}
	headers := `,"headers":{"Authorization":"secret","Cookie":"a=b","X-Custom":"c"}`
	g := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{one.URL, other.URL}, AllowPrivate: loopback, MaxRequests: 1000}})

	if head, body, _ := g.get(to("/x"), headers); body != "one" || head["url"] != one.URL+"/x" || last != (seen{"GET", "secret", "a=b", "c", ""}) {
		t.Errorf("to the same server: %v %s %v", head, body, last)
	}
	if head, body, _ := g.get(to(other.URL+"/y#z"), headers); body != "other" || head["url"] != other.URL+"/y" || last != (seen{"GET", "", "", "c", ""}) {
		t.Errorf("to another server: %v %s %v", head, body, last)
	}
	// What was dropped does not come back on the way home.
	if _, body, _ := g.get(to(to("/")), headers); body != "one" || last.auth != "secret" {
		t.Errorf("twice on the same server: %s %v", body, last)
	}
	for n, want := range map[int]int32{0: 0, 3: 0, 4: codeFailed} {
		target := "/"
		for range n {
			target = to(target)
		}
		if target == "/" {
			target = one.URL
		}
		if _, text, code := g.get(target); min(code, 0) != want {
			t.Errorf("%d redirects: %d %s", n, code, text)
		}
	}
	for target, want := range map[string]string{
		forbidden.URL:                       forbidden.URL + " is not given",
		"http://169.254.169.254/latest":     "http://169.254.169.254 is not given",
		"file:///etc/passwd":                "the redirect's target is refused",
		"https://" + one.URL[7:]:            "https://" + one.URL[7:] + " is not given",
		"http://user:pass@" + other.URL[7:]: "the redirect's target is refused",
		"//evil.example/":                   "http://evil.example is not given",
		"http://[::1":                       "the redirect's target cannot be parsed",
		"long":                              "the redirect's target has",
	} {
		if _, text, code := g.get(to(target)); code >= 0 || !strings.Contains(text, want) {
			t.Errorf("to %.60s: %d %s, want %s", target, code, text, want)
		}
	}
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		if head, _, _ := g.call("http.send", `{"method":"POST","url":"`+to("/x", "&status="+status)+`"}`+"\nbody"); fmt.Sprint(head["status"]) != status || last.body != "body" {
			t.Errorf("POST and %s: %v", status, head)
		}
		if head, body, _ := g.get(to("/x", "&status="+status)); head["status"] != 200.0 || body != "one" {
			t.Errorf("GET and %s: %v", status, head)
		}
		if head, _, _ := g.get(to("/x", "&status="+status), `,"redirect":"manual"`); fmt.Sprint(head["status"]) != status ||
			fmt.Sprint(head["headers"].(map[string]any)["Location"]) != "[/x]" {
			t.Errorf("manual and %s: %v", status, head)
		}
		if head, body, _ := g.call("http.send", `{"method":"HEAD","url":"`+to("/x", "&status="+status)+`"}`); head["status"] != 200.0 || body != "" || last.method != "HEAD" {
			t.Errorf("HEAD and %s: %v", status, head)
		}
	}
	if head, _, _ := g.get(to("/x", "&status=304")); head["status"] != 304.0 {
		t.Errorf("304 is no redirect: %v", head)
	}
}

func TestOutboundLimits(t *testing.T) {
	var body string
	release := make(chan bool)
	server, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunked":
			w.(http.Flusher).Flush()
		case "/slow":
			w.(http.Flusher).Flush()
			<-release
		case "/head":
			w.Header().Set("Content-Length", "999999")
			return
		}
		io.WriteString(w, body)
	})
	defer close(release)
	g := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback, MaxRequests: 2, MaxResponse: 1000}})
	for _, path := range []string{"/length", "/chunked"} {
		for size, want := range map[int]int32{0: 0, 999: 0, 1000: 0, 1001: codeTooLarge, 100_000: codeTooLarge} {
			body = strings.Repeat("x", size)
			if _, got, code := g.request().get(server.URL + path); min(code, 0) != want || code >= 0 && got != body {
				t.Errorf("%s, %d bytes: %d %.60s", path, size, code, got)
			}
		}
	}
	if _, text, code := g.request().call("http.send", `{"method":"HEAD","url":"`+server.URL+`/head"}`); code < 0 {
		t.Errorf("HEAD of a large body: %d %s", code, text)
	}
	body = ""
	for i, want := range []int32{0, 0, codeFailed, codeFailed} {
		if _, text, code := g.get(server.URL); min(code, 0) != want || code < 0 && !strings.Contains(text, "max_requests") {
			t.Errorf("request %d: %d %s", i+1, code, text)
		}
	}
	for _, guest := range []*testGuest{
		g.request(),
		newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback, Timeout: caddy.Duration(50 * time.Millisecond)}}),
	} {
		more := ""
		if time.Duration(guest.h.Outbound.Timeout) == defaultOutboundTimeout {
			more = `,"timeout_ms":50`
		}
		if _, text, code := guest.get(server.URL+"/slow", more); code != codeFailed || !strings.Contains(text, "in time") {
			t.Errorf("a slow server: %d %s", code, text)
		}
		if n := guest.counted("http.send", "timeout"); n != 1 {
			t.Errorf("%v timeouts were counted", n)
		}
	}
	if n := g.counted("http.send", "too_large"); n != 4 {
		t.Errorf("%v responses that were too large were counted", n)
	}
}

// The end of the call ends the request, as the server sees.
func TestCancelledRequests(t *testing.T) {
	arrived, gone := make(chan bool, 1), make(chan bool, 1)
	server, g := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		gone <- true
	})
	ctx, cancel := context.WithCancel(context.Background())
	g.ctx = ctx
	done := make(chan string)
	go func() {
		_, text, code := g.get(server.URL)
		done <- fmt.Sprint(code, " ", text)
	}()
	await(t, "the request", arrived)
	cancel()
	if got := await(t, "the call", done); got != "-4 the call has ended" {
		t.Errorf("got %s", got)
	}
	await(t, "the server to see it", gone)
	if n := g.counted("http.send", "cancelled"); n != 1 {
		t.Errorf("%v cancelled calls were counted", n)
	}
}

// Errors say what happened, and not which address the host has.
func TestConnectionErrors(t *testing.T) {
	closed := freeAddr(t)
	cut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	go func() {
		for {
			conn, err := cut.Accept()
			if err != nil {
				return
			}
			// A connection that is closed with something unread is reset.
			http.ReadRequest(bufio.NewReader(conn))
			conn.Close()
		}
	}()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = nil
	_, closedPort, _ := net.SplitHostPort(closed)
	_, cutPort, _ := net.SplitHostPort(cut.Addr().String())
	_, securePort, _ := net.SplitHostPort(secure.Listener.Addr().String())
	newWorld(t, map[string][][]string{"here.example": {{"127.0.0.1"}}, "empty.example": {{}}})
	g := newTestGuest(t, &Handler{Outbound: &Outbound{AllowPrivate: loopback, Allow: []string{
		"http://here.example:" + closedPort, "http://here.example:" + cutPort, "https://here.example:" + securePort, "http://here.example:" + securePort,
		"http://missing.example", "http://empty.example",
	}}})
	for target, want := range map[string]string{
		"http://here.example:" + closedPort:  "connection refused",
		"http://here.example:" + cutPort:     "closed the connection",
		"https://here.example:" + securePort: "certificate is refused: x509",
		"http://missing.example":             "the host has no address",
		"http://empty.example":               "the host has no address",
	} {
		_, text, code := g.get(target)
		if code != codeFailed || !strings.Contains(text, want) || strings.Contains(text, "127.0.0.1") {
			t.Errorf("%s: %d %s, want %s", target, code, text, want)
		}
	}
	if head, body, code := g.get("http://here.example:" + securePort); code < 0 || head["status"] != 400.0 {
		t.Errorf("http to a server of https: %d %v %s", code, head, body)
	}
}

// The authorities of tls_trust_pool are trusted, and HTTP/2 is spoken.
func TestTrustPool(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := json.Marshal(map[string]any{"provider": "file", "pem_files": []string{ca}})
	if err != nil {
		t.Fatal(err)
	}
	settings := func() *Outbound {
		return &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback, TrustPoolRaw: pool}
	}
	g := newTestGuest(t, &Handler{Outbound: settings()})
	if _, body, code := g.get(server.URL); code < 0 || body != "HTTP/2.0" {
		t.Errorf("%d %s", code, body)
	}
	if other := newTestGuest(t, &Handler{Outbound: settings()}); other.h.Outbound.client != g.h.Outbound.client {
		t.Error("a function with the same settings has another client")
	}
	if other := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback}}); other.h.Outbound.client == g.h.Outbound.client {
		t.Error("a function with other authorities has the same client")
	}
}

func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy got a request") }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	newWorld(t, map[string][][]string{"up.example": {{"127.0.0.1"}}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up") }))
	defer server.Close()
	target := strings.Replace(server.URL, "127.0.0.1", "up.example", 1)
	g := newTestGuest(t, &Handler{Outbound: &Outbound{Allow: []string{target}, AllowPrivate: loopback}})
	if _, body, code := g.get(target); code < 0 || body != "up" {
		t.Errorf("%d %s", code, body)
	}
}

func TestTraceHeaders(t *testing.T) {
	var got []string
	server, g := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		got = append(r.Header.Values("Traceparent"), r.Header.Values("Tracestate")...)
	})
	const incoming, guests = "00-11111111111111111111111111111111-2222222222222222-01", "00-33333333333333333333333333333333-4444444444444444-00"
	if g.get(server.URL); got != nil {
		t.Errorf("without a trace: %v", got)
	}
	g.use.traceparent, g.use.tracestate = incoming, "a=b"
	if g.get(server.URL); !slices.Equal(got, []string{incoming, "a=b"}) {
		t.Errorf("of the incoming request: %v", got)
	}
	if g.get(server.URL, `,"headers":{"traceparent":"`+guests+`"}`); !slices.Equal(got, []string{guests}) {
		t.Errorf("of the guest: %v", got)
	}
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	ctx, parent := provider.Tracer("test").Start(context.Background(), "request")
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	traced := startTrace(r, "f")
	g.use.trace, g.ctx = &traced, ctx
	g.get(server.URL, `,"headers":{"traceparent":"`+guests+`"}`)
	g.call("http.send", "{}")
	spans := recorder.Ended()
	if len(spans) != 2 || spans[0].Name() != "http.send" || spans[0].SpanKind() != trace.SpanKindClient ||
		spans[0].Parent().SpanID() != traced.span.SpanContext().SpanID() {
		t.Fatalf("spans: %v", spans)
	}
	attributes := fmt.Sprint(spans[0].Attributes(), spans[1].Attributes())
	for _, want := range []string{"http.request.method", "http.response.status_code", "gojinn.outcome", "bad_request"} {
		if !strings.Contains(attributes, want) {
			t.Errorf("the spans lack %s: %s", want, attributes)
		}
	}
	if strings.Contains(attributes, "127.0.0.1") {
		t.Errorf("an attribute has the server: %s", attributes)
	}
	want := fmt.Sprintf("00-%s-%s-01", parent.SpanContext().TraceID(), spans[0].SpanContext().SpanID())
	if !slices.Equal(got, []string{want}) {
		t.Errorf("below a span: %v, want %s", got, want)
	}
}

// A denial is logged with the line to add: once a minute each, and not without bound.
func TestDenialsAreLogged(t *testing.T) {
	g := newTestGuest(t, &Handler{})
	for range 3 {
		if _, text, code := g.get("https://api.example.com/x?key=secret"); code != codeDenied || !strings.Contains(text, "`allow https://api.example.com`") {
			t.Errorf("%d %s", code, text)
		}
	}
	records := g.logs.FilterMessageSnippet("does not give").All()
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	fields := records[0].ContextMap()
	if fields["function"] != g.h.functionName() || fields["operation"] != "http.send" || fields["wanted"] != "https://api.example.com" ||
		fields["add"] != "`allow https://api.example.com` in `outbound { … }` of gojinn" {
		t.Errorf("the record is %v", fields)
	}
	for i := range 100 {
		g.get(fmt.Sprintf("https://host%d.example", i))
	}
	if n := g.logs.FilterMessageSnippet("does not give").Len(); n != maxDenials {
		t.Errorf("%d records, want %d", n, maxDenials)
	}
	if !g.h.denials.isNew("x", time.Now().Add(denialInterval)) {
		t.Error("nothing is logged after the interval")
	}
	if n := g.counted("http.send", "denied"); n != 103 {
		t.Errorf("%v denials were counted", n)
	}
	g.call("evil\nlabel", "")
	if n := g.counted("unknown", "unknown"); n != 1 {
		t.Errorf("%v unknown operations were counted", n)
	}
}

// Connections are kept for the next request, also over a reload.
func TestConnectionsAreKept(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	settings := func() *Handler {
		return &Handler{Outbound: &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback}}
	}
	old := newTestGuest(t, settings())
	old.get(server.URL)
	next := newTestGuest(t, settings())
	if err := old.h.Outbound.cleanup(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, text, code := next.get(server.URL); code < 0 {
			t.Fatal(text)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// A compressed response is decompressed within the limit, unless the guest asks for the compressed form.
func TestCompressedResponses(t *testing.T) {
	bomb := gzipped(t, strings.Repeat("x", 100_000))
	server, g := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb)
		}
	})
	head, body, code := g.get(server.URL)
	if code < 0 || len(body) != 100_000 || head["headers"].(map[string]any)["Content-Encoding"] != nil {
		t.Errorf("%d %d bytes %v", code, len(body), head)
	}
	if _, body, _ := g.get(server.URL, `,"headers":{"Accept-Encoding":"gzip"}`); body != string(bomb) {
		t.Errorf("as asked for: %d bytes, want %d", len(body), len(bomb))
	}
	g.h.Outbound.MaxResponse = 10_000
	if _, text, code := g.get(server.URL); code != codeTooLarge {
		t.Errorf("beyond the limit: %d %.60s", code, text)
	}
}
