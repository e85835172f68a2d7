package gojinnhttp

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

// responseWriter keeps a response until the handler has returned.
type responseWriter struct {
	// header is the handler's, sent is what it was when the status was written.
	header, sent http.Header
	// status is 0 until it is written.
	status int
	body   bytes.Buffer
}

// Header is the map that the handler fills in before it writes.
func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader fixes status and headers. Informational ones go nowhere: the client gets one response.
func (w *responseWriter) WriteHeader(status int) {
	if w.status != 0 {
		fmt.Fprintf(os.Stderr, "gojinnhttp: status %d after status %d has no effect: a response has one\n", status, w.status)
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.status = status
	w.sent = w.header.Clone()
}

// Write adds to the body, after a status of 200 where none was written.
func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.writable(); err != nil {
		return 0, err
	}
	return w.body.Write(p)
}

// WriteString is Write for text.
func (w *responseWriter) WriteString(s string) (int, error) {
	if err := w.writable(); err != nil {
		return 0, err
	}
	return w.body.WriteString(s)
}

func (w *responseWriter) writable() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.status < 200 || w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return http.ErrBodyNotAllowed
	}
	return nil
}

// response is what the handler wrote.
func (w *responseWriter) response() *gojinn.Response {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	for name := range w.sent {
		// Trailers, which no function can send; a colon in a name would have the response refused.
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(w.sent, name)
		}
	}
	return &gojinn.Response{Status: w.status, Header: gojinn.Header(w.sent), Body: w.body.Bytes()}
}
