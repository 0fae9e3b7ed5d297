package kinesis

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"hydrant/sources"
)

// What the service allows of a shard.
const (
	maxRecords     = 10_000
	bytesPerSecond = 2 << 20
	// fullReply is an answer so large that the next one may have as much.
	fullReply = 1 << 20
	// staleIterator is the age at which an iterator is made anew: one lives for five minutes.
	staleIterator = 4 * time.Minute
)

// errShardGone is of a shard that the stream does not have any longer.
var errShardGone = errors.New("the shard is gone")

// poller is a fetcher by GetRecords.
type poller struct {
	l        *lane
	iterator string
	made     time.Time     // of the iterator
	called   time.Time     // the last call
	gap      time.Duration // to the next one
	average  int           // bytes of a record, recently; 0: not known
	wait     backoff
	ends     int // answers in a row that had neither an iterator nor children
}

// endings is how many of them are the end of a closed shard.
const endings = 3

func (p *poller) close() {}

// next implements fetcher.
func (p *poller) next(ctx context.Context, at Checkpoint) (batch, error) {
	l := p.l
	p.wait = backoff{base: l.r.o.Backoff}
	for {
		if err := sleep(ctx, time.Until(p.called.Add(p.gap))); err != nil {
			return batch{}, err
		}
		// Memory first: a lane that waits for it for long needs another iterator then.
		if err := l.memory.take(ctx); err != nil {
			return batch{}, err
		}
		if p.iterator == "" || time.Since(p.made) > staleIterator {
			if err := p.open(ctx, at); err != nil {
				return batch{}, err
			}
		}
		p.called = time.Now()
		within, cancel := context.WithTimeout(context.WithValue(ctx, claimKey{}, &l.memory), callTimeout)
		limit := p.limit()
		out, err := l.src.client.GetRecords(within, &kinesis.GetRecordsInput{ShardIterator: &p.iterator, Limit: &limit, StreamARN: l.src.arn})
		cancel()
		if err != nil {
			l.memory.keep(0)
			if err := p.failed(ctx, err); err != nil {
				return batch{}, err
			}
			continue
		}
		b := batch{records: out.Records, behind: time.Duration(aws.ToInt64(out.MillisBehindLatest)) * time.Millisecond}
		next := aws.ToString(out.NextShardIterator)
		b.end, b.children = next == "", childrenOf(out.ChildShards)
		if b.end && len(b.children) == 0 {
			// Older services say no children; but an answer may also have lost what it says of how to go on, and then there
			// may be more to come. So it must say so again, asked with the same iterator, and the list must agree.
			p.ends++
			if len(b.records) == 0 {
				next = p.iterator
			}
			if b.end = p.ends >= endings && len(b.records) == 0; b.end {
				if b.end, err = l.closed(ctx); err != nil {
					return batch{}, err
				}
			}
		} else {
			p.ends = 0
		}
		if next != p.iterator {
			p.iterator, p.made = next, p.called
		}
		p.pace(&b)
		return b, nil
	}
}

// limit is how many records to ask for, so that an answer is not more than half of the memory that there is for all.
func (p *poller) limit() int32 {
	if p.average == 0 {
		return maxRecords
	}
	return int32(max(1, min(maxRecords, p.l.r.credit.all/2/held/int64(p.average*4/3+200))))
}

// pace says when the next call is due: after the interval, or as soon as the service allows where there is more.
func (p *poller) pace(b *batch) {
	size := sizeOf(b.records)
	if n := len(b.records); n > 0 {
		p.average = max(size/n, 1)
	}
	// What is decoded is held until it is handed over; the answer itself is not.
	p.l.memory.keep(int64(size) + minExpected)
	o := &p.l.r.o
	p.gap = o.Interval
	if p.ends > 0 || b.behind > 0 && (b.behind > o.Interval || size >= fullReply || len(b.records) >= maxRecords || len(b.records) == 0) {
		p.gap = time.Second / time.Duration(o.ReadsPerSecond)
		if o.BytesPerSecond > 0 {
			p.gap = max(p.gap, time.Duration(float64(size)/float64(o.BytesPerSecond)*float64(time.Second)))
		}
		p.gap = min(p.gap, max(o.Interval, 5*time.Second))
	}
}

// failed waits where the fault passes, and returns it where not.
func (p *poller) failed(ctx context.Context, err error) error {
	l := p.l
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errNoRoom) {
		return nil // what it needs is known now, and reserved before the next call
	}
	switch kind := classify(err); kind {
	case expired:
		l.r.o.Metrics.Add(sources.ReadIterators, 1)
		p.iterator = ""
		return nil
	case passing, throttled:
		l.r.count(kind)
		if p.wait.worth() {
			l.log.Warn("reading of a shard fails and is tried again", "err", err)
		}
		return p.wait.sleep(ctx)
	case gone:
		if err := l.gone(ctx); err != nil {
			return err
		}
		return l.r.tell("GetRecords", l.own.Shard, err)
	default:
		return l.r.tell("GetRecords", l.own.Shard, err)
	}
}

// gone asks, where something is not there, whether that is the shard: errShardGone. nil: the stream has it.
func (l *lane) gone(ctx context.Context) error {
	all, err := l.r.list(ctx, l.src, time.Time{})
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.ID == l.own.Shard {
			return nil
		}
	}
	return errShardGone
}

// closed says whether the list of shards has the lane's as closed, or not at all.
func (l *lane) closed(ctx context.Context) (bool, error) {
	all, err := l.r.list(ctx, l.src, time.Time{})
	if err != nil {
		return false, err
	}
	for _, s := range all {
		if s.ID == l.own.Shard {
			return s.Closed, nil
		}
	}
	return true, nil
}

// open gets an iterator for what comes after at.
func (p *poller) open(ctx context.Context, at Checkpoint) error {
	l := p.l
	for {
		in := &kinesis.GetShardIteratorInput{ShardId: &l.own.Shard, StreamName: l.src.name, StreamARN: l.src.arn}
		in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp = begin(at)
		var out *kinesis.GetShardIteratorOutput
		err := l.r.call(ctx, "GetShardIterator", l.own.Shard, func(ctx context.Context) (err error) {
			out, err = l.src.client.GetShardIterator(ctx, in)
			return err
		})
		if err == nil {
			p.iterator, p.made = aws.ToString(out.ShardIterator), time.Now()
			return nil
		}
		switch kind := classify(err); {
		case kind == gone:
			if gone := l.gone(ctx); gone != nil {
				return gone
			}
			return err
		case kind == badPosition && at.IsNumber():
			at = l.trimmed(at, err)
		default:
			return err
		}
	}
}

// begin is a place as the service wants to hear of it.
func begin(at Checkpoint) (types.ShardIteratorType, *string, *time.Time) {
	switch {
	case at.IsNumber() && at.Whole:
		return types.ShardIteratorTypeAfterSequenceNumber, &at.Sequence, nil
	case at.IsNumber():
		return types.ShardIteratorTypeAtSequenceNumber, &at.Sequence, nil
	case at.Sequence == AtTimestamp:
		// A time that is still to come is refused; what arrives before it is passed over.
		t := at.Time
		if now := time.Now().Add(-time.Second); t.After(now) {
			t = now
		}
		return types.ShardIteratorTypeAtTimestamp, nil, &t
	case at.Sequence == Latest:
		return types.ShardIteratorTypeLatest, nil, nil
	}
	return types.ShardIteratorTypeTrimHorizon, nil, nil
}

// trimmed says that what comes after a place is older than the retention, and where reading goes on.
func (l *lane) trimmed(at Checkpoint, err error) Checkpoint {
	l.r.o.Metrics.Add(sources.ReadGaps, 1)
	l.log.Error("the stream no longer has the records after the last that were read: what arrived since and is older than its retention is lost", "at", at.String(), "err", err)
	return Checkpoint{Sequence: TrimHorizon}
}

// sizeOf is how many bytes of data records have.
func sizeOf(records []types.Record) (size int) {
	for i := range records {
		size += len(records[i].Data)
	}
	return size
}
