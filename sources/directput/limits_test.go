package directput

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/record"
)

// turnstile is the Limits of one stream, s, and its Limiter: it lets a number of records pass.
type turnstile struct {
	pass  int
	asked int
}

func (l *turnstile) Limiter(stream string) record.Limiter {
	if stream == "s" {
		return l
	}
	return nil
}

func (l *turnstile) Take(b *record.Batch) int {
	n := min(l.pass, b.Count())
	l.pass -= n
	l.asked++
	return n
}

func (l *turnstile) Return(records int, _ int64) { l.pass += records }

// TestRateLimits: a stream's own limits are answered as Firehose answers them, record by record in a batch.
func TestRateLimits(t *testing.T) {
	s, l := newStore(t, "s", "other"), &turnstile{pass: 5}
	h := newHandler(t, s, func(o *Options) { o.Limits = l })
	const slow = `{"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."}`
	f := func(op, body string, status int, want string, headers ...string) {
		t.Helper()
		if w := post(t, h, op, body, headers...); w.Code != status || w.Body.String() != want {
			t.Errorf("%s: %d %s\nwant %d %s", op, w.Code, w.Body, status, want)
		}
	}
	all := `{"FailedPutCount":0,"Encrypted":false,"RequestResponses":[{"RecordId":"` + id(1) + `"},{"RecordId":"` + id(2) + `"},{"RecordId":"` + id(3) + `"}]}`
	some := `{"FailedPutCount":1,"Encrypted":false,"RequestResponses":[{"RecordId":"` + id(4) + `"},{"RecordId":"` + id(5) + `"},` + slow + `]}`
	none := `{"FailedPutCount":3,"Encrypted":false,"RequestResponses":[` + slow + `,` + slow + `,` + slow + `]}`
	f("PutRecordBatch", batchOf("a", "b", "c"), 200, all)
	retry := []string{"amz-sdk-invocation-id", "x", "amz-sdk-request", "attempt=1"}
	f("PutRecordBatch", batchOf("dd", "ee", "ff"), 200, some, retry...)
	f("PutRecordBatch", batchOf("a", "b", "c"), 200, none)
	f("PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}`, 503, errorBody("ServiceUnavailableException", "Slow down."))
	retry[3] = "attempt=2" // gets the first answer, also when all could pass by now
	f("PutRecordBatch", batchOf("dd", "ee", "ff"), 200, some, retry...)
	l.pass = 100
	retry[3] = "attempt=3"
	f("PutRecordBatch", batchOf("dd", "ee", "ff"), 200, some, retry...)
	if l.asked != 4 {
		t.Errorf("the limits were asked %d times, want 4", l.asked)
	}
	l.pass = 0
	f("PutRecord", `{"DeliveryStreamName":"other","Record":{"Data":"YQ=="}}`, 200, `{"RecordId":"`+id(1)+`","Encrypted":false}`)

	var got []string
	for _, c := range s.calls[:2] {
		got = append(got, c.records...)
	}
	if want := []string{"a", "b", "c", "dd", "ee"}; !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
	for _, m := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"hydrant_incoming_records_total", []string{"s"}, 5}, {"hydrant_incoming_bytes_total", []string{"s"}, 7},
		{"hydrant_throttled_records_total", []string{"s"}, 1 + 3 + 1}, {"hydrant_throttled_records_total", []string{"other"}, 0},
		{"hydrant_repeated_puts_total", []string{"s"}, 2}, {"hydrant_put_refused_total", []string{"PutRecord", "rate"}, 1},
		{"hydrant_put_refused_total", []string{"PutRecordBatch", "rate"}, 0},
	} {
		if got := counted(t, h, m.name, m.labels...); got != m.want {
			t.Errorf("%s%q: %v, want %v", m.name, m.labels, got, m.want)
		}
	}
}

// TestSDKRetriesLimitedBatch: the SDK did not get the answer that says which records of a batch were stored. Its
// retry gets that answer, so that sending the others again stores each record once.
func TestSDKRetriesLimitedBatch(t *testing.T) {
	s, l := newStore(t, "s"), &turnstile{pass: 2}
	var lost atomic.Bool
	c := client(server(t, loseFirst{newHandler(t, s, func(o *Options) { o.Limits = l }), &lost}))
	waiting := []string{"a", "b", "c", "d", "e"}
	for len(waiting) > 0 {
		in := &firehose.PutRecordBatchInput{DeliveryStreamName: aws.String("s")}
		for _, r := range waiting {
			in.Records = append(in.Records, types.Record{Data: []byte(r)})
		}
		out, err := c.PutRecordBatch(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		var again []string
		for i, r := range out.RequestResponses {
			switch {
			case aws.ToString(r.ErrorCode) == "ServiceUnavailableException" && aws.ToString(r.ErrorMessage) == "Slow down." && r.RecordId == nil:
				again = append(again, waiting[i])
			case r.ErrorCode != nil || aws.ToString(r.RecordId) == "":
				t.Fatalf("record %q: %+v", waiting[i], r)
			}
		}
		if int(*out.FailedPutCount) != len(again) {
			t.Errorf("FailedPutCount %d, want %d", *out.FailedPutCount, len(again))
		}
		waiting, l.pass = again, 2
	}
	var got []string
	for _, call := range s.calls {
		got = append(got, call.records...)
	}
	if want := []string{"a", "b", "c", "d", "e"}; !slices.Equal(got, want) || !lost.Load() {
		t.Errorf("stored %q, want %q", got, want)
	}
}
