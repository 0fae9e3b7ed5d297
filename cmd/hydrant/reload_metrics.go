package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a reload.
const (
	outcomeApplied = "applied"
	outcomePartial = "partial" // applied but for keys that take a restart
	outcomeInvalid = "invalid" // nothing has changed
	outcomeFailed  = "failed"  // streams could not be brought over, and are tried again
)

// reloads counts what became of reloads. Safe for concurrent use.
type reloads struct {
	total   *prometheus.CounterVec
	success prometheus.Gauge
	last    prometheus.Gauge
}

func newReloads() *reloads {
	m := &reloads{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hydrant_config_reloads_total",
			Help: "Reloads of the configuration, by what became of them."}, []string{"outcome"}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydrant_config_reload_success",
			Help: "1 while the configuration that was read last is in force, 0 while it is refused or not applied yet."}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydrant_config_last_reload_success_timestamp_seconds",
			Help: "When a configuration was taken last, at the start or by a reload."}),
	}
	for _, o := range []string{outcomeApplied, outcomePartial, outcomeInvalid, outcomeFailed} {
		m.total.WithLabelValues(o)
	}
	m.taken()
	return m
}

func (m *reloads) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.total, m.success, m.last}
}

func (m *reloads) taken() {
	m.success.Set(1)
	m.last.Set(float64(time.Now().UnixMilli()) / 1000)
}

// applied counts a configuration that is in force now. latest: it is what was read last.
func (m *reloads) applied(partial, latest bool) {
	outcome := outcomeApplied
	if partial {
		outcome = outcomePartial
	}
	m.total.WithLabelValues(outcome).Inc()
	if latest {
		m.taken()
	}
}

// refused counts a file that is not taken.
func (m *reloads) refused() { m.end(outcomeInvalid) }

// failed counts a try that left streams to be brought over.
func (m *reloads) failed() { m.end(outcomeFailed) }

func (m *reloads) end(outcome string) {
	m.total.WithLabelValues(outcome).Inc()
	m.success.Set(0)
}
