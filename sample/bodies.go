package sample

import "encoding/base64"

// AppendBatchBody adds the body of a PutRecordBatch with these records, without white space, to dst. The name
// of the stream must need no escapes in JSON, as no valid name does.
func AppendBatchBody(dst []byte, stream string, records [][]byte) []byte {
	dst = append(dst, `{"DeliveryStreamName":"`...)
	dst = append(dst, stream...)
	dst = append(dst, `","Records":[`...)
	for i, r := range records {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendData(dst, r)
	}
	return append(dst, ']', '}')
}

// AppendRecordBody adds the body of a PutRecord to dst, as AppendBatchBody does.
func AppendRecordBody(dst []byte, stream string, record []byte) []byte {
	dst = append(dst, `{"DeliveryStreamName":"`...)
	dst = append(dst, stream...)
	dst = append(dst, `","Record":`...)
	dst = appendData(dst, record)
	return append(dst, '}')
}

func appendData(dst, record []byte) []byte {
	dst = append(dst, `{"Data":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, record)
	return append(dst, '"', '}')
}

// RecordsPerBatch is the records of the batches that BlockBatch and LineBatch make: the most that a call takes.
const RecordsPerBatch = 500

// BlockBytes is the size of the records that BlockBatch makes.
const BlockBytes = 1024

// BlockBatch is the body prb500x1k: 500 records that hold 1,024 bytes each of the click stream's text, so not
// a JSON document each. For the way in alone: 512,000 bytes of payload in 690,043.
func BlockBatch() []byte {
	const lines = 700 // a little more than is needed
	text := Clicks(DefaultSeed, 0, lines)
	records := make([][]byte, RecordsPerBatch)
	for k := range records {
		records[k] = text[k*BlockBytes : (k+1)*BlockBytes]
	}
	return AppendBatchBody(nil, "clicks", records)
}

// LineBatch is the k-th body of prb500lines: 500 successive records of the click stream, without LF. For the
// whole way.
func LineBatch(k uint64) []byte {
	records := make([][]byte, 0, RecordsPerBatch)
	for _, r := range (Clickstream{Seed: DefaultSeed}).All(k*RecordsPerBatch, RecordsPerBatch) {
		records = append(records, append([]byte(nil), r...))
	}
	return AppendBatchBody(nil, "clicks", records)
}
