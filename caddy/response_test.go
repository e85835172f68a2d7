// Tests of responses.

package gojinn

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

func TestResponseHeaders(t *testing.T) {
	s := newServer(t)
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply {
		return enginetest.OK("body",
			[2]string{"x-set-before", "guest"},
			[2]string{"Set-Cookie", "b=2"}, [2]string{"Set-Cookie", "c=3"},
			[2]string{"vary", "Accept"}, [2]string{"Link", "</b>"},
			[2]string{"X-Two", "1"}, [2]string{"X-Other", "o"}, [2]string{"x-two", "2"},
			[2]string{"X-Latin", "\xe9"},
		)
	}
	s.mustLoad(strings.Replace(s.simple(), "route {", `route {
		header X-Set-Before caddy
		header X-Kept caddy
		header Set-Cookie a=1
		header Vary Origin
		header Link </a>`, 1))
	h := s.get("/").Header
	for name, want := range map[string]string{
		"X-Set-Before": "[guest]",
		"X-Kept":       "[caddy]",
		"Set-Cookie":   "[a=1 b=2 c=3]",
		"Vary":         "[Origin Accept]",
		"Link":         "[</a> </b>]",
		"X-Two":        "[1 2]",
		"X-Other":      "[o]",
		"X-Latin":      "[\xe9]",
	} {
		if got := fmt.Sprint(h[name]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestResponseBodies(t *testing.T) {
	s := newServer(t)
	var reply enginetest.Reply
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return reply }
	s.mustLoad(s.simple())
	with := func(status int, body string, headers ...[2]string) enginetest.Reply {
		return enginetest.Reply{Answer: engine.Answer{Status: status}, Body: []byte(body), Headers: headers}
	}
	for _, c := range []struct {
		method             string
		reply              enginetest.Reply
		body, kind, length string
	}{
		{"GET", with(200, "<html><body>"), "<html><body>", "text/html; charset=utf-8", "12"},
		{"GET", with(200, "text"), "text", "text/plain; charset=utf-8", "4"},
		{"GET", with(404, "\x00\x01\x02"), "\x00\x01\x02", "application/octet-stream", "3"},
		{"GET", with(200, "{}", [2]string{"Content-Type", "application/json"}), "{}", "application/json", "2"},
		{"GET", with(200, ""), "", "", "0"},
		{"GET", with(204, "dropped"), "", "", ""},
		{"GET", with(304, "dropped"), "", "", ""},
		{"HEAD", with(200, "text"), "", "text/plain; charset=utf-8", "4"},
		{"HEAD", with(200, ""), "", "", ""},
		{"GET", with(599, "odd"), "odd", "text/plain; charset=utf-8", "3"},
	} {
		reply = c.reply
		res := s.do(s.request(c.method, "/", ""))
		if res.StatusCode != c.reply.Status || res.body != c.body || res.Header.Get("Content-Type") != c.kind ||
			res.Header.Get("Content-Length") != c.length {
			t.Errorf("%s of %d %q: got %d %v %q", c.method, c.reply.Status, c.reply.Body, res.StatusCode, res.Header, res.body)
		}
	}
}
