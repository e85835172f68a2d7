// This file reads the body of a request while a guest runs that wants it.

package gojinn

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// upload is the body of a request, of which a guest gets each part as it arrives.
//
// One read at a time runs, in a goroutine: a guest may wait for a time beside the body, and the read then goes on after that.
type upload struct {
	body io.Reader
	ctrl *http.ResponseController
	// buf is what is read into; it belongs to the goroutine while reading is true.
	buf     *[uploadPart]byte
	reading bool
	results chan uploadResult
}

// uploadPart is how many bytes of a body are read at once.
const uploadPart = 64 << 10

var uploadBuffers = sync.Pool{New: func() any { return new([uploadPart]byte) }}

type uploadResult struct {
	n   int
	err error
}

// newUpload makes the upload of a request's body, which must be closed. From now on the response may be written before the body is
// read to its end.
func newUpload(w http.ResponseWriter, r *http.Request) *upload {
	u := &upload{body: r.Body, ctrl: http.NewResponseController(w), results: make(chan uploadResult, 1)}
	// Of HTTP/1.1 only: the other versions allow it always, and then this is an error.
	_ = u.ctrl.EnableFullDuplex()
	return u
}

// next returns what has arrived of the body, at least one byte, and whether it ends with that. It returns nothing if the time
// until is over before, or ctx ends; until is negative for no time. The bytes are valid until next is called again.
func (u *upload) next(ctx context.Context, until time.Duration) (part []byte, ends bool, err error) {
	if !u.reading {
		if u.buf == nil {
			u.buf = uploadBuffers.Get().(*[uploadPart]byte)
		}
		u.reading = true
		go func() {
			n, err := u.body.Read(u.buf[:])
			u.results <- uploadResult{n, err}
		}()
	}
	var over <-chan time.Time
	if until >= 0 {
		timer := time.NewTimer(until)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case result := <-u.results:
		return u.take(result)
	case <-over:
		return nil, false, nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, false, nil
	}
	// A read that fails ends the request's context before it returns, and knows why. If the context ended otherwise, the read may
	// go on for long.
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	select {
	case result := <-u.results:
		return u.take(result)
	case <-patience.C:
		return nil, false, nil
	}
}

// take returns what a read has brought.
func (u *upload) take(result uploadResult) (part []byte, ends bool, err error) {
	u.reading = false
	switch {
	case errors.Is(result.err, io.EOF):
		return u.buf[:result.n], true, nil
	case result.err != nil:
		return nil, false, result.err
	}
	return u.buf[:result.n], false, nil
}

// close ends the read that still runs. The body must not be read afterwards.
func (u *upload) close() {
	if u == nil {
		return
	}
	if u.reading {
		// What is read after the deadline is an error at once.
		_ = u.ctrl.SetReadDeadline(time.Unix(1, 0))
		<-u.results
		u.reading = false
	}
	if u.buf != nil {
		uploadBuffers.Put(u.buf)
		u.buf = nil
	}
}
