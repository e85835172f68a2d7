// Tests of the headers that say where a request came from.

package gojinn

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// forwardedSent are headers by which a client says where its request came from, as it sends them.
const forwardedSent = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8, 7.7.7.7\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\n" +
	"X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nCF-Connecting-IP: 9.9.9.9\r\n" +
	"X-Other: 1\r\n"

// forwardedSite is a site with options of its server, and directives before a function of a contract.
func forwardedSite(server, directives, contract string) string {
	return `{
	admin ADMIN
	servers {
		` + server + `
	}
}
ADDR {
	` + directives + `
	gojinn {
		module DIR/hello.wasm
		contract ` + contract + `
	}
}
`
}

// Forwarded headers of a client reach a function only if it is a trusted proxy, as they came. What a handler has set stays.
func TestForwardedHeaders(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	const trusting = "trusted_proxies static 127.0.0.1/8"
	all := "Cf-Connecting-Ip: 9.9.9.9, Forwarded: for=9.9.9.9, X-Forwarded-For: 9.9.9.9, X-Forwarded-For: 8.8.8.8, 7.7.7.7, X-Forwarded-Host: evil, " +
		"X-Forwarded-Port: 1, X-Forwarded-Prefix: /evil, X-Forwarded-Proto: https, X-Other: 1, X-Real-Ip: 9.9.9.9"
	for _, c := range []struct{ what, server, directives, sent, want string }{
		{"none", "", "", "", ""},
		{"untrusted", "", "", forwardedSent, "Cf-Connecting-Ip: 9.9.9.9, X-Other: 1"},
		{"untrusted, of another network", "trusted_proxies static 192.0.2.0/24", "", forwardedSent, "Cf-Connecting-Ip: 9.9.9.9, X-Other: 1"},
		{"untrusted, where the address comes from another header", "client_ip_headers CF-Connecting-IP", "", forwardedSent, "X-Other: 1"},
		{"trusted", trusting, "", forwardedSent, all},
		{"trusted, and named in Connection", trusting, "", "Connection: X-Forwarded-For, Forwarded\r\n" + forwardedSent, all},
		{"untrusted, and named in Connection", "", "", "Connection: X-Forwarded-For\r\n" + forwardedSent, "Cf-Connecting-Ip: 9.9.9.9, X-Other: 1"},
		{"set", "", "request_header X-Real-Ip {client_ip}\n\trequest_header X-Forwarded-Proto caddy", forwardedSent,
			"Cf-Connecting-Ip: 9.9.9.9, X-Forwarded-Proto: caddy, X-Other: 1, X-Real-Ip: 127.0.0.1"},
		{"set, and none sent", "", "request_header X-Real-Ip {client_ip}", "", "X-Real-Ip: 127.0.0.1"},
		{"added", "", "request_header +X-Forwarded-For caddy", forwardedSent,
			"Cf-Connecting-Ip: 9.9.9.9, X-Forwarded-For: caddy, X-Other: 1"},
		{"behind a matcher", "", "@no path /no\n\trequest_header @no X-Real-Ip caddy", forwardedSent, "Cf-Connecting-Ip: 9.9.9.9, X-Other: 1"},
	} {
		for _, contract := range []string{contractJSON, contractHTTPWasm} {
			s.mustLoad(forwardedSite(c.server, c.directives, contract))
			got = nil
			// What a guest of http-wasm answers does not matter here.
			if status := s.status(s.raw("GET / HTTP/1.1\r\nHost: " + s.addr + "\r\n" + c.sent + "\r\n")); got == nil {
				t.Fatalf("%s, %s: not called; status %d", c.what, contract, status)
			}
			var headers []string
			for _, h := range got.Head.Headers {
				if h[0] != "Traceparent" && h[0] != "Connection" && h[0] != "Content-Length" && !strings.HasPrefix(h[0], ":") {
					headers = append(headers, h[0]+": "+h[1])
				}
			}
			slices.SortStableFunc(headers, func(a, b string) int {
				a, _, _ = strings.Cut(a, ":")
				b, _, _ = strings.Cut(b, ":")
				return strings.Compare(a, b)
			})
			if text := strings.Join(headers, ", "); text != c.want {
				t.Errorf("%s, %s: the function sees %q, want %q", c.what, contract, text, c.want)
			}
		}
	}
}

// The next handler gets what the client sent: its handlers have other rules for forwarded headers.
func TestForwardedHeadersOfTheNextHandler(t *testing.T) {
	s := newServer(t)
	s.goOn(engine.Next{})
	s.mustLoad(nextSite("route {\n gojinn {\n module DIR/hello.wasm\n }", "respond \"{header.X-Forwarded-For} {http.gojinn.outcome}\"\n }"))
	if body := s.get("/", "X-Forwarded-For", "9.9.9.9").body; body != "9.9.9.9 ok" {
		t.Errorf("the next handler got %q", body)
	}
}

// If it cannot be known which headers the client sent, none of an untrusted client reaches a function.
func TestForwardedHeadersOfErrorPages(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	for _, function := range []string{"", "\n\thandle /function {\n\t\tgojinn {\n\t\t\tmodule DIR/hello.wasm\n\t\t}\n\t}"} {
		s.mustLoad(`{
	admin ADMIN
}
ADDR {` + function + `
	error /missing 404
	handle_errors {
		gojinn {
			module DIR/hello.wasm
		}
	}
}
`)
		got = nil
		s.status(s.raw("GET /missing HTTP/1.1\r\nHost: x\r\n" + forwardedSent + "\r\n"))
		if got.Header("X-Forwarded-For") != "" || got.Header("X-Real-Ip") != "" || got.Header("X-Other") != "1" {
			t.Errorf("with %q elsewhere: got %v", function, got.Head.Headers)
		}
	}
}

func TestForwardedOverUnixSocket(t *testing.T) {
	s := newServer(t)
	got := make(chan *enginetest.Call, 1)
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got <- c; return enginetest.OK("") }
	for trust, want := range map[string]string{"": "", "trusted_proxies_unix": "9.9.9.9"} {
		config := strings.Replace(s.simple(), "route {", "bind unix/DIR/caddy.sock\n\troute {", 1)
		s.mustLoad(strings.Replace(config, "admin ADMIN", "admin ADMIN\n\tservers {\n\t"+trust+"\n\t}", 1))
		conn, err := net.Dial("unix", s.dir+"/caddy.sock")
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
		s.status(conn)
		conn.Close()
		if value := await(t, "the call", got).Header("X-Forwarded-For"); value != want {
			t.Errorf("with %q: got %q, want %q", trust, value, want)
		}
	}
}

// A function that belongs to no server gets no forwarded headers.
func TestForwardedHeadersWithoutAServer(t *testing.T) {
	r, _ := http.NewRequest("GET", "/", nil)
	withheld := withheldOf(requestVars(r), nil)
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		if !withheld.has(name, "x") {
			t.Errorf("%s is not withheld", name)
		}
	}
	if withheld.has("X-Other", "x") {
		t.Error("another header is withheld")
	}
}
