package check

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"
)

// post is the request that the host writes for a body.
func post(t *testing.T, uri, contentType string, body []byte) Call {
	t.Helper()
	request := map[string]any{"method": "POST", "uri": uri, "body": "", "trace_id": "t"}
	if contentType != "" {
		request["headers"] = map[string][]string{"Content-Type": {contentType}}
	}
	if utf8.Valid(body) {
		request["body"] = string(body)
	} else {
		request["body_base64"] = body
	}
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return Call{Stdin: text}
}

func TestEchoKeepsEveryByte(t *testing.T) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	guest := load(t, built(t, "go-echo"))
	for name, body := range map[string][]byte{
		"empty":           {},
		"text":            []byte("plain\r\n"),
		"Unicode":         []byte("naïve 日本語 😀 \u2028 \uFFFD\x00"),
		"every byte":      everyByte,
		"cut-off Unicode": []byte("caf\xc3"),
		"1 MiB of binary": bytes.Repeat(everyByte, 4096),
		"markup":          []byte(`<a href="x">&amp;</a>`),
	} {
		t.Run(name, func(t *testing.T) {
			got := respond(t, guest, post(t, "/echo", "application/x-test; a=b", body))
			if !bytes.Equal(got.Bytes(), body) {
				t.Errorf("body %.80q, want %.80q", got.Bytes(), body)
			}
			if text := got.BodyBase64 == nil; text != utf8.Valid(body) {
				t.Errorf("sent as text: %v", text)
			}
			if want := []string{"application/x-test; a=b"}; !slices.Equal(got.Headers["Content-Type"], want) || got.Status != 200 {
				t.Errorf("status %d, headers %v", got.Status, got.Headers)
			}
		})
	}
}

func TestEchoStatusAndTypes(t *testing.T) {
	guest := load(t, built(t, "go-echo"))
	for uri, status := range map[string]int{
		"/":                     200,
		"/a%20b?status=404&x=y": 404,
		"/?status=204":          204,
		"/?status=99":           99,
		"/?status=fine":         400,
		"/?status=":             400,
		"/?%zz":                 400,
	} {
		got := respond(t, guest, post(t, uri, "", []byte("x")))
		if got.Status != status {
			t.Errorf("%s: status %d, want %d", uri, got.Status, status)
		}
		if _, typed := got.Headers["Content-Type"]; typed != (status == 400) {
			t.Errorf("%s: headers %v: no Content-Type came in", uri, got.Headers)
		}
	}
}
