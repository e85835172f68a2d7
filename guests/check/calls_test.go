package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// host serves operations as Gojinn does, and is strict about the form of requests.
type host struct {
	t      *testing.T
	values map[string]string
	// denied is an operation that is denied.
	denied string
	// requests are those of http.send.
	requests []string
}

func (h *host) serve(operation string, request []byte) ([]byte, int32) {
	if operation == h.denied {
		return []byte("it is \"denied\", says the test"), -2
	}
	text, body, ok := strings.Cut(string(request), "\n")
	var head map[string]any
	if err := json.Unmarshal([]byte(text), &head); !ok || err != nil {
		h.t.Errorf("%s: the request is %q: %v", operation, request, err)
		return []byte("bad"), -3
	}
	key := fmt.Sprint(head["store"], " ", head["key"])
	switch operation {
	case "secret.get":
		if head["name"] != "API_KEY" {
			return []byte("no such secret"), -7
		}
		return []byte("{}\nhunter2"), 0
	case "http.send":
		h.requests = append(h.requests, fmt.Sprint(head["method"], " ", head["url"], " ", head["headers"], " ", body))
		// Keys inside of other objects must not be taken for those of the reply.
		return []byte(`{"headers":{"Status":["x"],"X":["{\"status\":500"]},"status":203,"url":"u","other":{"status":1}}` + "\nthe \"answer\"\nto " + body), 0
	case "kv.increment":
		n, _ := strconv.ParseInt(h.values[key], 10, 64)
		delta, ok := head["delta"].(float64)
		if !ok {
			delta = 1
		}
		h.values[key] = strconv.FormatInt(n+int64(delta), 10)
		return []byte(`{"value":` + h.values[key] + "}\n"), 0
	case "kv.set":
		if head["ttl_ms"] != 60_000.0 {
			h.t.Errorf("the time is %v", head["ttl_ms"])
		}
		h.values[key] = body
		return []byte("{}\n"), 0
	case "kv.get":
		value, ok := h.values[key]
		if !ok {
			return []byte("no such key"), -7
		}
		return []byte("{}\n" + value), 0
	}
	return []byte("there is no operation " + operation), -1
}

// The guest of each language calls an API and counts visits.
func TestCalls(t *testing.T) {
	languages := map[string]string{"go": "Go"}
	for directory, language := range prebuiltLanguages {
		languages[directory] = language
	}
	for directory, language := range languages {
		files := map[string]string{"built": filepath.Join("..", "build", directory+"-calls.wasm")}
		if directory != "go" {
			files["prebuilt"] = filepath.Join("..", directory, "calls", "calls.wasm")
		}
		for kind, file := range files {
			t.Run(directory+"/"+kind, func(t *testing.T) {
				if _, err := os.Stat(file); err != nil && kind == "built" {
					t.Skip("not built here")
				}
				guest := load(t, file)
				h := &host{t: t, values: map[string]string{"visits " + directory: "9223372036854775800"}}
				call := Call{
					Stdin:      []byte(`{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"t"}` + "\n"),
					Env:        []string{"OTHER", "x", "API_URL", "https://api.example/v1?a=b&c"},
					Operations: h.serve,
				}
				for n := range 2 {
					response := respond(t, guest, call)
					want := fmt.Sprintf("the \"answer\"\nto from %s, visit %d\n", language, int64(9223372036854775801+n))
					if response.Status != 203 || string(response.Body) != want {
						t.Errorf("got %d %q, want %q", response.Status, response.Body, want)
					}
				}
				sent := fmt.Sprint(h.requests)
				for _, part := range []string{"POST https://api.example/v1?a=b&c ", "Authorization:[Bearer hunter2]", "Content-Type:[text/plain]", " from " + language} {
					if strings.Count(strings.ReplaceAll(strings.ReplaceAll(sent, ":[", ":"), "]", ""), strings.ReplaceAll(strings.ReplaceAll(part, ":[", ":"), "]", "")) != 2 {
						t.Errorf("sent %s, want %s", sent, part)
					}
				}
				for _, h.denied = range []string{"secret.get", "http.send", "kv.increment", "kv.set", "kv.get"} {
					if response := respond(t, guest, call); response.Status != 500 || !strings.Contains(string(response.Body), `it is "denied", says the test`) {
						t.Errorf("%s is denied: %d %q", h.denied, response.Status, response.Body)
					}
				}
			})
		}
	}
}
