package kinesis

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"hydrant/sources"
)

// resubscribe is how soon after one subscription another one of the same shard is refused.
const resubscribe = 5 * time.Second

// register makes the consumer, where it is not there yet, and waits until it can be used.
func (r *Reader) register(ctx context.Context, s *source) (arn string, err error) {
	describe := func() (d *types.ConsumerDescription, err error) {
		err = r.call(ctx, "DescribeStreamConsumer", "", func(ctx context.Context) error {
			out, err := s.client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{ConsumerName: &r.o.FanOut, StreamARN: &s.stream.ARN})
			if err == nil {
				d = out.ConsumerDescription
			}
			return err
		})
		return d, err
	}
	for {
		d, err := describe()
		switch {
		case codeOf(err) == "ResourceNotFoundException":
			err = r.call(ctx, "RegisterStreamConsumer", "", func(ctx context.Context) error {
				_, err := s.client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{ConsumerName: &r.o.FanOut, StreamARN: &s.stream.ARN})
				return err
			})
			if err != nil && classify(err) != inUse { // else another replica was first, or the answer to a first call was lost
				return "", err
			}
		case err != nil:
			return "", err
		case d == nil:
			return "", fmt.Errorf("describe consumer %s of stream %s: the answer has no description", r.o.FanOut, r.o.Stream)
		case d.ConsumerStatus == types.ConsumerStatusActive:
			return aws.ToString(d.ConsumerARN), nil
		}
		if err := sleep(ctx, min(r.o.Interval, time.Second)); err != nil {
			return "", err
		}
	}
}

// subscriber is a fetcher by SubscribeToShard.
type subscriber struct {
	l      *lane
	events *kinesis.SubscribeToShardEventStream // nil: none is open
	began  time.Time                            // the last subscription that was granted
	wait   backoff
}

func (s *subscriber) close() {
	if s.events != nil {
		_ = s.events.Close()
		s.events = nil
	}
}

// idle is how long a subscription may lie open without an event that comes, or that is taken.
const idle = time.Minute

// next implements fetcher.
func (s *subscriber) next(ctx context.Context, at Checkpoint) (batch, error) {
	l := s.l
	s.wait = backoff{base: l.r.o.Backoff}
	silent := time.NewTimer(idle)
	defer silent.Stop()
	for {
		if s.events == nil {
			if err := s.open(ctx, at); err != nil {
				return batch{}, err
			}
		}
		silent.Reset(idle)
		var event types.SubscribeToShardEventStream
		var open bool
		select {
		case event, open = <-s.events.Events():
		case <-silent.C:
			s.close() // the service sends events without records, too
			continue
		case <-ctx.Done():
			return batch{}, ctx.Err()
		}
		if !open {
			err := s.events.Err()
			s.close()
			if err := s.failed(ctx, err); err != nil {
				return batch{}, err
			}
			continue
		}
		e, ok := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent)
		if !ok {
			continue // of a later version
		}
		b := batch{
			records: e.Value.Records, behind: time.Duration(aws.ToInt64(e.Value.MillisBehindLatest)) * time.Millisecond,
			next: aws.ToString(e.Value.ContinuationSequenceNumber), children: childrenOf(e.Value.ChildShards),
		}
		// An event and the one behind it are in memory already; that they are not taken is what holds the service back.
		if err := l.memory.grow(ctx, int64(sizeOf(b.records))); err != nil {
			return batch{}, err
		}
		b.end = b.next == "" && len(b.children) > 0
		if b.next == "" && !b.end { // neither; the subscription is asked for again from the last record
			s.close()
		}
		return b, nil
	}
}

// open subscribes for what comes after at.
func (s *subscriber) open(ctx context.Context, at Checkpoint) error {
	l := s.l
	for {
		if err := sleep(ctx, time.Until(s.began.Add(l.r.o.Resubscribe))); err != nil {
			return err
		}
		p := &types.StartingPosition{}
		p.Type, p.SequenceNumber, p.Timestamp = begin(at)
		// The call's context is that of its events too, so that only their end ends it.
		out, err := l.src.client.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{ConsumerARN: &l.r.consumer, ShardId: &l.own.Shard, StartingPosition: p}, ownProtocol)
		if err == nil {
			s.events, s.began = out.GetStream(), time.Now()
			return nil
		}
		if classify(err) == badPosition && at.IsNumber() {
			at = l.trimmed(at, err)
			continue
		}
		if err := s.failed(ctx, err); err != nil {
			return err
		}
	}
}

// failed waits where the fault passes, and returns it where not. nil is the end of a subscription whose time is over.
func (s *subscriber) failed(ctx context.Context, err error) error {
	l := s.l
	switch kind := classify(err); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case kind == inUse: // another replica reads it still, or an earlier subscription of our own
		l.r.count(throttled)
		return sleep(ctx, l.r.o.Resubscribe)
	case kind == gone:
		if err := l.gone(ctx); err != nil {
			return err
		}
		return l.r.tell("SubscribeToShard", l.own.Shard, err)
	case kind == passing, kind == throttled:
		l.r.count(kind)
		if s.wait.worth() {
			l.log.Warn("subscription to a shard fails and is tried again", "err", err)
		}
		return s.wait.sleep(ctx)
	case kind == expired:
		l.r.o.Metrics.Add(sources.ReadIterators, 1)
		return nil
	default:
		return l.r.tell("SubscribeToShard", l.own.Shard, err)
	}
}
