// This file has the operation http.send.

package gojinn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pauloappbr/gojinn/caddy/internal/outbound"
)

func init() {
	registerOperation("http.send", sendHTTP)
}

// headerValues are the values of one header: a string, or an array of strings.
type headerValues []string

// UnmarshalJSON implements json.Unmarshaler. What is neither a string nor an array gets here; null is no values.
func (v *headerValues) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	return errHeaderValue
}

// appendResponseHead appends the head of the reply of http.send and its newline, as encoding/json writes it, in less time.
func appendResponseHead(reply []byte, status int, from string, headers map[string][]string) ([]byte, error) {
	reply = strconv.AppendInt(append(reply, `{"status":`...), int64(status), 10)
	reply, err := appendText(append(reply, `,"url":`...), from)
	reply = append(reply, `,"headers":{`...)
	for i, name := range slices.Sorted(maps.Keys(headers)) {
		if i > 0 {
			reply = append(reply, ',')
		}
		var failed error
		reply, failed = appendText(reply, name)
		err = errors.Join(err, failed)
		reply = append(reply, ":["...)
		for j, value := range headers[name] {
			if j > 0 {
				reply = append(reply, ',')
			}
			reply, failed = appendText(reply, value)
			err = errors.Join(err, failed)
		}
		reply = append(reply, ']')
	}
	return append(reply, "}}\n"...), err
}

// appendText appends a JSON string.
func appendText(to []byte, text string) ([]byte, error) {
	plain := true
	for i := 0; i < len(text) && plain; i++ {
		plain = text[i] >= 0x20 && text[i] < 0x7f && text[i] != '"' && text[i] != '\\'
	}
	if plain {
		return append(append(append(to, '"'), text...), '"'), nil
	}
	quoted, err := encodeReply(text)
	return append(to, bytes.TrimSuffix(quoted, []byte{'\n'})...), err
}

func sendHTTP(c *guestCall, text []byte) ([]byte, error) {
	request, wait, err := c.httpRequest(text)
	if err != nil {
		return nil, err
	}
	settings := c.handler.Outbound
	if settings == nil {
		return nil, notAllowed(request.Origin)
	}
	ctx, cancel := context.WithTimeout(c.ctx, min(wait, time.Duration(settings.Timeout)))
	defer cancel()
	request.Before = func(origin outbound.Origin) error {
		if !settings.allows(origin) {
			return notAllowed(origin)
		}
		if c.use.httpRequests >= settings.MaxRequests {
			return failed("the function has sent %d requests, as many as max_requests of its outbound allows", settings.MaxRequests)
		}
		c.use.httpRequests++
		return nil
	}
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.String("http.request.method", request.Method))
	}
	response, from, err := settings.client.Send(ctx, request)
	if err != nil {
		return nil, c.sendError(ctx, request.Origin, err)
	}
	defer response.Body.Close()
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.Int("http.response.status_code", response.StatusCode))
	}
	head := make([]byte, 0, 1<<10+max(0, min(response.ContentLength, settings.MaxResponse, 64<<10)))
	reply, err := appendResponseHead(head, response.StatusCode, from.String(), outbound.ResponseHeader(response.Header))
	if err != nil {
		return nil, err
	}
	if reply, err = outbound.AppendBody(reply, response, settings.MaxResponse); err != nil {
		return nil, c.sendError(ctx, request.Origin, err)
	}
	return reply, nil
}

// httpRequest reads and checks a request. wait is the longest time that the guest wants to wait.
func (c *guestCall) httpRequest(text []byte) (request *outbound.Request, wait time.Duration, err error) {
	method, target, redirect := http.MethodGet, "", "follow"
	var headers map[string]headerValues
	timeout := int64(notGiven)
	body, err := decodeRequest(text, map[string]any{
		"method": &method, "url": &target, "headers": &headers, "redirect": &redirect, "timeout_ms": &timeout,
	})
	if err != nil {
		return nil, 0, err
	}
	if err := outbound.CheckMethod(method); err != nil {
		return nil, 0, badRequest("%v", err)
	}
	if redirect != "follow" && redirect != "manual" {
		return nil, 0, badRequest("redirect is %.64q, want follow or manual", redirect)
	}
	if timeout != notGiven && timeout < 1 {
		return nil, 0, badRequest("timeout_ms is %d, want 1 or more", timeout)
	}
	wait = maxDuration
	if timeout != notGiven && timeout < maxDuration.Milliseconds() {
		wait = time.Duration(timeout) * time.Millisecond
	}
	request = &outbound.Request{Method: method, Body: body, Follow: redirect == "follow"}
	if request.URL, request.Origin, err = outbound.ParseURL(target); err != nil {
		return nil, 0, badRequest("%v", err)
	}
	written := make(map[string][]string, len(headers))
	for name, values := range headers {
		written[name] = values
	}
	if request.Header, err = outbound.RequestHeader(written, request.URL.Host); err != nil {
		return nil, 0, badRequest("%v", err)
	}
	c.setTraceHeaders(request.Header)
	if _, ok := request.Header["User-Agent"]; !ok {
		request.Header["User-Agent"] = []string{"Gojinn"}
	}
	return request, wait, nil
}

// setTraceHeaders makes the server that is called a part of the trace: below the span of this call, else where the guest says, else
// below the span that called the function.
func (c *guestCall) setTraceHeaders(header http.Header) {
	if c.span.IsRecording() {
		delete(header, "Traceparent")
		delete(header, "Tracestate")
		propagation.TraceContext{}.Inject(trace.ContextWithSpan(c.ctx, c.span), propagation.HeaderCarrier(header))
		return
	}
	if _, ok := header["Traceparent"]; ok || traceparentID(c.use.traceparent) == "" {
		return
	}
	header["Traceparent"] = []string{c.use.traceparent}
	if c.use.tracestate != "" {
		header["Tracestate"] = []string{c.use.tracestate}
	}
}

func notAllowed(origin outbound.Origin) error {
	return denied(origin.String(), fmt.Sprintf("`allow %s` in `outbound { … }` of gojinn", origin))
}

// sendError returns the error of a request that has no response.
func (c *guestCall) sendError(ctx context.Context, origin outbound.Origin, err error) error {
	var e *callError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, outbound.ErrAddress):
		return denied(
			fmt.Sprintf("an address of the host of %s, which is private, local or otherwise special,", origin),
			fmt.Sprintf("`allow_private <addresses of %s>` in `outbound { … }` of gojinn", origin.Host))
	case errors.Is(err, outbound.ErrTooLarge):
		return callTooLarge("%v", err)
	case c.ctx.Err() != nil:
		return &callError{code: codeFailed, text: "the call has ended", outcome: "cancelled", cause: err}
	case ctx.Err() != nil:
		return &callError{code: codeFailed, text: "there was no complete response in time", outcome: "timeout", cause: err}
	default:
		return &callError{code: codeFailed, text: connectionError(err), cause: err}
	}
}

// connectionError says why a connection failed, without the address that the host has.
func connectionError(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the host has no address"
	case errors.As(err, &dns):
		return "the host's address could not be looked up"
	case errors.As(err, &certificate):
		return "the server's certificate is refused: " + certificate.Err.Error()
	case errors.As(err, &errno):
		return "the connection failed: " + errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection before its response was complete"
	case errors.Is(err, outbound.ErrRedirects), errors.Is(err, outbound.ErrSwitched):
		return err.Error()
	}
	if operation := (*net.OpError)(nil); errors.As(err, &operation) {
		// Its text has the address.
		err = operation.Err
	}
	return "there is no valid response: " + err.Error()
}
