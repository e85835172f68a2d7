// This file reads the bodies of requests, within the memory of all calls.

package gojinn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

const (
	// shortBody is how much of a body is read before any of it is counted. Caddy's own buffers of a connection have as much.
	shortBody = 64 << 10
	// bodyStep is how much memory a longer body takes at once, as it arrives.
	bodyStep = 256 << 10
	// unknownBody is how much room a longer body of unknown length gets at first.
	unknownBody = 1 << 20
)

// incoming is the body of a request: in a small buffer that is used again, in a large one, or in a file while memory has no room
// for it.
type incoming struct {
	small []byte
	large []byte
	file  *spooled
	held  holding
}

// read reads the whole body, at most limit bytes. Bodies are read before admission, so that a stalled upload holds no permit.
func (b *incoming) read(r *http.Request, limit int64, m *memory) error {
	b.reset()
	if r.Body == nil || r.Body == http.NoBody || isTunnel(r) {
		return nil
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	if b.small == nil {
		b.small = make([]byte, 0, firstBody(r.ContentLength))
	}
	for len(b.small) < shortBody {
		if len(b.small) == cap(b.small) {
			b.small = append(b.small, 0)[:len(b.small)]
		}
		room := b.small[len(b.small):min(cap(b.small), shortBody)]
		n, err := r.Body.Read(room)
		b.small = b.small[:len(b.small)+n]
		if end, err := b.after(r, err, int64(len(b.small)), limit); end {
			return err
		}
	}
	return b.readLong(r, limit, m)
}

// reset makes it an empty body.
func (b *incoming) reset() {
	b.done()
	b.small = b.small[:0]
}

// firstBody is how many bytes are made room for at first. A client may send less than it announces.
func firstBody(announced int64) int64 {
	if announced <= 0 {
		return 512
	}
	return min(announced+1, shortBody)
}

// after says whether a read that returned err was the last one, and what came of the body, which has size bytes so far.
func (b *incoming) after(r *http.Request, err error, size, limit int64) (end bool, failed error) {
	switch {
	case size > limit:
		return true, tooLarge(limit)
	case errors.Is(err, io.EOF) && r.ProtoMajor == 3 && size < r.ContentLength:
		// quic-go takes the end of the stream for the end of the body.
		return true, caddyhttp.Error(http.StatusBadRequest,
			fmt.Errorf("the request's body has %d bytes, and its Content-Length is %d", size, r.ContentLength))
	case errors.Is(err, io.EOF):
		return true, nil
	case err != nil:
		return true, bodyError(r, err)
	default:
		return false, nil
	}
}

// readLong reads what follows the first bytes.
func (b *incoming) readLong(r *http.Request, limit int64, m *memory) error {
	b.held = holding{memory: m, class: &m.arriving}
	// One more, to see the end or a byte too many.
	room := r.ContentLength + 1
	if r.ContentLength <= 0 {
		room = unknownBody
	}
	if err := b.enlarge(room, limit, b.small); err != nil {
		return b.toFile(r, limit, m, b.small, err)
	}
	for {
		size := len(b.large)
		// A body whose length is unknown, or other than announced: an earlier handler may have replaced it.
		if size == cap(b.large) {
			if err := b.enlarge(2*int64(size), limit, b.large); err != nil {
				return b.toFile(r, limit, m, b.large, err)
			}
		}
		if int64(size) >= b.held.bytes && !b.held.take(bodyStep) {
			return b.toFile(r, limit, m, b.large, nil)
		}
		room := b.large[size:min(cap(b.large), int(b.held.bytes))]
		n, err := r.Body.Read(room)
		b.large = b.large[:size+n]
		if end, err := b.after(r, err, int64(len(b.large)), limit); end {
			return err
		}
	}
}

// enlarge makes a large buffer with room for more bytes, up to one beyond limit, and first in it.
func (b *incoming) enlarge(room, limit int64, first []byte) error {
	large, err := engine.NewBuffer(int(max(min(room, limit+1), int64(len(first)))))
	if err != nil {
		return err
	}
	n := copy(large, first)
	engine.FreeBuffer(b.large)
	b.large = large[:n]
	return nil
}

// toFile writes the body to a file: first, which has arrived, and what follows.
func (b *incoming) toFile(r *http.Request, limit int64, m *memory, first []byte, why error) error {
	file, err := m.spool.open()
	if err != nil {
		return noRoom(errors.Join(why, err))
	}
	b.file = file
	_, err = file.Write(first)
	b.free()
	if err != nil {
		return noRoom(err)
	}
	piece := b.small[:min(cap(b.small), shortBody)]
	for {
		n, err := r.Body.Read(piece)
		if _, failed := file.Write(piece[:n]); failed != nil {
			return noRoom(failed)
		}
		if end, err := b.after(r, err, file.size, limit); end {
			return err
		}
	}
}

// keptBody is a body that was read for a function, for the next handler. It holds the body's memory until free.
type keptBody struct {
	io.Closer
	// mu keeps a read from running while the body is freed: a transport may read after the handler has returned.
	mu   sync.Mutex
	body incoming
	rest *bytes.Reader
}

// keep returns the body for the next handler, in place of the one that it was read from.
func (b *incoming) keep(from io.Closer) *keptBody {
	kept := &keptBody{Closer: from, body: *b}
	*b = incoming{}
	kept.rest = bytes.NewReader(kept.body.bytes())
	return kept
}

// Read implements io.Reader.
func (k *keptBody) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rest == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	return k.rest.Read(p)
}

// free frees the memory. Later reads fail, as those of net/http's bodies do once their handler has returned.
func (k *keptBody) free() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rest = nil
	k.body.done()
}

// noRoom is the error for a body that neither memory nor a file has room for.
func noRoom(err error) error {
	return caddyhttp.Error(http.StatusServiceUnavailable,
		fmt.Errorf("the memory of all calls (max_memory) is full, and the request's body cannot be written to a file: %w", err))
}

// load makes the body available as bytes, which may have to wait for memory.
func (b *incoming) load(ctx context.Context, timeout time.Duration, m *memory) error {
	if b.file == nil {
		b.held.leaveClass()
		return nil
	}
	b.held = holding{memory: m}
	size := b.file.size
	if err := m.within(ctx, timeout, func() bool { return b.held.take(size) }); err != nil {
		return err
	}
	large, err := engine.NewBuffer(int(size))
	if err != nil {
		return noRoom(err)
	}
	b.large = large
	if err := b.file.rewind(); err != nil {
		return noRoom(err)
	}
	if _, err := io.ReadFull(b.file.file, b.large); err != nil {
		return noRoom(err)
	}
	b.file.close()
	b.file = nil
	return nil
}

// bytes returns the body, after load.
func (b *incoming) bytes() []byte {
	if b.large != nil {
		return b.large
	}
	return b.small
}

// free frees all memory but the small buffer.
func (b *incoming) free() {
	engine.FreeBuffer(b.large)
	b.large = nil
	b.held.give()
}

// done frees all that is kept outside of the small buffer.
func (b *incoming) done() {
	b.free()
	b.file.close()
	b.file = nil
}
