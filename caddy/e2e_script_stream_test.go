//go:build cgo

// Tests of scripts whose responses are streams, with the real engine.

package gojinn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// streamed is a response that is read while it comes.
type streamed struct {
	*http.Response
	lines *bufio.Reader
}

func (s *server) stream(uri string) *streamed {
	s.t.Helper()
	res, err := newClient().Do(s.request("GET", uri, ""))
	if err != nil {
		s.t.Fatalf("%s: %v", uri, err)
	}
	s.t.Cleanup(func() { res.Body.Close() })
	return &streamed{res, bufio.NewReader(res.Body)}
}

// until reads lines up to an empty one, or up to the end.
func (r *streamed) until(t *testing.T) (lines []string, err error) {
	t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, line)
		}
		if err != nil || line == "" {
			return lines, err
		}
	}
}

// The events of the example clock arrive one after the other while it goes on, and it ends with its client.
func TestScriptClock(t *testing.T) {
	onEachBackend(t, func(t *testing.T, s *server, backend string) {
		installExamples(t, s.dir)
		s.mustLoad(s.scripts(backend, "name clock-"+backend, "clock.ts"))
		active := activeSandboxes.WithLabelValues("clock-"+backend, backend)
		res := s.stream("/clock?every=20")
		if got := res.Header.Get("Content-Type"); got != "text/event-stream" || res.StatusCode != 200 || res.ContentLength != -1 {
			t.Errorf("%d %s, length %d", res.StatusCode, got, res.ContentLength)
		}
		last := ""
		for id := 1; id <= 5; id++ {
			event, err := res.until(t)
			if err != nil || len(event) != 2 || event[0] != fmt.Sprint("id: ", id) || event[1] <= last {
				t.Fatalf("event %d: %q, %v", id, event, err)
			}
			last = event[1]
		}
		if n := testutil.ToFloat64(active); n != 1 {
			t.Errorf("%v sandboxes while the clock runs", n)
		}
		res.Body.Close()
		eventually(t, "the clock's end", func() bool { return testutil.ToFloat64(active) == 0 })
		if res := s.get("/clock?every=1"); res.StatusCode != 400 {
			t.Errorf("got %d %s", res.StatusCode, res.body)
		}
	})
}

// What a script writes leaves at once: before it waits for an answer, before a timer, and before it computes. What happens to it
// afterwards cuts the connection.
func TestScriptsStream(t *testing.T) {
	onEachBackend(t, func(t *testing.T, s *server, backend string) {
		let := make(chan struct{})
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-let:
				_, _ = io.WriteString(w, "fetched")
			case <-r.Context().Done():
			}
		}))
		defer upstream.Close()
		host, _, _ := net.SplitHostPort(upstream.Listener.Addr().String())
		s.module("stream.ts", `
const encode = (text: string) => new TextEncoder().encode(text);
const sleep = (time: number) => new Promise((done) => setTimeout(done, time));
type Controller = ReadableStreamDefaultController<unknown>;
const bodies: Record<string, (c: Controller) => Promise<void> | void> = {
	async fetch(c) {
		for (let i = 0; i < 3; i++) {
			c.enqueue(encode("part " + i + "\n\n"));
			c.enqueue(encode(await (await fetch("`+upstream.URL+`/")).text() + "\n\n"));
		}
		c.close();
	},
	async timer(c) {
		for (let i = 0; i < 3; i++) {
			c.enqueue(encode(i + "\n\n"));
			await sleep(5);
		}
		c.close();
	},
	async compute(c) {
		c.enqueue(encode("one\n\n"));
		await null;
		await sleep(0);
		let n = 0;
		while (n >= 0) {
			n = (n + 1) % 1000;
		}
	},
	async throws(c) {
		c.enqueue(encode("one\n\n"));
		await sleep(1);
		throw new RangeError("in the middle");
	},
	async text(c) {
		c.enqueue(encode("one\n\n"));
		c.enqueue("two");
	},
	async never(c) {
		c.enqueue(encode("one\n\n"));
		await new Promise(() => {});
	},
	early() {
		throw new Error("at once");
	},
	bytes(c) {
		const all = new Uint8Array(256).map((_, i) => i);
		for (let i = 0; i < 1000; i++) c.enqueue(all);
		c.close();
	},
	empty(c) { c.close(); },
	newline(c) { c.enqueue(encode("\n{}")); c.close(); },
};
export default (request: Request) => {
	const body = new ReadableStream({ start(c) { const done = bodies[new URL(request.url).pathname.slice("/stream/".length)](c); done?.catch((e) => c.error(e)); } });
	return new Response(body, { status: 203, headers: { "X-Made-By": "a stream" } });
};`)
		s.module("pulls.js", `
let n = 0;
const chunk = new Uint8Array(64 << 10).fill(65);
export default (request, env, ctx) => new Response(new ReadableStream({
	pull(c) { if (n++ === 512) c.close(); else c.enqueue(chunk); },
}));`)
		s.mustLoad(strings.Replace(s.scripts(backend, fmt.Sprintf("timeout 2s\noutbound {\nallow %s\nallow_private %s/32\n}", upstream.URL, host),
			"stream.ts"), "route {", "route {\ngojinn /pulls DIR/pulls.js {\nname pulls-"+backend+"\ntimeout 1m\n}\n", 1))

		res := s.stream("/stream/fetch")
		if res.StatusCode != 203 || res.Header.Get("X-Made-By") != "a stream" {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		for i := range 3 {
			for _, want := range []string{fmt.Sprint("part ", i), "fetched"} {
				if got, err := res.until(t); err != nil || len(got) != 1 || got[0] != want {
					t.Fatalf("got %q, %v, want %s", got, err, want)
				}
				if want != "fetched" {
					let <- struct{}{}
				}
			}
		}
		if rest, err := res.until(t); err != io.EOF || rest != nil {
			t.Errorf("the end: %q, %v", rest, err)
		}
		if res := s.get("/stream/timer"); res.body != "0\n\n1\n\n2\n\n" {
			t.Errorf("timer: %q", res.body)
		}
		var every strings.Builder
		for range 1000 {
			for i := range 256 {
				every.WriteByte(byte(i))
			}
		}
		for path, want := range map[string]string{"bytes": every.String(), "empty": "", "newline": "\n{}"} {
			if res := s.get("/stream/" + path); res.StatusCode != 203 || res.body != want {
				t.Errorf("%s: %d, %d bytes", path, res.StatusCode, len(res.body))
			}
		}
		if res := s.do(s.request("HEAD", "/stream/bytes", "")); res.StatusCode != 203 || res.body != "" {
			t.Errorf("HEAD: %d %q", res.StatusCode, res.body)
		}
		for path, message := range map[string]string{
			"throws":  "RangeError: in the middle",
			"text":    "TypeError: a body's stream may have chunks of Uint8Array only; pipe text through a TextEncoderStream",
			"never":   "TypeError: the handler waits for something that never happens: no timer is left that could end the wait",
			"compute": stillRunning,
		} {
			res := s.stream("/stream/" + path)
			if got, err := res.until(t); err != nil || len(got) != 1 || got[0] != "one" || res.StatusCode != 203 {
				t.Errorf("%s: %d %q, %v", path, res.StatusCode, got, err)
			}
			if rest, err := res.until(t); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) || rest != nil {
				t.Errorf("%s: the connection was not cut: %q, %v", path, rest, err)
			}
			eventually(t, "the record "+message, func() bool { return len(s.logs("msg", message)) == 1 })
		}
		if at := fmt.Sprint(s.logs("msg", stillRunning)[0]["stack"]); !strings.Contains(at, "at compute (stream.ts:2") {
			t.Errorf("the loop is said to be %s", at)
		}
		if res := s.get("/stream/early"); res.StatusCode != 502 && res.StatusCode != 203 {
			t.Errorf("early: %d %q", res.StatusCode, res.body)
		}

		// A client that does not read stops the script, which goes on when it does.
		sending := waitingCalls.WithLabelValues("pulls-"+backend, backend, "client")
		res = s.stream("/pulls")
		blocked := 0
		eventually(t, "the script to wait for its client", func() bool {
			if testutil.ToFloat64(sending) != 1 {
				blocked = 0
			}
			blocked++
			return blocked > 50
		})
		if n, err := io.Copy(io.Discard, res.Body); n != 512*64<<10 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
