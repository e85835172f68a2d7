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
		`{"s":"\ud83d\ude00\\ud83d"}`:           `["😀\\ud83d",0,null]`,
		`{"s":"\ud83d"}`:                        "",
		`{"s":"\ude00\ud83d"}`:                  "",
		`{"s":"\ud83d\\ude00"}`:                 "",
		`{"s":"\ud83d\u0041"}`:                  "",
		`{"s":"\uD83Dx"}`:                       "",
		`{"\ud83d":"x"}`:                        "",
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

// Headers are a string or an array of strings for each name, in any notation of JSON.
func TestDecodeHeaders(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:        `{}`,
		`null`:      `null`,
		`{"A":"b"}`: `{"A":["b"]}`,
		"{ \"A\" : [ \"b\" ,\t\"c\" ] , \"D\":[]}": `{"A":["b","c"],"D":null}`,
		`{"A":null}`:                   `{"A":null}`,
		`{"A":"1","A":["2"]}`:          `{"A":["2"]}`,
		`{"\u0041":["\u00fc\"]","}"]}`: `{"A":["ü\"]","}"]}`,
		`{"A":1}`:                      "",
		`{"A":[1]}`:                    "",
		`{"A":[null]}`:                 "",
		`{"A":["x",["y"]]}`:            "",
		`{"A":{}}`:                     "",
		`{"A":true}`:                   "",
		`["A"]`:                        "",
		`"A"`:                          "",
	} {
		var headers map[string]headerValues
		_, err := decodeRequest([]byte(`{"headers":`+text+`}`), map[string]any{"headers": &headers})
		got, _ := json.Marshal(headers)
		if want == "" && err == nil || want != "" && (err != nil || string(got) != want) {
			t.Errorf("%s: got %s %v, want %s", text, got, err, want)
		}
	}
}

// The head of a response is what encoding/json writes, and reads.
func TestResponseHead(t *testing.T) {
	headers := map[string][]string{
		"B": {"1", "2"}, "A": {`a "quoted" \ <b>`, "\t", "ü", "\U0010ff80", "\u2028", ""}, "C": {}, "D": {"\x7f"},
	}
	got, err := appendResponseHead([]byte("before"), 204, "https://x.example/?a=\"&b", headers)
	want, _ := encodeReply(struct {
		Status  int                 `json:"status"`
		URL     string              `json:"url"`
		Headers map[string][]string `json:"headers"`
	}{204, "https://x.example/?a=\"&b", headers})
	if err != nil || string(got) != "before"+string(want) {
		t.Errorf("got  %s %v\nwant before%s", got, err, want)
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
