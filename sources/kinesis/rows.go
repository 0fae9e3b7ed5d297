package kinesis

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"hydrant/record"
	"hydrant/sources"
)

// Of rows that are handed over at a time.
const (
	maxRows     = 10_000
	maxRowBytes = 2 << 20 // of data, unless one is larger
	// maxMetaBytes is of what is known of them: keys of a kilobyte would be five times the data, and more, otherwise.
	maxMetaBytes = 4 << 20
	// apart is how far the arrivals of rows that go together may lie apart.
	apart = time.Second
)

// rows collects what is handed over next. It is used again and again, by one goroutine at a time: a lane has it only while it
// unpacks an answer, so that a thousand lanes that wait do not keep some MiB each.
type rows struct {
	data    [][]byte
	meta    []byte // all of them, one after another
	ends    []int  // of each in meta
	metas   [][]byte
	bytes   int
	arrived time.Time
	last    Checkpoint // the last row's
}

func (w *rows) add(data []byte, m *record.Meta, arrived time.Time, at Checkpoint) {
	if len(w.data) == 0 {
		w.arrived = arrived
	}
	w.data = append(w.data, data)
	w.meta = record.AppendMeta(w.meta, m)
	w.ends = append(w.ends, len(w.meta))
	w.bytes += len(data)
	w.last = at
}

// full says that a row of so many bytes, which arrived then, does not go with those that are collected.
func (w *rows) full(bytes int, arrived time.Time) bool {
	if len(w.data) == 0 {
		return false
	}
	return len(w.data) >= maxRows || len(w.meta) >= maxMetaBytes || w.bytes+bytes > maxRowBytes || arrived.Sub(w.arrived).Abs() > apart
}

func (w *rows) reset() {
	clear(w.data)
	clear(w.metas)
	w.data, w.meta, w.ends, w.bytes = w.data[:0], w.meta[:0], w.ends[:0], 0
}

// flush hands over what is collected.
func (l *lane) flush(ctx context.Context) error {
	w := l.rows
	if len(w.data) == 0 {
		return nil
	}
	w.metas = w.metas[:0]
	for i, from := 0, 0; i < len(w.ends); i++ {
		w.metas = append(w.metas, w.meta[from:w.ends[i]])
		from = w.ends[i]
	}
	err := l.in.Append(ctx, sources.Rows{Lane: l.own.Shard, Arrived: w.arrived, Data: w.data, Meta: w.metas, Next: l.position(w.last)})
	if err != nil {
		return err
	}
	l.at, l.moved = w.last, time.Now()
	l.appended(w.last, w.arrived)
	w.reset()
	return nil
}

// take unpacks records and hands them over. Then l.at is behind the last of them. Where it fails, l.at is behind the last that
// was handed over.
func (l *lane) take(ctx context.Context, records []types.Record) error {
	l.rows = l.r.rows.Get().(*rows)
	defer func() {
		l.rows.reset()
		l.r.rows.Put(l.rows)
		l.rows = nil
		l.aggregate.Clear()
	}()
	size := 0
	for i := range records {
		size += len(records[i].Data)
		if err := l.takeOne(ctx, &records[i]); err != nil {
			return err
		}
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	if len(records) > 0 {
		l.advance(Checkpoint{Sequence: aws.ToString(records[len(records)-1].SequenceNumber), Whole: true})
		l.r.o.Metrics.Add(sources.ReadRecords, len(records))
		l.r.o.Metrics.Add(sources.ReadBytes, size)
	}
	return nil
}

// advance moves on over what had no rows.
func (l *lane) advance(to Checkpoint) {
	if to.IsNumber() && (!l.at.IsNumber() || compareNumbers(to.Sequence, l.at.Sequence) > 0) {
		l.at = to
	}
}

func (l *lane) takeOne(ctx context.Context, rec *types.Record) error {
	sequence, arrived := aws.ToString(rec.SequenceNumber), aws.ToTime(rec.ApproximateArrivalTimestamp)
	if !number(sequence) {
		return errors.New("a record of shard " + l.own.Shard + " has the sequence number " + strconv.Quote(sequence))
	}
	done := int64(-1) // the last part of it that was handed over before
	if l.at.IsNumber() {
		switch n := compareNumbers(sequence, l.at.Sequence); {
		case n < 0, n == 0 && l.at.Whole:
			return nil
		case n == 0:
			done = l.at.Sub
		}
	}
	if arrived.IsZero() {
		arrived = time.Now()
	}
	if arrived.Before(l.notBefore) {
		return nil
	}
	// What was begun as an aggregate is ended as one, whatever the configuration says now.
	flaw := ""
	if !l.r.o.KeepAggregates || done > 0 || done == 0 && l.inside {
		packed, err := l.aggregate.Parse(rec.Data)
		switch {
		case err != nil:
			l.r.o.Metrics.Add(sources.ReadAggregates, 1)
			if l.r.worthTelling() {
				l.log.Warn("aggregate contradicts itself and goes to the error output as it came", "sequence_number", sequence, "err", err)
			}
			flaw = err.Error()
		case packed:
			return l.takeParts(ctx, sequence, arrived, done)
		}
	}
	if done >= 0 {
		return nil // it was handed over, and what read it did not say that it was whole
	}
	m := l.meta(sequence, []byte(aws.ToString(rec.PartitionKey)), arrived)
	m.Fault = flaw
	return l.emit(ctx, rec.Data, &m, arrived, Checkpoint{Sequence: sequence, Whole: true})
}

// meta is what is known of a record.
func (l *lane) meta(offset string, key []byte, arrived time.Time) record.Meta {
	return record.Meta{Topic: l.src.stream.Name, Lane: l.own.Shard, Offset: offset, Timestamp: arrived.UnixMilli(), Key: key}
}

// takeParts takes the parts of an aggregate behind the one that was the last to be handed over before.
func (l *lane) takeParts(ctx context.Context, sequence string, arrived time.Time, done int64) error {
	a := &l.aggregate
	for i := int(done) + 1; i < a.Len(); i++ {
		part := a.At(i)
		at := Checkpoint{Sequence: sequence, Sub: int64(i), Whole: i == a.Len()-1}
		l.offset = strconv.AppendInt(append(append(l.offset[:0], sequence...), '.'), int64(i), 10)
		m := l.meta(string(l.offset), part.PartitionKey, arrived)
		if err := l.emit(ctx, part.Data, &m, arrived, at); err != nil {
			return err
		}
	}
	l.r.o.Metrics.Add(sources.ReadSubrecords, a.Len())
	return nil
}

func (l *lane) emit(ctx context.Context, data []byte, m *record.Meta, arrived time.Time, at Checkpoint) error {
	if l.rows.full(len(data), arrived) {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	l.rows.add(data, m, arrived, at)
	return nil
}
