// Tests of samples of warm-ups.

package gojinn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeSample(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The file of a sample may have any white space. The function reads it as it reads a request: on one line.
func TestSampleIsPutOnOneLine(t *testing.T) {
	path := writeSample(t, `
{
	"method":  "POST",
	"uri":     "/api/x?q=1",
	"headers": {
		"Accept": ["*/*", "<b>"],
		"X-None": []
	},
	"body":        "",
	"body_base64": "/w==",
	"trace_id":    "\u00e9 a  b",
	"proto":       "HTTP/1.1"
}
`)
	const want = `{"method":"POST","uri":"/api/x?q=1","headers":{"Accept":["*/*","<b>"],"X-None":[]},"body":"",` +
		`"body_base64":"/w==","trace_id":"\u00e9 a  b","proto":"HTTP/1.1"}` + "\n"
	got, info, err := readSample(path, 1)
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	if !sameFile(info, stat(path)) {
		t.Error("the state is that of another file")
	}
	if got, _, err := readSample(writeSample(t, exampleSample), 0); err != nil || got != exampleSample+"\n" {
		t.Errorf("the example of the error messages: got %s, %v", got, err)
	}
}

// The error for every mistake has the file, the line, the column and what to do.
func TestSampleMistakes(t *testing.T) {
	with := func(key, value string) string {
		return strings.Replace(exampleSample, key, value, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":             {"", "1:1: the file is empty; write a request into it, such as {"},
		"white space":       {" \n\n", "1:1: the file is empty"},
		"text":              {"hello", "1:1: this is not JSON: invalid character 'h'"},
		"a byte order mark": {"\ufeff{}", "1:1: this is not JSON: invalid character"},
		"cut off":           {"{\n \"method\": \"GET\",\n", "3:1: the request is cut off here"},
		"a trailing comma":  {"{\n \"a\": \"b\",\n}", "3:1: this is not JSON: invalid character '}'"},
		"a second value":    {exampleSample + "\n" + exampleSample, "2:1: this is not JSON: invalid character '{' after top-level value"},
		"not UTF-8":         {"{\n\"method\":\"é\xff\"}", "2:12: the text is not UTF-8; write a body that is not text into \"body_base64\""},
		"a list":            {" []", "1:2: a request is an object, such as {"},
		"a string":          {`"GET"`, "1:1: a request is an object"},
		"no headers":        {" {\"method\":\"GET\",\"uri\":\"/\",\"body\":\"\",\"trace_id\":\"t\"}", `1:2: the request lacks "headers", which every request has`},
		"an empty object":   {"{}", `1:1: the request lacks "method"`},
		"a typo":            {with(`"uri"`, `"url"`), `1:17: no request has the key "url"; did you mean uri?`},
		"another case":      {with(`"uri"`, `"URI"`), `1:17: no request has the key "URI"`},
		"a key twice":       {with(`"body":""`, "\n\t\"body\": \"\",\n\t\"body\": \"\""), `3:2: "body" is given twice`},
		"a number":          {with(`"GET"`, "1"), `1:11: "method" must be a string`},
		"null":              {with(`"body":""`, "\n\"body\" : null"), `2:10: "body" must be a string`},
		"an object":         {with(`"body":""`, `"body":{"a":1}`), `1:47: "body" must be a string`},
		"no method":         {with("GET", ""), `1:2: "method" is empty; write for example "GET"`},
		"no trace":          {with(`"sample"`, `""`), `"trace_id" is empty; write any text, such as "sample"`},
		"a whole URL":       {with(`"/"`, `"http://x/"`), `1:17: "uri" is "http://x/", but must be a path with an optional query`},
		"headers: a list":   {with(`{}`, `[]`), `1:37: "headers" must be an object of lists, such as {"Accept":["*/*"]}`},
		"headers: a value":  {with(`{}`, `{"A":"b"}`), `1:42: the value of the header "A" must be a list, such as ["a"]`},
		"headers: a number": {with(`{}`, `{"A":["b", 1]}`), `1:48: a value of the header "A" must be a string`},
		"headers: twice":    {with(`{}`, `{"A":[],"A":[]}`), `1:45: the header "A" is given twice; put both values into one list`},
		"a large body":      {with(`"body":""`, `"body":"1234567"`), `1:40: the body has 7 bytes, more than the 6 of max_body`},
		"a large binary":    {with(`"body":""`, `"body":"","body_base64":"MTIzNDU2Nw=="`), `1:50: the body has 7 bytes`},
		"two bodies":        {with(`"body":""`, `"body":"a","body_base64":"YQ=="`), `1:51: "body_base64" and "body" both have content`},
		"bad base64":        {with(`"body":""`, `"body":"","body_base64":"YQ"`), `1:50: "body_base64" is not base64 with padding`},
	} {
		path := writeSample(t, c.text)
		got, info, err := readSample(path, 6)
		if err == nil || !strings.HasPrefix(err.Error(), "the sample of warmup, "+path+":") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %q, %v\nwant %s", name, got, err, c.want)
		}
		if got != "" || info != nil {
			t.Errorf("%s: got %q and %v beside the error", name, got, info)
		}
	}
}

// Paths that lead to no file of a sample.
func TestSampleFiles(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.json")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxSample+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.json"): "there is no such file; write a request into it, or correct the path",
		dir:                                "this is not a regular file but a directory; name the file of the sample itself",
		large:                              "the file has 10000001 bytes, more than the 10000000 that are allowed",
		filepath.Join(large, "x"):          "not a directory",
	} {
		_, _, err := readSample(path, maxSample)
		if want = "the sample of warmup, " + path + ": " + want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzSample(f *testing.F) {
	f.Add([]byte(exampleSample))
	f.Add([]byte(`{"headers":{"A":["b",{}]},"x":[[{`))
	f.Fuzz(func(t *testing.T, text []byte) {
		// A text is refused with a position in it, or accepted. Nothing panics.
		err := checkSample(text, 100)
		if err == nil {
			return
		}
		at, ok := err.(*mistake)
		if !ok || at.line < 1 || at.column < 1 || at.line > len(text)+1 || at.column > len(text)+1 {
			t.Errorf("%q: %v", text, err)
		}
	})
}
