//go:build cgo

// A test of a WebSocket over HTTP/2 that passes through functions, in a Caddy process: Go's server speaks RFC 8441 only if it was
// started so.

package gojinn

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The tunnel of a CONNECT request passes through a function with `next`, and through a guest of http-wasm, in both directions. The
// function gets no body of it.
func TestWebSocketOverHTTP2PassesFunctions(t *testing.T) {
	t.Setenv("GODEBUG", "http2xconnect=1")
	s := newRealServer(t)
	up := echoSocket(t, func(r *http.Request) {
		if r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.RequestURI != "/socket" || r.Header.Get("X-User") != "alice" {
			t.Errorf("the upstream got %s %s %v", r.Method, r.RequestURI, r.Header)
		}
	})
	s.module("next.wasm", answering(`{"next":true,"uri":"/socket","headers":{"X-User":"alice"},"response_headers":{"X-F":"1"}}`, "").String())
	s.module("count.wasm", counterGuest())
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			c := &caddyProcess{t: t, addr: freeAddr(t)}
			_, port, _ := net.SplitHostPort(c.addr)
			c.config = s.module("Caddyfile", fmt.Sprintf(`{
	admin off
	servers {
		protocols h1 h2c
	}
	gojinn {
		backend %s
	}
}
http://:%s {
	route {
		gojinn {
			module %s/next.wasm
		}
		gojinn {
			module %[3]s/count.wasm
			contract http-wasm
		}
		reverse_proxy %[4]s
	}
}
`, backend, port, s.dir, up))
			t.Cleanup(c.kill)
			c.start()
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(longestWait))
			if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
				t.Fatal(err)
			}
			framer := http2.NewFramer(conn, conn)
			framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			if err := framer.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			if settings := nextFrame[*http2.SettingsFrame](t, framer); !settings.IsAck() {
				if on, _ := settings.Value(http2.SettingEnableConnectProtocol); on != 1 {
					t.Fatal("the server does not speak RFC 8441")
				}
			}
			var block bytes.Buffer
			encoder := hpack.NewEncoder(&block)
			for _, field := range [][2]string{
				{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/chat"}, {":authority", "a.example"},
				{"sec-websocket-version", "13"}, {"x-user", "mallory"},
			} {
				if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
					t.Fatal(err)
				}
			}
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
			head := nextFrame[*http2.MetaHeadersFrame](t, framer)
			fields := map[string]string{}
			for _, field := range head.Fields {
				fields[field.Name] = field.Value
			}
			if fields[":status"] != "200" || fields["x-f"] != "1" || fields["x-count"] != "1" {
				t.Fatalf("got %v", fields)
			}
			if err := framer.WriteData(1, false, []byte("hello\n")); err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for got.Len() < len("echo hello\n") {
				got.Write(nextFrame[*http2.DataFrame](t, framer).Data())
			}
			if got.String() != "echo hello\n" {
				t.Errorf("got %q", got.String())
			}
		})
	}
}

// nextFrame reads frames until one of a type.
func nextFrame[F http2.Frame](t *testing.T, framer *http2.Framer) F {
	t.Helper()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if wanted, ok := frame.(F); ok {
			return wanted
		}
		if reset, ok := frame.(*http2.RSTStreamFrame); ok {
			t.Fatalf("the stream was reset: %s", reset.ErrCode)
		}
	}
}
