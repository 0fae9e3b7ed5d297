package hook

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/asm/base64"

	"hydrant/record"
)

// A request, without white space:
//
//	{"invocationId":"<uuid>","deliveryStreamArn":"...","region":"...","records":[
//	  {"recordId":"...","approximateArrivalTimestamp":<ms>,"data":"<base64>"}, ... ]}
//
// and before data, with a source that is a Kinesis stream, kinesisRecordMetadata (kinesis.go).

const (
	beforeInvocation = `{"invocationId":"`
	invocationBytes  = 36

	beforeID   = `{"recordId":"`
	beforeTime = `","approximateArrivalTimestamp":`
	beforeData = `,"data":"`
	afterData  = `"}`

	// maxIDBytes: the id, a point and ten digits. Milliseconds have at most twenty characters, and there is a comma.
	maxIDBytes = record.IDLength + 11
	envelope   = len(beforeID) + maxIDBytes + len(beforeTime) + 20 + len(beforeData) + len(afterData) + 1
)

func appendHead(dst []byte, arn, region string) []byte {
	dst = append(dst, beforeInvocation...)
	dst = append(dst, make([]byte, invocationBytes)...)
	dst = append(dst, `","deliveryStreamArn":`...)
	dst = appendString(dst, arn)
	dst = append(dst, `,"region":`...)
	dst = appendString(dst, region)
	return append(dst, `,"records":[`...)
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string cannot fail
	return append(dst, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

// rowBytes is what a row takes in a request, at most.
func rowBytes(row *record.Row) int {
	return envelope + base64.StdEncoding.EncodedLen(len(row.Data)) + kinesisBytes(row.Meta)
}

// fit is how many of the rows go into one request whose head has that many bytes; 0: the first is too large.
func fit(head int, rows []record.Row) int {
	room := MaxRequest - head - len("]}")
	for i := range rows {
		if room -= rowBytes(&rows[i]); room < 0 || i == maxRows {
			return i
		}
	}
	return len(rows)
}

// build makes the request for rows, all but the invocation id.
func (b *batch) build(rows []record.Row) {
	size := len(b.v.head) + len("]}")
	for i := range rows {
		size += rowBytes(&rows[i])
	}
	if cap(b.request) < size {
		b.v.pool.Put(b.request)
		b.request = b.v.pool.Get(size)
	}
	b.ids, b.idEnds, b.byID = b.ids[:0], b.idEnds[:0], nil
	dst := append(b.request[:0], b.v.head...)
	for i, row := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		start := len(b.ids)
		b.ids = AppendID(b.ids, b.v.o.Directory, b.v.o.Incarnation, row)
		b.idEnds = append(b.idEnds, len(b.ids))
		dst = append(dst, beforeID...)
		dst = append(dst, b.ids[start:]...)
		dst = append(dst, beforeTime...)
		dst = strconv.AppendInt(dst, row.Arrived/1000, 10)
		dst = appendKinesis(dst, row.Meta)
		dst = append(dst, beforeData...)
		dst = appendBase64(dst, row.Data)
		dst = append(dst, afterData...)
	}
	b.request = append(dst, "]}"...)
}

// stamp gives a request a new invocation id: each attempt has its own.
func stamp(request []byte) {
	id := uuid.New()
	copy(request[len(beforeInvocation):], id.String())
}

func appendBase64(dst, data []byte) []byte {
	n := base64.StdEncoding.EncodedLen(len(data))
	dst = slices.Grow(dst, n)
	base64.StdEncoding.Encode(dst[len(dst):len(dst)+n], data)
	return dst[:len(dst)+n]
}

// Failed is a record in the error output.
type Failed struct {
	Raw      []byte // the record as it was put, whatever other processors made of it before the function got it
	Code     string
	Message  string
	Attempts int
	Arrived  int64 // µs since the Unix epoch
	Ended    time.Time
	Function string // Carrier.Function
}

// AppendFailed appends the line that Firehose writes to processing-failed for a record: its members in its order, and a
// line end.
func AppendFailed(dst []byte, f Failed) []byte {
	dst = append(dst, `{"rawData":"`...)
	dst = appendBase64(dst, f.Raw)
	dst = append(dst, `","errorCode":`...)
	dst = appendPlain(dst, f.Code)
	dst = append(dst, `,"errorMessage":`...)
	dst = appendPlain(dst, f.Message)
	dst = append(dst, `,"attemptsMade":`...)
	dst = strconv.AppendInt(dst, int64(f.Attempts), 10)
	dst = append(dst, `,"arrivalTimestamp":`...)
	dst = strconv.AppendInt(dst, f.Arrived/1000, 10)
	dst = append(dst, `,"attemptEndingTimestamp":`...)
	dst = strconv.AppendInt(dst, f.Ended.UnixMilli(), 10)
	dst = append(dst, `,"lambdaARN":`...)
	dst = appendPlain(dst, f.Function)
	return append(dst, "}\n"...)
}

// appendPlain appends s as a JSON string. Codes and messages are constants without anything to escape, and a batch may fail
// whole, so that the common case does not allocate.
func appendPlain(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return appendString(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
