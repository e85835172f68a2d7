package gojinn

import (
	"errors"
	"net/http"
	"strconv"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// writeResponse sends the function's answer. The engine has checked it: status, names and values are fit for the wire, and
// what frames a message is gone from the headers.
func writeResponse(w http.ResponseWriter, r *http.Request, answer *engine.Answer) error {
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
		// For HEAD net/http looks at the body, for the Content-Type, and sends none of it.
		_, err = w.Write(body)
	}
	// By now the header is sent, or a handler around this one (intercept, say) holds the answer back and may send another
	// body in its place, with these headers. The length is of this one.
	if now := header["Content-Length"]; len(ours) > 0 && len(now) > 0 && &now[0] == &ours[0] {
		delete(header, "Content-Length")
	}
	return err
}

// defaultStatus is the status of an answer that names none: 200, and in handle_errors that of the error, as with Caddy's own
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

// setHeaders puts the function's headers over those that Caddy's handlers set before: they replace, except for the three
// that are lists by nature. A length below zero is not sent, and neither is one that was set before.
func setHeaders(header http.Header, answer *engine.Answer, length int) {
	// One allocation for the bytes of all headers and one for all values: this is done for every request.
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

// view is b as a string, for bytes that nobody writes to again.
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
