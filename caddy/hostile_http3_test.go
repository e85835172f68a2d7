// Hostile clients over HTTP/3.

package gojinn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// newHTTP3Server returns a server as newTLSServer does, and a client for HTTP/3.
func newHTTP3Server(t *testing.T) (s *server, client *http.Client, running, cancelled *atomic.Int64) {
	t.Helper()
	if raceEnabled {
		t.Skip("Caddy starts its app tls after a listener of HTTP/3 that uses it, and a packet tells the race detector of no order")
	}
	s, running, cancelled = newTLSServer(t, "max_body 200KB")
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() { transport.Close() })
	client = &http.Client{Transport: transport, Timeout: longestWait}
	eventually(t, "the certificate", func() bool {
		got, err := askHTTP3(t.Context(), s, client, "/", "x")
		return err == nil && got == "200 got x"
	})
	return s, client, running, cancelled
}

func askHTTP3(ctx context.Context, s *server, client *http.Client, path, body string) (string, error) {
	return askOver(ctx, 3, s, client, path, body)
}

// Streams that are reset at any moment cancel their calls, and those beside them are answered. A client that goes with its whole
// connection cancels all of them.
func TestHTTP3StreamsThatAreReset(t *testing.T) {
	s, client, running, cancelled := newHTTP3Server(t)
	for range 15 {
		var streams sync.WaitGroup
		for i := range 10 {
			ctx, reset := context.WithCancel(t.Context())
			before := running.Load()
			streams.Go(func() {
				defer reset()
				if i%2 == 0 {
					want := strings.Repeat("y", i*1000)
					if got, err := askHTTP3(ctx, s, client, "/", want); err != nil || got != "200 got "+want {
						t.Errorf("a stream beside others that were reset: %d bytes, %v", len(got), err)
					}
					return
				}
				if i > 3 {
					// These are reset when a call runs, the others at once.
					go func() {
						eventually(t, "a call to run", func() bool { return running.Load() > before || ctx.Err() != nil })
						reset()
					}()
				} else {
					go reset()
				}
				if got, err := askHTTP3(ctx, s, client, "/wait", strings.Repeat("x", 100_000)); !errors.Is(err, context.Canceled) {
					t.Errorf("a stream that was reset: %q, %v", got, err)
				}
			})
		}
		streams.Wait()
	}
	eventually(t, "all calls to be cancelled", func() bool {
		return cancelled.Load() == running.Load() && s.fake.Permits.Load() == 0
	})

	gone := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	before := running.Load()
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if got, err := askHTTP3(t.Context(), s, &http.Client{Transport: gone}, "/wait", ""); err == nil {
				t.Errorf("a client that has gone got %q", got)
			}
		})
	}
	eventually(t, "the calls to run", func() bool { return running.Load() == before+20 })
	gone.Close()
	waiting.Wait()
	eventually(t, "all calls to be cancelled", func() bool {
		return cancelled.Load() == running.Load() && s.fake.Permits.Load() == 0
	})
}

// Bodies that are too long and headers that are too many are refused, as is a body that is shorter than it says, and
// the next request is answered.
func TestHTTP3FloodsAndLies(t *testing.T) {
	s, client, _, _ := newHTTP3Server(t)
	if got, err := askHTTP3(t.Context(), s, client, "/", strings.Repeat("x", 300_000)); err != nil || !strings.HasPrefix(got, "413 ") {
		t.Errorf("a body that is too long: %.40q, %v", got, err)
	}
	r, err := http.NewRequest("POST", "https://"+s.addr+"/", io.LimitReader(strings.NewReader("short"), 5))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 50
	// The client may end the stream with an error before it has seen the answer.
	if res, err := client.Do(r); err == nil {
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("a body that is shorter than it says: %d %q", res.StatusCode, text)
		}
	}
	r, err = http.NewRequest("GET", "https://"+s.addr+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		r.Header.Add("X-Flood", fmt.Sprintf("%0100d", i))
	}
	if res, err := client.Do(r); err == nil {
		res.Body.Close()
		if res.StatusCode < 400 {
			t.Errorf("2 MB of headers: %d", res.StatusCode)
		}
	}
	if got, err := askHTTP3(t.Context(), s, client, "/", "x"); err != nil || got != "200 got x" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	eventually(t, "everything to be given back", func() bool {
		return s.fake.Permits.Load() == 0 && s.fake.Memory.Load() <= maxSpare+memoryUnit
	})
}

// Streams of bytes that are no HTTP/3 end their own connection.
func TestHTTP3Garbage(t *testing.T) {
	s, client, _, _ := newHTTP3Server(t)
	for name, bytes := range map[string]string{
		"nothing":                        "",
		"noise":                          "\xff\xfe\xfd\xfc GET / HTTP/1.1\r\n\r\n",
		"data before headers":            "\x00\x03abc",
		"headers that are no QPACK":      "\x01\x06\xff\xff\xff\xff\xff\xff",
		"headers that are longer":        "\x01\x80\x10\x00\x00\x00\x00",
		"a frame of 2^62 bytes":          "\x01\xff\xff\xff\xff\xff\xff\xff\xff",
		"a frame of HTTP/2":              "\x06\x00",
		"settings on a request's stream": "\x04\x00",
		"headers without a method":       "\x01\x03\x00\x00\xd1",
		"a push promise":                 "\x05\x03\x00\x00\x00",
	} {
		connection, err := quic.DialAddr(t.Context(), s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}}, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for range 5 {
			// After the first the server may have closed the connection.
			stream, err := connection.OpenStream()
			if err != nil {
				break
			}
			_, _ = io.WriteString(stream, bytes)
			stream.Close()
		}
		if got, err := askHTTP3(t.Context(), s, client, "/", name); err != nil || got != "200 got "+name {
			t.Errorf("beside %s: %q, %v", name, got, err)
		}
		_ = connection.CloseWithError(0, "")
	}
	eventually(t, "everything to be given back", func() bool { return s.fake.Permits.Load() == 0 })
}
