//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	firehosetypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"hydrant/e2e/parts"
	"hydrant/sources/kinesis/aggregate"
	"hydrant/sources/kinesis/kinesistest"
)

// fromKinesis is a stream that reads a data stream of the same name into Parquet files.
func fromKinesis(name, endpoint, source, lake string) string {
	return fmt.Sprintf(`aws: { endpoints: { kinesis: %q } }
limits: { memory: 256MiB, disk: 1GiB }
streams:
  - name: %s
    source: { kinesis: { stream: %s, start: trim_horizon%s } }
    format: { parquet: { schema: [id bigint, k string] } }
    buffer: { size: 1MiB, interval: 1s }
    destination: { file: { path: %q, prefix: "rows/", error_output_prefix: "errors/" } }
`, endpoint, name, name, source, lake)
}

// withKeys gives the daemon credentials of AWS's chain.
func withKeys(d *daemon) *daemon {
	d.env = append(d.env, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent")
	return d
}

// onceInLake waits until n rows with ids from 0 on are in the lake, and checks that each is there once.
func onceInLake(t *testing.T, d *daemon, duck *parts.Duck, stream, lake string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d records are delivered", n), func() bool {
		d.flush(stream)
		pause(t.Context(), 200*time.Millisecond)
		return len(walk(t, lake)) > 0 && count(duck, lake, "count(distinct id)") >= int64(n)
	})
	if rows, most := count(duck, lake, "count(*)"), count(duck, lake, "max(id)"); rows != int64(n) || most != int64(n-1) {
		t.Errorf("%d rows with ids up to %d, want %d, each once", rows, most, n)
	}
	for _, path := range walk(t, lake) {
		if strings.Contains(path, "/errors/") {
			t.Errorf("error output %s", path)
		}
	}
	if s := d.status(stream); s.Unaccounted != 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

func count(duck *parts.Duck, lake, what string) int64 {
	rows := duck.Query(fmt.Sprintf("select %s as n from read_parquet('%s/rows/**/*.parquet')", what, lake))
	n, _ := rows[0]["n"].(int64)
	return n
}

// The daemon dies again and again while shards are split and merged under load, packed records among the others, and
// each record is there once.
func TestKinesisDeaths(t *testing.T) {
	t.Parallel()
	duck := parts.DuckDB(t)
	s := kinesistest.New(t, kinesistest.Options{ReadsPerSecond: 5})
	s.CreateStream("clicks", 3)
	lake := filepath.Join(t.TempDir(), "lake")
	d := withKeys(configure(t, fromKinesis("clicks", s.URL, "", lake))).start()

	ctx, stop := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	sent := 0
	producing.Go(func() {
		for ctx.Err() == nil {
			for range 20 {
				key := fmt.Sprint("k", sent%50)
				if sent%7 != 0 {
					s.Put("clicks", key, fmt.Appendf(nil, `{"id":%d,"k":%q}`, sent, key))
					sent++
					continue
				}
				var packed []aggregate.Record
				for range 10 {
					packed = append(packed, aggregate.Record{PartitionKey: []byte(key), Data: fmt.Appendf(nil, `{"id":%d,"k":%q}`, sent, key)})
					sent++
				}
				s.Put("clicks", key, aggregate.Append(nil, packed))
			}
			pause(ctx, 5*time.Millisecond)
		}
	})
	producing.Go(func() {
		for pause(ctx, 400*time.Millisecond); ctx.Err() == nil; pause(ctx, 400*time.Millisecond) {
			open := s.Open("clicks")
			i := rand.IntN(len(open))
			var err error
			if len(open) < 3 || i == len(open)-1 {
				err = s.Split("clicks", open[i])
			} else {
				err = s.Merge("clicks", open[i], open[i+1])
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for range 4 {
		pause(t.Context(), time.Duration(700+rand.IntN(1200))*time.Millisecond)
		d.kill()
		d.start()
	}
	stop()
	producing.Wait()
	onceInLake(t, d, duck, "clicks", lake, sent)
	if got := d.counter(`hydrant_source_gaps_total{stream="clicks"}`); got != 0 {
		t.Errorf("%d gaps", got)
	}
	t.Logf("%d records over %d open shards", sent, len(s.Open("clicks")))
}

// pause waits, or less where ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Records of 10 MiB, which is the most that a data stream takes, come through whole.
func TestKinesisLargeRecords(t *testing.T) {
	t.Parallel()
	s := kinesistest.New(t, kinesistest.Options{})
	s.CreateStream("big", 2)
	lake := filepath.Join(t.TempDir(), "lake")
	d := withKeys(configure(t, fmt.Sprintf(`aws: { endpoints: { kinesis: %q } }
limits: { memory: 256MiB, disk: 1GiB }
streams:
  - name: big
    source: { kinesis: { stream: big, start: trim_horizon } }
    format: { text: { delimiter: after } }
    buffer: { size: 64MiB, interval: 1s }
    destination: { file: { path: %q, prefix: "rows/" } }
`, s.URL, lake)))
	var want []string
	for i := range 2 { // a shard gives one of them in five seconds
		line := strings.Repeat(string(rune('a'+i)), 10<<20-10)
		want = append(want, line)
		s.Put("big", fmt.Sprint(i), []byte(line))
	}
	d.start()
	eventually(t, "the records are delivered", func() bool {
		d.flush("big")
		pause(t.Context(), 200*time.Millisecond)
		return d.status("big").Delivered == 2
	})
	if got := lakeLines(t, lake); !slices.Equal(got, want) {
		t.Errorf("%d lines in the lake", len(got))
	}
}

// Enhanced fan-out, whose subscriptions are renewed every second.
func TestKinesisFanOut(t *testing.T) {
	t.Parallel()
	duck := parts.DuckDB(t)
	s := kinesistest.New(t, kinesistest.Options{Subscription: time.Second, Resubscribe: time.Second})
	s.CreateStream("clicks", 2)
	lake := filepath.Join(t.TempDir(), "lake")
	d := withKeys(configure(t, fromKinesis("clicks", s.URL, ", consumer: { enhanced_fan_out: hydrant }", lake))).start()
	n := 0
	for range 10 {
		for range 100 {
			s.Put("clicks", fmt.Sprint("k", n%50), fmt.Appendf(nil, `{"id":%d,"k":"k"}`, n))
			n++
		}
		pause(t.Context(), 150*time.Millisecond)
	}
	d.kill()
	d.start()
	onceInLake(t, d, duck, "clicks", lake, n)
	if s.Calls("GetRecords") != 0 {
		t.Error("it was polled")
	}
}

// A stream that is created over the Firehose API reads a data stream, as AWS's does: from its creation on.
func TestKinesisStreamAsSource(t *testing.T) {
	t.Parallel()
	s := kinesistest.New(t, kinesistest.Options{})
	s.CreateStream("in", 2)
	s.Put("in", "k", []byte("before"))
	store := parts.Versitygw(t)
	store.CreateBucket(t, "lake")
	d := configure(t, fmt.Sprintf("aws: { account_id: '123456789012', endpoints: { s3: %q, kinesis: %q } }\nstreams: []\n", store.Endpoint, s.URL))
	d.env = []string{"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey}
	d.start()
	pause(t.Context(), 1100*time.Millisecond) // the service's clock has whole seconds
	const arn, role = "arn:aws:kinesis:us-east-1:123456789012:stream/in", "arn:aws:iam::123456789012:role/firehose"
	client := firehoseClient(d.api, 1)
	_, err := client.CreateDeliveryStream(t.Context(), &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: aws.String("logs"), DeliveryStreamType: firehosetypes.DeliveryStreamTypeKinesisStreamAsSource,
		KinesisStreamSourceConfiguration: &firehosetypes.KinesisStreamSourceConfiguration{KinesisStreamARN: aws.String(arn), RoleARN: aws.String(role)},
		ExtendedS3DestinationConfiguration: &firehosetypes.ExtendedS3DestinationConfiguration{
			BucketARN: aws.String("arn:aws:s3:::lake"), RoleARN: aws.String(role), Prefix: aws.String("logs/"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the data stream is read", func() bool { return s.Calls("GetRecords") >= 2 })
	var want []string
	for i := range 50 {
		line := fmt.Sprintf(`{"n":%02d}`, i)
		want = append(want, line)
		s.Put("in", line, []byte(line+"\n"))
	}
	eventually(t, "the records are read", func() bool { return d.counter(`hydrant_source_records_total{stream="logs"}`) >= 50 })
	d.flush("logs")
	got := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", got)
	if lines := lakeLines(t, filepath.Join(got, "logs")); !slices.Equal(lines, want) {
		t.Errorf("%d lines in the store: %.300q", len(lines), lines)
	}
	d.balance("logs", 50, 0)

	out, err := client.DescribeDeliveryStream(t.Context(), &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("logs")})
	if err != nil {
		t.Fatal(err)
	}
	if x := out.DeliveryStreamDescription; x.DeliveryStreamType != firehosetypes.DeliveryStreamTypeKinesisStreamAsSource || x.DeliveryStreamEncryptionConfiguration != nil ||
		*x.Source.KinesisStreamSourceDescription.KinesisStreamARN != arn || *x.Source.KinesisStreamSourceDescription.RoleARN != role || x.Source.KinesisStreamSourceDescription.DeliveryStartTimestamp == nil {
		t.Errorf("described as %+v", x)
	}
	list, err := client.ListDeliveryStreams(t.Context(), &firehose.ListDeliveryStreamsInput{DeliveryStreamType: firehosetypes.DeliveryStreamTypeKinesisStreamAsSource})
	if err != nil || !slices.Equal(list.DeliveryStreamNames, []string{"logs"}) {
		t.Errorf("listed: %v, %v", list, err)
	}
	_, err = client.PutRecord(t.Context(), &firehose.PutRecordInput{DeliveryStreamName: aws.String("logs"), Record: &firehosetypes.Record{Data: []byte("x")}})
	var refused *firehosetypes.InvalidArgumentException
	if !errors.As(err, &refused) || refused.ErrorMessage() != "This operation is not permitted on KinesisStreamAsSource delivery stream type." {
		t.Errorf("a put: %v", err)
	}
}

// A Kinesis that others wrote, with a death, a split and a merge.
func TestKinesalite(t *testing.T) {
	t.Parallel()
	duck := parts.DuckDB(t)
	endpoint := parts.Kinesis(t, parts.Kinesalite)
	client := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
	stream, shards := "clicks", int32(2)
	if _, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &stream, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	active := func() {
		eventually(t, "the stream is active", func() bool {
			out, err := client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
			return err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
		})
	}
	active()
	lake := filepath.Join(t.TempDir(), "lake")
	d := withKeys(configure(t, fromKinesis(stream, endpoint, "", lake))).start()
	n := 0
	put := func() {
		in := &kinesis.PutRecordsInput{StreamName: &stream}
		for range 200 {
			key := fmt.Sprint("k", n%50)
			in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: &key, Data: fmt.Appendf(nil, `{"id":%d,"k":%q}`, n, key)})
			n++
		}
		if out, err := client.PutRecords(t.Context(), in); err != nil || *out.FailedRecordCount > 0 {
			t.Fatal(out, err)
		}
	}
	put()
	parent, middle := "shardId-000000000000", "100000000000000000000000000000000000000"
	if _, err := client.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: &parent, NewStartingHashKey: &middle}); err != nil {
		t.Fatal(err)
	}
	active()
	put()
	pause(t.Context(), 1500*time.Millisecond)
	d.kill()
	left, right := "shardId-000000000003", "shardId-000000000001"
	if _, err := client.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: &left, AdjacentShardToMerge: &right}); err != nil {
		t.Fatal(err)
	}
	active()
	put()
	d.start()
	put()
	onceInLake(t, d, duck, stream, lake, n)
}
