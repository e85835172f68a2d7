// This file sends the response of a function that streams: its body goes to the client as the guest writes it.

package gojinn

import (
	"errors"
	"net/http"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// stream is a response whose head has been sent while its guest goes on.
type stream struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
	// begun says that the head has been sent; bodiless that there is no body to send.
	begun, bodiless bool
}

// errNoBody ends a stream whose client wants no body.
var errNoBody = errors.New("the response has no body")

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
		s.w.WriteHeader(status)
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
		if _, err := s.w.Write(event.Output); err != nil {
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
	if answer.Outcome != engine.OutcomeOK {
		panic(http.ErrAbortHandler)
	}
	if s.bodiless || len(answer.Body) == 0 {
		return nil
	}
	_, err := s.w.Write(answer.Body)
	return err
}

// The operation stream.flush does nothing by itself: what a guest has written to its stream leaves whenever the guest calls the host,
// and its call goes on when the client has taken it.
func init() {
	registerOperation("stream.flush", func(*guestCall, []byte) ([]byte, error) { return nil, nil })
}
