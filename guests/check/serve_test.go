package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// Programs that call neither WarmUp nor an operation import nothing of Gojinn's, so that they run anywhere.
func TestServeImportsNothing(t *testing.T) {
	for name, want := range map[string][]string{"go-mux": nil, "go-redirects": nil, "go-serve": {"ready"}} {
		var imported []string
		for _, function := range load(t, built(t, name)).module.ImportedFunctions() {
			if module, name, _ := function.Import(); module == "gojinn" {
				imported = append(imported, name)
			}
		}
		if !reflect.DeepEqual(imported, want) {
			t.Errorf("%s imports %v of gojinn, want %v", name, imported, want)
		}
	}
}

// A function made with package gojinn answers one request as any other does.
func TestServeAnswers(t *testing.T) {
	guest := load(t, built(t, "go-serve"))
	for _, s := range samples {
		result := run(t, guest, Call{Stdin: []byte(s.request)})
		got, err := result.Response()
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		want := greeting("Go", s)
		want.Headers["Content-Type"] = []string{"text/plain; charset=utf-8"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %.300v, want %.300v", s.name, *got, *want)
		}
	}
	for _, request := range badRequests {
		result := run(t, guest, Call{Stdin: []byte(request)})
		// White space alone is no request, and no mistake either: the host says what it makes of no answer.
		exit, reason := uint32(1), "gojinn: request: "
		if strings.TrimSpace(request) == "" {
			exit, reason = 0, ""
		}
		if result.Trap != nil || result.Exit != exit || len(result.Stdout) > 0 || !strings.HasPrefix(string(result.Stderr), reason) {
			t.Errorf("%q: exit %d, trap %v, stdout %q, stderr %q", request, result.Exit, result.Trap, result.Stdout, result.Stderr)
		}
	}
}

// It answers as many requests as there are on stdin, and tells the host before it waits for each, also while a snapshot is recorded.
func TestServeLoops(t *testing.T) {
	guest := load(t, built(t, "go-serve"))
	var stdin strings.Builder
	for _, s := range samples {
		stdin.WriteString(s.request)
	}
	for _, runUp := range []bool{false, true} {
		result := run(t, guest, Call{Stdin: []byte(stdin.String()), RunUp: runUp})
		if result.Trap != nil || result.Exit != 0 || result.Ready != len(samples)+1 {
			t.Fatalf("exit %d, trap %v, waited %d times; stderr %q", result.Exit, result.Trap, result.Ready, result.Stderr)
		}
		decoder := json.NewDecoder(bytes.NewReader(result.Stdout))
		for _, s := range samples {
			var got Response
			if err := decoder.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got.Body != greeting("Go", s).Body {
				t.Errorf("%s: body %.300q", s.name, got.Body)
			}
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			t.Errorf("more than %d responses", len(samples))
		}
	}
}

// An http.Handler answers through package gojinnhttp.
func TestMuxAnswers(t *testing.T) {
	guest := load(t, built(t, "go-mux"))
	binary := []byte{0xff, 0, 0xfe}
	form := respond(t, guest, post(t, "/form", "application/x-www-form-urlencoded", []byte("a=1&b=%C3%A9&a=2")))
	if want := `{"form":{"a":["1","2"],"b":["é"]},"trace":"t"}` + "\n"; form.Status != 200 || form.Body != want {
		t.Errorf("form: %+v", *form)
	}
	echo := respond(t, guest, post(t, "/echo", "image/x-test", binary))
	if !bytes.Equal(echo.Bytes(), binary) || !reflect.DeepEqual(echo.Headers["Content-Type"], []string{"image/x-test"}) {
		t.Errorf("echo: %+v", *echo)
	}
	for uri, want := range map[string]struct {
		status int
		body   string
	}{
		"/hello/caf%C3%A9?x=1": {200, "Hello, café\n"},
		"/nowhere":             {404, "404 page not found\n"},
		"/echo":                {405, "Method Not Allowed\n"},
		"nowhere":              {400, "parse \"nowhere\": invalid URI for request\n"},
	} {
		got := respond(t, guest, Call{Stdin: []byte(`{"method":"GET","uri":"` + uri + `"}`)})
		if got.Status != want.status || got.Body != want.body {
			t.Errorf("%s: %d %q, want %d %q", uri, got.Status, got.Body, want.status, want.body)
		}
	}
	panicked := run(t, guest, post(t, "/panic", "", nil))
	if panicked.Exit != 2 || len(panicked.Stdout) > 0 || !bytes.Contains(panicked.Stderr, []byte("goroutine 1")) {
		t.Errorf("panic: exit %d, stdout %q, stderr %.200q", panicked.Exit, panicked.Stdout, panicked.Stderr)
	}
}
