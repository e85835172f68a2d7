package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// hello is one binary of the function that every language has.
type hello struct {
	name, language, file string
}

// prebuiltLanguages are the directories with a committed hello.wasm, and how each names itself.
var prebuiltLanguages = map[string]string{
	"assemblyscript": "AssemblyScript",
	"c":              "C",
	"cpp":            "C++",
	"rust":           "Rust",
	"zig":            "Zig",
}

// hellos are all prebuilt hellos, and the freshly built ones that are there.
func hellos() []hello {
	var all []hello
	for directory, language := range prebuiltLanguages {
		all = append(all,
			hello{directory + "/prebuilt", language, filepath.Join("..", directory, "hello", "hello.wasm")},
			hello{directory + "/built", language, filepath.Join("..", "build", directory+"-hello.wasm")})
	}
	all = append(all,
		hello{"go/built", "Go", filepath.Join("..", "build", "go-hello.wasm")},
		hello{"go-reactor/built", "Go", filepath.Join("..", "build", "go-reactor.wasm")})
	all = slices.DeleteFunc(all, func(h hello) bool {
		_, err := os.Stat(h.file)
		return err != nil && !strings.HasSuffix(h.name, "/prebuilt")
	})
	slices.SortFunc(all, func(a, b hello) int { return strings.Compare(a.name, b.name) })
	return all
}

// Every binary gives the answer that the table of samples spells out: so the prebuilt and the rebuilt ones agree,
// and so do all languages.
func TestHello(t *testing.T) {
	for _, h := range hellos() {
		t.Run(h.name, func(t *testing.T) {
			guest := load(t, h.file)
			for _, s := range samples {
				result := run(t, guest, Call{Stdin: []byte(s.request)})
				got, err := result.Response()
				if err != nil {
					t.Errorf("%s: %v", s.name, err)
					continue
				}
				want := greeting(h.language, s)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s:\n got %.300q\nwant %.300q", s.name, fmt.Sprint(*got), fmt.Sprint(*want))
				}
				if len(result.Stderr) > 0 {
					t.Errorf("%s: stderr %q without --verbose", s.name, result.Stderr)
				}
			}
		})
	}
}

// What the two binaries of a language write is the same text, not only the same JSON: same order, same spacing.
func TestRebuiltWritesTheSameText(t *testing.T) {
	for directory := range prebuiltLanguages {
		t.Run(directory, func(t *testing.T) {
			rebuilt := load(t, built(t, directory+"-hello"))
			prebuilt := load(t, filepath.Join("..", directory, "hello", "hello.wasm"))
			for _, s := range samples {
				call := Call{Stdin: []byte(s.request), Args: []string{"--verbose"}}
				got, want := run(t, rebuilt, call), run(t, prebuilt, call)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: rebuilt %.300q, prebuilt %.300q", s.name, fmt.Sprint(*got), fmt.Sprint(*want))
				}
			}
		})
	}
}

func TestHelloVerbose(t *testing.T) {
	args := []string{"--verbose", `a"b\`, "ü😀", "", "line\nbreak"}
	for _, h := range hellos() {
		t.Run(h.name, func(t *testing.T) {
			result := run(t, load(t, h.file), Call{Stdin: []byte(`{}`), Args: args})
			if _, err := result.Response(); err != nil {
				t.Fatal(err)
			}
			line, found := strings.CutPrefix(string(result.Stderr), "hello: verbose, args=")
			if !found || !strings.HasSuffix(line, "]\n") || strings.Count(line, "\n") != 1 {
				t.Fatalf("stderr %q, want one line", result.Stderr)
			}
			var got []string
			if err := json.Unmarshal([]byte(line), &got); err != nil || !slices.Equal(got, args) {
				t.Errorf("stderr says %q (%v), want %q", got, err, args)
			}
		})
	}
}

func TestHelloRefusesBadRequests(t *testing.T) {
	for _, h := range hellos() {
		t.Run(h.name, func(t *testing.T) {
			guest := load(t, h.file)
			for _, request := range badRequests {
				result := run(t, guest, Call{Stdin: []byte(request)})
				if result.Trap != nil || result.Exit != 1 || len(result.Stdout) > 0 || !strings.HasPrefix(string(result.Stderr), "hello: ") {
					t.Errorf("%q: exit %d, trap %v, stdout %q, stderr %q", request, result.Exit, result.Trap, result.Stdout, result.Stderr)
				}
			}
		})
	}
}

// Half of a surrogate pair is no Unicode text, so the host never sends one. Rust's library refuses it; the others read U+FFFD.
func TestHelloLoneSurrogates(t *testing.T) {
	const request = `{"method":"\ud800","uri":"\udc00x\ud800\u0041","trace_id":"\ud800\ud83d\ude00"}`
	want := sample{method: "\uFFFD", uri: "\uFFFDx\uFFFDA", trace: "\uFFFD😀"}
	for _, h := range hellos() {
		t.Run(h.name, func(t *testing.T) {
			result := run(t, load(t, h.file), Call{Stdin: []byte(request)})
			if h.language == "Rust" {
				if result.Exit != 1 {
					t.Errorf("exit %d, want 1", result.Exit)
				}
				return
			}
			got, err := result.Response()
			if err != nil {
				t.Fatal(err)
			}
			if want := greeting(h.language, want); got.Body != want.Body {
				t.Errorf("body %q, want %q", got.Body, want.Body)
			}
		})
	}
}

func TestGoHelloShowsDatabaseHost(t *testing.T) {
	for _, name := range []string{"go-hello", "go-reactor"} {
		t.Run(name, func(t *testing.T) {
			got := respond(t, load(t, built(t, name)), Call{Stdin: []byte(`{}`), Env: []string{"DB_HOST", "db.internal"}})
			if want := []string{"db.internal"}; !slices.Equal(got.Headers["X-Db-Host"], want) {
				t.Errorf("headers %v, want X-Db-Host %v", got.Headers, want)
			}
		})
	}
}

// greeting is the answer to a sample.
func greeting(language string, s sample) *Response {
	return &Response{
		Status:  200,
		Headers: map[string][]string{"Content-Type": {"text/plain"}},
		Body:    fmt.Sprintf("Hello from %s: %s %s trace=%s\n", language, s.method, s.uri, s.trace),
	}
}
