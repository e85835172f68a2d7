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
// that never reach a guest (the hop-by-hop ones, and Proxy); writeHead drops those that the client named in `Connection`.
func writeHead(head *engine.Head, r *http.Request, t *traced, length int64, more []header) {
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
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	request.ClientIP, _ = vars[caddyhttp.ClientIPVarKey].(string)
	trusted, _ := vars[caddyhttp.TrustedProxyVarKey].(bool)
	if original, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		request.OriginalURI = asciiURI(original.RequestURI)
	}
	head.Reset(&request)

	forwarded := forwardedHeaders(r, trusted)
	named := namedAwayBy(r)
	for name, values := range r.Header {
		switch name {
		case "Host", "Connection", "Content-Length", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host":
			continue
		case "Traceparent", "Tracestate":
			if t.traceparent != "" {
				continue
			}
		}
		for _, v := range values {
			if named == nil || !named.has(name, v) {
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
	for _, h := range forwarded {
		if h.value != "" {
			head.Header(h.name, h.value)
		}
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

// forwardedHeaders returns the X-Forwarded-* headers by the rules of reverse_proxy: those of the client are used only if the
// server trusts it. A header with an empty value is not sent.
func forwardedHeaders(r *http.Request, trusted bool) [3]header {
	out := [3]header{{name: "X-Forwarded-For"}, {name: "X-Forwarded-Proto"}, {name: "X-Forwarded-Host"}}

	client := ""
	if r.RemoteAddr == "@" {
		// The clients of a Unix socket have no addresses.
		if !trusted {
			return out
		}
	} else {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			return out
		}
		client, _, _ = strings.Cut(host, "%")
	}

	prior := func(name string) (values []string, omit bool) {
		values, present := r.Header[name]
		if present && values == nil {
			return nil, true // net/http's way to say that the header must not be sent
		}
		if !trusted {
			return nil, false
		}
		return values, false
	}
	last := func(values []string, otherwise string) string {
		if len(values) > 0 && values[len(values)-1] != "" {
			return values[len(values)-1]
		}
		return otherwise
	}

	if values, omit := prior("X-Forwarded-For"); !omit {
		chain := strings.Join(values, ", ")
		switch {
		case chain == "":
			chain = client
		case client != "":
			chain += ", " + client
		}
		out[0].value = chain
	}
	if values, omit := prior("X-Forwarded-Proto"); !omit {
		out[1].value = last(values, scheme(r))
	}
	if values, omit := prior("X-Forwarded-Host"); !omit {
		out[2].value = last(values, r.Host)
	}
	return out
}

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
