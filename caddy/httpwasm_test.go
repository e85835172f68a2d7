// Tests of the contract http-wasm over a fake engine: what the next handler gets, what the guest is told, and what the client gets.

package gojinn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// told is what a guest is told of the next handler's response.
type told struct {
	status            int
	headers, trailers []string
	body              string
	failed            bool
}

func readReply(t testing.TB, reply []byte, code int32) (got told) {
	t.Helper()
	number := func() int {
		n := binary.LittleEndian.Uint32(reply)
		reply = reply[4:]
		return int(n)
	}
	text := func() string {
		n := number()
		s := string(reply[:n])
		reply = reply[n:]
		return s
	}
	list := func() (list []string) {
		for range number() {
			list = append(list, text()+": "+text())
		}
		slices.Sort(list)
		return list
	}
	got.status, got.headers, got.trailers = number(), list(), list()
	got.body, got.failed = string(reply), code != 0
	return got
}

// passing makes the fake a guest of http-wasm, which lets each request go on as next says and then answers. hear gets what it is
// told.
func (s *server) passing(next engine.Next, body string, hear func(told), answer enginetest.Reply) {
	s.fake.Describe = func(*engine.FunctionConfig) string { return `{"reads_body":true,"suspends":true}` }
	if answer.Next == nil {
		answer.Next = &engine.Next{}
	}
	s.fake.Steps = func(_ *enginetest.Call, step int, code int32, reply []byte) (*engine.Event, enginetest.Reply) {
		if step == 0 {
			return engine.NewEventNext(&next, []byte(body)), enginetest.Reply{}
		}
		if hear != nil {
			hear(readReply(s.t, reply, code))
		}
		return nil, answer
	}
}

const httpWasmFunction = "gojinn {\n module DIR/hello.wasm\n contract http-wasm\n }"

func TestHTTPWasmChangesTheRequest(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	s.passing(engine.Next{
		Method: "PUT", URI: "/new%2F?q", ReplacesBody: true,
		Headers:         engine.HeaderChanges{Set: [][2]string{{"X-User", "alice"}, {"Host", "inner"}}, Delete: []string{"Cookie"}},
		ResponseHeaders: engine.HeaderChanges{Set: [][2]string{{"X-F", "1"}}},
	}, "another body", nil, enginetest.Reply{})
	s.mustLoad(nextSite("reverse_proxy "+up.Listener.Addr().String(), httpWasmFunction))
	res := s.do(s.request("POST", "/old", "a body", "Cookie", "a=1", "Connection", "X-User", "X-User", "mallory"))
	got := res.received(t)
	if got.Method != "PUT" || got.URI != "/new%2F?q" || got.Host != "inner" || got.Body != "another body" || got.Length != 12 ||
		got.Header.Get("X-User") != "alice" || got.Header.Get("Cookie") != "" || res.Header.Get("X-F") != "1" {
		t.Errorf("got %+v, %v", got, res.Header)
	}
}

// A guest sees all headers of the request and those that the response has, and its body only if it can read it.
func TestHTTPWasmHead(t *testing.T) {
	s := newServer(t)
	up := echoUpstream(t)
	var heads []*enginetest.Call
	for _, reads := range []bool{true, false} {
		s.passing(engine.Next{}, "", nil, enginetest.Reply{})
		s.fake.Describe = func(*engine.FunctionConfig) string { return fmt.Sprintf(`{"reads_body":%t}`, reads) }
		steps := s.fake.Steps
		s.fake.Steps = func(c *enginetest.Call, step int, code int32, reply []byte) (*engine.Event, enginetest.Reply) {
			if step == 0 {
				heads = append(heads, c)
			}
			return steps(c, step, code, reply)
		}
		function := fmt.Sprintf("gojinn {\n module DIR/hello.wasm\n contract http-wasm\n name reads-%t\n }", reads)
		s.mustLoad(nextSite("header X-Early 1", "reverse_proxy "+up.Listener.Addr().String(), function))
		got := s.do(s.request("POST", "/a?b", "a body", "X-A", "1", "X-A", "2")).received(t)
		if got.Body != "a body" || got.Length != 6 {
			t.Errorf("the upstream got %+v", got)
		}
		c := heads[len(heads)-1]
		if want := map[bool]string{true: "a body"}[reads]; string(c.Body) != want {
			t.Errorf("the guest got the body %q, want %q", c.Body, want)
		}
		if c.Head.Method != "POST" || c.Head.URI != "/a?b" || c.Head.Host != s.addr || c.Head.Proto != "HTTP/1.1" || !strings.HasPrefix(c.Head.RemoteAddr, "127.0.0.1:") {
			t.Errorf("got the head %+v", c.Head)
		}
		if c.Header(":response:X-Early") != "1" || c.Header("X-A") != "1" || c.Header("X-Forwarded-For") != "" || c.Header("Content-Length") != "6" {
			t.Errorf("got the headers %v", c.Head.Headers)
		}
	}
}

// A buffered response is given to the guest and held back until it has changed it; another one is sent as it comes.
func TestHTTPWasmResponses(t *testing.T) {
	s := newServer(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Up", "1")
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(203)
		io.WriteString(w, "response")
		w.Header().Set("X-Sum", "9")
	}))
	t.Cleanup(up.Close)
	changed := &engine.Next{
		ResponseHeaders: engine.HeaderChanges{Set: [][2]string{{"X-G", "1"}}, Delete: []string{"X-Up"}},
		Trailers:        engine.HeaderChanges{Set: [][2]string{{"X-Added", "t"}}},
	}
	rewritten := *changed
	rewritten.ReplacesBody, rewritten.Trailers = true, engine.HeaderChanges{}
	for name, c := range map[string]struct {
		buffers bool
		answer  enginetest.Reply
		status  int
		body    string
		up, g   string
		trailer string
	}{
		"as it comes": {false, enginetest.Reply{Answer: engine.Answer{Status: 203}}, 203, "response", "1", "", "9 "},
		"buffered":    {true, enginetest.Reply{Answer: engine.Answer{Status: 203}}, 203, "response", "1", "", "9 "},
		"headers":     {true, enginetest.Reply{Answer: engine.Answer{Status: 203}, Next: changed}, 203, "response", "", "1", "9 t"},
		"rewritten":   {true, enginetest.Reply{Answer: engine.Answer{Status: 404}, Next: &rewritten, Body: []byte("short")}, 404, "short", "", "1", " "},
	} {
		var heard []told
		s.passing(engine.Next{BuffersResponse: c.buffers}, "", func(t told) { heard = append(heard, t) }, c.answer)
		s.mustLoad(nextSite("reverse_proxy "+up.Listener.Addr().String(), httpWasmFunction))
		res := s.get("/")
		trailers := res.Trailer.Get("X-Sum") + " " + res.Trailer.Get("X-Added")
		if res.StatusCode != c.status || res.body != c.body || res.Header.Get("X-Up") != c.up || res.Header.Get("X-G") != c.g || trailers != c.trailer && c.body != "short" {
			t.Errorf("%s: got %d %v %q, trailers %q", name, res.StatusCode, res.Header, res.body, trailers)
		}
		if c.body == "short" && res.ContentLength != 5 {
			t.Errorf("%s: length %d", name, res.ContentLength)
		}
		body := map[bool]string{true: "response"}[c.buffers]
		if len(heard) != 1 || heard[0].status != 203 || heard[0].body != body || !slices.Contains(heard[0].headers, "X-Up: 1") ||
			!slices.Equal(heard[0].trailers, []string{"X-Sum: 9"}) || heard[0].failed {
			t.Errorf("%s: the guest was told %+v", name, heard)
		}
	}
}

// What a guest writes before the next handler runs is the beginning of the response.
func TestHTTPWasmWritesBeforeTheNextHandler(t *testing.T) {
	s := newServer(t)
	for _, buffers := range []bool{false, true} {
		var heard []told
		s.passing(engine.Next{BuffersResponse: buffers, EarlyStatus: 202, EarlyBody: "early, "}, "", func(t told) { heard = append(heard, t) },
			enginetest.Reply{Answer: engine.Answer{Status: 203}})
		s.mustLoad(nextSite("route {\n "+httpWasmFunction, "respond late 203\n }"))
		want := map[bool]int{false: 202, true: 203}[buffers]
		if res := s.get("/"); res.StatusCode != want || res.body != "early, late" {
			t.Errorf("buffers %t: got %d %q", buffers, res.StatusCode, res.body)
		}
		if len(heard) != 1 || heard[0].status != want {
			t.Errorf("buffers %t: the guest was told %+v", buffers, heard)
		}
	}
}

// A guest that answers replaces what earlier handlers have set exactly as it says.
func TestHTTPWasmAnswers(t *testing.T) {
	s := newServer(t)
	s.fake.Steps = func(*enginetest.Call, int, int32, []byte) (*engine.Event, enginetest.Reply) {
		return nil, enginetest.Reply{Answer: engine.Answer{Status: 401}, Body: []byte("go away"), Next: &engine.Next{
			ReplacesBody: true, ResponseHeaders: engine.HeaderChanges{Set: [][2]string{{"Vary", "A"}, {"Www-Authenticate", "Basic"}}, Delete: []string{"X-Early"}},
		}}
	}
	s.mustLoad(nextSite("header X-Early 1", "header Vary Origin", "route {\n "+httpWasmFunction, "respond next\n }"))
	res := s.get("/")
	if res.StatusCode != 401 || res.body != "go away" || res.ContentLength != 7 || fmt.Sprint(res.Header["Vary"]) != "[A]" ||
		res.Header.Get("X-Early") != "" || res.Header.Get("Www-Authenticate") != "Basic" {
		t.Errorf("got %d %v %q", res.StatusCode, res.Header, res.body)
	}
	if res := s.do(s.request("HEAD", "/", "")); res.StatusCode != 401 || res.ContentLength != 7 {
		t.Errorf("HEAD: got %d, length %d", res.StatusCode, res.ContentLength)
	}
}

// An error of the next handler is told to the guest, and is Caddy's to answer unless the guest answers in its place.
func TestHTTPWasmErrorsOfTheNextHandler(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]struct {
		buffers bool
		answer  enginetest.Reply
		want    string
	}{
		"as it comes": {false, enginetest.Reply{}, "418 an error page"},
		"buffered":    {true, enginetest.Reply{}, "418 an error page"},
		"answered":    {true, enginetest.Reply{Answer: engine.Answer{Status: 503}, Body: []byte("later"), Next: &engine.Next{ReplacesBody: true}}, "503 later"},
		"trap":        {true, enginetest.Refused(engine.OutcomeTrap, 502, "unreachable"), "502 an error page"},
	} {
		var heard []told
		s.passing(engine.Next{BuffersResponse: c.buffers}, "", func(t told) { heard = append(heard, t) }, c.answer)
		s.mustLoad(nextSite("route {\n "+httpWasmFunction, "error \"no\" 418\n }\n handle_errors {\n respond \"an error page\"\n }"))
		if res := s.get("/"); fmt.Sprintf("%d %s", res.StatusCode, res.body) != c.want {
			t.Errorf("%s: got %d %s, want %s", name, res.StatusCode, res.body, c.want)
		}
		if len(heard) != 1 || heard[0].status != 418 || !heard[0].failed {
			t.Errorf("%s: the guest was told %+v", name, heard)
		}
	}
	if permits := s.fake.Permits.Load(); permits != 0 {
		t.Errorf("%d permits are held", permits)
	}
}

// A guest that fails after the client has got the response does not add an error page to it.
func TestHTTPWasmFailsAfterTheResponse(t *testing.T) {
	s := newServer(t)
	s.passing(engine.Next{}, "", nil, enginetest.Refused(engine.OutcomeTrap, 502, "unreachable"))
	s.mustLoad(nextSite("route {\n "+httpWasmFunction, "respond whole\n }\n handle_errors {\n respond \"an error page\"\n }"))
	if res := s.get("/"); res.StatusCode != 200 || res.body != "whole" {
		t.Errorf("got %d %q", res.StatusCode, res.body)
	}
	if len(s.logs("reason", "unreachable")) != 1 {
		t.Error("the reason is not in the log")
	}
}

// A response that is larger than the guest may be given is an error, with and without the guest's answer.
func TestHTTPWasmBuffersAreBounded(t *testing.T) {
	s := newServer(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("x", 1001))
	}))
	t.Cleanup(up.Close)
	s.passing(engine.Next{BuffersResponse: true}, "", nil, enginetest.Reply{})
	for _, next := range []string{"reverse_proxy " + up.Listener.Addr().String(), "respond " + strings.Repeat("x", 1001)} {
		s.mustLoad(nextSite("route {\n gojinn {\n module DIR/hello.wasm\n contract http-wasm\n max_output 1000\n }", next+"\n }"))
		if res := s.get("/"); res.StatusCode != 502 || len(res.body) > 0 {
			t.Errorf("%.20s: got %d, %d bytes", next, res.StatusCode, len(res.body))
		}
	}
}

// A WebSocket passes through, whether or not the guest asks for the response.
func TestHTTPWasmPassesUpgradesOn(t *testing.T) {
	s := newServer(t)
	up := echoSocket(t, func(*http.Request) {})
	for _, buffers := range []bool{false, true} {
		heard := make(chan told, 1)
		s.passing(engine.Next{BuffersResponse: buffers}, "", func(t told) { heard <- t }, enginetest.Reply{})
		s.mustLoad(nextSite(httpWasmFunction, "reverse_proxy "+up))
		s.upgrade("Upgrade")
		if got := await(t, "the guest to be told", heard); got.status != 101 {
			t.Errorf("buffers %t: the guest was told %+v", buffers, got)
		}
	}
}

// While the next handler works, the guest has a permit and no turn, and is counted.
func TestHTTPWasmHoldsNoTurn(t *testing.T) {
	s := newServer(t)
	arrived, release := make(chan bool), make(chan bool)
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- true
		<-release
	}))
	t.Cleanup(up.Close)
	s.passing(engine.Next{}, "", nil, enginetest.Reply{})
	s.mustLoad(nextSite("gojinn {\n module DIR/hello.wasm\n name over\n contract http-wasm\n }", "reverse_proxy "+up.Listener.Addr().String()))
	const many = 20
	done := make(chan error, many)
	for range many {
		go func() {
			res, err := s.httpClient.Get("http://" + s.addr)
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
		await(t, "a request at the upstream", arrived)
	}
	if permits := s.fake.Permits.Load(); permits != many {
		t.Errorf("%d permits are held, want %d", permits, many)
	}
	if metrics := s.admin("/metrics").body; !strings.Contains(metrics, fmt.Sprintf("gojinn_waiting_calls{backend=\"wasmtime\",function=\"over\",reason=\"next\"} %d\n", many)) {
		t.Error("the gauge does not count them")
	}
	close(release)
	for range many {
		if err := await(t, "an answer", done); err != nil {
			t.Error(err)
		}
	}
	if permits := s.fake.Permits.Load(); permits != 0 {
		t.Errorf("%d permits are held", permits)
	}
}

// A client that goes away, and a handler that aborts, end the call.
func TestHTTPWasmEndsWithItsClient(t *testing.T) {
	s := newServer(t)
	arrived, gone := make(chan bool), make(chan bool, 1)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		gone <- true
	}))
	t.Cleanup(up.Close)
	s.passing(engine.Next{BuffersResponse: true}, "", nil, enginetest.Reply{})
	s.mustLoad(nextSite(httpWasmFunction, "reverse_proxy "+up.Listener.Addr().String()))
	conn := s.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	await(t, "the request at the upstream", arrived)
	conn.Close()
	await(t, "the end of the request at the upstream", gone)
	eventually(t, "the permit to be free", func() bool { return s.fake.Permits.Load() == 0 })

	s.mustLoad(nextSite("route {\n "+httpWasmFunction, "abort\n }"))
	if _, err := s.httpClient.Get("http://" + s.addr); err == nil {
		t.Error("the connection was not aborted")
	}
	eventually(t, "the permit to be free", func() bool { return s.fake.Permits.Load() == 0 })
	if s.fake.Dropped.Load() != 1 {
		t.Errorf("%d calls were dropped", s.fake.Dropped.Load())
	}
}

func TestGuestConfig(t *testing.T) {
	s := newServer(t)
	t.Setenv("GREETING", "hello")
	var config *engine.FunctionConfig
	s.fake.Deploy = func(_ []byte, c *engine.FunctionConfig) error { config = c; return nil }
	file := s.module("guest.conf", "{env.GREETING} as it is\x00\xff")
	for line, want := range map[string]string{
		"guest_config `{\"a\": \"{env.GREETING}\", \"b\": {}}`":   `{"a": "hello", "b": {}}`,
		"guest_config <<END\n\ttext {env.GREETING}\n\tend\n\tEND": "text hello\nend",
		"guest_config file " + file:                               "{env.GREETING} as it is\x00\xff",
		"":                                                        "",
	} {
		s.mustLoad(nextSite("gojinn {\n\tmodule DIR/hello.wasm\n\tcontract http-wasm\n\t" + line + "\n\t}"))
		if string(config.Data) != want || config.Contract != "http-wasm" {
			t.Errorf("%s: got %q, contract %s", line, config.Data, config.Contract)
		}
	}
	large := filepath.Join(s.dir, "large")
	if err := os.WriteFile(large, make([]byte, maxGuestConfig+1), 0o644); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[string]string{
		"contract http-wasm\n\tguest_config {http.request.uri}":       "depends on the request",
		"contract http-wasm\n\tguest_config file DIR/absent":          "no such file",
		"contract http-wasm\n\tguest_config file " + large:            "larger than",
		"contract http-wasm\n\tguest_config":                          "takes one text",
		"contract http-wasm\n\tguest_config a b":                      "takes one text",
		"guest_config text":                                           "contract http-wasm",
		"contract http-wasm\n\tguest_config a\n\tguest_config b":      "guest_config",
		"contract http-wasm\n\tguest_config a\n\tguest_config file b": "guest_config",
	} {
		err := s.load(nextSite("gojinn {\n\tmodule DIR/hello.wasm\n\t" + lines + "\n\t}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", lines, err, want)
		}
	}
	if (&Handler{Contract: contractHTTPWasm, GuestConfig: "a", GuestConfigFile: "b"}).checkGuestConfig() == nil {
		t.Error("a text and a file are accepted together")
	}
}

// The writer of a held response keeps everything, and sends nothing but an upgrade.
func TestHeldWriter(t *testing.T) {
	recorder := httptest.NewRecorder()
	w := &heldWriter{inner: recorder, max: 4}
	w.WriteHeader(http.StatusEarlyHints)
	if err := http.NewResponseController(w).Flush(); err != nil {
		t.Error(err)
	}
	w.WriteHeader(http.StatusTeapot)
	if _, err := io.WriteString(w, "1234"); err != nil || w.status != 200 || w.body.String() != "1234" {
		t.Errorf("got %d %q, %v", w.status, w.body.String(), err)
	}
	if _, err := io.WriteString(w, "5"); !errors.Is(err, errHeld) || w.refused != errHeld {
		t.Errorf("got %v", err)
	}
	if recorder.Body.Len() > 0 || recorder.Flushed {
		t.Error("something was sent")
	}
}

// A held response takes its memory of that of all calls, is refused where there is none, and gives it back.
func TestHeldResponsesCountInTheMemoryOfAllCalls(t *testing.T) {
	m := newTestMemory(t, 4<<20)
	page := strings.Repeat("x", 1<<16)
	for _, pages := range []int{1, 2, 20} {
		p := passage{memory: m}
		p.held = &heldWriter{inner: httptest.NewRecorder(), max: 10 << 20, room: holding{memory: m}}
		err := p.held.serve(caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			for range pages {
				if _, err := io.WriteString(w, page); err != nil {
					return err
				}
			}
			return nil
		}), httptest.NewRequest("GET", "/", nil))
		if err != nil || p.held.body.Len() != pages<<16 {
			t.Fatalf("%d pages: %d bytes, %v", pages, p.held.body.Len(), err)
		}
		if taken := m.taken(); pages > 1 && taken < int64(pages)<<16 {
			t.Errorf("%d pages: only %d bytes are counted", pages, taken)
		}
		p.free()
		if taken := m.taken(); taken != 0 {
			t.Errorf("%d pages: %d bytes are still taken", pages, taken)
		}
	}
	p := passage{memory: m}
	p.held = &heldWriter{inner: httptest.NewRecorder(), max: 10 << 20, room: holding{memory: m}}
	err := p.held.serve(caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		for {
			if _, err := io.WriteString(w, page); err != nil {
				panic(http.ErrAbortHandler) // as reverse_proxy does
			}
		}
	}), httptest.NewRequest("GET", "/", nil))
	var failed caddyhttp.HandlerError
	if !errors.As(err, &failed) || failed.StatusCode != 503 || !errors.Is(err, errHeldMemory) {
		t.Errorf("got %v", err)
	}
	if taken := m.taken(); taken != 0 {
		t.Errorf("%d bytes are still taken", taken)
	}
}
