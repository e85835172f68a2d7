// Tests of the store on NATS that need no server; those with a server are in the module servertest.

package nats

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func TestKeys(t *testing.T) {
	for key, want := range map[string]string{
		"a": "a", "a/b-c_D9": "a/b-c_D9", "a.b": "a=2Eb", "*>": "=2A=3E", "=": "=3D", "ü": "=C3=BC", " ": "=20", strings.Repeat(".", kv.MaxKey): strings.Repeat("=2E", kv.MaxKey),
	} {
		got := encodeKey(key)
		if got != want {
			t.Errorf("%q is written as %s, want %s", key, got, want)
		}
		if back, ok := decodeKey(got); !ok || back != key {
			t.Errorf("%q came back as %q", key, back)
		}
	}
	for _, foreign := range []string{"a.b", "=", "=2", "=2e", "=41", "=zz", "*"} {
		if key, ok := decodeKey(foreign); ok {
			t.Errorf("%q, which is not ours, is %q", foreign, key)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, n := range []*NATS{
		{}, {URL: "http://x"}, {URL: "nats://"}, {URL: "nats://user:hunter2@h\x7f"}, {URL: "nats://a,redis://b"}, {URL: "nats://a", Bucket: "a.b"},
		{URL: "nats://a", Replicas: 6}, {URL: "nats://a", Replicas: -1}, {URL: "{env.GOJINN_TEST_UNSET}"}, {URL: "nats://a", Credentials: "{http.request.host}"},
	} {
		if err := n.Provision(caddy.Context{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v", n, err)
		}
	}
	t.Setenv("GOJINN_TEST_NATS", "nats://user:hunter2@10.0.0.1")
	n := &NATS{URL: "{env.GOJINN_TEST_NATS}"}
	if err := n.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if n.bucket("x") != "gojinn_x" || strings.Contains(n.Key("x"), "hunter2") || n.Key("x") == n.Key("y") {
		t.Errorf("the key is %s", n.Key("x"))
	}
}

// Without a server a store opens, and its operations fail within moments.
func TestNoServer(t *testing.T) {
	n := &NATS{URL: "nats://127.0.0.1:1"}
	if err := n.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	s, err := n.Open("test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Set(ctx, "k", nil, 0); err == nil || err.Error() != "NATS did not answer" || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}
