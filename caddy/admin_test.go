package gojinn

import (
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
