// Tests of the frames of requests and answers.

package engine

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

func sampleHead() *Head {
	h := &Head{}
	h.Reset(&Request{
		Method: "POST", URI: "/a?b", TraceID: "t", RemoteAddr: "1.2.3.4:5", ClientIP: "1.2.3.4",
		Scheme: "https", Host: "example.org", Proto: "HTTP/1.1", OriginalURI: "/x/a?b",
	})
	h.Header("X-A", "1")
	h.Header("X-A", "\xff")
	h.EndHeaders()
	h.PerRequest("")
	h.PerRequest("two")
	return h
}

func TestHead(t *testing.T) {
	h := sampleHead()
	got, err := DecodeHead(h.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := &DecodedHead{
		Request:    Request{"POST", "/a?b", "t", "1.2.3.4:5", "1.2.3.4", "https", "example.org", "HTTP/1.1", "/x/a?b"},
		Headers:    [][2]string{{"X-A", "1"}, {"X-A", "\xff"}},
		PerRequest: []string{"", "two"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// The first string as docs/abi.md says: a little-endian length and the bytes.
	if !bytes.HasPrefix(h.Bytes(), []byte{4, 0, 0, 0, 'P', 'O', 'S', 'T', 4, 0, 0, 0, '/'}) {
		t.Errorf("the frame begins with % x", h.Bytes()[:16])
	}
	h.Reset(&Request{})
	h.EndHeaders()
	if want := make([]byte, 4*(9+2)); !bytes.Equal(h.Bytes(), want) {
		t.Errorf("an empty head after a full one: % x", h.Bytes())
	}
}

func TestDecodeHeadIsBounded(t *testing.T) {
	whole := sampleHead().Bytes()
	for n := range whole {
		if _, err := DecodeHead(whole[:n]); err == nil {
			t.Errorf("accepted the first %d of %d bytes", n, len(whole))
		}
		mangled := bytes.Clone(whole)
		mangled[n] = 0xff
		_, _ = DecodeHead(mangled) // must not panic, nor allocate by a length that is a lie
	}
	if _, err := DecodeHead(append(bytes.Clone(whole), 0)); err == nil {
		t.Error("accepted a byte too many")
	}
}

func TestAnswer(t *testing.T) {
	var a Answer
	frame := NewAnswer(nil, &a, [][2]string{{"A", "1"}, {"B", ""}}, "why", []LogLine{{LogStderr, "x"}, {LogWarn, ""}}, []byte("body"))
	if len(frame) != 8+2+8+1+3+5+1+5+4 || string(a.Reason) != "why" || string(a.Body) != "body" || a.HeaderCount != 2 {
		t.Fatalf("got %d bytes, %+v", len(frame), a)
	}
	headers := a.Headers()
	for _, want := range []string{"A=1", "B="} {
		if name, value, ok := headers.Next(); !ok || string(name)+"="+string(value) != want {
			t.Errorf("got %s=%s, want %s", name, value, want)
		}
	}
	if _, _, ok := headers.Next(); ok {
		t.Error("a header too many")
	}
	logs := a.Logs()
	if level, line, ok := logs.Next(); !ok || level != LogStderr || string(line) != "x" {
		t.Errorf("got %d %s", level, line)
	}
	if level, line, ok := logs.Next(); !ok || level != LogWarn || len(line) != 0 {
		t.Errorf("got %d %s", level, line)
	}
	if _, _, ok := logs.Next(); ok {
		t.Error("a line too many")
	}
}

func TestSplitIsBounded(t *testing.T) {
	var whole Answer
	frame := NewAnswer(nil, &whole, [][2]string{{"A", "1"}}, "why", []LogLine{{LogInfo, "x"}}, []byte("body"))
	parts := lengths{headers: 10, reason: 3, logs: 6, body: 4}
	a := Answer{HeaderCount: 1}
	if err := a.split(frame, parts); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []lengths{
		{headers: 9, reason: 4, logs: 6, body: 4},
		{headers: 10, reason: 3, logs: 5, body: 5},
		{headers: 10, reason: 3, logs: 6, body: 5},
		{headers: 1 << 63, reason: 1 << 63, logs: 6, body: 17},
	} {
		if err := a.split(frame, bad); err == nil {
			t.Errorf("accepted the lengths %+v", bad)
		}
	}
	few := Answer{HeaderCount: 2}
	if err := few.split(frame, parts); err == nil {
		t.Error("accepted one header where two were announced")
	}
	lie := bytes.Clone(frame)
	binary.LittleEndian.PutUint32(lie, 0xffff_ffff)
	if err := a.split(lie, parts); err == nil {
		t.Error("accepted a length beyond the frame")
	}
}
