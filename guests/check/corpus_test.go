package check

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// expectation is a program's expected.json, beside its sample.json.
type expectation struct {
	Status  int
	Headers map[string]string
	// Body lists what must be in the body, BodyBase64 how a binary one begins, Stderr what must be in the log.
	Body       []string
	BodyBase64 string `json:"body_base64"`
	Stderr     []string
	// Fresh says why a snapshot at the first read would freeze what must be fresh; empty: it would not.
	Fresh string
}

// Each program of the corpus answers its sample as expected, and asks the host for no more before its first read than it says.
func TestCorpus(t *testing.T) {
	programs, err := filepath.Glob("../go/corpus/*/main.go")
	if err != nil || len(programs) != 12 {
		t.Fatalf("%d programs, %v; want 12", len(programs), err)
	}
	fresh := 0
	for _, source := range programs {
		directory := filepath.Dir(source)
		var want expectation
		decode(t, filepath.Join(directory, "expected.json"), &want)
		if want.Fresh != "" {
			fresh++
		}
		name := filepath.Base(directory)
		t.Run(name, func(t *testing.T) {
			sample, err := os.ReadFile(filepath.Join(directory, "sample.json"))
			if err != nil {
				t.Fatal(err)
			}
			result := run(t, load(t, built(t, "corpus-"+name)), Call{Stdin: sample})
			got, err := result.Response()
			if err != nil {
				t.Fatal(err)
			}
			want.check(t, got, string(result.Stderr))
			if frozen := result.Before != (Census{Random: 32}); frozen != (want.Fresh != "") {
				t.Errorf("before its first read: %+v; expected.json says %q", result.Before, want.Fresh)
			}
		})
	}
	if fresh > 3 {
		t.Errorf("%d of 12 programs cannot have a snapshot, want at most 3", fresh)
	}
}

func (want *expectation) check(t *testing.T, got *Response, stderr string) {
	if got.Status != want.Status {
		t.Errorf("status %d, want %d", got.Status, want.Status)
	}
	for name, value := range want.Headers {
		if !reflect.DeepEqual(got.Headers[name], []string{value}) {
			t.Errorf("%s: %q, want %q", name, got.Headers[name], value)
		}
	}
	if len(want.Body) == 0 && want.BodyBase64 == "" {
		t.Error("expected.json expects nothing of the body")
	}
	for _, part := range want.Body {
		if !strings.Contains(got.Body, part) {
			t.Errorf("body %q, want %q in it", got.Body, part)
		}
	}
	text, err := json.Marshal(got.BodyBase64)
	if err != nil || !bytes.HasPrefix(text, []byte(`"`+want.BodyBase64)) && want.BodyBase64 != "" {
		t.Errorf("body_base64 %.80s, want it to begin with %q", text, want.BodyBase64)
	}
	for _, part := range want.Stderr {
		if !strings.Contains(stderr, part) {
			t.Errorf("stderr %q, want %q in it", stderr, part)
		}
	}
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
