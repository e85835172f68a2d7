package gojinn

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Requests as the host writes them, and others.
var someRequests = []string{
	`{"method":"POST","uri":"/a?b=c","headers":{"Accept":["*/*"],"X-A":["1","2","é"],"X-B":[]},"body":"{\"n\":\"\\u00e9\\\\\"}\n","trace_id":"t"}`,
	`{"method":"GET","uri":"/","headers":{},"body":"","body_base64":"AP8=","trace_id":"t","remote_addr":"192.0.2.1:1","client_ip":"192.0.2.2","scheme":"https","host":"h","proto":"HTTP/2.0","original_uri":"/o"}`,
	`{"body":"\u0000\u001f\u2028\"\\\/\b\f\n\r\t日本","headers":{"A":["\ud83d\ude00"]}}`,
	`{"headers":null,"body_base64":null,"body":null}`,
	`{"method":"a","method":"b","headers":{"A":["1"],"A":["2"]}}`,
	`{"METHOD":"a","unknown":{"a":[1,2.5e3,true]},"body_base64":"AP9="}`,
	`{}`,
}

// What is read without encoding/json is what that reads.
func TestRequestsAreReadAsByEncodingJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	forms := map[form]int{}
	for round := range 200_000 {
		text := []byte(someRequests[round%len(someRequests)])
		for range random.IntN(4) {
			at := random.IntN(len(text))
			switch random.IntN(4) {
			case 0:
				text = slices.Delete(text, at, at+1)
			case 1:
				text[at] = `{}[]":,\un0/ABé`[random.IntN(16)]
			case 2:
				text = text[:at]
			case 3:
				from := random.IntN(len(text))
				text = slices.Insert(text, at, text[from:min(from+random.IntN(30), len(text))]...)
			}
			if len(text) == 0 {
				break
			}
		}
		wire, rest, is := parseRequest(text)
		forms[is]++
		if is != whole {
			continue
		}
		var want wireRequest
		decoder := json.NewDecoder(bytes.NewReader(text))
		if err := decoder.Decode(&want); err != nil || !reflect.DeepEqual(*wire, want) {
			t.Fatalf("%q: got %+v, want %+v, %v", text, *wire, want, err)
		}
		if used := int64(len(text) - len(rest)); used != decoder.InputOffset() {
			t.Fatalf("%q: %d bytes were used, want %d", text, used, decoder.InputOffset())
		}
	}
	if forms[whole] < 10_000 || forms[part] < 10_000 || forms[other] < 10_000 {
		t.Errorf("the texts are %v", forms)
	}
	for i, form := range []form{whole, whole, other, other, other, other, whole} {
		if _, _, is := parseRequest([]byte(someRequests[i])); is != form {
			t.Errorf("%s is %v, want %v", someRequests[i], is, form)
		}
	}
}

// Wherever the host cuts them, and whatever their forms are, requests are read one after the other.
func TestRequestsOfAllFormsAreRead(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var stdin strings.Builder
		var want []*Request
		for range random.IntN(6) {
			text := someRequests[random.IntN(len(someRequests))]
			stdin.WriteString(text + []string{"", "\n", " \n\n"}[random.IntN(3)])
			var wire wireRequest
			if err := json.Unmarshal([]byte(text), &wire); err != nil {
				t.Fatal(err)
			}
			want = append(want, wire.request())
		}
		r := &reader{in: &cut{strings.NewReader(stdin.String()), random}}
		for _, want := range want {
			if got, err := r.next(); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: got %+v, %v", stdin.String(), got, err)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Fatalf("%q: after the last one: %v", stdin.String(), err)
		}
	}
}

// cut is a reader that reads any number of bytes.
type cut struct {
	in     io.Reader
	random *rand.Rand
}

func (c *cut) Read(p []byte) (int, error) {
	return c.in.Read(p[:1+c.random.IntN(len(p))])
}

// What is written without encoding/json is what that writes.
func TestResponsesAreWrittenAsByEncodingJSON(t *testing.T) {
	type wireResponse struct {
		Status     int    `json:"status"`
		Headers    Header `json:"headers,omitempty"`
		Body       string `json:"body,omitempty"`
		BodyBase64 []byte `json:"body_base64,omitempty"`
	}
	random := rand.New(rand.NewPCG(5, 6))
	text := func() string {
		var b strings.Builder
		for range random.IntN(12) {
			switch random.IntN(8) {
			case 0:
				b.WriteByte(byte(random.IntN(256)))
			case 1:
				b.WriteRune([]rune{'é', '日', '\u2028', '\u2029', '\U0001f600', 0xfffd, firstStandIn}[random.IntN(7)])
			default:
				b.WriteByte(byte(random.IntN(128)))
			}
		}
		return b.String()
	}
	for range 50_000 {
		response := &Response{Status: random.IntN(600)}
		if random.IntN(4) > 0 {
			response.Header = Header{}
			for range random.IntN(4) {
				response.Header[text()] = [][]string{nil, {}, {text()}, {text(), text()}}[random.IntN(4)]
			}
		}
		response.Body = []byte(strings.Repeat(text(), random.IntN(20)))
		wire := wireResponse{Status: response.Status, Headers: response.Header.toHost()}
		if isText(response.Body) {
			wire.Body = string(response.Body)
		} else {
			wire.BodyBase64 = response.Body
		}
		var got, want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(wire); err != nil {
			t.Fatal(err)
		}
		if err := newWriter(&got).write(response); err != nil || got.String() != want.String() {
			t.Fatalf("got %s, want %s, %v", got.String(), want.String(), err)
		}
	}
}

// BenchmarkExchange has the same request in JSON and as a frame.
func BenchmarkExchange(b *testing.B) {
	line := `{"method":"POST","uri":"/api/hello?q=1","headers":{"Accept":["*/*"],"Content-Length":["27"],"Content-Type":["application/json"],` +
		`"Host":["127.0.0.1"],"User-Agent":["load"],"X-Request-Id":["load-1"]},"body":"{\"name\":\"world\",\"number\":1}","trace_id":"load-1"}` + "\n"
	frame := requestFrame(
		[9]string{"POST", "/api/hello?q=1", "load-1", "127.0.0.1:40000", "127.0.0.1", "http", "127.0.0.1", "HTTP/1.1", "/api/hello?q=1"},
		`{"name":"world","number":1}`, "Accept", "*/*", "Content-Length", "27", "Content-Type", "application/json",
		"Host", "127.0.0.1", "User-Agent", "load", "X-Request-Id", "load-1")
	b.Run("json", func(b *testing.B) { benchmarkExchange(b, line) })
	b.Run("frame", func(b *testing.B) { benchmarkExchange(b, string(frame)) })
}

func benchmarkExchange(b *testing.B, request string) {
	handler := func(r *Request) *Response { return Text(200, "Hello "+r.TraceID+"\n") }
	// Each read gets one request, as from the host.
	requests := readers{}
	for range b.N {
		requests = append(requests, strings.NewReader(request))
	}
	b.ReportAllocs()
	b.ResetTimer()
	if err := serve(&requests, io.Discard, never, handler); err != nil {
		b.Fatal(err)
	}
}

// readers are read one after the other.
type readers []io.Reader

func (r *readers) Read(p []byte) (int, error) {
	for len(*r) > 0 {
		if n, err := (*r)[0].Read(p); err != io.EOF {
			return n, err
		}
		*r = (*r)[1:]
	}
	return 0, io.EOF
}
