package kinesis

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// Probed is what came of one question about a stream.
type Probed struct {
	Check string
	Found string
	Err   error // nil: it can be read, as far as this question tells
}

// probeTimeout bounds all questions: faults that pass are asked again until then.
const probeTimeout = 20 * time.Second

// Probe asks the service whether the stream can be read, and changes nothing there: it is described, its shards are listed,
// and one of them is read once, from its newest record on. A consumer that is not there is not registered. It ends at the
// first failure.
func (r *Reader) Probe(ctx context.Context) (found []Probed) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	add := func(check string, err error, format string, a ...any) bool {
		found = append(found, Probed{Check: check, Found: fmt.Sprintf(format, a...), Err: err})
		return err == nil
	}
	client, closeIdle, err := r.connect(ctx)
	if err != nil {
		add("credentials", err, "%v", err)
		return found
	}
	defer closeIdle()
	src, retention, _, err := r.describe(ctx, client)
	if err != nil {
		add("stream", err, "%v", err)
		return found
	}
	add("stream", nil, "%s is there and keeps records for %v", src.stream.ARN, retention)
	shards, err := r.list(ctx, src, time.Time{})
	if err != nil {
		add("shards", err, "%v", err)
		return found
	}
	open := shards[:0]
	for _, s := range shards {
		if !s.Closed {
			open = append(open, s)
		}
	}
	add("shards", nil, "%d are open", len(open))
	switch {
	case r.o.FanOut != "":
		err := r.call(ctx, "DescribeStreamConsumer", "", func(ctx context.Context) error {
			_, err := client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{ConsumerName: &r.o.FanOut, StreamARN: &src.stream.ARN})
			return err
		})
		if codeOf(err) == "ResourceNotFoundException" {
			add("consumer", nil, "%s will be registered", r.o.FanOut)
		} else if err != nil {
			add("consumer", err, "%v", err)
		} else {
			add("consumer", nil, "%s is registered", r.o.FanOut)
		}
	case len(open) > 0:
		if err := r.peek(ctx, src, open[0].ID); err != nil {
			add("records", err, "%v", err)
		} else {
			add("records", nil, "shard %s can be read", open[0].ID)
		}
	}
	return found
}

// peek reads a shard from its newest record on.
func (r *Reader) peek(ctx context.Context, src *source, shard string) error {
	in := &kinesis.GetShardIteratorInput{ShardId: &shard, StreamName: src.name, StreamARN: src.arn}
	in.ShardIteratorType, _, _ = begin(Checkpoint{Sequence: Latest})
	var it *kinesis.GetShardIteratorOutput
	err := r.call(ctx, "GetShardIterator", shard, func(ctx context.Context) (err error) {
		it, err = src.client.GetShardIterator(ctx, in)
		return err
	})
	if err != nil {
		return err
	}
	return r.call(ctx, "GetRecords", shard, func(ctx context.Context) error {
		one := int32(1)
		_, err := src.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator, Limit: &one, StreamARN: src.arn})
		return err
	})
}
