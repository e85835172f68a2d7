// Tests of the admin API.

package gojinn

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func TestPurgeCache(t *testing.T) {
	s := newServer(t)
	var purge func() (engine.Purged, error)
	s.fake.Purge = func() (engine.Purged, error) { return purge() }
	const path = "/gojinn/cache/purge"

	s.mustLoad("{\n admin ADMIN\n}\nADDR {\n respond hello\n}\n")
	if res := s.post(path); res.StatusCode != 409 || !strings.Contains(res.body, "no function") {
		t.Errorf("without a function: got %d %s", res.StatusCode, res.body)
	}
	s.mustLoad(s.simple())
	for _, c := range []struct {
		purged engine.Purged
		err    error
		status int
		want   string
	}{
		{engine.Purged{Entries: 2, Bytes: 4096}, nil, 200, `{"entries":2,"bytes":4096}`},
		{engine.Purged{}, &engine.Error{Code: engine.CodeBadConfig, Message: "there is no artifact cache: it is off"}, 409, "it is off"},
		{engine.Purged{}, errors.New("the disk failed"), 500, "the disk failed"},
	} {
		purge = func() (engine.Purged, error) { return c.purged, c.err }
		if res := s.post(path); res.StatusCode != c.status || !strings.Contains(res.body, c.want) {
			t.Errorf("got %d %s, want %d %s", res.StatusCode, res.body, c.status, c.want)
		}
	}
	purge = func() (engine.Purged, error) {
		t.Error("a GET has purged the cache")
		return engine.Purged{}, nil
	}
	if res := s.admin(path); res.StatusCode != 405 || res.Header.Get("Allow") != http.MethodPost {
		t.Errorf("GET: got %d %v", res.StatusCode, res.Header)
	}
}

// Two handlers with the same name: with the same module they are reloaded together, with two modules they are not.
func TestReloadByName(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.module("other.wasm", "other")
	two := func(other string) string {
		return strings.Replace(s.simple("name fn"), "route {",
			"route {\n\t\tgojinn /other {\n\t\t\tmodule DIR/"+other+"\n\t\t\tname fn\n\t\t\ttimeout 3s\n\t\t}", 1)
	}
	s.mustLoad(two("other.wasm"))
	const path = "/gojinn/functions/fn/reload"
	if res := s.post(path); res.StatusCode != 409 || !strings.Contains(res.body, "/other.wasm") || !strings.Contains(res.body, "/hello.wasm") {
		t.Errorf("two modules: got %d %s", res.StatusCode, res.body)
	}
	var list []functionInfo
	if err := json.Unmarshal([]byte(s.admin("/gojinn/functions").body), &list); err != nil || len(list) != 2 || list[0].Hash > list[1].Hash {
		t.Errorf("functions of one name are sorted by their hash: %v, %v", list, err)
	}

	s.mustLoad(two("hello.wasm"))
	s.rename("hello.wasm", "new")
	var done reloaded
	res := s.post(path)
	if err := json.Unmarshal([]byte(res.body), &done); err != nil || res.StatusCode != 200 || !done.Changed || done.Name != "fn" {
		t.Errorf("one module: got %d %s", res.StatusCode, res.body)
	}
	for _, uri := range []string{"/", "/other"} {
		if body := s.get(uri).body; body != "new" {
			t.Errorf("%s answers %q", uri, body)
		}
	}
	if res := s.post(path); !strings.Contains(res.body, `"changed":false`) {
		t.Errorf("unchanged: got %s", res.body)
	}
}

// A reload during which the config is replaced answers that it should be sent again.
func TestReloadIsOvertaken(t *testing.T) {
	s := newServer(t)
	answersModule(s)
	s.mustLoad(s.simple())
	if err := s.deployment().close(); err != nil { // as Cleanup of the config would
		t.Error(err)
	}
	s.rename("hello.wasm", "new")
	if res := s.post("/gojinn/functions/hello/reload"); res.StatusCode != 409 || !strings.Contains(res.body, "the config was replaced") {
		t.Errorf("got %d %s", res.StatusCode, res.body)
	}
}

// A config without a function has an empty list.
func TestNoFunctions(t *testing.T) {
	s := newServer(t)
	s.mustLoad("{\n admin ADMIN\n}\nADDR {\n respond hello\n}\n")
	if res := s.admin("/gojinn/functions"); res.StatusCode != 200 || strings.TrimSpace(res.body) != "[]" {
		t.Errorf("got %d %s", res.StatusCode, res.body)
	}
}
