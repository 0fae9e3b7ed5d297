package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/record"
	"hydrant/sources"
)

// state of a lane: owned → revoking → gone. Only what is owned takes records; only what is owned, or is being revoked by who
// commits, is committed.
type state int

const (
	owned state = iota
	revoking
	gone
)

// lane is a partition that this member has. Its fields are guarded by session.mu where nothing else is said.
type lane struct {
	partition
	name    string
	cancel  context.CancelFunc // ends work
	done    chan struct{}      // closed when work has returned
	ready   chan struct{}      // capacity 1: the queue has something
	state   state
	topicID topicID // zero: not known

	queue  []fetched
	bytes  int64     // of records in queue and in work
	parked bool      // fetching is paused
	waits  bool      // for something of its own, like a schema registry
	moved  time.Time // when it last handed rows over, or began to have some

	turn  uint32
	next  int64 // offset from which records are taken; -1: from the first that comes
	end   int64 // the furthest that brokers said reading could go to: what was fetched may have waited since
	epoch int32 // of the record before
	// newest is the time of the record before.
	newest time.Time

	// What may be committed: when everything up to appended is delivered, tail is; before, what is delivered.
	appended sources.Position // of the last rows that were appended, or that begin to be delivered; nil: none
	tail     position         // where reading got to, with records that give no rows; Offset -1: not known
	told     position         // what the group holds; Offset -1: nothing
}

// fetched are records of one fetch, or a jump to another place.
type fetched struct {
	records []*kgo.Record
	bytes   int64
	jump    *position
}

// recordBytes is about what a record takes beside its contents.
const recordBytes = 320

// fetched takes what a poll brought. s.mu is held.
func (l *lane) fetched(s *session, p kgo.FetchPartition) {
	end := p.LastStableOffset
	if s.o.Uncommitted || end < 0 {
		end = p.HighWatermark
	}
	end = max(l.end, end)
	l.end = end
	records := p.Records
	for len(records) > 0 && records[0].Offset < l.next {
		records = records[1:] // a fetch of before a jump
	}
	if len(records) > 0 {
		f := fetched{records: records}
		payload := 0
		for _, r := range records {
			payload += len(r.Key) + len(r.Value)
			f.bytes += int64(len(r.Key)+len(r.Value)) + recordBytes
			for _, h := range r.Headers {
				f.bytes += int64(len(h.Key) + len(h.Value))
			}
		}
		last := records[len(records)-1]
		l.next, l.epoch, l.newest = last.Offset+1, last.LeaderEpoch, last.Timestamp
		if l.bytes == 0 {
			l.moved = time.Now()
		}
		l.queue = append(l.queue, f)
		l.bytes += f.bytes
		if l.parked {
			s.parked += f.bytes
		} else {
			s.queued += f.bytes
		}
		l.wake()
		s.o.Reading.Add(sources.ReadRecords, len(records))
		s.o.Reading.Add(sources.ReadBytes, payload)
	}
	if end >= 0 && l.next >= 0 {
		behind := time.Duration(0)
		if len(records) > 0 && end > l.next {
			behind = max(time.Since(records[len(records)-1].Timestamp), 0)
		}
		s.o.Reading.Behind(l.name, behind, max(end-l.next, 0), time.Now())
	}
}

func (l *lane) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// restart goes on at another offset, after what waits. One that is lower begins a new turn. s.mu is held.
func (l *lane) restart(s *session, offset int64, epoch int32) {
	if offset < l.next {
		l.turn++
		l.end = 0
	}
	l.next, l.epoch = offset, epoch
	l.queue = append(l.queue, fetched{jump: &position{s.r.group, l.topicID, l.turn, epoch, offset}})
	l.wake()
}

// work hands the lane's records over, in order, until ctx ends.
func (l *lane) work(ctx context.Context, s *session) {
	defer close(l.done)
	turn := uint32(0)
	for {
		f, ok := l.take(ctx, s)
		if !ok {
			return
		}
		if f.jump != nil {
			s.mu.Lock()
			l.tail = *f.jump
			s.mu.Unlock()
			turn = f.jump.Turn
			continue
		}
		b := s.r.batches.Get().(*batch) // a lane that waits for records has none
		b.l, b.s, b.turn = l, s, turn
		err := b.hand(ctx, f.records)
		b.l, b.s = nil, nil
		s.r.batches.Put(b)
		s.mu.Lock()
		s.consumed(l, f.bytes)
		s.mu.Unlock()
		if err != nil {
			if ctx.Err() == nil {
				err = fmt.Errorf("hand over records of %v: %w", l.partition, err)
				if !errors.Is(err, sources.ErrReleased) {
					err = &stuckError{err}
				}
				s.end(err)
			}
			return
		}
	}
}

// take waits for what comes next in the queue.
func (l *lane) take(ctx context.Context, s *session) (fetched, bool) {
	for {
		if ctx.Err() != nil {
			return fetched{}, false
		}
		s.mu.Lock()
		if len(l.queue) > 0 {
			f := l.queue[0]
			l.queue[0] = fetched{}
			l.queue = l.queue[1:]
			s.mu.Unlock()
			return f, true
		}
		l.queue = nil
		s.mu.Unlock()
		select {
		case <-l.ready:
		case <-ctx.Done():
		}
	}
}

// What goes to the Inlet in one call at most, but for a record that is larger alone.
const (
	handRows  = 2_000
	handBytes = 512 << 10
	// handSpread is how far apart records of one call may have arrived.
	handSpread = time.Second
)

// batch are rows on their way to the Inlet. Its buffers are used again.
type batch struct {
	l    *lane
	s    *session
	turn uint32

	rows  sources.Rows
	bytes int
	metas []byte // of rows.Meta, one after another
	ends  []int  // of each in metas
}

// hand gives records to the Inlet.
func (b *batch) hand(ctx context.Context, records []*kgo.Record) error {
	s, l := b.s, b.l
	tail := position{s.r.group, l.topicID, b.turn, -1, -1}
	topic, number := l.topic, strconv.Itoa(int(l.number))
	for _, r := range records {
		tail.Offset, tail.Epoch = r.Offset+1, r.LeaderEpoch
		if r.Attrs.IsControl() {
			continue // the end of a transaction
		}
		m := record.Meta{Topic: topic, Lane: number, Offset: strconv.FormatInt(r.Offset, 10), Timestamp: r.Timestamp.UnixMilli(), Key: r.Key}
		data, fault, drop, err := b.value(ctx, r)
		if err != nil {
			return err
		}
		if drop {
			s.o.Reading.Add(sources.ReadTombstones, 1)
			continue
		}
		m.Fault = fault
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, record.Header{Key: h.Key, Value: h.Value})
		}
		arrived := r.Timestamp
		if s.o.ArriveOnRead || arrived.UnixMilli() <= 0 {
			arrived = time.Now()
		}
		if n := len(b.rows.Data); n > 0 {
			apart := arrived.Sub(b.rows.Arrived)
			if n >= handRows || b.bytes+len(data) > handBytes || apart > handSpread || apart < -handSpread {
				if err := b.flush(ctx); err != nil {
					return err
				}
			}
		}
		if len(b.rows.Data) == 0 {
			b.rows.Arrived = arrived
		}
		b.rows.Data = append(b.rows.Data, data)
		before := len(b.metas)
		b.metas = record.AppendMeta(b.metas, &m)
		b.ends = append(b.ends, len(b.metas))
		b.bytes += len(data) + len(b.metas) - before
		b.rows.Next = tail.encode()
	}
	if len(b.rows.Data) > 0 {
		b.rows.Next = tail.encode() // with what gave no rows after the last one
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if tail.Offset >= 0 {
		l.tail = tail
	}
	s.progress, l.moved = time.Now(), time.Now()
	s.mu.Unlock()
	return nil
}

// value decodes a record's value. It waits, as long as ctx lets it, where what it needs cannot be had now.
func (b *batch) value(ctx context.Context, r *kgo.Record) (data []byte, fault string, drop bool, err error) {
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		data, fault, drop, err = b.s.r.values.decode(ctx, r.Value)
		if err == nil || ctx.Err() != nil {
			b.waiting(false)
			return data, fault, drop, err
		}
		b.waiting(true)
		b.s.o.Reading.Add(sources.ReadFaults, 1)
		if b.s.r.held.may("registry") {
			b.s.log.Error("partitions wait for a schema", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, "", false, ctx.Err()
		}
	}
}

func (b *batch) waiting(waits bool) {
	b.s.mu.Lock()
	b.l.waits = waits
	b.s.mu.Unlock()
}

// flush appends the rows that are gathered.
func (b *batch) flush(ctx context.Context) error {
	b.rows.Lane = b.l.name
	begin := 0
	for _, end := range b.ends {
		b.rows.Meta = append(b.rows.Meta, b.metas[begin:end:end])
		begin = end
	}
	err := b.s.in.Append(ctx, b.rows)
	if err == nil {
		b.s.mu.Lock()
		b.l.appended = b.rows.Next
		b.s.progress, b.l.moved = time.Now(), time.Now()
		b.s.mu.Unlock()
	}
	clear(b.rows.Data)
	b.rows.Data, b.rows.Meta, b.metas, b.ends, b.bytes, b.rows.Next = b.rows.Data[:0], b.rows.Meta[:0], b.metas[:0], b.ends[:0], 0, nil
	clear(b.rows.Meta[:cap(b.rows.Meta)])
	if cap(b.metas) > 2*handBytes {
		b.metas = nil
	}
	return err
}
