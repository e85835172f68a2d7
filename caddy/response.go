package gojinn

import (
	"net/http"
	"strconv"
	"unsafe"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// writeResponse sends the function's answer. The engine has checked it: status, names and values are fit for the wire, and
// what frames a message is gone from the headers.
func writeResponse(w http.ResponseWriter, r *http.Request, answer *engine.Answer) error {
	bodyless := answer.Status == http.StatusNoContent || answer.Status == http.StatusNotModified
	length := len(answer.Body)
	if bodyless || length == 0 && r.Method == http.MethodHead {
		length = -1
	}
	setHeaders(w.Header(), answer, length)
	w.WriteHeader(answer.Status)
	if bodyless || length <= 0 {
		return nil
	}
	// For HEAD net/http looks at the body, for the Content-Type, and sends none of it.
	_, err := w.Write(answer.Body)
	return err
}

// setHeaders puts the function's headers over those that Caddy's handlers set before: they replace, except for the three
// that are lists by nature. A length below zero is not sent.
func setHeaders(header http.Header, answer *engine.Answer, length int) {
	// One allocation for the bytes of all headers and one for all values: this is done for every request.
	const digits = 20
	text := make([]byte, 0, answer.HeaderBytes()+digits)
	values := make([]string, 0, answer.HeaderCount+1)
	var seen [32]string
	names := seen[:0]

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
