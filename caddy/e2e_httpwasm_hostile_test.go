//go:build cgo

// A table of hostile guests of http-wasm with the real engine: what each does, what the client gets, and that Caddy serves others.

package gojinn

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// httpHandlers are the host functions that httpWasmGuest imports, with their types, by the number that calls them.
var httpHandlers = []struct {
	name   string
	params int
	result string
}{
	{"enable_features", 1, "\x7f"}, {"get_config", 2, "\x7f"}, {"log", 3, ""}, {"get_method", 2, "\x7f"}, {"set_method", 2, ""},
	{"get_uri", 2, "\x7f"}, {"set_uri", 2, ""}, {"get_protocol_version", 2, "\x7f"}, {"get_header_names", 3, "\x7e"},
	{"get_header_values", 5, "\x7e"}, {"set_header_value", 5, ""}, {"add_header_value", 5, ""}, {"remove_header", 3, ""},
	{"read_body", 3, "\x7e"}, {"write_body", 3, ""}, {"set_status_code", 1, ""}, {"get_source_addr", 2, "\x7f"},
}

// host calls a host function, and drops its result.
func host(name string, args ...int32) string {
	for i, f := range httpHandlers {
		if f.name != name {
			continue
		}
		code := ""
		for _, arg := range args {
			code += i32(arg)
		}
		if code += "\x10" + uleb(uint32(i)); f.result != "" {
			code += drop
		}
		return code
	}
	panic("no host function " + name)
}

// httpWasmGuest is a guest whose handle_request runs request and lets the request go on, and whose handle_response runs response.
// data is the beginning of its memory, which has one page.
func httpWasmGuest(data, request, response string) string {
	types := []string{"\x60\x00\x01\x7e", "\x60\x02\x7f\x7f\x00"}
	var imports []string
	for i, f := range httpHandlers {
		kind := "\x60" + uleb(uint32(f.params)) + strings.Repeat("\x7f", f.params) + uleb(uint32(len(f.result))) + f.result
		types = append(types, kind)
		imports = append(imports, sized("http_handler")+sized(f.name)+"\x00"+uleb(uint32(i+2)))
	}
	first := uint32(len(imports))
	const goesOn = "\x42\x01" // i64.const 1
	return "\x00asm\x01\x00\x00\x00" +
		section(1, listOf(types...)) + section(2, listOf(imports...)) + section(3, listOf("\x00", "\x01")) +
		section(5, listOf("\x00\x01")) +
		section(7, listOf(sized("memory")+"\x02\x00", sized("handle_request")+"\x00"+uleb(first), sized("handle_response")+"\x00"+uleb(first+1))) +
		section(10, listOf(sized("\x00"+request+goesOn+"\x0b"), sized("\x00"+response+"\x0b"))) +
		section(11, listOf("\x00"+i32(0)+"\x0b"+sized(data)))
}

// Where the texts of the guests are.
const hostileTexts = "a bX-A/a ?#\r\nGET POST"

func TestHostileHTTPWasm(t *testing.T) {
	const outside, tooLong, huge = -1, 65_530, -1
	buffered := host("enable_features", 2)
	type hostile struct {
		name, request, response string
		status                  int
		// body is that of the client's answer, if it is not an error's.
		body string
	}
	cases := []hostile{
		{"goes on", "", "", 299, "next"},
		{"an empty text outside", host("log", 0, outside, 0), "", 299, "next"},
		// As any other, this beginning of the response has the status 200, whatever the next handler says.
		{"an empty beginning of the response", host("write_body", 1, outside, 0), "", 200, "next"},
		{"results that do not fit", host("get_uri", outside, 1) + host("get_header_names", 0, outside, 3), "", 299, "next"},
		{"features that do not exist", host("enable_features", -1) + host("enable_features", 1<<20), "", 299, "next"},
		{"log of no level", host("log", -2000, 0, 4) + host("log", 2000, outside, 4), "", 299, "next"},

		{"kind of header", host("get_header_names", 9, 0, 100), "", 502, ""},
		{"kind of body", host("write_body", -1, 0, 1), "", 502, ""},
		{"status", host("set_status_code", 42), "", 502, ""},
		{"header name", host("set_header_value", 0, 0, 3, 0, 1), "", 502, ""},
		{"header value", host("set_header_value", 0, 3, 3, 10, 2), "", 502, ""},
		{"response header value", host("add_header_value", 1, 3, 3, 10, 2), "", 502, ""},
		{"header name to remove", host("remove_header", 1, 0, 3), "", 502, ""},
		{"empty header name", host("set_header_value", 0, 0, 0, 0, 1), "", 502, ""},
		{"method", host("set_method", 12, 4), "", 502, ""},
		{"uri with a space", host("set_uri", 6, 3), "", 502, ""},
		{"uri without a slash", host("set_uri", 0, 1), "", 502, ""},
		{"uri with a line", host("set_uri", 6, 6), "", 502, ""},
		{"many headers", loopOf(host("add_header_value", 0, 3, 3, 0, 1)), "", 502, ""},
		{"many response headers", loopOf(host("add_header_value", 1, 3, 3, 0, 1)), "", 502, ""},
		{"body beyond max_output", loopOf(host("write_body", 1, 0, 65_536)), "", 502, ""},
		{"request body beyond max_body", loopOf(host("write_body", 0, 0, 65_536)), "", 502, ""},

		{"trap", unreachable, "", 502, ""},
		{"deadline", loop, "", 504, ""},
		{"trap behind the response", "", unreachable, 299, "next"},
		{"deadline behind the response", "", loop, 299, "next"},
		{"trap behind a buffered response", buffered, unreachable, 502, ""},
		{"deadline behind a buffered response", buffered, loop, 504, ""},
		{"change of the request behind it", "", host("set_uri", 6, 2), 299, "next"},
		{"change of a request behind a buffered response", buffered, host("set_method", 12, 3), 502, ""},
		{"change of a response that was sent", "", host("set_status_code", 200), 299, "next"},
		{"body of a response that was sent", "", host("write_body", 1, 0, 3), 299, "next"},
		{"body beyond max_output behind it", buffered, loopOf(host("write_body", 1, 0, 65_536)), 502, ""},
		{"body behind a buffered response", buffered, host("write_body", 1, 0, 3), 299, "a b"},
	}
	// Each function that takes a pointer, outside of memory at either end, and with a length beyond all of it.
	for name, calls := range map[string][2]string{
		"log":               {host("log", 0, outside, 4), host("log", 0, 0, huge)},
		"set_method":        {host("set_method", tooLong, 100), host("set_method", 0, huge)},
		"set_uri":           {host("set_uri", outside, 4), host("set_uri", 5, huge)},
		"remove_header":     {host("remove_header", 0, outside, 4), host("remove_header", 0, 3, huge)},
		"write_body":        {host("write_body", 1, tooLong, 100), host("write_body", 1, 0, huge)},
		"read_body":         {host("read_body", 0, tooLong, 100), host("read_body", 0, 0, huge)},
		"set_header_value":  {host("set_header_value", 0, outside, 3, 0, 1), host("set_header_value", 0, 3, 3, 0, huge)},
		"add_header_value":  {host("add_header_value", 0, 3, huge, 0, 1), host("add_header_value", 0, 3, 3, tooLong, 100)},
		"get_header_values": {host("get_header_values", 0, outside, 3, 0, 100), host("get_header_values", 0, 3, 3, outside, 100)},
		"get_header_names":  {host("get_header_names", 0, outside, 1000), host("get_header_names", 0, 65_535, huge)},
		"get_uri":           {host("get_uri", outside, 100), host("get_uri", 65_535, huge)},
		"get_method":        {host("get_method", outside, 100), host("get_method", 65_535, huge)},
		"get_config":        {host("get_config", outside, 100), host("get_config", 65_535, huge)},
		"get_source_addr":   {host("get_source_addr", outside, 100), host("get_source_addr", 65_535, huge)},
		"protocol":          {host("get_protocol_version", outside, 100), host("get_protocol_version", 65_535, huge)},
	} {
		for i, call := range calls {
			cases = append(cases, hostile{fmt.Sprint(name, " ", i), call, "", 502, ""})
			cases = append(cases, hostile{fmt.Sprint(name, " ", i, " behind a buffered response"), buffered, call, 502, ""})
		}
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.module("well.wasm", answering(`{"status":222}`, "").String())
			site := fmt.Sprintf("{\n admin ADMIN\n log {\n output file DIR/caddy.log\n level DEBUG\n }\n gojinn {\n backend %s\n }\n}\nADDR {\n handle /well {\n gojinn {\n module DIR/well.wasm\n }\n }\n", backend)
			for i, c := range cases {
				s.module(fmt.Sprintf("case%d.wasm", i), httpWasmGuest(hostileTexts, c.request, c.response))
				timeout := "30s"
				if c.request == loop || c.response == loop {
					timeout = "100ms"
				}
				site += fmt.Sprintf(" handle /%d {\n route {\n gojinn {\n module DIR/case%[1]d.wasm\n contract http-wasm\n guest_config some\n timeout %s\n max_body 1MB\n max_output 1MB\n }\n respond next 299\n }\n }\n", i, timeout)
			}
			s.mustLoad(site + "}\n")
			for i, c := range cases {
				res := s.do(s.request("POST", fmt.Sprintf("/%d", i), "a body", "X-A", "1"))
				if res.StatusCode != c.status || res.body != c.body {
					t.Errorf("%s: got %d %q, want %d %q", c.name, res.StatusCode, res.body, c.status, c.body)
				}
				if well := s.get("/well"); well.StatusCode != 222 {
					t.Errorf("after %s, another function answers %d", c.name, well.StatusCode)
				}
			}
			for _, f := range runningFunctions() {
				if n := f.active.Load(); n != 0 {
					t.Errorf("%d calls of %s have not ended", n, f.info.Name)
				}
			}
		})
	}
}

// loopOf repeats code without an end.
func loopOf(code string) string { return "\x03\x40" + code + "\x0c\x00\x0b" }

// What the bodies of client and next handler do to a guest that buffers them, and a client that goes away while the next handler
// works.
func TestHTTPWasmBodiesAndClients(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			arrived, gone := make(chan bool, 1), make(chan bool, 1)
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				switch r.URL.Path {
				case "/slow":
					arrived <- true
					<-r.Context().Done()
					gone <- true
				case "/large":
					io.WriteString(w, strings.Repeat("x", 1_000_001))
				default:
					io.WriteString(w, "small")
				}
			}))
			t.Cleanup(up.Close)
			module := s.module("buffers.wasm", httpWasmGuest(hostileTexts, host("enable_features", 3)+host("read_body", 0, 0, 100), host("read_body", 1, 0, 100)))
			s.mustLoad(httpWasmSite(backend, module, "name buffers\n max_body 1MB\n max_output 1MB", "reverse_proxy "+up.Listener.Addr().String()))
			for _, c := range []struct {
				uri    string
				length int
				status int
			}{{"/", 10, 200}, {"/", 1_000_000, 200}, {"/", 1_000_001, 413}, {"/large", 10, 502}, {"/", 10, 200}} {
				if res := s.do(s.request("POST", c.uri, strings.Repeat("b", c.length))); res.StatusCode != c.status || c.status == 200 && res.body != "small" {
					t.Errorf("%s with %d bytes: got %d %.20q", c.uri, c.length, res.StatusCode, res.body)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				res, err := s.httpClient.Do(s.request("GET", "/slow", "").WithContext(ctx))
				if err == nil {
					res.Body.Close()
				}
				done <- err
			}()
			await(t, "the request at the upstream", arrived)
			cancel()
			if err := await(t, "the client", done); err == nil {
				t.Error("the client that went away got an answer")
			}
			await(t, "the upstream to see that the client has gone", gone)
			eventually(t, "all calls to end", func() bool {
				for _, f := range runningFunctions() {
					if f.active.Load() != 0 {
						return false
					}
				}
				return true
			})
			if res := s.get("/"); res.StatusCode != 200 {
				t.Errorf("afterwards: got %d", res.StatusCode)
			}
		})
	}
}
