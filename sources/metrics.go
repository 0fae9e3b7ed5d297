// Package sources has what ways of bringing records in have in common: the metrics of what came, and what their
// handlers ask for memory and rates.
//
// Counts flow in from the handlers of calls, and out to Prometheus. Nothing is kept over a restart.
package sources

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/record"
)

// Operations that bring records in, as labels.
const (
	PutRecord      = "PutRecord"
	PutRecordBatch = "PutRecordBatch"
	PlainHTTP      = "plain_http"
)

// operations are all of them.
var operations = [...]string{PutRecord, PutRecordBatch, PlainHTTP}

// Metrics of puts, whatever way they come. A name becomes a label only once a stream of that name is known: what
// clients send never makes one. Safe for concurrent use.
type Metrics struct {
	names   func() []string
	streams sync.Map // name → *StreamMetrics

	records, bytes, throttled, repeated *prometheus.CounterVec   // by stream
	seconds                             *prometheus.HistogramVec // by stream and operation
	refused                             *prometheus.CounterVec   // by operation and reason
}

var _ prometheus.Collector = (*Metrics)(nil)

// StreamMetrics are those of one stream.
type StreamMetrics struct {
	records, bytes, throttled, repeated prometheus.Counter
	seconds                             [len(operations)]prometheus.Observer
}

// NewMetrics returns Metrics. names returns the names of all streams, ascending, from memory.
func NewMetrics(names func() []string) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		names:     names,
		records:   counter("hydrant_incoming_records_total", "Records that were put and acknowledged.", "stream"),
		bytes:     counter("hydrant_incoming_bytes_total", "Bytes of Data that were put and acknowledged.", "stream"),
		throttled: counter("hydrant_throttled_records_total", "Records of puts that were refused and may be sent again.", "stream"),
		repeated:  counter("hydrant_repeated_puts_total", "Puts that were retries of one that had been stored; nothing was stored again.", "stream"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hydrant_put_request_seconds",
			Help:    "Time from the headers of an acknowledged put to its answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"stream", "operation"}),
		refused: counter("hydrant_put_refused_total", "Calls of the API that were not answered with success.", "operation", "reason"),
	}
	for _, op := range operations {
		for _, reason := range []string{"serialization", "validation", "invalid_argument", "not_found", "inactive", "too_large", "memory", "disk", "journal", "rate", "stopping", "failing", "internal", "canceled", "timeout"} {
			m.refused.WithLabelValues(op, reason)
		}
	}
	return m
}

// Stream returns the metrics of a stream that is known to exist.
func (m *Metrics) Stream(name string) *StreamMetrics {
	if s, ok := m.streams.Load(name); ok {
		return s.(*StreamMetrics)
	}
	made := &StreamMetrics{
		records:   m.records.WithLabelValues(name),
		bytes:     m.bytes.WithLabelValues(name),
		throttled: m.throttled.WithLabelValues(name),
		repeated:  m.repeated.WithLabelValues(name),
	}
	for i, op := range operations {
		made.seconds[i] = m.seconds.WithLabelValues(name, op)
	}
	s, _ := m.streams.LoadOrStore(name, made)
	return s.(*StreamMetrics)
}

// Accepted counts a call that was answered with success: the receipt of what was stored, payload bytes of Data, and
// how many records the stream's limits kept back.
func (s *StreamMetrics) Accepted(op string, r record.Receipt, payload int64, keptBack int, took time.Duration) {
	if i := slices.Index(operations[:], op); i >= 0 {
		s.seconds[i].Observe(took.Seconds())
	}
	if r.Repeated {
		s.repeated.Inc()
		return
	}
	s.records.Add(float64(r.Count))
	s.bytes.Add(float64(payload))
	s.throttled.Add(float64(keptBack))
}

// Throttled counts records of a call that may be sent again.
func (s *StreamMetrics) Throttled(records int) { s.throttled.Add(float64(records)) }

// Refused counts a call that was not answered with success. op is "" where it is not known, or one that there is.
func (m *Metrics) Refused(op, reason string) {
	if op == "" {
		op = "unknown"
	}
	m.refused.WithLabelValues(op, reason).Inc()
}

// forget ends the metrics of a stream that is gone.
func (m *Metrics) forget(name string) {
	m.streams.Delete(name)
	for _, v := range []*prometheus.MetricVec{m.records.MetricVec, m.bytes.MetricVec, m.throttled.MetricVec, m.repeated.MetricVec, m.seconds.MetricVec} {
		v.DeletePartialMatch(prometheus.Labels{"stream": name})
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.bytes, m.throttled, m.repeated, m.seconds, m.refused}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector. Streams that have had no put yet are there with zeros, and those that
// are gone are not, so that who creates streams and deletes them fills no memory.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, name := range m.names() {
		m.Stream(name)
	}
	var counted []string // before the names are asked for again: one that is made meanwhile may count already
	m.streams.Range(func(key, _ any) bool {
		counted = append(counted, key.(string))
		return true
	})
	names := m.names()
	for _, name := range counted {
		if _, there := slices.BinarySearch(names, name); !there {
			m.forget(name)
		}
	}
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
