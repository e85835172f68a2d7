package gojinn

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// The collectors belong to the process: counts go on over reloads. Each config has its own registry and gets them anew.
// Labels are bounded by design: names of functions, backends and outcomes, never anything of a request.
var (
	functionDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gojinn_function_duration_seconds",
		Help: "From a call's begin to the guest's end; for a rejected request, how long it waited.",
		Buckets: []float64{
			10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6,
			1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
		},
	}, []string{"function", "backend", "outcome"})

	activeSandboxes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gojinn_active_sandboxes",
		Help: "Sandboxes that run now.",
	}, []string{"function", "backend"})
)

// registerMetrics puts the collectors on a config's registry.
func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{functionDuration, activeSandboxes, engineCollector{}} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// meters are the series of one function, looked up once.
type meters struct {
	durations [engine.Outcomes]prometheus.Observer
	active    prometheus.Gauge
}

func newMeters(function, backend string) *meters {
	m := &meters{active: activeSandboxes.WithLabelValues(function, backend)}
	for outcome := range engine.Outcomes {
		m.durations[outcome] = functionDuration.WithLabelValues(function, backend, outcome.String())
	}
	return m
}

// observe counts one call. Only traces that somebody keeps become exemplars.
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

// engineCollector pulls the figures of the running config's engine, once per scrape. It is not told which config's registry
// it is on: after a load that failed, Caddy's admin endpoint goes on with the registry of the config that never ran.
type engineCollector struct{}

// Describe implements prometheus.Collector. It sends nothing: the engine knows its metrics, not we.
func (engineCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (engineCollector) Collect(out chan<- prometheus.Metric) {
	e := started.engine()
	if e == nil {
		return
	}
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
			// These are counted here; twice under one name would fail the whole scrape.
			continue
		}
		for _, metric := range family.GetMetric() {
			out <- pulled{family: family, metric: metric}
		}
	}
}

// pulled is one series of the engine, passed on as it came.
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
