// This file serves the operations that guests call: it finds the operation, and counts, traces and logs the call.

package gojinn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// operation serves one call of a guest. request and reply are as docs/outbound.md says: a JSON object, a newline, bytes. An error
// that is no *callError is a failure, and its text must be fit for the guest.
type operation func(c *guestCall, request []byte) (reply []byte, err error)

// operations has what guests can call, by name. Each family of operations is a file that adds its own, before any config is
// loaded.
var operations = map[string]operation{}

func registerOperation(name string, serve operation) {
	if _, taken := operations[name]; taken {
		panic("gojinn: two operations are named " + name)
	}
	operations[name] = serve
}

// The codes of calls that have no reply, as in docs/outbound.md.
const (
	codeUnknown    int32 = -1
	codeDenied     int32 = -2
	codeBadRequest int32 = -3
	codeFailed     int32 = -4
	codeTooLarge   int32 = -5
	codeNotFound   int32 = -7
)

// callError is why a call has no reply.
type callError struct {
	code int32
	// text is for the guest. It contains nothing that the guest may not know: no address that a name has, and no secret.
	text string
	// outcome is the label of the metrics, if it is not that of the code.
	outcome string
	// wanted and line are set for codeDenied: what the guest asked for, and the Caddyfile's line that gives it.
	wanted, line string
	// cause is for the log at the debug level only.
	cause error
}

func (e *callError) Error() string { return e.text }

func (e *callError) Unwrap() error { return e.cause }

// denied returns the error for something that the Caddyfile does not give to the function. line is the line to add.
func denied(wanted, line string) error {
	return &callError{code: codeDenied, text: wanted + " is not given to this function; the Caddyfile lacks: " + line, wanted: wanted, line: line}
}

func badRequest(format string, args ...any) error {
	return &callError{code: codeBadRequest, text: fmt.Sprintf(format, args...)}
}

func failed(format string, args ...any) error {
	return &callError{code: codeFailed, text: fmt.Sprintf(format, args...)}
}

func callTooLarge(format string, args ...any) error {
	return &callError{code: codeTooLarge, text: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &callError{code: codeNotFound, text: fmt.Sprintf(format, args...)}
}

// callUse is what one request to a function has used of its limits, and its trace. Its operations run one after the other.
type callUse struct {
	trace *traced
	// traceparent and tracestate are those of the incoming request, for calls out of a request that Caddy does not trace.
	traceparent, tracestate string
	httpRequests            int
	storeCalls              int
}

// newCallUse returns that of a request which has called nothing yet.
func newCallUse(r *http.Request, t *traced) *callUse {
	return &callUse{
		trace:       t,
		traceparent: r.Header.Get("Traceparent"),
		tracestate:  strings.Join(r.Header.Values("Tracestate"), ","),
	}
}

type callUseKey struct{}

// withCallUse returns a context for the operations of one request.
func withCallUse(ctx context.Context, use *callUse) context.Context {
	return context.WithValue(ctx, callUseKey{}, use)
}

// guestCall is one call of an operation.
type guestCall struct {
	// ctx ends with the client, the deadline or the server.
	ctx     context.Context
	handler *Handler
	use     *callUse
	span    trace.Span
}

// maxErrorText is the longest text of an error, in bytes, so that guests know how much memory holds it.
const maxErrorText = 1024

// hostCall serves an operation that a guest called. ctx is from withCallUse, and ends with the client, the deadline or the server.
// A code below 0 says that there is no reply; reply then has a text that says why.
func (h *Handler) hostCall(ctx context.Context, name string, request []byte) (reply []byte, code int32) {
	start := time.Now()
	serve, known := operations[name]
	label := name
	if !known {
		// Never a name that a guest chose.
		label = "unknown"
		serve = func(*guestCall, []byte) ([]byte, error) {
			return nil, &callError{code: codeUnknown, text: fmt.Sprintf("there is no operation %.64q", name)}
		}
	}
	use, _ := ctx.Value(callUseKey{}).(*callUse)
	if use == nil {
		panic("gojinn: a host call without a callUse")
	}
	c := &guestCall{ctx: ctx, handler: h, use: use, span: trace.SpanFromContext(context.Background())}
	if t := use.trace; t != nil && t.traceparent != "" {
		c.ctx, c.span = t.span.TracerProvider().Tracer(tracerName).Start(trace.ContextWithSpan(ctx, t.span), label,
			trace.WithSpanKind(trace.SpanKindClient))
	}
	reply, err := serve(c, request)
	outcome := "ok"
	if err != nil {
		reply, code, outcome = h.callFailed(ctx, label, err)
	}
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.String("gojinn.outcome", outcome))
		if err != nil {
			c.span.SetStatus(codes.Error, outcome)
		}
		c.span.End()
	}
	h.hostCallMeters.observe(label, outcome, time.Since(start))
	return reply, code
}

// callFailed returns text, code and outcome of a call that has no reply, and logs what the Caddyfile lacks.
func (h *Handler) callFailed(ctx context.Context, name string, err error) (text []byte, code int32, outcome string) {
	var e *callError
	if !errors.As(err, &e) {
		e = &callError{code: codeFailed, text: err.Error()}
	}
	outcome = e.outcome
	switch {
	case ctx.Err() != nil && e.code == codeFailed:
		outcome = "cancelled"
	case outcome == "":
		outcome = outcomeOfCode(e.code)
	}
	if e.code == codeDenied {
		h.logDenied(name, e)
	} else if e.cause != nil {
		h.logger.Debug("an operation that a function called failed",
			zap.String("function", h.functionName()), zap.String("operation", name), zap.String("reason", escapeControl(e.text)),
			zap.String("cause", escapeControl(e.cause.Error())))
	}
	message := strings.ToValidUTF8(e.text, "\uFFFD")
	if len(message) > maxErrorText {
		message = strings.ToValidUTF8(message[:maxErrorText], "")
	}
	return []byte(message), e.code, outcome
}

func outcomeOfCode(code int32) string {
	switch code {
	case codeUnknown:
		return "unknown"
	case codeDenied:
		return "denied"
	case codeBadRequest:
		return "bad_request"
	case codeTooLarge:
		return "too_large"
	case codeNotFound:
		return "not_found"
	default:
		return "failed"
	}
}

// encodeReply returns the head of a reply, to which bytes may be appended.
func encodeReply(head any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	// The encoder writes the newline.
	err := encoder.Encode(head)
	return b.Bytes(), err
}

// emptyHead is the head of a reply that has bytes or nothing. It is never changed.
const emptyHead = "{}\n"
