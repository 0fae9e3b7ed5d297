package hook

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"hydrant/record"
)

// A function that was written against AWS's own types finds what Firehose gives for a record of Kinesis.
func TestKinesisMetadata(t *testing.T) {
	shard := record.AppendMeta(nil, &record.Meta{
		Topic: "clicks", Lane: "shardId-000000000012", Offset: "4954698668313554428650745793632162567570019247115678.3", Timestamp: 1510772160123, Key: []byte("a \"key\"\x01"),
	})
	whole := record.AppendMeta(nil, &record.Meta{Lane: "shardId-1", Offset: "17", Timestamp: 5})
	kafka := record.AppendMeta(nil, &record.Meta{Topic: "clicks", Lane: "3", Offset: "5", Key: []byte("k")})
	rows := []record.Row{
		{Seq: 1, Arrived: 1_000_000, Data: []byte("one"), Meta: shard}, {Seq: 2, Data: []byte("two"), Meta: whole},
		{Seq: 3, Data: []byte("three"), Meta: kafka}, {Seq: 4, Data: []byte("four")},
	}
	b := &batch{v: &Invoker{head: appendHead(nil, "arn", "region")}}
	b.build(rows)
	stamp(b.request)
	var e events.KinesisFirehoseEvent
	if err := json.Unmarshal(b.request, &e); err != nil {
		t.Fatalf("%v: %s", err, b.request)
	}
	got := e.Records[0].KinesisFirehoseRecordMetadata
	if got.SequenceNumber != "4954698668313554428650745793632162567570019247115678" || got.SubsequenceNumber != 3 ||
		got.PartitionKey != "a \"key\"\x01" || got.ShardID != "shardId-000000000012" || got.ApproximateArrivalTimestamp.UnixMilli() != 1510772160123 {
		t.Errorf("%+v", got)
	}
	if got := e.Records[1].KinesisFirehoseRecordMetadata; got.SequenceNumber != "17" || got.ShardID != "shardId-1" {
		t.Errorf("%+v", got)
	}
	if n := strings.Count(string(b.request), "kinesisRecordMetadata"); n != 2 {
		t.Errorf("%d records have metadata of Kinesis, want 2", n)
	}
	size := len(b.v.head) + len("]}")
	for i := range rows {
		size += rowBytes(&rows[i])
	}
	if len(b.request) > size {
		t.Errorf("a request of %d bytes was counted as %d", len(b.request), size)
	}
}

func FuzzKinesisMetadata(f *testing.F) {
	f.Add(record.AppendMeta(nil, &record.Meta{Topic: "s", Lane: "shardId-1", Offset: "1.2", Key: []byte("\x00\xff")}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, meta []byte) {
		got := appendKinesis(nil, meta)
		if len(got) > kinesisBytes(meta) {
			t.Errorf("%d bytes were counted as %d", len(got), kinesisBytes(meta))
		}
		if len(got) > 0 && !json.Valid([]byte("{"+string(got[1:])+"}")) {
			t.Errorf("%s is not JSON", got)
		}
	})
}
