package hook

import (
	"encoding/binary"
	"strconv"
	"strings"

	"hydrant/record"
)

// A record of a Kinesis stream has one member more in a request:
//
//	"kinesisRecordMetadata":{"sequenceNumber":"...","subsequenceNumber":<n>,"partitionKey":"...","shardId":"...",
//	  "approximateArrivalTimestamp":<ms>}
//
// Firehose gives nothing of the kind for records of Kafka, and so they are without it here.

const (
	shardPrefix = "shardId-"
	// kinesisEnvelope is what the member takes beside its texts, at most.
	kinesisEnvelope = 200
)

// ofKinesis tells whether metadata is that of a record of Kinesis, whose lanes are shards.
func ofKinesis(meta []byte) bool {
	topic, w := binary.Uvarint(meta)
	if w <= 0 || topic > uint64(len(meta)-w) {
		return false
	}
	rest := meta[w+int(topic):]
	lane, w := binary.Uvarint(rest)
	return w > 0 && lane <= uint64(len(rest)-w) && strings.HasPrefix(string(rest[w:][:min(lane, uint64(len(shardPrefix)))]), shardPrefix)
}

// kinesisBytes is what a row's metadata takes in a request, at most: what has to be escaped is six times as long.
func kinesisBytes(meta []byte) int {
	if !ofKinesis(meta) {
		return 0
	}
	return kinesisEnvelope + 6*len(meta)
}

// appendKinesis appends the member with a comma before it, where there is one.
func appendKinesis(dst, meta []byte) []byte {
	if !ofKinesis(meta) {
		return dst
	}
	m, err := record.ParseMeta(meta)
	if err != nil {
		return dst
	}
	sequence, sub, _ := strings.Cut(m.Offset, ".")
	part, _ := strconv.ParseInt(sub, 10, 64) // 0 where it is no part of an aggregate
	dst = append(dst, `,"kinesisRecordMetadata":{"sequenceNumber":`...)
	dst = appendPlain(dst, sequence)
	dst = append(dst, `,"subsequenceNumber":`...)
	dst = strconv.AppendInt(dst, part, 10)
	dst = append(dst, `,"partitionKey":`...)
	dst = appendPlain(dst, strings.ToValidUTF8(string(m.Key), "\uFFFD"))
	dst = append(dst, `,"shardId":`...)
	dst = appendPlain(dst, m.Lane)
	dst = append(dst, `,"approximateArrivalTimestamp":`...)
	dst = strconv.AppendInt(dst, m.Timestamp, 10)
	return append(dst, '}')
}
