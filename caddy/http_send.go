// This file has the operation http.send.

package gojinn

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// UnmarshalJSON implements json.Unmarshaler.
func (v *headerValues) UnmarshalJSON(text []byte) error {
	var one string
	if len(text) > 0 && text[0] == '"' {
		err := json.Unmarshal(text, &one)
		*v = []string{one}
		return err
	}
	var many []*string
	if err := json.Unmarshal(text, &many); err != nil {
		return errors.New("want strings, or arrays of strings")
	}
	for _, value := range many {
		if value == nil {
			return errors.New("a value is null")
		}
		*v = append(*v, *value)
	}
	return nil
}

// responseHead is the head of the reply of http.send.
type responseHead struct {
	Status  int                 `json:"status"`
	URL     string              `json:"url"`
	Headers map[string][]string `json:"headers"`
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
	reply, err := encodeReply(responseHead{
		Status: response.StatusCode, URL: from.String(), Headers: outbound.ResponseHeader(response.Header),
	})
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
	var timeout int64
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
	if timeout < 0 {
		return nil, 0, badRequest("timeout_ms is %d, want 1 or more", timeout)
	}
	wait = maxDuration
	if timeout > 0 && timeout < maxDuration.Milliseconds() {
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
