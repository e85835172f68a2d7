package gojinn

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func TestTraceID(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	fresh := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for _, c := range []struct{ traceparent, requestID, want string }{
		{"00-" + id + "-" + span + "-01", "abc", id},
		{"cc-" + id + "-" + span + "-01-more", "", id},
		{"", "abc", "abc"},
		{"", "A.b_c-9", "A.b_c-9"},
		{"", strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{"00-" + id + "-" + span + "-01-more", "abc", "abc"},
		{"00-" + strings.ToUpper(id) + "-" + span + "-01", "abc", "abc"},
		{"00-" + strings.Repeat("0", 32) + "-" + span + "-01", "abc", "abc"},
		{"00-" + id + "-" + strings.Repeat("0", 16) + "-01", "abc", "abc"},
		{"ff-" + id + "-" + span + "-01", "abc", "abc"},
		{"00-" + id, "abc", "abc"},
		{"", "", ""},
		{"", "a b", ""},
		{"", "né", ""},
		{"", strings.Repeat("x", 65), ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if c.traceparent != "" {
			r.Header.Set("Traceparent", c.traceparent)
		}
		if c.requestID != "" {
			r.Header.Set("X-Request-Id", c.requestID)
		}
		got := startTrace(r, "f")
		if c.want == "" && fresh.MatchString(got.id) {
			continue
		}
		if got.id != c.want || got.traceparent != "" {
			t.Errorf("%q, %q: got %q and %q, want %q", c.traceparent, c.requestID, got.id, got.traceparent, c.want)
		}
	}
	if randomTraceID() == randomTraceID() {
		t.Error("two fresh ids are the same")
	}
}

func TestSpan(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Request-Id", "abc")
	ctx, parent := provider.Tracer("test").Start(r.Context(), "request")
	traced := startTrace(r.WithContext(ctx), "hello")
	traced.end(engine.OutcomeTrap)
	parent.End()

	spans := recorder.Ended()
	if len(spans) != 2 || spans[0].Name() != "gojinn hello" || spans[0].Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Fatalf("got the spans %v", spans)
	}
	want := "00-" + parent.SpanContext().TraceID().String() + "-" + spans[0].SpanContext().SpanID().String() + "-01"
	if traced.traceparent != want || traced.id != parent.SpanContext().TraceID().String() || !traced.sampled {
		t.Errorf("got %+v, want the traceparent %s", traced, want)
	}
}
