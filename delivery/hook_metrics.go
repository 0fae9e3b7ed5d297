package delivery

import (
	"github.com/prometheus/client_golang/prometheus"

	"hydrant/transform"
	"hydrant/transform/hook"
)

// Outcomes of calls of a function: the outcome label of hydrant_hook_invocations_total.
const (
	hookAnswered = "answered" // each record of the batch has an outcome of its own
	hookRetried  = "retried"  // it failed, and is made again, whole or in halves
	hookFailed   = "failed"   // it failed, and the records of the batch with it
)

// hookMetrics are about functions.
type hookMetrics struct {
	invocations, failures, records, requests, answers *prometheus.CounterVec
	seconds                                           *prometheus.HistogramVec
}

func newHookMetrics() hookMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydrant_hook_" + name, Help: help}, append([]string{"stream"}, labels...))
	}
	return hookMetrics{
		invocations: counter("invocations_total", "Calls of functions, by outcome.", "outcome"),
		failures:    counter("failures_total", "Calls of functions that failed, by code.", "code"),
		records:     counter("records_total", "Records that functions have decided about, by result, once the decision is durable.", "result"),
		requests:    counter("request_bytes_total", "Bytes of requests to functions."),
		answers:     counter("answer_bytes_total", "Bytes of answers of functions."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hydrant_hook_seconds",
			Help:    "Duration of calls of functions, whatever their outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 12),
		}, []string{"stream"}),
	}
}

func (m *hookMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.invocations, m.failures, m.records, m.requests, m.answers, m.seconds}
}

func (m *hookMetrics) vanish(labels prometheus.Labels) {
	for _, v := range []*prometheus.MetricVec{m.invocations.MetricVec, m.failures.MetricVec, m.records.MetricVec, m.requests.MetricVec, m.answers.MetricVec, m.seconds.MetricVec} {
		v.DeletePartialMatch(labels)
	}
}

// hooked starts the labels of a stream with a function.
func (m *metrics) hooked(stream string) {
	for _, outcome := range []string{hookAnswered, hookRetried, hookFailed} {
		m.hooks.invocations.WithLabelValues(stream, outcome)
	}
	for o := transform.Ok; o <= transform.Failed; o++ {
		m.hooks.records.WithLabelValues(stream, o.String())
	}
	m.hooks.requests.WithLabelValues(stream)
	m.hooks.answers.WithLabelValues(stream)
	m.hooks.seconds.WithLabelValues(stream)
}

// invocation counts one call of a function.
func (m *metrics) invocation(stream string, a hook.Attempt) {
	outcome := hookAnswered
	switch {
	case a.Code != "" && a.Retried:
		outcome = hookRetried
	case a.Code != "":
		outcome = hookFailed
	}
	h := &m.hooks
	h.invocations.WithLabelValues(stream, outcome).Inc()
	if a.Code != "" {
		h.failures.WithLabelValues(stream, a.Code).Inc()
	}
	h.requests.WithLabelValues(stream).Add(float64(a.Request))
	h.answers.WithLabelValues(stream).Add(float64(a.Answer))
	h.seconds.WithLabelValues(stream).Observe(a.Duration.Seconds())
}

// decided counts what functions made of records, once that is durable.
func (m *metrics) decided(stream string, results [3]int64) {
	for o, n := range results {
		if n > 0 {
			m.hooks.records.WithLabelValues(stream, transform.Outcome(o).String()).Add(float64(n))
		}
	}
}
