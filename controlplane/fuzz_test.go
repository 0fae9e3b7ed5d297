package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// FuzzCall makes any calls on a plane with a stream of ours, one that drains and one of the file. Every answer is
// one of the API's; what is stored afterwards can be read back and described; and the file's stream stays as it is.
func FuzzCall(f *testing.F) {
	f.Add(uint8(0), []byte(create("fresh", `,"Prefix":"a/!{timestamp:yyyy}/","ErrorOutputPrefix":"e/!{firehose:error-output-type}/","CompressionFormat":"GZIP"`)))
	f.Add(uint8(0), []byte(`{"DeliveryStreamName":"x","S3DestinationConfiguration":{`+someRole+`,`+someBucket+`},"Tags":[{"Key":"a","Value":"b"}]}`))
	f.Add(uint8(0), []byte(redshift("x", `,"Password":"hunter22"`)))
	f.Add(uint8(0), []byte(endpoint("x", `,"AccessKey":"open-sesame"`)))
	f.Add(uint8(7), []byte(updateTo("HttpEndpoint", "web", "1", `"EndpointConfiguration":{`+someEndpoint+`,"AccessKey":"hunter"}`)))
	f.Add(uint8(7), []byte(updateTo("Redshift", "red", "1", `"Password":"hunter23","S3Update":{"Prefix":"a/"}`)))
	f.Add(uint8(1), []byte(`{"DeliveryStreamName":"ours","AllowForceDelete":true}`))
	f.Add(uint8(2), []byte(`{"DeliveryStreamName":"ours","TagKeys":["a"],"Limit":3,"ExclusiveStartTagKey":"a"}`))
	f.Add(uint8(3), []byte(`{"DeliveryStreamName":"ours"}`))
	f.Add(uint8(5), []byte(`{"DeliveryStreamName":"ours","Tags":[{"Key":"a","Value":"b"}]}`))
	f.Add(uint8(7), []byte(updateOf("ours", "1", `"Prefix":"b/","BufferingHints":{"SizeInMBs":7}`)))
	f.Add(uint8(7), []byte(`{"DeliveryStreamName":"ours","CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001","S3DestinationUpdate":{"CompressionFormat":"Snappy"}}`))
	operations := slices.Sorted(maps.Keys(handlers))
	f.Fuzz(func(t *testing.T, operation uint8, body []byte) {
		b := newBench(t, func(o *Options) { o.Encrypted = operation%2 == 0 })
		b.made("ours", "")
		b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), created("red"))
		b.f("CreateDeliveryStream", endpoint("web", `,"AccessKey":"open-sesame"`), created("web"))
		b.made("leaving", "")
		b.r.set("leaving", func(s *buffer.Stream) { s.State = buffer.Deleting })
		b.r.set("files", yaml)
		files, _ := b.r.Definition("files")
		before := b.r.changes
		_, unknown, err := b.Call(context.Background(), Call{Operation: operations[int(operation)%len(operations)], Body: slices.Clone(body)})
		if _, ours := errors.AsType[*firehose.Error](err); err != nil && !ours {
			t.Fatalf("a failure of the daemon: %v", err)
		}
		if err != nil && b.r.changes != before || unknown < 0 {
			t.Errorf("%d changes with %v", b.r.changes-before, err)
		}
		if now, _ := b.r.Definition("files"); fmt.Sprint(now) != fmt.Sprint(files) {
			t.Errorf("the file's stream became %+v", now)
		}
		for _, s := range b.r.Definitions() {
			spec, err := ConfigSpec(s.Spec)
			if _, waits := errors.AsType[*WaitingError](err); err != nil && !waits {
				t.Fatal(err)
			}
			if !Owns(s) {
				continue
			}
			if err == nil {
				if _, err := config.ParseSpec(s.Name, spec); err != nil {
					t.Errorf("%s: %v", spec, err)
				}
			}
			if _, err := SecretsOf(s.Spec, b.safe); err != nil {
				t.Errorf("%s: %v", s.Spec, err)
			}
			b.describe(s.Name)
			if n := len(visible(s.Tags)); n > MaxTags {
				t.Errorf("%d tags", n)
			}
		}
	})
}
