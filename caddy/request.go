// This file reads a request and writes its head for the engine.

package gojinn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// statusClientGone is the status in the log of a request whose client went away. No client receives it.
const statusClientGone = 499

// writeHead writes the head of a request whose body has length bytes, but for the per-request values. The engine drops the headers
// that never reach a guest (the hop-by-hop ones, and Proxy); writeHead drops what is withheld.
func writeHead(head *engine.Head, r *http.Request, t *traced, noter *clientNoter, length int64, more []header) {
	ctx := r.Context()
	request := engine.Request{
		Method:     r.Method,
		URI:        originForm(r),
		TraceID:    t.id,
		RemoteAddr: r.RemoteAddr,
		Scheme:     scheme(r),
		Host:       r.Host,
		Proto:      r.Proto,
	}
	vars := requestVars(r)
	request.ClientIP, _ = vars[caddyhttp.ClientIPVarKey].(string)
	if original, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		request.OriginalURI = asciiURI(original.RequestURI)
	}
	head.Reset(&request)

	withheld := withheldOf(vars, noter)
	for name, values := range r.Header {
		switch name {
		case "Host", "Connection", "Content-Length":
			continue
		case "Traceparent", "Tracestate":
			if t.traceparent != "" {
				continue
			}
		}
		for _, v := range values {
			if !withheld.has(name, v) {
				head.Header(name, v)
			}
		}
	}
	// An earlier handler may have replaced the client's body, so the length is that of the body we have. A request that did not
	// announce a length gets no such header.
	if _, ok := r.Header["Content-Length"]; ok || r.ContentLength > 0 {
		head.Header("Content-Length", strconv.FormatInt(length, 10))
	}
	for _, h := range more {
		head.Header(h.name, h.value)
	}
	if t.traceparent != "" {
		head.Header("Traceparent", t.traceparent)
		if t.tracestate != "" {
			head.Header("Tracestate", t.tracestate)
		}
	}
	head.EndHeaders()
}

// writePerRequest writes the per-request values of env and args.
func writePerRequest(head *engine.Head, r *http.Request, perRequest []value, body []byte) error {
	if len(perRequest) > 0 {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		// Placeholders that depend on the body in other ways, such as those of `map`, read it from the request and restore it.
		read := r.Body
		r.Body = io.NopCloser(bytes.NewReader(body))
		defer func() { r.Body = read }()
		for i := range perRequest {
			text, err := perRequest[i].expand(repl, body)
			if err != nil {
				return err
			}
			head.PerRequest(text)
		}
	}
	return nil
}

// originForm returns the request's path and query after all rewrites, in ASCII.
func originForm(r *http.Request) string {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	query := r.URL.RawQuery
	if query == "" && !r.URL.ForceQuery {
		return asciiURI(path)
	}
	// Usually nothing was rewritten, and the client's text is the same.
	uri := r.RequestURI
	if len(uri) == len(path)+1+len(query) && uri[len(path)] == '?' && uri[:len(path)] == path && uri[len(path)+1:] == query {
		return asciiURI(uri)
	}
	return asciiURI(path + "?" + query)
}

// asciiURI percent-encodes the bytes that the origin form of a URI cannot contain. A rewrite can add such bytes.
func asciiURI(s string) string {
	bad := 0
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' {
			bad++
		}
	}
	if bad == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2*bad)
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func scheme(r *http.Request) string {
	if r.TLS == nil {
		return "http"
	}
	return "https"
}

type header struct{ name, value string }

func tooLarge(limit int64) error {
	return caddyhttp.Error(http.StatusRequestEntityTooLarge,
		fmt.Errorf("the request's body is larger than max_body, %d bytes", limit))
}

// bodyError returns the error for a body that could not be read, with a status that depends on the cause.
func bodyError(r *http.Request, err error) error {
	var ours caddyhttp.HandlerError
	var large *http.MaxBytesError
	var timeout interface{ Timeout() bool }
	wrapped := fmt.Errorf("reading the request's body: %w", err)
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &large):
		return caddyhttp.Error(http.StatusRequestEntityTooLarge, wrapped)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return caddyhttp.Error(http.StatusRequestTimeout, wrapped)
	case r.Context().Err() != nil, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled),
		errors.Is(err, net.ErrClosed), isConnectionError(err):
		return caddyhttp.Error(statusClientGone, wrapped)
	default:
		return caddyhttp.Error(http.StatusBadRequest, wrapped)
	}
}

func isConnectionError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
