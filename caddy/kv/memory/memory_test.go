// Tests of the store in memory.

package memory

import (
	"context"
	"fmt"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/kv"
	"github.com/pauloappbr/gojinn/caddy/kv/kvtest"
)

func open(t *testing.T, m *Memory) kv.Store {
	t.Helper()
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	store, err := m.Open("test")
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestStore(t *testing.T) {
	kvtest.Run(t, open(t, &Memory{}), 0)
}

// The key that was unused for longest is dropped first.
func TestBound(t *testing.T) {
	s := open(t, &Memory{MaxSize: minMaxSize}).(*store)
	ctx := context.Background()
	value := make([]byte, 100_000)
	for i := range 100 {
		if err := s.Set(ctx, fmt.Sprint(i), value, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, "0"); err != nil {
			t.Fatalf("a key that is used was dropped after %d others", i)
		}
		if s.size > s.most || int64(len(s.entries))*100_000 > s.size {
			t.Fatalf("%d keys have %d bytes", len(s.entries), s.size)
		}
	}
	if there, _ := s.Exists(ctx, "50"); there {
		t.Error("an old key is still there")
	}
	if there, _ := s.Exists(ctx, "99"); !there {
		t.Error("the newest key is gone")
	}
	if err := (&Memory{MaxSize: 1}).Provision(caddy.Context{}); err == nil {
		t.Error("a size below that of a value is accepted")
	}
}
