package delivery

import "github.com/prometheus/client_golang/prometheus"

// intakeMetrics are what delivery knows of the sources of streams. What Readers know of them is in package sources.
type intakeMetrics struct {
	streams        func() []*stream
	lanes, failing *prometheus.Desc
}

func newIntakeMetrics(streams func() []*stream) *intakeMetrics {
	return &intakeMetrics{
		streams: streams,
		lanes:   describe("source_lanes", "Shards or partitions of the stream's source of which a position is known here."),
		failing: describe("source_failing", "1 while the source cannot be read and is tried again slowly."),
	}
}

// Describe implements prometheus.Collector.
func (m *intakeMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.lanes
	ch <- m.failing
}

// Collect implements prometheus.Collector.
func (m *intakeMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.streams() {
		if s.source() == "" {
			continue
		}
		in := s.intake.status()
		failing := 0.0
		if in.failing != "" {
			failing = 1
		}
		ch <- prometheus.MustNewConstMetric(m.lanes, prometheus.GaugeValue, float64(in.lanes), s.name)
		ch <- prometheus.MustNewConstMetric(m.failing, prometheus.GaugeValue, failing, s.name)
	}
}
