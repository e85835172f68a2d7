// Tests of headers that a client names in `Connection`.

package gojinn

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// A header that a client names in Connection is dropped, unless a handler has set it.
func TestNamesInConnection(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	site := func(directives string) string {
		return `{
	admin ADMIN
}
ADDR {
	` + directives + `
	gojinn {
		module DIR/hello.wasm
	}
}
`
	}
	inASite := func(directives string) string {
		return strings.Replace(site(directives), "ADDR {", "http://localhost:PORT, http://127.0.0.1:PORT {", 1)
	}
	for _, c := range []struct{ what, directives, sent, want string }{
		{"nothing set", "", "Connection: X-A\r\nX-A: client\r\nX-B: client", "X-B: client"},
		{"in any case, and among others", "", "connection: close , x-a,,TE\r\nConnection: X-b\r\nX-A: 1\r\nx-A: 2\r\nX-B: 3\r\nX-C: 4", "X-C: 4"},
		{"set", "request_header X-A caddy", "Connection: X-A\r\nX-A: client", "X-A: caddy"},
		{"set, and not sent", "request_header X-A caddy", "Connection: X-A", "X-A: caddy"},
		{"set to what the client sends", "request_header X-A same", "Connection: X-A\r\nX-A: same", "X-A: same"},
		{"set from what the client sent", "request_header X-A <{header.X-A}>", "Connection: X-A\r\nX-A: client", "X-A: <client>"},
		{"added", "request_header +X-A caddy", "Connection: X-A\r\nX-A: 1\r\nX-A: 2", "X-A: caddy"},
		{"added to nothing", "request_header +X-A caddy", "Connection: X-A", "X-A: caddy"},
		{"deleted", "request_header -X-A", "Connection: X-A\r\nX-A: client", ""},
		{"deleted and set", "request_header -X-A\n\trequest_header X-A caddy", "Connection: X-A\r\nX-A: client", "X-A: caddy"},
		{"changed", "request_header X-A client caddy", "Connection: X-A\r\nX-A: client", "X-A: caddy"},
		{"not changed by a handler that may", "request_header X-A other caddy", "Connection: X-A\r\nX-A: client", "X-A: client"},
		{"Connection deleted", "request_header -Connection", "Connection: X-A\r\nX-A: client", ""},
		{"Connection set", "request_header Connection X-B", "Connection: X-A\r\nX-A: 1\r\nX-B: 2", "X-B: 2"},
		{"set in a handler that copies the request", "tracing\n\trequest_header X-A caddy", "Connection: X-A\r\nX-A: client", "X-A: caddy"},
		{"behind a matcher that does not match", "@no path /no\n\trequest_header @no X-A caddy", "Connection: X-A\r\nX-A: client", ""},
		{"hop-by-hop", "request_header Te caddy\n\trequest_header Keep-Alive 5", "Connection: keep-alive\r\nUpgrade: a\r\nKeep-Alive: 3\r\nProxy-Authorization: b", ""},
		{"of the server", "", "Connection: Host, X-Forwarded-For, Content-Length\r\nContent-Length: 0", "Content-Length: 0"},
		{"empty", "", "Connection: X-A\r\nX-A:", ""},
	} {
		for _, load := range []func(string) string{site, inASite} {
			_, port, _ := strings.Cut(s.addr, ":")
			s.mustLoad(strings.ReplaceAll(load(c.directives), "PORT", port))
			got = nil
			if status := s.status(s.raw("GET / HTTP/1.1\r\nHost: " + s.addr + "\r\n" + c.sent + "\r\n\r\n")); status != 200 || got == nil {
				t.Fatalf("%s: status %d", c.what, status)
			}
			var headers []string
			for _, h := range got.Head.Headers {
				if h[0] != "Traceparent" {
					headers = append(headers, fmt.Sprintf("%s: %s", h[0], h[1]))
				}
			}
			// The engine drops the headers that are always hop-by-hop.
			headers = deleteHopByHop(headers)
			sort.Strings(headers)
			if text := strings.Join(headers, ", "); text != c.want {
				t.Errorf("%s: the function sees %q, want %q", c.what, text, c.want)
			}
		}
	}
}

func deleteHopByHop(headers []string) (kept []string) {
	for _, h := range headers {
		switch name, _, _ := strings.Cut(h, ":"); name {
		case "Keep-Alive", "Te", "Upgrade", "Proxy-Authorization":
		default:
			kept = append(kept, h)
		}
	}
	return kept
}

// If nothing can be recorded before the handlers run, nothing that a handler may have set is dropped.
func TestNamesInConnectionOfErrorPages(t *testing.T) {
	s := newServer(t)
	var got *enginetest.Call
	s.fake.Handle = func(c *enginetest.Call) enginetest.Reply { got = c; return enginetest.OK("") }
	for _, function := range []string{"", "\n\thandle /function {\n\t\tgojinn {\n\t\t\tmodule DIR/hello.wasm\n\t\t}\n\t}"} {
		s.mustLoad(`{
	admin ADMIN
}
ADDR {
	request_header X-A caddy` + function + `
	error /missing 404
	handle_errors {
		gojinn {
			module DIR/hello.wasm
		}
	}
}
`)
		s.status(s.raw("GET /missing HTTP/1.1\r\nHost: x\r\nConnection: X-A\r\nX-A: client\r\n\r\n"))
		if got.Header("X-A") != "caddy" {
			t.Errorf("with %q elsewhere: got %v", function, got.Head.Headers)
		}
	}
}
