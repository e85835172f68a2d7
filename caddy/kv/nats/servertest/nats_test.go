// Package servertest tests the store on NATS with a server, which runs in this process.
package servertest

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// While the server is away operations fail, and afterwards they succeed. What was acknowledged is there.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, -1)
	port := s.Addr().(*net.TCPAddr).Port
	store := open(t, &nats.NATS{URL: s.ClientURL()})
	ctx := context.Background()
	var acknowledged, failures, sinceRestart atomic.Int64
	end := make(chan bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if _, err := store.Increment(ctx, "n", 1, 0); err != nil {
					failures.Add(1)
					if strings.Contains(err.Error(), "127.0.0.1") {
						t.Errorf("the error names the server: %v", err)
					}
					time.Sleep(time.Millisecond)
					continue
				}
				acknowledged.Add(1)
				sinceRestart.Add(1)
			}
		})
	}
	wait := func(what string, n *atomic.Int64) {
		t.Helper()
		for begin := time.Now(); n.Load() < 50; time.Sleep(time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("waited a minute for 50 %s", what)
			}
		}
	}
	wait("acknowledged writes", &acknowledged)
	stop(s)
	failures.Store(0)
	wait("failures", &failures)
	s = start(t, dir, port)
	defer func() { stop(s) }()
	sinceRestart.Store(0)
	wait("writes after the restart", &sinceRestart)
	close(end)
	wg.Wait()
	n, err := store.Increment(ctx, "n", 0, 0)
	if err != nil || n < acknowledged.Load() {
		t.Errorf("the number is %d %v, and %d additions were acknowledged", n, err, acknowledged.Load())
	}
	// A write whose answer got lost may have been done, by each client once.
	if n > acknowledged.Load()+8 {
		t.Errorf("the number is %d, but only %d additions were acknowledged", n, acknowledged.Load())
	}
}
