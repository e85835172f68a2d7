// Tests of samples of warm-ups.

package gojinn

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func writeSample(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const exampleSample = `{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"sample"}`

// The engine gets the text as it is, so that positions in its errors are those of the file.
func TestSampleIsRead(t *testing.T) {
	text := "\n" + strings.ReplaceAll(exampleSample, ",", ",\n\t")
	path := writeSample(t, text)
	got, info, err := readSample(path)
	if err != nil || got != text {
		t.Errorf("got %s, %v\nwant %s", got, err, text)
	}
	if !sameFile(info, stat(path)) {
		t.Error("the state is that of another file")
	}
	for text, want := range map[string]string{
		"":                      ": the file is empty; write a request into it",
		"{\"method\":\"\xff\"}": ": the file is not UTF-8; write a body that is not text into \"body_base64\"",
	} {
		path := writeSample(t, text)
		got, info, err := readSample(path)
		if err == nil || !strings.HasPrefix(err.Error(), "the sample of warmup, "+path+want) || got != "" || info != nil {
			t.Errorf("%q: got %q, %v, %v", text, got, info, err)
		}
	}
}

// Samples with the same content have one key, whatever the white space, and texts that are no JSON have different ones.
func TestSampleKey(t *testing.T) {
	spaced := " " + strings.ReplaceAll(exampleSample, ",", " ,\n\t")
	if got := sampleKey(spaced); got != exampleSample {
		t.Errorf("got %s", got)
	}
	if sampleKey(`{"body":"a b"}`) == sampleKey(`{"body":"ab"}`) || sampleKey("{ ") == sampleKey("{") || sampleKey("") != "" {
		t.Error("different samples have one key")
	}
}

// An error of the engine about a sample names the file; no other error does.
func TestRefusedSamples(t *testing.T) {
	refused := &engine.Error{Code: engine.CodeBadConfig, Message: "function f: the sample of warmup, 3:2: \"method\" must be a string: or so"}
	err := inSample("/s.json", "f", refused)
	const want = `the sample of warmup, /s.json:3:2: "method" must be a string: or so`
	if bad := (*sampleError)(nil); !errors.As(err, &bad) || err.Error() != want || bad.path != "/s.json" || bad.at != "3:2" {
		t.Errorf("got %v\nwant %s", err, want)
	}
	for _, other := range []error{
		&engine.Error{Code: engine.CodeBadConfig, Message: "function f: timeout is 0"},
		&engine.Error{Code: engine.CodeInvalidModule, Message: refused.Message},
		errors.New(refused.Message),
	} {
		if got := inSample("/s.json", "f", other); got != other {
			t.Errorf("got %v", got)
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
		_, _, err := readSample(path)
		if want = "the sample of warmup, " + path + ": " + want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
