package buffer

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the buffer says about itself. Gauges are read when somebody asks.
type metrics struct {
	b       *Buffer
	fsync   prometheus.Histogram
	journal *prometheus.Desc
	accept  *prometheus.Desc
	disk    *prometheus.Desc
	limit   *prometheus.Desc
	free    *prometheus.Desc
	memory  *prometheus.Desc
	budget  *prometheus.Desc
	groups  *prometheus.Desc
	open    *prometheus.Desc
	crypt   *prometheus.Desc
}

func newMetrics(b *Buffer) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hydrant_"+name, help, labels, nil)
	}
	return &metrics{
		b: b,
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hydrant_journal_fsync_seconds", Help: "Time of each fdatasync of the journal.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 17),
		}),
		journal: desc("journal_bytes", "Bytes of the journal from the oldest frame that is needed to the end."),
		accept:  desc("accepting", "1 while calls are taken, 0 while all are refused."),
		disk:    desc("disk_used_bytes", "Bytes of limits.disk in use.", "kind"),
		limit:   desc("disk_limit_bytes", "Bytes of limits.disk that rows and packs may take."),
		free:    desc("disk_free_bytes", "Bytes that rows and packs may still take."),
		memory:  desc("memory_used_bytes", "Bytes of limits.memory in use.", "part"),
		budget:  desc("memory_budget_bytes", "Bytes of limits.memory that a part may take.", "part"),
		groups:  desc("journal_groups_total", "Groups that were written and synced."),
		open:    desc("outstanding_manifests", "Manifests that have not ended."),
		crypt:   desc("encryption_files", "Segments and packs that are needed, by the key that they are encrypted under, none where they are in clear.", "kind", "key_id"),
	}
}

// sync takes note of one fdatasync.
func (m *metrics) sync(took time.Duration) { m.fsync.Observe(took.Seconds()) }

// Collectors of this package's metrics.
func (b *Buffer) Collectors() []prometheus.Collector {
	return []prometheus.Collector{b.metrics, b.metrics.fsync}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.journal, m.accept, m.disk, m.limit, m.free, m.memory, m.budget, m.groups, m.open, m.crypt} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	used, allocated := m.b.journal.bytes()
	gauge(m.journal, used)
	accepting := int64(0)
	if ok, _ := m.b.Accepting(); ok {
		accepting = 1
	}
	gauge(m.accept, accepting)
	s := m.b.space.stats()
	gauge(m.disk, allocated, "journal")
	gauge(m.disk, s.Packs+s.Making, "packs")
	gauge(m.disk, s.Rows, "reserved")
	gauge(m.disk, s.Ballast, "ballast")
	gauge(m.limit, s.Limit)
	gauge(m.free, max(s.Free, 0))
	f := m.b.front.stats()
	gauge(m.memory, f.Used+f.Reserved, "front")
	gauge(m.memory, f.Free, "front_free")
	gauge(m.memory, s.Bodies, "bodies")
	gauge(m.budget, f.Budget, "front")
	gauge(m.budget, s.BodyBudget, "bodies")
	ch <- prometheus.MustNewConstMetric(m.groups, prometheus.CounterValue, float64(m.b.committer.groups.Load()))
	m.b.ledger.mu.RLock()
	open := len(m.b.ledger.manifests)
	m.b.ledger.mu.RUnlock()
	gauge(m.open, int64(open))
	for _, kind := range []struct {
		name string
		keys map[string]int64
	}{{"journal", m.b.journal.keyIDs()}, {"packs", m.b.packs.keyIDs()}} {
		for id, n := range kind.keys {
			gauge(m.crypt, n, kind.name, cmp.Or(id, "none"))
		}
	}
}

// keyIDs counts the segments in use by the key that they need, "" where they are in clear.
func (j *journal) keyIDs() map[string]int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := make(map[string]int64)
	for _, s := range j.segments {
		n[s.slot.key.keyID()]++
	}
	return n
}

// keyIDs counts the files that are needed by the key that they are encrypted under, "" where they are in clear.
func (s *fileStore) keyIDs() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := make(map[string]int64)
	for _, f := range s.files {
		if !f.doomed {
			n[f.key.keyID()]++
		}
	}
	return n
}
