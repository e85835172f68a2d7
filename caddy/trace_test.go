// Tests of traces.

package gojinn

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

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

// The header is read as OpenTelemetry reads it, apart from what the comment on traceparentID names.
func TestTraceparentIsReadAsOpenTelemetryReadsIt(t *testing.T) {
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	library := func(header string) string {
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": header})
		if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
			return sc.TraceID().String()
		}
		return ""
	}
	check := func(header string) {
		t.Helper()
		ours, theirs := traceparentID(header), library(header)
		first := strings.HasPrefix(header, "00-")
		switch {
		case first && strings.HasSuffix(header, "-") && len(header) == len(valid)+1:
			theirs = ""
		case first && len(header) == len(valid) && header[53:] > "03" && lowerHex(header[53:]):
			theirs = library(header[:53] + "01")
		}
		if ours != theirs {
			t.Errorf("%q: got %q, want %q", header, ours, theirs)
		}
	}
	for _, version := range []string{"00", "01", "cc", "fe", "ff", "FE", "0", "000", ""} {
		for _, end := range []string{"", "-", "--", "-x", "-01", ".", "0", " "} {
			check(version + valid[2:] + end)
		}
	}
	for _, flags := range []string{"00", "01", "02", "03", "04", "80", "ff", "0F", "0g", "1"} {
		check(valid[:53] + flags)
	}
	for i := range len(valid) {
		check(valid[:i])
		check(valid[i:])
		for _, c := range "-0fFg .\x00é" {
			check(valid[:i] + string(c) + valid[i+1:])
			check(valid[:i] + string(c) + valid[i:])
		}
	}
	zeros := strings.Repeat("0", 32)
	check("00-" + zeros + valid[35:])
	check(valid[:36] + zeros[:16] + valid[52:])
}

// The headers of the call's span replace those of the client, of which a tracestate belongs to its traceparent.
func TestSpanReplacesTheClientsHeaders(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Traceparent", "not valid")
	r.Header.Set("Tracestate", "vendor=stale")
	head := func(t *testing.T, state string) *engine.DecodedHead {
		t.Helper()
		recorder := sdktrace.NewTracerProvider()
		ctx := t.Context()
		if state != "" {
			parsed, err := trace.ParseTraceState(state)
			if err != nil {
				t.Fatal(err)
			}
			ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: parsed, Remote: true,
			}))
		}
		ctx, span := recorder.Tracer("test").Start(ctx, "request")
		defer span.End()
		r := r.WithContext(ctx)
		traced := startTrace(r, "hello")
		defer traced.end(engine.OutcomeOK)
		var head engine.Head
		writeHead(&head, r, &traced, nil, 0, nil)
		decoded, err := engine.DecodeHead(head.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return decoded
	}
	for state, want := range map[string]string{"": "", "vendor=1,other=2": "Tracestate: vendor=1,other=2"} {
		var got []string
		for _, h := range head(t, state).Headers {
			switch h[0] {
			case "Traceparent":
				if traceparentID(h[1]) == "" {
					t.Errorf("the traceparent is %q", h[1])
				}
			case "Tracestate":
				got = append(got, h[0]+": "+h[1])
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("of the state %q the function is told %q", state, got)
		}
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
