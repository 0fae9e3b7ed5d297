package sources

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reading are the metrics of Readers, by stream; a lane is never a label. Safe for concurrent use.
type Reading struct {
	names func() []string

	mu      sync.Mutex
	streams map[string]*StreamReading

	lag, lagRecords, owned, waiting, retention *prometheus.Desc
	counters                                   [readingEvents]*prometheus.Desc
}

var _ prometheus.Collector = (*Reading)(nil)

// ReadingEvent is what a Reader counts.
type ReadingEvent int

// What Readers count.
const (
	ReadRecords    ReadingEvent = iota // records that came of the source, as producers sent them
	ReadBytes                          // bytes of their data
	ReadThrottled                      // fetches that the source refused since there were too many
	ReadFaults                         // calls of the source that failed and were repeated
	ReadGaps                           // positions that were gone at the source: records may be lost
	ReadCommits                        // positions that were told to the source, or to the table of its lanes
	ReadFenced                         // commits that were refused, since somebody else has the lane
	ReadLanesLost                      // lanes that somebody else took
	ReadIterators                      // shard iterators that expired (Kinesis)
	ReadSubrecords                     // records that were unpacked of aggregates (Kinesis)
	ReadAggregates                     // aggregates that contradict themselves and were left as they are (Kinesis)
	ReadRebalances                     // changes of who reads what (Kafka)
	ReadTombstones                     // records without a value that were dropped (Kafka)
	readingEvents                      // how many there are
)

var readingNames = [readingEvents][2]string{
	ReadRecords:    {"hydrant_source_records_total", "Records that were fetched of the source, as producers sent them."},
	ReadBytes:      {"hydrant_source_bytes_total", "Bytes of records that were fetched of the source."},
	ReadThrottled:  {"hydrant_source_throttled_total", "Fetches that the source refused since there were too many."},
	ReadFaults:     {"hydrant_source_faults_total", "Calls of the source that failed and were repeated."},
	ReadGaps:       {"hydrant_source_gaps_total", "Positions that were gone at the source when reading should have gone on there: records may be lost."},
	ReadCommits:    {"hydrant_source_commits_total", "Positions that were committed at the source, or in the table of its lanes."},
	ReadFenced:     {"hydrant_source_fenced_commits_total", "Commits that were refused since somebody else has the lane."},
	ReadLanesLost:  {"hydrant_source_lease_lost_total", "Lanes that somebody else took."},
	ReadIterators:  {"hydrant_source_iterators_expired_total", "Shard iterators that expired and were made anew."},
	ReadSubrecords: {"hydrant_source_subrecords_total", "Records that were unpacked of aggregates."},
	ReadAggregates: {"hydrant_source_aggregate_errors_total", "Aggregates that contradict themselves and were handed on as they are."},
	ReadRebalances: {"hydrant_source_rebalances_total", "Changes of who reads which partitions."},
	ReadTombstones: {"hydrant_source_tombstones_total", "Records without a value that were dropped."},
}

// StreamReading are those of one stream. Its methods may be called on nil, which counts nothing.
type StreamReading struct {
	made time.Time

	mu             sync.Mutex // guards what follows
	counts         [readingEvents]float64
	lanes          map[string]laneLag
	owned, waiting int
	lagRecords     bool
	retention      time.Duration
}

type laneLag struct {
	behind  time.Duration
	records int64 // -1: not known
	read    time.Time
}

// readStale is how long after its last good read a lane's lag grows by itself: who cannot read does not know how far behind
// he is.
const readStale = 30 * time.Second

// readingGrace is how long the metrics of a stream are kept that is not among the names.
const readingGrace = time.Minute

// NewReading returns Reading. names returns the names of all streams, ascending, from memory.
func NewReading(names func() []string) *Reading {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"stream"}, nil)
	}
	m := &Reading{
		names: names, streams: map[string]*StreamReading{},
		lag:        d("hydrant_source_lag_seconds", "How far behind the newest record of the source reading is, in the lane that is the furthest behind."),
		lagRecords: d("hydrant_source_lag_records", "Records of the source that were not read yet, of all lanes."),
		owned:      d("hydrant_source_lanes_owned", "Shards or partitions that this process reads."),
		waiting:    d("hydrant_source_lanes_waiting", "Shards that wait for the end of their parents."),
		retention:  d("hydrant_source_retention_seconds", "How long the source keeps records."),
	}
	for i, n := range readingNames {
		m.counters[i] = d(n[0], n[1])
	}
	return m
}

// Stream returns the metrics of a stream that is known to exist and has a Reader.
func (m *Reading) Stream(name string) *StreamReading {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.streams[name]
	if s == nil {
		s = &StreamReading{made: time.Now(), lanes: map[string]laneLag{}}
		m.streams[name] = s
	}
	return s
}

// Add counts n events.
func (s *StreamReading) Add(e ReadingEvent, n int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.counts[e] += float64(n)
	s.mu.Unlock()
}

// Behind says how far behind a lane is, after a read of it at the time at. records are those not read yet, -1 where the
// source does not tell.
func (s *StreamReading) Behind(lane string, behind time.Duration, records int64, at time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.lanes[lane] = laneLag{behind: behind, records: records, read: at}
	s.lagRecords = s.lagRecords || records >= 0
	s.mu.Unlock()
}

// Lag is how far behind the newest record of the source reading is, in the lane that is the furthest behind.
func (s *StreamReading) Lag(now time.Time) time.Duration {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lag(now)
}

// lag is Lag. mu is held.
func (s *StreamReading) lag(now time.Time) (most time.Duration) {
	for _, l := range s.lanes {
		behind := l.behind
		if since := now.Sub(l.read); since > readStale {
			behind += since
		}
		most = max(most, behind)
	}
	return most
}

// Left ends the lag of a lane that is not read here any longer.
func (s *StreamReading) Left(lane string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	delete(s.lanes, lane)
	s.mu.Unlock()
}

// Lanes says how many lanes are read here, and how many wait for others.
func (s *StreamReading) Lanes(owned, waiting int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.owned, s.waiting = owned, waiting
	s.mu.Unlock()
}

// Retention says how long the source keeps records.
func (s *StreamReading) Retention(d time.Duration) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.retention = d
	s.mu.Unlock()
}

// Describe implements prometheus.Collector.
func (m *Reading) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append(m.counters[:], m.lag, m.lagRecords, m.owned, m.waiting, m.retention) {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Streams that are gone are forgotten.
func (m *Reading) Collect(ch chan<- prometheus.Metric) {
	names := m.names()
	m.mu.Lock()
	streams := make(map[string]*StreamReading, len(m.streams))
	for name, s := range m.streams {
		if _, there := slices.BinarySearch(names, name); !there {
			if time.Since(s.made) > readingGrace { // one that is just made is not among the names yet
				delete(m.streams, name)
			}
			continue
		}
		streams[name] = s
	}
	m.mu.Unlock()
	now := time.Now()
	for name, s := range streams {
		s.collect(ch, m, name, now)
	}
}

func (s *StreamReading) collect(ch chan<- prometheus.Metric, m *Reading, name string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
	}
	var records int64
	for _, l := range s.lanes {
		records += max(l.records, 0)
	}
	gauge(m.lag, s.lag(now).Seconds())
	if s.lagRecords {
		gauge(m.lagRecords, float64(records))
	}
	gauge(m.owned, float64(s.owned))
	gauge(m.waiting, float64(s.waiting))
	if s.retention > 0 {
		gauge(m.retention, s.retention.Seconds())
	}
	for e, d := range m.counters {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, s.counts[e], name)
	}
}
