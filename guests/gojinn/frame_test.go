package gojinn

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// requestFrame is a request as the host writes it. headers are names and values in turns.
func requestFrame(fields [9]string, body string, headers ...string) []byte {
	texts := append(fields[:], headers...)
	frame := []byte("\xf1GJ\x01\x00\x00\x00\x00")
	numbers := []uint32{}
	for _, text := range texts {
		numbers = append(numbers, uint32(len(text)))
	}
	numbers = slices.Insert(numbers, len(fields), uint32(len(headers)/2), uint32(len(body)))
	for _, number := range numbers {
		frame = binary.LittleEndian.AppendUint32(frame, number)
	}
	frame = append(frame, strings.Join(texts, "")+body...)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)))
	return frame
}

var someFields = [9]string{"POST", "/a?b", "trace", "192.0.2.1:1", "192.0.2.2", "https", "example.org", "HTTP/2.0", "/before"}

func someFrame(body string) []byte {
	return requestFrame(someFields, body, "Accept", "*/*", "Host", "example.org", "X-A", "1", "X-A", "\xff\U0010ffff", "X-B", "")
}

func someRequest(body string) *Request {
	return &Request{
		Method: "POST", URI: "/a?b", TraceID: "trace", RemoteAddr: "192.0.2.1:1", ClientIP: "192.0.2.2", Scheme: "https",
		Host: "example.org", Proto: "HTTP/2.0", OriginalURI: "/before", Body: []byte(body),
		Header: Header{"Accept": {"*/*"}, "Host": {"example.org"}, "X-A": {"1", "\xff\U0010ffff"}, "X-B": {""}},
	}
}

// Requests are read in parts of any length, and answers are frames, too.
func TestRequestsInFrames(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	frames := bytes.Join([][]byte{
		someFrame("\x00body"), someFrame(""), someFrame(long), someFrame(long[:firstRead]), someFrame("\n"),
	}, nil)
	for name, in := range map[string]io.Reader{
		"at once":   bytes.NewReader(frames),
		"bytewise":  iotest.OneByteReader(bytes.NewReader(frames)),
		"half":      iotest.HalfReader(bytes.NewReader(frames)),
		"with ends": iotest.DataErrReader(bytes.NewReader(frames)),
	} {
		want := []string{"\x00body", "", long, long[:firstRead], "\n"}
		var out bytes.Buffer
		var kept []*Request
		err := serve(in, &out, never, func(r *Request) *Response {
			kept = append(kept, r)
			return &Response{Status: 201, Body: r.Body}
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(kept) != len(want) {
			t.Fatalf("%s: %d requests", name, len(kept))
		}
		// They stay as they were while others are read.
		for i, r := range kept {
			if request := someRequest(want[i]); !reflect.DeepEqual(r, request) {
				t.Errorf("%s: got %.300q, want %.300q", name, r, request)
			}
		}
		for _, body := range want {
			frame := responseFrame(0, 201, "", "", nil, body)
			if answer := out.Next(len(frame)); string(answer) != string(frame) {
				t.Fatalf("%s: the answer to %.10q is %.100q", name, body, answer)
			}
		}
	}
}

// responseFrame is a response as the host reads it. groups are headers, variables and response headers, as names and values in
// turns; the value "-" is removed.
func responseFrame(flags, status uint32, method, uri string, groups *[3][]string, body string) []byte {
	if groups == nil {
		groups = &[3][]string{}
	}
	numbers := []uint32{flags, status, uint32(len(method)), uint32(len(uri))}
	for _, group := range groups {
		numbers = append(numbers, uint32(len(group)/2))
	}
	numbers = append(numbers, uint32(len(body)))
	text := method + uri
	for _, part := range slices.Concat(groups[:]...) {
		if part == "-" {
			numbers = append(numbers, math.MaxUint32)
			continue
		}
		numbers = append(numbers, uint32(len(part)))
		text += part
	}
	frame := []byte("\xf1GJ\x01")
	for _, number := range numbers {
		frame = binary.LittleEndian.AppendUint32(frame, number)
	}
	return append(frame, text+body...)
}

func TestResponsesInFrames(t *testing.T) {
	long := strings.Repeat("x", 3*firstRead)
	for name, test := range map[string]struct {
		response *Response
		want     []byte
	}{
		"nothing":    {&Response{}, responseFrame(0, 0, "", "", nil, "")},
		"text":       {Text(404, "a"), responseFrame(0, 404, "", "", &[3][]string{{"Content-Type", "text/plain; charset=utf-8"}}, "a")},
		"long":       {&Response{Status: 200, Body: []byte(long)}, responseFrame(0, 200, "", "", nil, long)},
		"no status":  {&Response{Status: -1}, responseFrame(0, math.MaxUint32, "", "", nil, "")},
		"too large":  {&Response{Status: 1<<32 + 200}, responseFrame(0, math.MaxUint32, "", "", nil, "")},
		"any status": {&Response{Status: 99}, responseFrame(0, 99, "", "", nil, "")},
		"headers": {
			&Response{Header: Header{"B": {"\xff", ""}, "A": {"\U0010ffff"}, "C": nil, "D": {}}},
			responseFrame(0, 0, "", "", &[3][]string{{"A", "\U0010ffff", "B", "\xff", "B", "", "C", "-", "D", "-"}}, ""),
		},
		"next": {
			&Response{
				Header: Header{"Vary": {"a", "b"}, "Server": nil},
				Next: &Onward{
					Method: "PUT", URI: "/b", Header: Header{"X-User": {"alice"}, "Cookie": nil}, Vars: map[string]string{"b": "", "a": "1"},
				},
			},
			responseFrame(1, 0, "PUT", "/b", &[3][]string{{"Cookie", "-", "X-User", "alice"}, {"a", "1", "b", ""}, {"Server", "-", "Vary", "a", "Vary", "b"}}, ""),
		},
		"next and more": {&Response{Status: 200, Body: []byte("x"), Next: &Onward{}}, responseFrame(1, 200, "", "", nil, "x")},
	} {
		var out bytes.Buffer
		in := bytes.NewReader(slices.Concat(someFrame(""), someFrame("")))
		if err := serve(in, &out, never, func(*Request) *Response { return test.response }); err != nil {
			t.Fatal(err)
		}
		if want := slices.Concat(test.want, test.want); out.String() != string(want) {
			t.Errorf("%s: got %.300q, want %.300q", name, out.String(), want)
		}
	}
}

func TestFramesThatAreWrong(t *testing.T) {
	refused := func(what string, in []byte) {
		t.Helper()
		err := serve(bytes.NewReader(in), io.Discard, never, func(*Request) *Response { return &Response{} })
		if err == nil {
			t.Errorf("%s is taken: %q", what, in)
		}
	}
	frame := someFrame("body")
	for n := 1; n < len(frame); n++ {
		refused("part of a frame", frame[:n])
	}
	refused("another version", []byte("\xf1GJ\x02\x08\x00\x00\x00"))
	refused("what follows a frame", append(slices.Clone(frame), "\xf1GJ"...))
	// Each number of the frame has another value.
	for at := 4; at < requestHead+5*8; at += 4 {
		for _, number := range []uint32{0, 1, 51, 52, 255, 1 << 16, uint32(len(frame)) + 1} {
			wrong := slices.Clone(frame)
			if binary.LittleEndian.Uint32(wrong[at:]) == number {
				continue
			}
			binary.LittleEndian.PutUint32(wrong[at:], number)
			refused("a wrong length", wrong)
		}
	}
}
