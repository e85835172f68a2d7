// Tests of the metrics.

package gojinn

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// The engine's metrics of every type are passed on unchanged, except those that the plugin counts.
func TestEngineMetrics(t *testing.T) {
	s := newServer(t)
	var text string
	var failure error
	s.fake.Metrics = func() ([]byte, error) { return []byte(text), failure }
	name := fmt.Sprint("metrics", time.Now().UnixNano())
	s.mustLoad("{\n admin ADMIN\n}\nADDR {\n respond hello\n}\n")
	if res := s.admin("/metrics"); res.StatusCode != 200 || strings.Contains(res.body, "gojinn_fake") {
		t.Errorf("without an engine: %d", res.StatusCode)
	}
	s.mustLoad(s.simple("name " + name))
	s.get("/")
	text = `# HELP gojinn_fake_total A counter.
# TYPE gojinn_fake_total counter
gojinn_fake_total{backend="wasmi",outcome="ok"} 3
gojinn_fake_total{backend="wasmi",outcome="a \"quoted\" one"} 4
# HELP gojinn_fake_slots A gauge.
# TYPE gojinn_fake_slots gauge
gojinn_fake_slots -1.5
# HELP gojinn_fake_seconds A histogram.
# TYPE gojinn_fake_seconds histogram
gojinn_fake_seconds_bucket{le="1"} 1
gojinn_fake_seconds_bucket{le="+Inf"} 2
gojinn_fake_seconds_sum 5
gojinn_fake_seconds_count 2
# TYPE gojinn_active_sandboxes gauge
gojinn_active_sandboxes{function="` + name + `",backend="wasmtime"} 99
# TYPE gojinn_function_duration_seconds counter
gojinn_function_duration_seconds 99
`
	metrics := s.admin("/metrics").body
	for _, want := range []string{
		"# HELP gojinn_fake_total A counter.",
		`gojinn_fake_total{backend="wasmi",outcome="ok"} 3`,
		`gojinn_fake_total{backend="wasmi",outcome="a \"quoted\" one"} 4`,
		"gojinn_fake_slots -1.5",
		`gojinn_fake_seconds_bucket{le="1"} 1`,
		"gojinn_fake_seconds_sum 5",
		`gojinn_active_sandboxes{backend="wasmtime",function="` + name + `"} 0`,
		`gojinn_function_duration_seconds_count{backend="wasmtime",function="` + name + `",outcome="ok"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// If the engine fails to return metrics the scrape fails with the reason, because missing ones would go unnoticed.
	for _, c := range []struct {
		text string
		err  error
		want string
	}{{"gojinn_fake_total three\n", nil, "expected float as value"}, {"", errors.New("the engine panicked"), "the engine panicked"}} {
		text, failure = c.text, c.err
		if res := s.admin("/metrics"); res.StatusCode != 500 || !strings.Contains(res.body, c.want) {
			t.Errorf("got %d %s, want %s", res.StatusCode, res.body, c.want)
		}
	}
}

// Counts continue across reloads, and a call that is rejected before its guest runs is counted as rejected.
func TestCountsSurviveReloads(t *testing.T) {
	s := newServer(t)
	name := fmt.Sprint("counted", time.Now().UnixNano())
	for i := range 3 {
		s.mustLoad(s.simple("name "+name, "max_body 1KB", fmt.Sprintf("timeout %ds", i+1)))
		s.get("/")
	}
	s.do(s.request("POST", "/", strings.Repeat("x", 1001)))
	metrics := s.admin("/metrics").body
	for _, want := range []string{`outcome="ok"} 3`, `outcome="rejected"} 1`} {
		if !strings.Contains(metrics, `gojinn_function_duration_seconds_count{backend="wasmtime",function="`+name+`",`+want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// A call whose trace is sampled is an exemplar of its bucket. Other calls are only counted.
func TestExemplars(t *testing.T) {
	s := newServer(t)
	name := fmt.Sprint("exemplar", time.Now().UnixNano())
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return enginetest.OK("") }
	s.mustLoad(strings.Replace(s.simple("name "+name), "route {", "route {\n\t\tmetrics /metrics", 1))
	m := newMeters(name, "wasmtime")
	id := trace.TraceID{0xab}.String()
	m.observe(engine.OutcomeOK, 20e-6, &traced{id: id, sampled: true})
	m.observe(engine.OutcomeOK, 2, &traced{id: "not sampled"})
	m.observe(engine.Outcomes+7, 2, &traced{id: "unknown"})
	metrics := s.get("/metrics", "Accept", "application/openmetrics-text; version=1.0.0").body
	for _, want := range []string{
		`outcome="ok",le="2.5e-05"} 1 # {trace_id="` + id + `"} 2e-05`,
		`outcome="ok",le="2.5"} 2` + "\n",
		`outcome="error",le="2.5"} 1` + "\n",
	} {
		if !strings.Contains(metrics, `gojinn_function_duration_seconds_bucket{backend="wasmtime",function="`+name+`",`+want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// A registry accepts the collectors twice.
func TestMetricsAreRegisteredTwice(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	for range 2 {
		if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
			t.Error(err)
		}
	}
}

// Bytes are counted in both directions, of whole bodies and of streams, and so is the time to the head of a stream.
func TestBytesAreCounted(t *testing.T) {
	s := newServer(t)
	name := fmt.Sprint("bytes", time.Now().UnixNano())
	s.fake.Handle = func(*enginetest.Call) enginetest.Reply { return enginetest.OK("hello") }
	s.mustLoad(s.simple("name " + name))
	s.do(s.request("POST", "/", "abc"))
	next := streaming(s, enginetest.OK("end"), "part")
	go func() { next <- struct{}{} }()
	s.get("/")
	s.fake.Steps = nil
	readingBodies(s)
	s.mustLoad(s.cgi("name " + name))
	res := s.do(s.request("POST", "/", "0123456789"))
	if res.StatusCode != 200 {
		t.Errorf("got %d", res.StatusCode)
	}
	metrics := s.admin("/metrics").body
	for _, want := range []string{
		"gojinn_function_request_bytes_total{LABELS} 13",
		fmt.Sprintf("gojinn_function_response_bytes_total{LABELS} %d", len("hello")+len("partend")+len(res.body)),
		"gojinn_stream_first_byte_seconds_count{LABELS} 1",
		"gojinn_queued_calls{LABELS} 0",
	} {
		want = strings.Replace(want, "LABELS", `backend="wasmtime",function="`+name+`"`, 1)
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
