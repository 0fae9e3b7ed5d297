package directput

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the handler. A name becomes a label only once a stream of that name is known: what clients
// send never makes one.
type metrics struct {
	directory Directory
	streams   sync.Map // name → *streamMetrics

	records, bytes, throttled, repeated *prometheus.CounterVec   // by stream
	seconds                             *prometheus.HistogramVec // by stream and operation
	refused                             *prometheus.CounterVec   // by operation and reason
	unknown                             *prometheus.CounterVec   // by operation
}

// streamMetrics are the children of one stream.
type streamMetrics struct {
	records, bytes, throttled, repeated prometheus.Counter
	single, batch                       prometheus.Observer
}

func newMetrics(d Directory) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		directory: d,
		records:   counter("hydrant_incoming_records_total", "Records that were put and acknowledged.", "stream"),
		bytes:     counter("hydrant_incoming_bytes_total", "Bytes of Data that were put and acknowledged.", "stream"),
		throttled: counter("hydrant_throttled_records_total", "Records of puts that were refused and may be sent again.", "stream"),
		repeated:  counter("hydrant_repeated_puts_total", "Puts that were retries of one that had been stored; nothing was stored again.", "stream"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hydrant_put_request_seconds",
			Help:    "Time from the headers of an acknowledged put to its answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"stream", "operation"}),
		refused: counter("hydrant_put_refused_total", "Calls of the Firehose API that were not answered with success.", "operation", "reason"),
		unknown: counter("hydrant_unknown_members_total", "Members of requests that nobody knows; they are ignored.", "operation"),
	}
	for _, op := range []string{opPutRecord, opPutRecordBatch, opDescribe, opList} {
		m.unknown.WithLabelValues(op)
	}
	for _, op := range []string{opPutRecord, opPutRecordBatch} {
		for _, reason := range []string{"access", "serialization", "validation", "invalid_argument", "not_found", "inactive", "too_large", "memory", "disk", "journal", "stopping", "failing", "internal", "canceled", "timeout"} {
			m.refused.WithLabelValues(op, reason)
		}
	}
	return m
}

// stream returns the metrics of a stream that is known to exist.
func (m *metrics) stream(name string) *streamMetrics {
	if s, ok := m.streams.Load(name); ok {
		return s.(*streamMetrics)
	}
	s, _ := m.streams.LoadOrStore(name, &streamMetrics{
		records:   m.records.WithLabelValues(name),
		bytes:     m.bytes.WithLabelValues(name),
		throttled: m.throttled.WithLabelValues(name),
		repeated:  m.repeated.WithLabelValues(name),
		single:    m.seconds.WithLabelValues(name, opPutRecord),
		batch:     m.seconds.WithLabelValues(name, opPutRecordBatch),
	})
	return s.(*streamMetrics)
}

// forget ends the metrics of a stream that is gone.
func (m *metrics) forget(name string) {
	m.streams.Delete(name)
	for _, v := range []*prometheus.MetricVec{m.records.MetricVec, m.bytes.MetricVec, m.throttled.MetricVec, m.repeated.MetricVec, m.seconds.MetricVec} {
		v.DeletePartialMatch(prometheus.Labels{"stream": name})
	}
}

// refuse counts a call that was not answered with success. op is "" or one of the API's operations.
func (m *metrics) refuse(op, reason string) {
	if op == "" {
		op = "unknown"
	}
	m.refused.WithLabelValues(op, reason).Inc()
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.bytes, m.throttled, m.repeated, m.seconds, m.refused, m.unknown}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector. Streams that have had no put yet are there with zeros, and those that
// are gone are not, so that who creates streams and deletes them fills no memory.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	names := m.directory.Names()
	for _, name := range names {
		m.stream(name)
	}
	m.streams.Range(func(key, _ any) bool {
		name := key.(string)
		if _, there := slices.BinarySearch(names, name); !there {
			m.forget(name)
		}
		return true
	})
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
