package delivery

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/buffer"
	"hydrant/sinks"
)

// outcomeStored is the outcome label of an attempt that succeeded; the others are the names of classes.
const outcomeStored = "stored"

// outcomeLocal is an attempt that ended before the destination was asked.
const outcomeLocal = "local"

func outcomes() []string {
	out := []string{outcomeStored, outcomeLocal}
	for c := sinks.Unknown; c <= sinks.Damaged; c++ {
		out = append(out, c.String())
	}
	return out
}

func outcomeOf(err error) string {
	if _, ok := err.(*localError); ok {
		return outcomeLocal
	}
	return sinks.ClassOf(err).String()
}

// alarmKinds are the values of the kind label of hydrant_delivery_alarms_total.
var alarmKinds = []string{"local", "destination", "denied", "error output", "foreign", "refused", "replace", "damage", "set aside", "cut", "spill", "encoder", "given up", "too large", "source", "markers"}

// metrics of all streams. What the buffer's totals or a stream's state say is read when it is asked for, so
// that it cannot differ from them; the rest is counted here.
type metrics struct {
	collect func() []snapshot
	read    descriptions

	cuts         *prometheus.CounterVec
	failures     *prometheus.CounterVec
	attempts     *prometheus.CounterVec
	alarms       *prometheus.CounterVec
	replacements *prometheus.CounterVec
	late         *prometheus.CounterVec
	markers      *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	objects      *prometheus.HistogramVec
	hooks        hookMetrics
	loads        loadMetrics

	mu    sync.Mutex       // guards what follows
	ended map[string]int64 // records dropped with streams that are gone and were discarded
}

// snapshot is one stream's part of what is read.
type snapshot struct {
	stream   string
	kind     string // of the destination in force, "" where it is not known
	account  account
	bytes    int64 // delivered
	keys     int
	unmarked int     // objects that no marker lists yet
	marks    bool    // some will
	mark     float64 // watermark, seconds since the Unix epoch
	timed    bool    // there is one
	batches  int
	failing  bool
	staged   int
	loads    bool // the destination is a database
}

// newMetrics makes those whose names begin with a prefix.
func newMetrics(prefix string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, append([]string{"stream"}, labels...))
	}
	return &metrics{
		ended:        map[string]int64{},
		read:         newDescriptions(prefix),
		cuts:         counter("batches_cut_total", "Epochs that were closed and made a batch of objects, by what closed them.", "reason"),
		failures:     counter("failed_records_total", "Records that were put into the error output, by stage and code.", "stage", "code"),
		attempts:     counter("delivery_attempts_total", "Attempts to put an object into the destination, by outcome.", "sink", "outcome"),
		alarms:       counter("delivery_alarms_total", "Events in delivery that a person has to look at; the log has each kind at most every 5 minutes.", "kind"),
		replacements: counter("objects_replaced_total", "Objects that were given up for their key; their bytes went to another one."),
		late:         counter("late_records_total", "Records whose event time was before the stream's watermark when they arrived, delivered or not."),
		markers:      counter("markers_total", "Markers that were put into directories: complete where the watermark had passed the directory's time, else early.", "kind"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "delivery_seconds",
			Help:    "Duration of attempts that stored an object.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 12),
		}, []string{"stream", "sink"}),
		objects: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "object_bytes",
			Help:    "Sizes of the objects that were made, as they are written.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 11),
		}, []string{"stream"}),
		hooks: newHookMetrics(),
		loads: newLoadMetrics(prefix),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	own := []prometheus.Collector{m, m.cuts, m.failures, m.attempts, m.alarms, m.replacements, m.late, m.markers, m.seconds, m.objects}
	return slices.Concat(own, m.hooks.collectors(), m.loads.collectors())
}

// ofBackups are the collectors that say something about the consumers of backups, which know neither functions nor event
// time.
func (m *metrics) ofBackups() []prometheus.Collector {
	return []prometheus.Collector{m, m.cuts, m.failures, m.attempts, m.alarms, m.replacements, m.seconds, m.objects}
}

// appear starts a stream's labels at zero, as far as their values are known before they happen.
func (m *metrics) appear(stream string) {
	for _, r := range cutReasons {
		m.cuts.WithLabelValues(stream, r)
	}
	for _, k := range alarmKinds {
		m.alarms.WithLabelValues(stream, k)
	}
	m.replacements.WithLabelValues(stream)
	m.late.WithLabelValues(stream)
	for _, k := range markerKinds {
		m.markers.WithLabelValues(stream, k)
	}
	m.objects.WithLabelValues(stream)
}

// destination starts the labels of a stream's kind of destination.
func (m *metrics) destination(stream, kind string) {
	for _, o := range outcomes() {
		m.attempts.WithLabelValues(stream, kind, o)
	}
	m.seconds.WithLabelValues(stream, kind)
}

// vanish ends a stream's labels.
func (m *metrics) vanish(stream string) {
	labels := prometheus.Labels{"stream": stream}
	for _, v := range []*prometheus.MetricVec{m.cuts.MetricVec, m.failures.MetricVec, m.attempts.MetricVec, m.alarms.MetricVec,
		m.replacements.MetricVec, m.late.MetricVec, m.markers.MetricVec, m.seconds.MetricVec, m.objects.MetricVec} {
		v.DeletePartialMatch(labels)
	}
	m.hooks.vanish(labels)
	m.loads.vanish(labels)
}

// maxEnded bounds the streams of which something is shown after their end.
const maxEnded = 1000

// departed keeps what was dropped with a stream, which would otherwise be seen only by who happens to look
// before the stream is gone. It is shown until a stream of that name is there again, or the process ends.
func (m *metrics) departed(stream string, dropped int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dropped > 0 && len(m.ended) < maxEnded {
		m.ended[stream] = dropped
	}
}

// gone returns what was dropped with streams that are not there any more.
func (m *metrics) gone(present []snapshot) map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range present {
		delete(m.ended, s.stream)
	}
	return maps.Clone(m.ended)
}

func (m *metrics) alarm(stream, kind string) { m.alarms.WithLabelValues(stream, kind).Inc() }

// cut counts a manifest that was made.
func (m *metrics) cut(stream string, j *job, man *buffer.Manifest) {
	m.decided(stream, j.results)
	m.late.WithLabelValues(stream).Add(float64(j.late))
	// A sweep counts with its last manifest, and a run is no batch.
	if j.reason != "" && (j.kind == cutRange || j.kind == cutKey || j.objects || j.head.Source.All) {
		m.cuts.WithLabelValues(stream, j.reason).Inc()
	}
	for _, c := range j.codes {
		m.failures.WithLabelValues(stream, c.stage, c.code).Add(float64(c.n))
	}
	if man == nil {
		return
	}
	for i := range man.Objects {
		m.objects.WithLabelValues(stream).Observe(float64(man.Objects[i].Size))
	}
}

// attempt counts an attempt; took is for those that stored.
func (m *metrics) attempt(stream, kind, outcome string, took time.Duration) {
	m.attempts.WithLabelValues(stream, kind, outcome).Inc()
	if outcome == outcomeStored {
		m.seconds.WithLabelValues(stream, kind).Observe(took.Seconds())
	}
}

// descriptions of the metrics that are read.
type descriptions struct {
	delivered, bytes, dropped, unaccounted, freshness, backlog, backlogBytes, keys, watermark, unmarked, batches, failing *prometheus.Desc
}

func newDescriptions(prefix string) descriptions {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return describeAs(prefix, name, help, labels...)
	}
	return descriptions{
		delivered:    describe("delivered_records_total", "Records in objects that are in the destination, since the stream was created."),
		bytes:        describe("delivered_bytes_total", "Bytes of objects that this process has put into the destination."),
		dropped:      describe("dropped_records_total", "Records that were dropped because the configuration says so or the stream was deleted by force, since the stream was created."),
		unaccounted:  describe("unaccounted_records", "Accepted records that are neither delivered, failed, dropped nor waiting. Must be 0."),
		freshness:    describe("data_freshness_seconds", "Age of the oldest record that is not delivered; 0 when there is none."),
		backlog:      describe("backlog_records", "Records that are accepted and not delivered yet."),
		backlogBytes: describe("backlog_bytes", "Bytes that are accepted and not delivered yet: of records while they wait, of objects once they are made."),
		keys:         describe("active_partitions", "Keys of objects that the waiting records will go to."),
		watermark:    describe("watermark_timestamp_seconds", "Event time, in seconds since 1970, before which no record is expected any more; absent where there is none."),
		unmarked:     describe("unmarked_objects", "Objects that are to be listed in a marker and are not yet; absent where there are no markers."),
		batches:      describe("outstanding_batches", "Batches of objects that are made and not delivered yet."),
		failing:      describe("destination_failing", "1 while the last attempts speak against the destination.", "sink"),
	}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return describeAs("hydrant_", name, help, labels...)
}

func describeAs(prefix, name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, append([]string{"stream"}, labels...), nil)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	d := &m.read
	for _, desc := range []*prometheus.Desc{d.delivered, d.bytes, d.dropped, d.unaccounted, d.freshness, d.backlog, d.backlogBytes, d.keys, d.watermark, d.unmarked, d.batches, d.failing, m.loads.staged} {
		if desc != nil {
			ch <- desc
		}
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	d, now := &m.read, time.Now()
	present := m.collect()
	for name, n := range m.gone(present) {
		ch <- prometheus.MustNewConstMetric(d.dropped, prometheus.CounterValue, float64(n), name)
	}
	for _, s := range present {
		put := func(desc *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(desc, t, v, append([]string{s.stream}, labels...)...)
		}
		a := s.account
		put(d.delivered, prometheus.CounterValue, float64(a.delivered))
		put(d.bytes, prometheus.CounterValue, float64(s.bytes))
		put(d.dropped, prometheus.CounterValue, float64(a.dropped))
		put(d.unaccounted, prometheus.GaugeValue, float64(a.unaccounted))
		put(d.backlog, prometheus.GaugeValue, float64(a.backlog))
		put(d.backlogBytes, prometheus.GaugeValue, float64(a.backlogBytes))
		if d.keys != nil {
			put(d.keys, prometheus.GaugeValue, float64(s.keys))
		}
		if d.watermark != nil && s.timed {
			put(d.watermark, prometheus.GaugeValue, s.mark)
		}
		if d.unmarked != nil && s.marks {
			put(d.unmarked, prometheus.GaugeValue, float64(s.unmarked))
		}
		put(d.batches, prometheus.GaugeValue, float64(s.batches))
		age := 0.0
		if a.oldest != 0 {
			age = max(now.Sub(time.UnixMicro(a.oldest)).Seconds(), 0)
		}
		put(d.freshness, prometheus.GaugeValue, age)
		if s.kind != "" {
			failing := 0.0
			if s.failing {
				failing = 1
			}
			put(d.failing, prometheus.GaugeValue, failing, s.kind)
		}
		if s.loads {
			put(m.loads.staged, prometheus.GaugeValue, float64(s.staged))
		}
	}
}

// snapshots of all streams.
func (m *Manager) snapshots() []snapshot { return snapshotsOf(m.all()) }

func snapshotsOf(all []*stream) []snapshot {
	out := make([]snapshot, len(all))
	for i, s := range all {
		s.mu.Lock()
		out[i] = snapshot{stream: s.name, account: s.accountLocked(), bytes: s.deliveredBytes, keys: s.keys, batches: len(s.batches)}
		if s.scheme != nil {
			var at int64
			at, out[i].timed = s.scheme.Watermark(s.mark, time.Now().UnixMicro())
			out[i].mark = float64(at) / 1e6
		}
		if out[i].unmarked = s.book.unmarked(); out[i].unmarked > 0 || s.cur.pipe != nil && s.cur.pipe.Markers {
			out[i].marks = true
		}
		if s.cur.pipe != nil {
			out[i].kind = s.cur.pipe.Destination.Kind
			out[i].loads = s.cur.pipe.Destination.finisher() != nil
		}
		for _, l := range s.lanes {
			out[i].failing = out[i].failing || s.up.failing(l)
			out[i].staged += s.up.stagedIn(l)
		}
		s.mu.Unlock()
	}
	return out
}
