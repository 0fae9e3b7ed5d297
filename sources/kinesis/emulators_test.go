package kinesis_test

import (
	"context"
	"math/big"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"hydrant/e2e/parts"
	"hydrant/sources/sourcetest"
)

// emulator is a Kinesis that somebody else wrote.
type emulator struct {
	endpoint string
	client   *awskinesis.Client
}

func newEmulator(t *testing.T, name string) *emulator {
	t.Helper()
	e := &emulator{endpoint: parts.Kinesis(t, name)}
	e.client = awskinesis.New(awskinesis.Options{
		Region: "us-east-1", BaseEndpoint: &e.endpoint, Credentials: awscredentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	return e
}

// TestEmulators is the suite against services that others wrote.
func TestEmulators(t *testing.T) {
	for _, name := range []string{parts.Kinesalite, parts.KinesisLocal} {
		t.Run(name, func(t *testing.T) {
			credentials(t)
			s := newEmulator(t, name)
			suite(t, s, options)
			t.Run("aggregates of another writer", func(t *testing.T) {
				s.create(t, "packed-elsewhere", 1)
				s.put(t, "packed-elsewhere", [2]string{"a", string(parts.Pack(t, []parts.PackedRecord{
					{PartitionKey: "k", Data: "k 0"}, {PartitionKey: "k", ExplicitHashKey: "123", Data: "k 1"}, {PartitionKey: "l", Data: "l 0"},
				}))})
				var to sourcetest.Destination
				read(t, sourcetest.NewDisk(t, &to), options(s, "packed-elsewhere"), quick)
				once(t, &to, 3)
				inOrder(t, &to)
				for _, r := range to.Rows() {
					if string(r.Meta.Key) != r.Data[:1] {
						t.Errorf("%q has the key %q", r.Data, r.Meta.Key)
					}
				}
			})
		})
	}
}

func (e *emulator) url() string { return e.endpoint }

// active waits until a change of the stream is done.
func (e *emulator) active(t *testing.T, stream string) {
	t.Helper()
	eventually(t, "stream "+stream+" is active", func() bool {
		out, err := e.client.DescribeStreamSummary(context.Background(), &awskinesis.DescribeStreamSummaryInput{StreamName: &stream})
		return err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
	})
}

func (e *emulator) create(t *testing.T, stream string, shards int) {
	t.Helper()
	n := int32(shards)
	if _, err := e.client.CreateStream(context.Background(), &awskinesis.CreateStreamInput{StreamName: &stream, ShardCount: &n}); err != nil {
		t.Fatal(err)
	}
	e.active(t, stream)
}

func (e *emulator) put(t *testing.T, stream string, records ...[2]string) {
	t.Helper()
	in := &awskinesis.PutRecordsInput{StreamName: &stream}
	for _, r := range records {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: &r[0], Data: []byte(r[1])})
	}
	out, err := e.client.PutRecords(context.Background(), in)
	if err != nil || *out.FailedRecordCount > 0 {
		t.Fatal(out, err)
	}
}

func (e *emulator) shards(t *testing.T, stream string) (open []types.Shard) {
	t.Helper()
	out, err := e.client.ListShards(context.Background(), &awskinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range out.Shards {
		if s.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, s)
		}
	}
	slices.SortFunc(open, func(a, b types.Shard) int {
		return bigNumber(*a.HashKeyRange.StartingHashKey).Cmp(bigNumber(*b.HashKeyRange.StartingHashKey))
	})
	return open
}

func bigNumber(s string) *big.Int { n, _ := new(big.Int).SetString(s, 10); return n }

func (e *emulator) open(t *testing.T, stream string) (ids []string) {
	for _, s := range e.shards(t, stream) {
		ids = append(ids, *s.ShardId)
	}
	return ids
}

func (e *emulator) split(t *testing.T, stream, shard string) {
	t.Helper()
	for _, s := range e.shards(t, stream) {
		if *s.ShardId == shard {
			sum := new(big.Int).Add(bigNumber(*s.HashKeyRange.StartingHashKey), bigNumber(*s.HashKeyRange.EndingHashKey))
			middle := sum.Rsh(sum, 1).String()
			if _, err := e.client.SplitShard(context.Background(), &awskinesis.SplitShardInput{StreamName: &stream, ShardToSplit: &shard, NewStartingHashKey: &middle}); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.active(t, stream)
}

func (e *emulator) merge(t *testing.T, stream, a, b string) {
	t.Helper()
	if _, err := e.client.MergeShards(context.Background(), &awskinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: aws.String(a), AdjacentShardToMerge: aws.String(b)}); err != nil {
		t.Fatal(err)
	}
	e.active(t, stream)
}
