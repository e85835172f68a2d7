// Tests of the store in a file.

package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	bolt "go.etcd.io/bbolt"

	"github.com/pauloappbr/gojinn/caddy/kv"
	"github.com/pauloappbr/gojinn/caddy/kv/kvtest"
)

// TestMain runs the process that TestKilled kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("GOJINN_TEST_WRITE_TO"); path != "" {
		if err := writeUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func open(t *testing.T, f *File) *store {
	t.Helper()
	if err := f.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	s, err := f.Open("test")
	if err != nil {
		t.Fatal(err)
	}
	return s.(*store)
}

func closeStore(t *testing.T, s kv.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStore(t *testing.T) {
	s := open(t, &File{Path: filepath.Join(t.TempDir(), "new", "store.db")})
	kvtest.Run(t, s, 0)
	closeStore(t, s)
	for what, err := range map[string]error{
		"get": func() error { _, err := s.Get(context.Background(), "x"); return err }(),
		"set": s.Set(context.Background(), "x", nil, 0),
	} {
		if err == nil || errors.Is(err, kv.ErrNotFound) {
			t.Errorf("%s of a closed store: %v", what, err)
		}
	}
}

// What was written is there when the file is opened again, with its times.
func TestOpenedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	ctx := context.Background()
	s := open(t, &File{Path: path})
	for key, ttl := range map[string]time.Duration{"stays": 0, "long": time.Hour, "short": time.Millisecond} {
		if err := s.Set(ctx, key, []byte("v"), ttl); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&File{path: path, MaxSize: defaultMaxSize}).Open("other"); err == nil || !strings.Contains(err.Error(), "open in another process") {
		t.Errorf("a second time: %v", err)
	}
	closeStore(t, s)
	time.Sleep(5 * time.Millisecond) // until the time of one key is over
	s = open(t, &File{Path: path})
	defer closeStore(t, s)
	keys, _, err := s.List(ctx, "", "", 10)
	if err != nil || strings.Join(keys, " ") != "long stays" {
		t.Errorf("there are %q %v", keys, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v %v", info.Mode(), err)
	}
}

// Keys whose time is over are deleted from the file by later writes.
func TestOldKeysAreDeleted(t *testing.T) {
	s := open(t, &File{Path: filepath.Join(t.TempDir(), "store.db")})
	defer closeStore(t, s)
	ctx := context.Background()
	for i := range 300 {
		if err := s.Set(ctx, fmt.Sprint(i), []byte("v"), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(5 * time.Millisecond) // until the time of all keys is over
	for range 4 {
		if err := s.Set(ctx, "stays", []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	err := s.db.View(func(tx *bolt.Tx) error {
		values, times := tx.Bucket(valuesBucket).Stats().KeyN, tx.Bucket(timesBucket).Stats().KeyN
		if values != 1 || times != 0 {
			t.Errorf("the file has %d values and %d times", values, times)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFull(t *testing.T) {
	s := open(t, &File{Path: filepath.Join(t.TempDir(), "store.db"), MaxSize: minMaxSize})
	defer closeStore(t, s)
	ctx := context.Background()
	value := make([]byte, 500_000)
	n := 0
	var err error
	for ; n < 100 && err == nil; n++ {
		err = s.Set(ctx, fmt.Sprint(n), value, 0)
	}
	if !errors.Is(err, errFull) || n < 4 {
		t.Fatalf("after %d values: %v", n, err)
	}
	if _, err := s.Get(ctx, "0"); err != nil {
		t.Errorf("a full store cannot be read: %v", err)
	}
	if _, err := s.Increment(ctx, "n", 1, 0); !errors.Is(err, errFull) {
		t.Errorf("a number in a full store: %v", err)
	}
	for i := range n {
		if err := s.Delete(ctx, fmt.Sprint(i)); err != nil {
			t.Fatalf("a full store cannot be emptied: %v", err)
		}
	}
	if err := s.Set(ctx, "again", value, 0); err != nil {
		t.Errorf("a store that was emptied: %v", err)
	}
	for n, err = 0, nil; n < 100 && err == nil; n++ {
		err = s.Set(ctx, fmt.Sprint(n), value, 0)
	}
	if !errors.Is(err, errFull) {
		t.Errorf("the store was not filled again: %v", err)
	}
	(&File{MaxSize: 2 * minMaxSize}).Adjust(s)
	if err := s.Set(ctx, "more", value, 0); err != nil {
		t.Errorf("a store whose bound was raised: %v", err)
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("text\n", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text: "not a file of a store", dir: "directory", filepath.Join(text, "x"): "not a directory",
	} {
		if _, err := (&File{path: path, MaxSize: defaultMaxSize}).Open("test"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if err := (&File{Path: "{http.request.host}"}).Provision(caddy.Context{}); err == nil {
		t.Error("a file for each host is accepted")
	}
}

// Each value whose write was acknowledged is there after the process was killed in the middle of others.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	acknowledged := map[string]bool{}
	for _, kill := range []int{150, 400} {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), "GOJINN_TEST_WRITE_TO="+path)
		process.Stderr = os.Stderr
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == kill {
				if err := process.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := process.Wait(); err == nil {
			t.Error("the process was not killed")
		}
		s := open(t, &File{Path: path})
		for key := range acknowledged {
			if value, err := s.Get(context.Background(), key); err != nil || string(value) != "value of "+key {
				t.Errorf("%s: %q %v", key, value, err)
			}
		}
		closeStore(t, s)
	}
	if len(acknowledged) < 550 {
		t.Errorf("only %d writes were acknowledged", len(acknowledged))
	}
}

// writeUntilKilled writes with several clients, and prints each key once it is written.
func writeUntilKilled(path string) error {
	f := &File{Path: path}
	if err := f.Provision(caddy.Context{}); err != nil {
		return err
	}
	s, err := f.Open("test")
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for client := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprint(os.Getpid(), "/", client, "/", i)
				if err := s.Set(context.Background(), key, []byte("value of "+key), 0); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				io.WriteString(os.Stdout, key+"\n")
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}
