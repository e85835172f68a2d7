// This file writes the response of a function.

package gojinn

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// writeResponse sends the function's answer. The engine has checked the status and the headers, and removed those that frame a
// message.
func writeResponse(w http.ResponseWriter, r *http.Request, x *exchange) error {
	answer := &x.result.Answer
	status, body := answer.Status, answer.Body
	if !answer.NamesStatus {
		status = defaultStatus(r)
	}
	length := len(body)
	switch {
	case status == http.StatusNoContent, status == http.StatusNotModified:
		body, length = nil, -1
	case status == http.StatusResetContent:
		body, length = nil, 0
	case length == 0 && r.Method == http.MethodHead:
		length = -1
	}
	header := w.Header()
	setHeaders(header, answer, length)
	ours := header["Content-Length"]
	w.WriteHeader(status)
	var err error
	if len(body) > 0 {
		// For HEAD, net/http detects the Content-Type by the body, and does not send it.
		err = x.answered.send(w, body, x.result.Answer.Free)
	}
	// The header is sent by now, unless an outer handler such as intercept holds the answer back. That handler may send another
	// body with these headers, for which our length would be wrong.
	if now := header["Content-Length"]; len(ours) > 0 && len(now) > 0 && &now[0] == &ours[0] {
		delete(header, "Content-Length")
	}
	return err
}

// send writes a body to the client, which holds the memory. If the answers that are being written have more memory than their
// share, it is written to a file first, and free frees its memory.
func (h *holding) send(w http.ResponseWriter, body []byte, free func()) error {
	if file := h.spool(body); file != nil {
		defer file.close()
		free()
		h.give()
		_, err := io.Copy(w, file.file)
		return err
	}
	_, err := w.Write(body)
	return err
}

// spool copies the body to a file, if that is necessary and possible.
func (h *holding) spool(body []byte) *spooled {
	m := h.memory
	if h.bytes == 0 || m.share == 0 || m.answers.Load() <= m.share {
		return nil
	}
	file, err := m.spool.open()
	if err != nil {
		return nil
	}
	if _, err = file.Write(body); err == nil {
		err = file.rewind()
	}
	if err != nil {
		file.close()
		return nil
	}
	return file
}

// defaultStatus returns the status of an answer that has none: 200, or in handle_errors that of the error, as for Caddy's
// handlers.
func defaultStatus(r *http.Request) int {
	err, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	if !ok {
		return http.StatusOK
	}
	if failed := (caddyhttp.HandlerError{}); errors.As(err, &failed) && failed.StatusCode >= 200 && failed.StatusCode <= 999 {
		return failed.StatusCode
	}
	return http.StatusInternalServerError
}

// setHeaders adds the function's headers to those that Caddy's handlers have set. A header replaces an earlier one of its name,
// but Set-Cookie, Vary and Link are added to it. length is the Content-Length; below zero, there is none.
func setHeaders(header http.Header, answer *engine.Answer, length int) {
	// Every request does this, so all bytes share one allocation, and all values another one.
	const digits = 20
	text := make([]byte, 0, answer.HeaderBytes()+digits)
	values := make([]string, 0, answer.HeaderCount+1)
	var seen [32]string
	names := seen[:0]

	delete(header, "Content-Length")
	if length >= 0 {
		text = strconv.AppendInt(text, int64(length), 10)
		values = append(values, view(text))
		header["Content-Length"] = values[0:1:1]
	}
	headers := answer.Headers()
	for name, value, ok := headers.Next(); ok; name, value, ok = headers.Next() {
		// http.CanonicalHeaderKey allocates nothing for a name that is common or canonical.
		text = append(text, name...)
		key := http.CanonicalHeaderKey(view(text[len(text)-len(name):]))
		text = append(text, value...)
		values = append(values, view(text[len(text)-len(value):]))
		last := len(values) - 1

		switch key {
		case "Content-Length":
			// Only programs of CGI may set it. A response with this status has no body.
			if answer.Status == http.StatusNoContent || answer.Status == http.StatusResetContent {
				continue
			}
		case "Set-Cookie", "Vary", "Link":
			header[key] = append(header[key], values[last])
			continue
		}
		if contains(names, key) {
			header[key] = append(header[key], values[last])
			continue
		}
		names = append(names, key)
		header[key] = values[last : last+1 : last+1]
	}
}

// view returns b as a string without copying it. b must not change afterwards.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
