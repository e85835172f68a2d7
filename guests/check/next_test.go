package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The guest of each language lets its request go on, with the same changes in the form of docs/middleware.md.
func TestNext(t *testing.T) {
	languages := map[string]string{"go": "Go"}
	for directory, language := range prebuiltLanguages {
		languages[directory] = language
	}
	for directory, language := range languages {
		files := map[string]string{"built": filepath.Join("..", "build", directory+"-next.wasm")}
		if directory != "go" {
			files["prebuilt"] = filepath.Join("..", directory, "next", "next.wasm")
		}
		for kind, file := range files {
			t.Run(directory+"/"+kind, func(t *testing.T) {
				if _, err := os.Stat(file); err != nil && kind == "built" {
					t.Skip("not built here")
				}
				result := run(t, load(t, file), Call{Stdin: []byte(`{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"t"}` + "\n")})
				if result.Trap != nil || result.Exit != 0 {
					t.Fatalf("it ended with %v, code %d; stderr: %s", result.Trap, result.Exit, result.Stderr)
				}
				var got map[string]any
				if err := json.Unmarshal(result.Stdout, &got); err != nil {
					t.Fatalf("%v: %s", err, result.Stdout)
				}
				// Names of headers are the same in any case, and no values mean the same as null.
				for _, key := range []string{"headers", "response_headers"} {
					headers := map[string]any{}
					object, _ := got[key].(map[string]any)
					for name, values := range object {
						lower := strings.ToLower(name)
						if _, twice := headers[lower]; twice {
							t.Errorf("%s has %s twice", key, name)
						}
						headers[lower] = fmt.Sprint(values)
						if values == nil {
							headers[lower] = "[]"
						}
					}
					got[key] = headers
				}
				if got["status"] == 0.0 {
					delete(got, "status")
				}
				want := map[string]any{
					"next": true, "method": "PUT", "uri": "/v2/" + directory + "?a=b",
					"headers":          map[string]any{"x-language": "[" + language + "]", "x-two": "[1 2]", "cookie": "[]"},
					"vars":             map[string]any{"language": language},
					"response_headers": map[string]any{"x-frame-options": "[DENY]", "link": `[</a>; rel="preload" </b>]`, "server": "[]"},
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %v\nwant %v", got, want)
				}
			})
		}
	}
}

// The smallest one changes nothing.
func TestWatNext(t *testing.T) {
	result := run(t, load(t, built(t, "wat-next")), Call{})
	if result.Trap != nil || result.Exit != 0 || string(result.Stdout) != "{\"next\":true}\n" {
		t.Errorf("got %q, %v, code %d", result.Stdout, result.Trap, result.Exit)
	}
}
