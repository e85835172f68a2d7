// Tests of the requests of operations.

package gojinn

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestDecodeRequest(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      `["",0,null]`,
		"\nx":                                   `["",0,null]x`,
		"{}":                                    `["",0,null]`,
		" { } \nbody\n":                         `["",0,null]body` + "\n",
		`{"s":"a","n":1}`:                       `["a",1,null]`,
		"{ \"s\" : \"a\" ,\t\"n\" : -12 }\r\nx": `["a",-12,null]x`,
		`{"s":"\u00fc\"\\}","n":0}`:             `["ü\"\\}",0,null]`,
		`{"a":{"x":[1,"]}",{}]},"s":"b"}`:       `["b",0,{"x":[1,"]}",{}]}]`,
		`{"\u0073":"c"}`:                        `["c",0,null]`,
		`{"s":null,"n":null,"a":[]}`:            `["",0,[]]`,
		`{"s":",","a":"}"}`:                     `[",",0,"}"]`,
		`{"n":1e2}`:                             "",
		`{"n":1.0}`:                             "",
		`{"n":"1"}`:                             "",
		`{"s":1}`:                               "",
		`{"s":"a","s":"b"}`:                     "",
		`{"s":"a","\u0073":"b"}`:                "",
		`{"S":"a"}`:                             "",
		`{"s":"a"} {}`:                          "",
		`{"s":"a"`:                              "",
		`{"s":"a",}`:                            "",
		`{"s" "a"}`:                             "",
		`{"s":"a"}x`:                            "",
		`"s"`:                                   "",
		"{\"s\":\"\xff\"}":                      "",
		"{\"s\":\"\x01\"}":                      "",
	} {
		var s string
		var n int64
		var a json.RawMessage
		body, err := decodeRequest([]byte(text), map[string]any{"s": &s, "n": &n, "a": &a})
		if want == "" {
			if err == nil {
				t.Errorf("%q is accepted as %q, %d, %s", text, s, n, a)
			}
			continue
		}
		got, marshalErr := json.Marshal([]any{s, n, a})
		if err != nil || marshalErr != nil || string(got)+string(body) != want {
			t.Errorf("%q: got %s%s %v, want %s", text, got, body, err, want)
		}
	}
}

// What is accepted is what encoding/json reads, too.
func FuzzDecodeRequest(f *testing.F) {
	for _, text := range []string{`{"s":"a","n":1,"a":[{"x":"}"}]}`, `{"s":"\u0041"}`, `{ "n" : -1 }`, "{}\nx", `{"s":"\ud800"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s string
		var n int64
		var a any
		if _, err := decodeRequest(text, map[string]any{"s": &s, "n": &n, "a": &a}); err != nil {
			return
		}
		var want struct {
			S string
			N int64
			A any
		}
		object, _, _ := bytes.Cut(text, []byte("\n"))
		object = bytes.TrimSpace(object)
		if len(object) > 0 {
			if err := json.Unmarshal(object, &want); err != nil {
				t.Fatalf("%q is accepted, and no JSON: %v", text, err)
			}
		}
		got, _ := json.Marshal([]any{s, n, a})
		expected, _ := json.Marshal([]any{want.S, want.N, want.A})
		if string(got) != string(expected) {
			t.Errorf("%q: got %s, want %s", text, got, expected)
		}
	})
}
