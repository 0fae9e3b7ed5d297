package directput

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/smithy-go"

	"hydrant/record"
)

// client is the AWS SDK for Go in front of srv. It retries at once.
func client(srv *httptest.Server) *firehose.Client {
	return firehose.New(firehose.Options{
		BaseEndpoint: aws.String(srv.URL),
		Region:       "eu-west-1",
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:   srv.Client(),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		}),
	})
}

func TestSDK(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, "clicks", "other")
	s.streams["clicks"] = lake().streams["events"]
	c := client(server(t, newHandler(t, s)))

	one, err := c.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: aws.String("clicks"), Record: &types.Record{Data: []byte("a\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if *one.RecordId != id(1) || aws.ToBool(one.Encrypted) {
		t.Errorf("got %q, %v", *one.RecordId, one.Encrypted)
	}
	if _, err := record.ParseID(*one.RecordId); err != nil {
		t.Error(err)
	}
	var records []types.Record
	var want []string
	for i := range 500 {
		want = append(want, strings.Repeat("é/+", i))
		records = append(records, types.Record{Data: []byte(want[i])})
	}
	many, err := c.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: aws.String("clicks"), Records: records})
	if err != nil {
		t.Fatal(err)
	}
	if *many.FailedPutCount != 0 || len(many.RequestResponses) != 500 {
		t.Fatalf("got %d failed, %d answers", *many.FailedPutCount, len(many.RequestResponses))
	}
	for i, r := range many.RequestResponses {
		if *r.RecordId != id(uint64(2+i)) || r.ErrorCode != nil || r.ErrorMessage != nil {
			t.Fatalf("record %d: got %+v", i, r)
		}
	}
	if len(s.calls) != 2 || !slices.Equal(s.calls[1].records, want) {
		t.Error("what was stored is not what was put")
	}
	call := s.calls[1].call
	if call.Invocation == [16]byte{} || call.Attempt != 1 || call.KeyHash == [8]byte{} {
		t.Errorf("identity %+v", call)
	}

	d, err := c.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("clicks")})
	if err != nil {
		t.Fatal(err)
	}
	x := d.DeliveryStreamDescription
	if x.DeliveryStreamStatus != types.DeliveryStreamStatusActive || *x.VersionId != "3" || x.DeliveryStreamType != types.DeliveryStreamTypeDirectPut ||
		!x.CreateTimestamp.Equal(time.UnixMilli(1789014240448)) || *x.Destinations[0].ExtendedS3DestinationDescription.BucketARN != "arn:aws:s3:::lake" ||
		*x.Destinations[0].ExtendedS3DestinationDescription.BufferingHints.SizeInMBs != 128 {
		t.Errorf("described as %+v", x)
	}
	l, err := c.ListDeliveryStreams(ctx, &firehose.ListDeliveryStreamsInput{Limit: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(l.DeliveryStreamNames, []string{"clicks"}) || !*l.HasMoreDeliveryStreams {
		t.Errorf("listed %+v", l)
	}
}

// TestSDKErrors: the client makes of each answer the error type that it has for it.
func TestSDKErrors(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, "s")
	c := client(server(t, newHandler(t, s)))
	put := func(name string, records ...types.Record) error {
		_, err := c.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: aws.String(name), Records: records})
		return err
	}
	code := func(err error, want string) {
		t.Helper()
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != want {
			t.Errorf("got %v, want code %s", err, want)
		}
	}
	err := put("missing", types.Record{Data: []byte("a")})
	if e, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || e.ErrorMessage() != "Firehose missing under account 123456789012 not found." {
		t.Errorf("got %v", err)
	}
	big := make([]byte, 1_024_000)
	err = put("s", types.Record{Data: big}, types.Record{Data: big}, types.Record{Data: big}, types.Record{Data: big}, types.Record{Data: big})
	if e, ok := errors.AsType[*types.InvalidArgumentException](err); !ok || !strings.Contains(e.ErrorMessage(), "Records size exceeds 4 MB limit") {
		t.Errorf("got %v", err)
	}
	code(put("s", types.Record{Data: append(big, 0)}), "ValidationException")
	code(put("s", slices.Repeat([]types.Record{{Data: []byte("a")}}, 501)...), "ValidationException")
	_, err = c.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: aws.String("s")})
	if _, ok := errors.AsType[*types.InvalidArgumentException](err); !ok {
		t.Errorf("got %v", err)
	}
}

// TestSDKRetries: a call that was refused is sent again, under the same id with the next attempt; and one
// whose answer was lost is not stored twice.
func TestSDKRetries(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	var tries atomic.Int32
	s.before = func(context.Context) error {
		if tries.Add(1) < 3 {
			return &record.Refusal{Reason: "memory"}
		}
		return nil
	}
	c := client(server(t, h))
	in := &firehose.PutRecordInput{DeliveryStreamName: aws.String("s"), Record: &types.Record{Data: []byte("a")}}
	if _, err := c.PutRecord(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if len(s.calls) != 1 || s.calls[0].call.Attempt != 3 {
		t.Errorf("stored %+v", s.calls)
	}
	// The answer to what was stored is lost: the connection is cut when it should be sent.
	var lost atomic.Bool
	h2 := loseFirst{h, &lost}
	out, err := client(server(t, h2)).PutRecord(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.calls) != 2 || *out.RecordId != id(2) || s.calls[1].call.Attempt != 1 || !lost.Load() {
		t.Errorf("record %s, stored %+v", *out.RecordId, s.calls)
	}
	// Refused each time: the error says so.
	s.before = func(context.Context) error { return &record.Refusal{Reason: "memory"} }
	_, err = c.PutRecord(t.Context(), in)
	if e, ok := errors.AsType[*types.ServiceUnavailableException](err); !ok || e.ErrorMessage() != "Slow down." {
		t.Errorf("got %v", err)
	}
}
