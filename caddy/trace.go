// This file finds the trace of a request, and opens a span for its call.

package gojinn

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// traced is what a request carries through tracing.
type traced struct {
	// id is the trace id that the function gets. It is never empty.
	id string
	// traceparent and tracestate replace the request's headers of these names, unless traceparent is empty.
	traceparent, tracestate string
	// span is the call's. It records nothing if the request is not traced.
	span trace.Span
	// sampled says that the trace is kept, so that id can be an exemplar.
	sampled bool
}

// startTrace finds the request's trace id, and opens the span of the call as a child of the request's span.
//
// The id is that of the active span, else that of a valid traceparent, else a well-formed X-Request-Id, else random.
func startTrace(r *http.Request, function string) traced {
	parent := trace.SpanFromContext(r.Context())
	if sc := parent.SpanContext(); sc.IsValid() {
		t := traced{id: sc.TraceID().String(), span: parent, sampled: sc.IsSampled()}
		// Caddy sets no global provider, so we use that of the request's span.
		var ctx context.Context
		ctx, t.span = parent.TracerProvider().Tracer(tracerName).Start(r.Context(), "gojinn "+function,
			trace.WithSpanKind(trace.SpanKindInternal),
			trace.WithAttributes(attribute.String("gojinn.function", function)))
		if t.span.IsRecording() {
			headers := propagation.MapCarrier{}
			propagation.TraceContext{}.Inject(ctx, headers)
			t.traceparent, t.tracestate = headers["traceparent"], headers["tracestate"]
		}
		return t
	}
	t := traced{span: parent}
	if values := r.Header["Traceparent"]; len(values) == 1 {
		t.id = traceparentID(values[0])
	}
	if t.id == "" {
		if id := r.Header.Get("X-Request-Id"); validRequestID(id) {
			t.id = id
		}
	}
	if t.id == "" {
		t.id = randomTraceID()
	}
	return t
}

// end closes the span of the call.
func (t *traced) end(outcome engine.Outcome) {
	if t.traceparent == "" {
		return
	}
	t.span.SetAttributes(attribute.String("gojinn.outcome", outcome.String()))
	t.span.End()
}

const tracerName = "github.com/pauloappbr/gojinn/caddy"

// traceparentID returns the trace id of a W3C traceparent header, or "" if the header is not valid.
//
// propagation.TraceContext differs in two points: in version 00 it accepts a dash at the end, which the standard forbids, and
// it refuses flags that have no meaning yet, which the standard lets a receiver ignore. It also parses tracestate, which no
// call needs, and allocates; this function does not. A test compares the two in everything else.
func traceparentID(header string) string {
	// version "-" trace-id "-" parent-id "-" flags. Versions after 00 may add more after another dash.
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(header) < length || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return ""
	}
	version, id, span, flags := header[:2], header[3:35], header[36:52], header[53:55]
	switch {
	case !lowerHex(version) || !lowerHex(id) || !lowerHex(span) || !lowerHex(flags),
		version == "ff",
		version == "00" && len(header) != length,
		len(header) > length && header[length] != '-',
		strings.Trim(id, "0") == "" || strings.Trim(span, "0") == "":
		return ""
	}
	return id
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validRequestID reports whether id matches [A-Za-z0-9._-]{1,64}.
func validRequestID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func randomTraceID() string {
	var id [16]byte
	for i := 0; i < len(id); i += 8 {
		n := rand.Uint64()
		for j := range 8 {
			id[i+j] = byte(n >> (8 * j))
		}
	}
	var text [32]byte
	hex.Encode(text[:], id[:])
	return string(text[:])
}
