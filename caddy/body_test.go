// Tests of bodies: how they are read, and what they take of the memory of all calls.

package gojinn

import (
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// newTestMemory returns the account of a fake engine with that much memory; 0 is as much as there is.
func newTestMemory(t *testing.T, most int64) *memory {
	t.Helper()
	e, err := new(enginetest.Fake).New(&engine.Config{MaxMemory: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return newMemory(e, most)
}

// taken returns how much the plugin has taken of the engine's memory.
func (m *memory) taken() int64 {
	m.flush()
	taken := int64(0)
	for unit := int64(1) << 40; unit > 0; unit /= 2 {
		if m.engine.TakeMemory(unit) {
			taken += unit
		}
	}
	m.engine.GiveMemory(taken)
	return 4*m.share - taken
}

// A body is read as it was sent, however it is cut into reads, and whatever the buffers contained before.
func TestReadBody(t *testing.T) {
	m := newTestMemory(t, 64<<20)
	var b incoming
	for _, size := range []int{0, 1, 511, 512, 513, 4096, shortBody - 1, shortBody, shortBody + 1, bodyStep, bodyStep + 1, 2_999_999, 3_000_000} {
		want := strings.Repeat("0123456789", size/10+1)[:size]
		for name, cut := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader, "by halves": iotest.HalfReader,
			"with its end": iotest.DataErrReader,
		} {
			// A handler before ours may have replaced the body and left the length.
			for _, length := range []int64{-1, int64(size), 1, 70_000, 3_000_000} {
				r := httptest.NewRequest("POST", "/", cut(strings.NewReader(want)))
				r.ContentLength = length
				err := b.read(r, 3_000_000, m)
				if err == nil {
					err = b.load(t.Context(), time.Minute, m)
				}
				if err != nil || string(b.bytes()) != want {
					t.Errorf("%d bytes %s, announced as %d: got %d, %v", size, name, length, len(b.bytes()), err)
				}
				b.done()
			}
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Body = nil
	if err := b.read(r, 1, m); err != nil || len(b.bytes()) != 0 {
		t.Errorf("no body: %d bytes, %v", len(b.bytes()), err)
	}
	if got := m.taken(); got != 0 {
		t.Errorf("%d bytes are still taken", got)
	}
}

// Over HTTP/3 the end of a stream is taken for the end of a body: only its length says that it is cut.
func TestReadBodyThatIsCut(t *testing.T) {
	m := newTestMemory(t, 64<<20)
	var b incoming
	for _, size := range []int{0, 1, shortBody, bodyStep} {
		r := httptest.NewRequest("POST", "/", iotest.DataErrReader(strings.NewReader(strings.Repeat("x", size))))
		r.ProtoMajor, r.ContentLength = 3, int64(size)+1
		var failed caddyhttp.HandlerError
		if err := b.read(r, 3_000_000, m); !errors.As(err, &failed) || failed.StatusCode != 400 {
			t.Errorf("%d bytes of %d: %v", size, r.ContentLength, err)
		}
		b.done()
	}
	if got := m.taken(); got != 0 {
		t.Errorf("%d bytes are still taken", got)
	}
}

// A client that announces gigabytes and sends a byte costs no memory, and one that sends too much is refused as soon as it does.
func TestReadBodyOfUnlikelyLength(t *testing.T) {
	m := newTestMemory(t, 64<<20)
	b := new(incoming)
	r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
	r.ContentLength = 4 << 30
	if err := b.read(r, 4<<30, m); err != nil || string(b.bytes()) != "x" || cap(b.bytes()) > 2<<20 {
		t.Errorf("a promise: %d bytes of %d, %v", len(b.bytes()), cap(b.bytes()), err)
	}
	for _, limit := range []int64{1, 100, shortBody, 1 << 20} {
		endless := new(counter)
		r := httptest.NewRequest("POST", "/", endless)
		r.ContentLength = -1
		var failed caddyhttp.HandlerError
		err := b.read(r, limit, m)
		if !errors.As(err, &failed) || failed.StatusCode != 413 || endless.read > limit+shortBody {
			t.Errorf("limit %d: %v after %d bytes", limit, err, endless.read)
		}
		b.done()
	}
	if got := m.taken(); got != 0 {
		t.Errorf("%d bytes are still taken", got)
	}
}

// counter is an endless reader.
type counter struct{ read int64 }

func (c *counter) Read(b []byte) (int, error) {
	c.read += int64(len(b))
	return len(b), nil
}

// Bodies that arrive slowly take their share of the memory and no more; those beyond it are in files, and whole when memory is free.
func TestBodiesBeyondTheirShare(t *testing.T) {
	m := newTestMemory(t, 32<<20)
	want := strings.Repeat("0123456789abcdef", 5<<20/16)
	bodies := make([]incoming, 8)
	for i := range bodies {
		r := httptest.NewRequest("POST", "/", iotest.HalfReader(strings.NewReader(want)))
		if err := bodies[i].read(r, 10<<20, m); err != nil {
			t.Fatal(err)
		}
		if taken := m.arriving.Load(); taken > m.share {
			t.Fatalf("bodies have taken %d bytes, their share is %d", taken, m.share)
		}
	}
	if bodies[0].file != nil || bodies[1].file == nil {
		t.Fatal("one body has room in memory, and the others have not")
	}
	for i := range bodies {
		if err := bodies[i].load(t.Context(), time.Minute, m); err != nil || string(bodies[i].bytes()) != want {
			t.Errorf("body %d: %d bytes, %v", i, len(bodies[i].bytes()), err)
		}
		if i > 3 {
			bodies[i].done()
		}
	}
	// Four are in memory, so two more have room for a while and then not.
	if !m.take(10 << 20) {
		t.Fatal("memory is full too early")
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(want))
	if err := bodies[7].read(r, 10<<20, m); err != nil {
		t.Fatal(err)
	}
	if bodies[7].file == nil {
		t.Fatal("there was room")
	}
	if err := bodies[7].load(t.Context(), time.Millisecond, m); !errors.Is(err, errMemoryFull) {
		t.Errorf("got %v, want that memory is full", err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		bodies[0].done()
	}()
	if err := bodies[7].load(t.Context(), time.Minute, m); err != nil || string(bodies[7].bytes()) != want {
		t.Errorf("after another body was gone: %d bytes, %v", len(bodies[7].bytes()), err)
	}
	<-gone
	for i := range bodies {
		bodies[i].done()
	}
	m.give(10 << 20)
	if got := m.taken(); got != 0 || m.arriving.Load() != 0 {
		t.Errorf("%d bytes are still taken", got)
	}
	if room := m.spool.room.Load(); room != spoolFactor*32<<20 {
		t.Errorf("%d bytes of files are missing", spoolFactor*32<<20-room)
	}
}

// If files are full as well, the request is refused.
func TestBodyForWhichThereIsNoRoom(t *testing.T) {
	m := newTestMemory(t, 32<<20)
	m.spool.room.Store(3 << 20)
	if !m.take(32 << 20) {
		t.Fatal("memory is full too early")
	}
	var b incoming
	for _, size := range []int{4 << 20, 3<<20 + 1} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", size)))
		var failed caddyhttp.HandlerError
		if err := b.read(r, 10<<20, m); !errors.As(err, &failed) || failed.StatusCode != 503 || !errors.Is(err, errSpoolFull) {
			t.Errorf("%d bytes: got %v, want 503", size, err)
		}
		b.done()
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 3<<20)))
	if err := b.read(r, 10<<20, m); err != nil {
		t.Error(err)
	}
	b.done()
	if room := m.spool.room.Load(); room != 3<<20 {
		t.Errorf("files have room for %d bytes", room)
	}
}
