// Package servertest tests the store on NATS with a server, which runs in this process.
package servertest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pauloappbr/gojinn/caddy/kv"
	"github.com/pauloappbr/gojinn/caddy/kv/kvtest"
	"github.com/pauloappbr/gojinn/caddy/kv/nats"
)

// start runs a server with its data in a directory, at a port, or at any if that is -1.
func start(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
		SyncAlways: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	return s
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func open(t *testing.T, n *nats.NATS) kv.Store {
	t.Helper()
	if err := n.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	store, err := n.Open("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func TestStore(t *testing.T) {
	s := start(t, t.TempDir(), -1)
	defer stop(s)
	kvtest.Run(t, open(t, &nats.NATS{URL: s.ClientURL()}), 0)
}

// Other programs read and write the bucket with the usual client.
func TestOtherPrograms(t *testing.T) {
	s := start(t, t.TempDir(), -1)
	defer stop(s)
	ctx := context.Background()
	store := open(t, &nats.NATS{URL: s.ClientURL(), Bucket: "shared"})
	if err := store.Set(ctx, "ours/a.b", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	conn, err := client.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(ctx, "shared")
	if err != nil {
		t.Fatal(err)
	}
	if entry, err := bucket.Get(ctx, "ours/a=2Eb"); err != nil || string(entry.Value()) != "1" {
		t.Errorf("they read %v %v", entry, err)
	}
	if _, err := bucket.PutString(ctx, "theirs", "2"); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.PutString(ctx, "theirs.with.dots", "3"); err != nil {
		t.Fatal(err)
	}
	if value, err := store.Get(ctx, "theirs"); err != nil || string(value) != "2" {
		t.Errorf("we read %q %v", value, err)
	}
	if keys, _, err := store.List(ctx, "", "", 10); err != nil || strings.Join(keys, " ") != "ours/a.b theirs" {
		t.Errorf("listed %q %v", keys, err)
	}
	if err := bucket.Delete(ctx, "theirs"); err != nil {
		t.Fatal(err)
	}
	if there, err := store.Exists(ctx, "theirs"); there || err != nil {
		t.Errorf("a key that they deleted: %v %v", there, err)
	}
	if err := store.Delete(ctx, "ours/a.b"); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Get(ctx, "ours/a=2Eb"); err == nil {
		t.Error("a key that we deleted is there for them")
	}

	if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "old"}); err != nil {
		t.Fatal(err)
	}
	old := open(t, &nats.NATS{URL: s.ClientURL(), Bucket: "old"})
	if err := old.Set(ctx, "k", nil, 0); err == nil {
		t.Error("a bucket without times for messages is used")
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, -1)
	port := s.Addr().(*net.TCPAddr).Port
	defer func() { stop(s) }()
	store := open(t, &nats.NATS{URL: s.ClientURL()})
	kvtest.Restart(t, store, "127.0.0.1", func() { stop(s) }, func() { s = start(t, dir, port) })
}
