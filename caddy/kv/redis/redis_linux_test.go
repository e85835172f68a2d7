// Tests of the store on a Redis server, which they start.

package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/pauloappbr/gojinn/caddy/kv"
	"github.com/pauloappbr/gojinn/caddy/kv/kvtest"
)

func open(t *testing.T, r *Redis) kv.Store {
	t.Helper()
	if err := r.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	store, err := r.Open("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func TestStore(t *testing.T) {
	s := kvtest.StartRedis(t)
	odd := "[app*]\\1:"
	for _, prefix := range []*string{nil, &odd} {
		t.Run(fmt.Sprint("prefix ", prefix != nil), func(t *testing.T) {
			kvtest.Run(t, open(t, &Redis{URL: s.URL(), Prefix: prefix}), 0)
		})
	}
}

// Two stores on one server do not see each other, and other programs see plain keys.
func TestPrefix(t *testing.T) {
	s := kvtest.StartRedis(t)
	ctx := context.Background()
	one := open(t, &Redis{URL: s.URL()})
	prefix := "two:"
	two := open(t, &Redis{URL: s.URL(), Prefix: &prefix})
	if err := errors.Join(one.Set(ctx, "k", []byte("1"), 0), two.Set(ctx, "k", []byte("2"), 0)); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket})
	defer client.Close()
	if a, b := client.Get(ctx, "test:k").Val(), client.Get(ctx, "two:k").Val(); a != "1" || b != "2" {
		t.Errorf("Redis has %q and %q", a, b)
	}
	client.LPush(ctx, "two:list", "x")
	if _, err := two.Get(ctx, "list"); err == nil || !strings.Contains(err.Error(), "not a plain value") {
		t.Errorf("a list: %v", err)
	}
	if keys, _, err := one.List(ctx, "", "", 10); err != nil || len(keys) != 1 {
		t.Errorf("listed %q %v", keys, err)
	}
}

func TestRestart(t *testing.T) {
	s := kvtest.StartRedis(t)
	kvtest.Restart(t, open(t, &Redis{URL: s.URL()}), s.Dir, s.Stop, s.Start)
}

func TestSettings(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "redis://",
		"http://127.0.0.1":             "invalid URL scheme",
		"redis://:hunter2@host:x/0":    "port",
		"redis://:hunter2@host/x":      "database",
		"redis://h\x7f:hunter2@host/0": "control character",
		"{env.GOJINN_TEST_UNSET}":      "GOJINN_TEST_UNSET",
		"{http.request.host}":          "http.request.host",
	} {
		err := (&Redis{URL: text}).Provision(caddy.Context{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	t.Setenv("GOJINN_TEST_REDIS", "redis://:hunter2@10.0.0.1:7000/3")
	r := &Redis{URL: "{env.GOJINN_TEST_REDIS}"}
	if err := r.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if o := r.options; o.Addr != "10.0.0.1:7000" || o.Password != "hunter2" || o.DB != 3 || strings.Contains(r.Key("x"), "hunter2") {
		t.Errorf("the options are %+v, the key is %s", o, r.Key("x"))
	}
	if r.Key("a") == r.Key("b") {
		t.Error("two stores with different prefixes have the same key")
	}
}
