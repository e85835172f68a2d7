// This file has the metrics: those that the plugin counts, and those that it passes on from the engine.

package gojinn

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// The collectors belong to the process, so that counts continue across reloads; each config registers them with its registry.
// Labels have few values: names of functions, backends and outcomes, never anything from a request.
var (
	functionDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gojinn_function_duration_seconds",
		Help: "Time from the beginning of a call to the guest's end; for a rejected request, the time it waited.",
		Buckets: []float64{
			10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6,
			1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
		},
	}, []string{"function", "backend", "outcome"})

	activeSandboxes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gojinn_active_sandboxes",
		Help: "Sandboxes that are running.",
	}, []string{"function", "backend"})

	queuedCalls = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gojinn_queued_calls",
		Help: "Calls that wait for a sandbox.",
	}, []string{"function", "backend"})

	firstByte = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gojinn_stream_first_byte_seconds",
		Help: "Time from the arrival of a request to the head of its response, for responses that are sent while their functions run.",
		Buckets: []float64{
			100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
		},
	}, []string{"function", "backend"})

	requestBytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gojinn_function_request_bytes_total",
		Help: "Bytes of requests' bodies that were read for functions.",
	}, []string{"function", "backend"})

	responseBytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gojinn_function_response_bytes_total",
		Help: "Bytes of bodies that functions have answered with.",
	}, []string{"function", "backend"})

	waitingCalls = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gojinn_waiting_calls",
		Help: "Calls whose guests wait, and are suspended.",
	}, []string{"function", "backend", "reason"})

	turnsWaiting = prometheus.NewDesc("gojinn_turns_waiting", "Calls that wait for a turn to run their guests.", nil, nil)
	turnsLent    = prometheus.NewDesc("gojinn_turns_lent", "Guests that run for long, and have lent their turns.", nil, nil)

	hostCalls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gojinn_host_calls_total",
		Help: "Operations that functions called: HTTP requests, key-value stores, secrets.",
	}, []string{"function", "operation", "outcome"})

	hostCallDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gojinn_host_call_duration_seconds",
		Help: "Time that an operation took which a function called.",
		Buckets: []float64{
			10e-6, 50e-6, 100e-6, 500e-6, 1e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10, 30,
		},
	}, []string{"function", "operation"})
)

// registerMetrics registers the collectors with a config's registry.
func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{
		functionDuration, firstByte, requestBytes, responseBytes, activeSandboxes, queuedCalls, waitingCalls,
		hostCalls, hostCallDuration, engineCollector{},
	} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// meters has the series of one function, so that calls need not look them up.
type meters struct {
	durations [engine.Outcomes]prometheus.Observer
	// firstByte is the histogram of streams, received and sent count bytes.
	firstByte      prometheus.Observer
	received, sent prometheus.Counter
	active, queued prometheus.Gauge
	// asleep, calling, passing, sending and receiving are the calls that wait.
	asleep, calling, passing, sending, receiving prometheus.Gauge
}

func newMeters(function, backend string) *meters {
	m := &meters{
		firstByte: firstByte.WithLabelValues(function, backend),
		received:  requestBytes.WithLabelValues(function, backend),
		sent:      responseBytes.WithLabelValues(function, backend),
		queued:    queuedCalls.WithLabelValues(function, backend),
		active:    activeSandboxes.WithLabelValues(function, backend),
		asleep:    waitingCalls.WithLabelValues(function, backend, "sleep"),
		calling:   waitingCalls.WithLabelValues(function, backend, "host_call"),
		passing:   waitingCalls.WithLabelValues(function, backend, "next"),
		sending:   waitingCalls.WithLabelValues(function, backend, "client"),
		receiving: waitingCalls.WithLabelValues(function, backend, "body"),
	}
	for outcome := range engine.Outcomes {
		m.durations[outcome] = functionDuration.WithLabelValues(function, backend, outcome.String())
	}
	return m
}

// observe counts one call. Only sampled traces become exemplars, because no others can be looked up.
func (m *meters) observe(outcome engine.Outcome, seconds float64, t *traced) {
	observer := m.durations[min(outcome, engine.OutcomeError)]
	if t.sampled {
		if withExemplar, ok := observer.(prometheus.ExemplarObserver); ok {
			withExemplar.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": t.id})
			return
		}
	}
	observer.Observe(seconds)
}

// hostCallMeters counts the operations of one function.
type hostCallMeters struct {
	function string
}

// observe counts one call. The operation is one of ours, or `unknown`.
func (m *hostCallMeters) observe(operation, outcome string, took time.Duration) {
	hostCalls.WithLabelValues(m.function, operation, outcome).Inc()
	hostCallDuration.WithLabelValues(m.function, operation).Observe(took.Seconds())
}

// engineCollector reads the metrics of the running config's engine at each scrape. It does not keep the engine of the config
// that registered it: after a failed load, Caddy's admin endpoint continues with the registry of the config that never ran.
type engineCollector struct{}

// Describe implements prometheus.Collector. It sends nothing, because only the engine knows its metrics.
func (engineCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (engineCollector) Collect(out chan<- prometheus.Metric) {
	e := started.engine()
	if e == nil {
		return
	}
	waiting, lent := e.turns.counts()
	out <- prometheus.MustNewConstMetric(turnsWaiting, prometheus.GaugeValue, float64(waiting))
	out <- prometheus.MustNewConstMetric(turnsLent, prometheus.GaugeValue, float64(lent))
	text, err := e.Metrics()
	if err != nil {
		out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	for name, family := range families {
		switch name {
		case "gojinn_function_duration_seconds", "gojinn_active_sandboxes":
			// The plugin counts these. A second family of the same name would fail the whole scrape.
			continue
		}
		for _, metric := range family.GetMetric() {
			out <- pulled{family: family, metric: metric}
		}
	}
}

// pulled is one series of the engine, which is passed on unchanged.
type pulled struct {
	family *dto.MetricFamily
	metric *dto.Metric
}

// Desc implements prometheus.Metric.
func (p pulled) Desc() *prometheus.Desc {
	labels := prometheus.Labels{}
	for _, pair := range p.metric.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return prometheus.NewDesc(p.family.GetName(), p.family.GetHelp(), nil, labels)
}

// Write implements prometheus.Metric.
func (p pulled) Write(out *dto.Metric) error {
	out.Label = p.metric.Label
	out.Counter = p.metric.Counter
	out.Gauge = p.metric.Gauge
	out.Histogram = p.metric.Histogram
	out.Summary = p.metric.Summary
	out.Untyped = p.metric.Untyped
	return nil
}

// Interface guards
var (
	_ prometheus.Collector = engineCollector{}
	_ prometheus.Metric    = pulled{}
)
