package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// built is the file of a freshly built guest; a test whose guest was not built is skipped with the reason.
func built(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join("..", "build", name+".wasm")
	if _, err := os.Stat(file); err != nil {
		language, _, _ := strings.Cut(name, "-")
		t.Skipf("%s is not built here: make -C guests %s says why", name, language)
	}
	return file
}

// load compiles a guest, once for all tests: a Go guest takes seconds.
func load(t *testing.T, file string) *Guest {
	t.Helper()
	if loaded[file] == nil {
		guest, err := Load(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		loaded[file] = guest
	}
	return loaded[file]
}

var loaded = map[string]*Guest{}

// run gives a guest one request.
func run(t *testing.T, guest *Guest, call Call) *Result {
	t.Helper()
	result, err := guest.Run(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// respond gives a guest one request that it must answer.
func respond(t *testing.T, guest *Guest, call Call) *Response {
	t.Helper()
	response, err := run(t, guest, call).Response()
	if err != nil {
		t.Fatal(err)
	}
	return response
}
