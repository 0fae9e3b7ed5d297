package delivery

import (
	"github.com/prometheus/client_golang/prometheus"

	"hydrant/sinks"
)

// Outcomes of an object's load beside the names of classes.
const (
	outcomeLoaded  = "loaded"
	outcomeSkipped = "skipped" // it was given up
)

// loadMetrics are of streams whose objects are loaded into a database.
type loadMetrics struct {
	objects *prometheus.CounterVec
	rows    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	staged  *prometheus.Desc
}

func newLoadMetrics(prefix string) loadMetrics {
	return loadMetrics{
		objects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "load_objects_total",
			Help: "Staged objects that a load was asked to take into the database, by outcome.",
		}, []string{"stream", "outcome"}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "loaded_rows_total",
			Help: "Rows of the objects that were loaded, where their number is known.",
		}, []string{"stream"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "load_seconds",
			Help:    "Duration of loads into the database, of whatever outcome; one may take many objects.",
			Buckets: prometheus.ExponentialBuckets(0.05, 3, 10),
		}, []string{"stream"}),
		staged: describeAs(prefix, "staged_objects", "Objects that are stored where the database reads them, and not in it yet."),
	}
}

func (m *loadMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.objects, m.rows, m.seconds}
}

// appear starts a stream's labels at zero.
func (m *loadMetrics) appear(stream string) {
	for _, o := range []string{outcomeLoaded, outcomeSkipped, sinks.Unknown.String(), sinks.NotStored.String(), sinks.RefusedDestination.String(), sinks.RefusedObject.String()} {
		m.objects.WithLabelValues(stream, o)
	}
	m.rows.WithLabelValues(stream)
	m.seconds.WithLabelValues(stream)
}

func (m *loadMetrics) vanish(labels prometheus.Labels) {
	m.objects.DeletePartialMatch(labels)
	m.rows.DeletePartialMatch(labels)
	m.seconds.DeletePartialMatch(labels)
}
