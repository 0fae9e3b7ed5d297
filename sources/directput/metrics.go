package directput

import (
	"github.com/prometheus/client_golang/prometheus"

	"hydrant/sources"
)

// metrics of the handler: those of all puts, and its own.
type metrics struct {
	*sources.Metrics
	unknown *prometheus.CounterVec // by operation
}

func newMetrics(puts *sources.Metrics) *metrics {
	m := &metrics{
		Metrics: puts,
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hydrant_unknown_members_total", Help: "Members of requests that nobody knows; they are ignored.",
		}, []string{"operation"}),
	}
	for _, op := range []string{opPutRecord, opPutRecordBatch, opDescribe, opList} {
		m.unknown.WithLabelValues(op)
	}
	return m
}
