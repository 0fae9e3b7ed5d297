package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/sources/sourcetest"
)

// idle is a session whose client reaches nobody.
func idle(t *testing.T) *session {
	t.Helper()
	r, err := New(Options{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"t"}, Group: "g", Start: Earliest, Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	var to sourcetest.Destination
	in := sourcetest.NewDisk(t, &to).Open(sourcetest.Options{})
	t.Cleanup(in.Crash)
	s := &session{r: r, o: &r.o, in: in, log: r.o.Log, lanes: map[partition]*lane{}, takenAt: map[partition]uint64{}, committed: map[partition]committed{}, room: make(chan struct{}, 1), end: func(error) {}}
	if s.cl, err = kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cl.Close)
	return s
}

func (s *session) put(number int32, next int64) *lane {
	p := partition{"t", number}
	name, _ := p.lane()
	l := &lane{partition: p, name: name, ready: make(chan struct{}, 1), next: next, moved: time.Now(), topicID: topicID{1}}
	s.lanes[p] = l
	return l
}

func records(first, count int64) (list []*kgo.Record) {
	for o := first; o < first+count; o++ {
		list = append(list, &kgo.Record{Topic: "t", Offset: o, Value: []byte("v")})
	}
	return list
}

// TestTake: only records that a lane waits for get into its queue, whatever changed while they were polled.
func TestTake(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*session, *lane)
		id      topicID
		first   int64
		want    int64 // records in the queue
		ended   bool
	}{
		{"in order", func(*session, *lane) {}, topicID{1}, 50, 10, false},
		{"behind a gap, as compaction leaves it", func(*session, *lane) {}, topicID{1}, 70, 10, false},
		{"partly of before a jump", func(*session, *lane) {}, topicID{1}, 45, 5, false},
		{"all of before a jump", func(*session, *lane) {}, topicID{1}, 40, 0, false},
		{"being given up", func(_ *session, l *lane) { l.state = revoking }, topicID{1}, 50, 0, false},
		{"given up", func(s *session, l *lane) { delete(s.lanes, l.partition) }, topicID{1}, 50, 0, false},
		{"given up and come back before the poll", func(s *session, l *lane) { s.takenAt[l.partition] = 7 }, topicID{1}, 50, 10, false},
		{"given up and come back during the poll", func(s *session, l *lane) { s.takenAt[l.partition] = 8 }, topicID{1}, 70, 0, false},
		{"given up and come back during the poll, to begin with the first record", func(s *session, l *lane) {
			s.takenAt[l.partition], l.next, l.tail = 8, -1, position{s.r.group, topicID{1}, 0, -1, -1}
		}, topicID{1}, 0, 0, true},
		{"given up and come back during the poll, and nobody knows where it begins", func(s *session, l *lane) { s.takenAt[l.partition], l.next = 8, -1 }, topicID{1}, 0, 0, false},
		{"of a topic that was made anew", func(*session, *lane) {}, topicID{2}, 50, 0, true},
		{"of brokers without ids", func(*session, *lane) {}, topicID{}, 50, 10, false},
	} {
		s := idle(t)
		ended := false
		s.end = func(error) { ended = true }
		l := s.put(0, 50)
		c.prepare(s, l)
		s.take(t.Context(), "t", c.id, kgo.FetchPartition{Records: records(c.first, 10)}, 7)
		got := int64(0)
		for _, f := range l.queue {
			got += int64(len(f.records))
		}
		if got != c.want || ended != c.ended {
			t.Errorf("%s: %d records, ended %v; want %d, %v", c.name, got, ended, c.want, c.ended)
		}
		if s.queued != l.bytes {
			t.Errorf("%s: %d bytes are counted, the lane has %d", c.name, s.queued, l.bytes)
		}
	}
}

// TestFirstTrimmed: where the first record was trimmed while reading was to begin with it, the next one that is there is the
// first, whatever the policy; and a lane that has no place yet is not moved by an error of before it came.
func TestFirstTrimmed(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	c.texts("t", 1, 0, 10)
	if err := c.DeleteRecords("t", 0, 4); err != nil {
		t.Fatal(err)
	}
	for _, policy := range []string{Stop, Earliest, Latest} {
		s := idle(t)
		s.o.OutOfRange, s.adm = policy, c.admin()
		s.end = func(err error) { t.Errorf("%s: %v", policy, err) }
		l := s.put(0, -1)
		l.tail = position{Epoch: -1, Offset: -1}
		s.outOfRange(t.Context(), l.partition)
		if l.next != -1 || len(l.queue) != 0 {
			t.Errorf("%s: a lane without a place goes on at %d", policy, l.next)
		}
		l.tail.Group = s.r.group
		s.outOfRange(t.Context(), l.partition)
		if l.next != 4 || len(l.queue) != 1 || l.turn != 0 {
			t.Errorf("%s: reading goes on at %d in turn %d", policy, l.next, l.turn)
		}
	}
}

// TestStaleEnd: what was fetched before the lane's end was asked for last says nothing of how far behind reading is.
func TestStaleEnd(t *testing.T) {
	s := idle(t)
	m := newCounted(t)
	s.o.Reading = m.StreamReading
	l := s.put(0, 0)
	l.end = 1000
	behind := func(records string) {
		t.Helper()
		m.is("hydrant_source_lag_records", "Records of the source that were not read yet, of all lanes.", "gauge", records)
	}
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Records: records(0, 10), HighWatermark: 10, LastStableOffset: 10}, 0)
	behind("990")
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Records: records(10, 10), HighWatermark: 2000, LastStableOffset: 1500}, 0)
	behind("1480")
	l.restart(s, 5, 1) // the log was cut
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Records: records(5, 5), HighWatermark: 12, LastStableOffset: 12}, 0)
	behind("2")
}

// TestPark: lanes that do not move are set aside only where others do, or where they wait for something of their own, and
// their bytes are counted once.
func TestPark(t *testing.T) {
	s := idle(t)
	old := time.Now().Add(-time.Minute)
	stuck, moving := s.put(0, 0), s.put(1, 0)
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Partition: 0, Records: records(0, 10)}, 0)
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Partition: 1, Records: records(0, 5)}, 0)
	stuck.moved, s.progress = old, old
	s.park()
	if stuck.parked || moving.parked {
		t.Fatal("a lane is parked though none moves: there is no room for any")
	}
	s.progress = time.Now()
	s.park()
	if !stuck.parked || moving.parked || s.parked != stuck.bytes || s.queued != moving.bytes {
		t.Fatalf("parked %v and %v, %d and %d bytes", stuck.parked, moving.parked, s.parked, s.queued)
	}
	if paused := s.cl.PauseFetchPartitions(nil); len(paused["t"]) != 1 {
		t.Errorf("%v are paused", paused)
	}
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Partition: 0, Records: records(10, 1)}, 0)
	if s.parked != stuck.bytes {
		t.Errorf("%d bytes are parked, the lane has %d", s.parked, stuck.bytes)
	}
	s.consumed(stuck, stuck.bytes)
	if stuck.parked || s.parked != 0 || s.queued != moving.bytes || len(s.cl.PauseFetchPartitions(nil)["t"]) != 0 {
		t.Errorf("an empty lane is still parked: %d and %d bytes", s.parked, s.queued)
	}
	stuck.moved, stuck.waits, s.progress = old, true, old
	s.take(t.Context(), "t", topicID{1}, kgo.FetchPartition{Partition: 0, Records: records(11, 10)}, 0)
	stuck.moved = old
	s.park()
	if !stuck.parked {
		t.Error("a lane that waits for a schema is not parked")
	}
	s.drop(stuck)
	if s.parked != 0 || stuck.bytes != 0 || s.queued != moving.bytes {
		t.Errorf("a lane that is gone still counts: %d and %d bytes", s.parked, s.queued)
	}
}

// TestCommittable: what may be committed is what is delivered, and where everything is, the end of what was read.
func TestCommittable(t *testing.T) {
	at := func(s *session, offset int64) position { return position{s.r.group, topicID{1}, 0, -1, offset} }
	for _, c := range []struct {
		name      string
		appended  int64 // -1: none
		tail      int64
		told      int64
		delivered int64 // -1: nothing
		want      int64 // -1: nothing
	}{
		{"nothing was read", -1, -1, -1, -1, -1},
		{"a start that was resolved", -1, 40, -1, -1, 40},
		{"what the group knows", -1, 40, 40, -1, -1},
		{"nothing is delivered", 60, 60, 40, -1, -1},
		{"a part is delivered", 60, 60, 40, 50, 50},
		{"all is delivered", 60, 60, 40, 60, 60},
		{"all is delivered, and tombstones came after it", 60, 65, 40, 60, 65},
		{"a part is delivered, and tombstones came after it", 60, 65, 40, 50, 50},
		{"what was delivered here before somebody else went on", 60, 60, 55, 50, -1},
	} {
		s := idle(t)
		l := s.put(0, 0)
		l.tail, l.told = at(s, c.tail), at(s, c.told)
		if c.appended >= 0 {
			l.appended = at(s, c.appended).encode()
		}
		if c.delivered >= 0 {
			if err := s.in.Note(t.Context(), l.name, at(s, c.delivered).encode()); err != nil {
				t.Fatal(err)
			}
		}
		got, isNew := s.committable(l)
		if !isNew {
			got.Offset = -1
		}
		if got.Offset != c.want {
			t.Errorf("%s: %d, want %d", c.name, got.Offset, c.want)
		}
	}
}
