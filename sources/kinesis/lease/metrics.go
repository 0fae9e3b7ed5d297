package lease

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of leases, by stream. Safe for concurrent use.
type Metrics struct {
	lost, fenced, taken *prometheus.CounterVec
	lanes               *prometheus.GaugeVec
}

var _ prometheus.Collector = (*Metrics)(nil)

// StreamMetrics are those of one stream.
type StreamMetrics struct {
	lost, fenced, taken prometheus.Counter
	lanes               prometheus.Gauge
}

// NewMetrics returns Metrics.
func NewMetrics() *Metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"stream"})
	}
	return &Metrics{
		lost:   counter("hydrant_source_lease_lost_total", "Shards that were lost to another process, or because their lease could not be renewed in time."),
		fenced: counter("hydrant_source_fenced_commits_total", "Commits of positions that were refused because another process owned the shard by then."),
		taken:  counter("hydrant_source_lease_taken_total", "Shards that were taken: free ones, those of dead processes, and those that were handed over."),
		lanes:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hydrant_source_lanes_owned", Help: "Shards whose lease this process owns."}, []string{"stream"}),
	}
}

// Stream returns the metrics of a stream, which begin at zero.
func (m *Metrics) Stream(name string) *StreamMetrics {
	return &StreamMetrics{
		lost: m.lost.WithLabelValues(name), fenced: m.fenced.WithLabelValues(name), taken: m.taken.WithLabelValues(name),
		lanes: m.lanes.WithLabelValues(name),
	}
}

// Forget ends the metrics of a stream that is gone.
func (m *Metrics) Forget(name string) {
	for _, v := range []*prometheus.MetricVec{m.lost.MetricVec, m.fenced.MetricVec, m.taken.MetricVec, m.lanes.MetricVec} {
		v.DeleteLabelValues(name)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.lost, m.fenced, m.taken, m.lanes}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
