// This file sends the response of a function that streams: its body goes to the client as the guest writes it.

package gojinn

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// stream is a response whose head has been sent while its guest goes on.
type stream struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
	// begun says that the head has been sent; bodiless that there is no body to send.
	begun, bodiless bool
	// announced is the Content-Length that the guest has set, or negative; sent is how much of the body was written.
	announced, sent int64
	// overran says that the guest has written more than that.
	overran bool
	// headAt is when the head was sent.
	headAt time.Time
}

// Why a stream ends before its guest does, or is cut at its end.
var (
	errNoBody = errors.New("the response has no body")
	errLength = errors.New("the function has written another number of bytes than its Content-Length")
)

// take sends what came with an event: the head, and a part of the body. It blocks while the client does not read. An error means
// that nothing more can be sent.
func (s *stream) take(r *http.Request, event *engine.Event) error {
	if event.HasHead {
		head := &event.Head
		status := head.Status
		if !head.NamesStatus {
			status = defaultStatus(r)
		}
		setHeaders(s.w.Header(), head, -1)
		s.announced = -1
		if length := s.w.Header()["Content-Length"]; len(length) == 1 {
			// The engine has checked that it is a number.
			s.announced, _ = strconv.ParseInt(length[0], 10, 64)
		}
		s.w.WriteHeader(status)
		s.headAt = time.Now()
		s.ctrl, s.begun = http.NewResponseController(s.w), true
		s.bodiless = r.Method == http.MethodHead || status == http.StatusNoContent ||
			status == http.StatusResetContent || status == http.StatusNotModified
	}
	if !s.begun {
		return nil
	}
	if s.bodiless {
		return errNoBody
	}
	if len(event.Output) > 0 {
		n, err := s.w.Write(event.Output)
		s.sent += int64(n)
		if s.overran = errors.Is(err, http.ErrContentLength); err != nil {
			return err
		}
	} else if !event.HasHead {
		return nil
	}
	// Some writers cannot flush, such as one that holds responses back; the response is whole at its end all the same.
	if err := s.ctrl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// end sends the rest of the body. If the guest did not end well it cuts the connection instead, so that no client takes what it
// has got for the whole.
func (s *stream) end(answer *engine.Answer) error {
	if s.overran {
		return errLength
	}
	if answer.Outcome != engine.OutcomeOK {
		panic(http.ErrAbortHandler)
	}
	if s.bodiless {
		return nil
	}
	if len(answer.Body) > 0 {
		n, err := s.w.Write(answer.Body)
		if s.sent += int64(n); err != nil && !errors.Is(err, http.ErrContentLength) {
			return err
		}
	}
	if s.announced >= 0 && s.sent != s.announced {
		return errLength
	}
	return nil
}

// The operation stream.flush does nothing by itself: what a guest has written to its stream leaves whenever the guest calls the host,
// and its call goes on when the client has taken it.
func init() {
	registerOperation("stream.flush", func(*guestCall, []byte) ([]byte, error) { return nil, nil })
}
