package gojinn

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func never() bool { return false }

// exchange gives everything to the handler on stdin, and returns what it wrote to stdout.
func exchange(t *testing.T, stdin string, handler func(*Request) *Response) (string, error) {
	t.Helper()
	var stdout bytes.Buffer
	// One byte at a time: no request may depend on how the host cuts them.
	err := serve(iotest.OneByteReader(strings.NewReader(stdin)), &stdout, never, handler)
	return stdout.String(), err
}

func TestRequestsAreReadOneAfterTheOther(t *testing.T) {
	stdin := `{"method":"POST","uri":"/caf%C3%A9?a=1&a=2&b=%zz","headers":{"Host":["example.org"],"X-A":["1","2"]},"body":"é<",` +
		`"trace_id":"abc","remote_addr":"192.0.2.1:4711","client_ip":"192.0.2.2","scheme":"https","host":"example.org",` +
		`"proto":"HTTP/2.0","original_uri":"/old"}` + "\n" +
		` { "method":"GET","uri":"/b","body":"","body_base64":"AP8=", "unknown":[{}]}{}` +
		`{"method":"GET","uri":"/c","headers":{"Host":["example.org:8080"]},"body":"","trace_id":"abc"}`
	var got []*Request
	stdout, err := exchange(t, stdin, func(r *Request) *Response {
		got = append(got, r)
		return Text(200, r.URI)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []*Request{
		{
			Method: "POST", URI: "/caf%C3%A9?a=1&a=2&b=%zz", Header: Header{"Host": {"example.org"}, "X-A": {"1", "2"}}, Body: []byte("é<"),
			TraceID: "abc", RemoteAddr: "192.0.2.1:4711", ClientIP: "192.0.2.2", Scheme: "https", Host: "example.org",
			Proto: "HTTP/2.0", OriginalURI: "/old",
		},
		{Method: "GET", URI: "/b", Header: Header{}, Body: []byte{0, 0xff}},
		{Header: Header{}, Body: []byte{}},
		{Method: "GET", URI: "/c", Header: Header{"Host": {"example.org:8080"}}, Body: []byte{}, TraceID: "abc", Host: "example.org:8080"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if lines := strings.Count(stdout, "\n"); lines != 4 {
		t.Errorf("%d responses in %q, want 4, each a line", lines, stdout)
	}
	if path, query := got[0].Path(), got[0].Query(); path != "/café" || !reflect.DeepEqual(query["a"], []string{"1", "2"}) || query.Has("b") {
		t.Errorf("path %q, query %v", path, query)
	}
}

func TestHeaderValuesAreTheClientsBytes(t *testing.T) {
	for written, want := range map[string]string{
		"plain":                     "plain",
		"café":                      "café",
		"caf\U0010ffe9":             "caf\xe9",
		"caf\U0010ffe9é\U0010ff80!": "caf\xe9é\x80!",
		"\U0010fff4\U0010ff8f\U0010ffbe\U0010ff80": "\U0010ff80",
		"日本\U0010ff7f":                             "日本\U0010ff7f",
	} {
		request, err := json.Marshal(map[string]any{"headers": map[string][]string{"X-A": {"1", written, "2"}}})
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := exchange(t, string(request), func(r *Request) *Response {
			if got := r.Header.Values("x-a")[1]; got != want {
				t.Errorf("%q: got %q, want %q", written, got, want)
			}
			response := &Response{Header: Header{"X-A": r.Header.Values("X-A"), "X-B": {want}}}
			t.Cleanup(func() {
				if response.Header.Get("X-B") != want {
					t.Errorf("%q: the handler's header has changed", written)
				}
			})
			return response
		})
		if err != nil {
			t.Error(err)
		}
		// What came in goes out as it came.
		var response struct{ Headers map[string][]string }
		if err := json.Unmarshal([]byte(stdout), &response); err != nil {
			t.Fatal(err)
		}
		if got := response.Headers; !reflect.DeepEqual(got, map[string][]string{"X-A": {"1", written, "2"}, "X-B": {written}}) {
			t.Errorf("%q: went out as %q", written, got)
		}
	}
}

func TestResponsesAreWrittenInTheContractsForm(t *testing.T) {
	for _, c := range []struct {
		response *Response
		want     string
	}{
		{&Response{}, `{"status":0}`},
		{Text(404, "a<b>&\"é\"\n"), `{"status":404,"headers":{"Content-Type":["text/plain; charset=utf-8"]},"body":"a<b>&\"é\"\n"}`},
		{JSON(201, map[string]int{"n": 1}), `{"status":201,"headers":{"Content-Type":["application/json"]},"body":"{\"n\":1}\n"}`},
		{&Response{Status: 200, Body: []byte{0xff, 0}}, `{"status":200,"body_base64":"/wA="}`},
		{&Response{Status: 200, Body: []byte("a\x00b")}, `{"status":200,"body":"a\u0000b"}`},
		{&Response{Status: 200, Body: make([]byte, 66)}, `{"status":200,"body_base64":"` + strings.Repeat("A", 88) + `"}`},
	} {
		stdout, err := exchange(t, "{}", func(*Request) *Response { return c.response })
		if err != nil || stdout != c.want+"\n" {
			t.Errorf("got %s, %v; want %s", stdout, err, c.want)
		}
	}
}

func TestBadRequestsAreErrors(t *testing.T) {
	for _, stdin := range []string{"x", "[]", `{"method":5}`, `{"method":"GET"`, `{"body_base64":"?"}`, `{} x`} {
		if _, err := exchange(t, stdin, func(*Request) *Response { return &Response{} }); err == nil || !strings.HasPrefix(err.Error(), "request: ") {
			t.Errorf("%q: %v", stdin, err)
		}
	}
	if stdout, err := exchange(t, " \n", nil); err != nil || stdout != "" {
		t.Errorf("no request: %q, %v", stdout, err)
	}
}

func TestAFailedWriteIsAnError(t *testing.T) {
	broken, writer := io.Pipe()
	broken.Close()
	err := serve(strings.NewReader("{}"), writer, never, func(*Request) *Response { return &Response{} })
	if err == nil || !strings.HasPrefix(err.Error(), "response: ") {
		t.Errorf("got %v", err)
	}
}

func TestHandlersMistakesPanic(t *testing.T) {
	for what, handler := range map[string]func(*Request) *Response{
		"no response": func(*Request) *Response { return nil },
		"JSON":        func(*Request) *Response { return JSON(200, make(chan int)) },
		"mine":        func(*Request) *Response { panic("mine") },
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); !strings.Contains(got, what) {
					t.Errorf("%s: panic %q", what, got)
				}
			}()
			_, err := exchange(t, "{}", handler)
			t.Errorf("%s: no panic, but %v", what, err)
		}()
	}
}

// The host is told before each read, and no byte is read before.
func TestTheHostIsToldBeforeEachRead(t *testing.T) {
	in := &countingReader{Reader: strings.NewReader("{}\n{}")}
	var readsAt []int
	err := serve(in, io.Discard, func() bool {
		readsAt = append(readsAt, in.reads)
		return true
	}, func(*Request) *Response { return &Response{} })
	if err != nil {
		t.Fatal(err)
	}
	if len(readsAt) != 3 || readsAt[0] != 0 {
		t.Errorf("told after %v reads, want thrice, and before the first", readsAt)
	}
}

type countingReader struct {
	io.Reader
	reads int
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.reads++
	return r.Reader.Read(p)
}

func TestHeaderNamesInAnyCase(t *testing.T) {
	h := Header{}
	h.Set("content-TYPE", "a/b")
	h.Add("x-b3-traceid", "1")
	h.Add("X-B3-TraceId", "2")
	h.Set("gone", "x")
	h.Del("GONE")
	if want := (Header{"Content-Type": {"a/b"}, "X-B3-Traceid": {"1", "2"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("got %v, want %v", h, want)
	}
	if h.Get("CONTENT-type") != "a/b" || h.Get("none") != "" || len(h.Values("x-B3-traceID")) != 2 {
		t.Errorf("got %v", h)
	}
}

// Programs that use only Serve carry none of net/http.
func TestServeAloneIsSmall(t *testing.T) {
	list, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skip("no go command: ", err)
	}
	for _, line := range strings.Fields(string(list)) {
		if line == "net" || line == "net/http" || strings.HasPrefix(line, "crypto/") {
			t.Errorf("this package brings %s", line)
		}
	}
}
