package firehose

import (
	"encoding/json"
	"errors"
	"testing"
)

// seeds adds requests and pieces of them.
func seeds(f *testing.F) {
	for _, body := range []string{
		``, `null`, `{}`, `{"DeliveryStreamName":"a","Limit":1,"Tags":[{"Key":"k"}],"TagKeys":["k"],"AllowForceDelete":true}`,
		`{"DeliveryStreamName":"a","CurrentDeliveryStreamVersionId":"1","DestinationId":"d","ExtendedS3DestinationUpdate":{"S3BackupUpdate":{"Prefix":null}}}`,
		plainS3, s3, toRed, toHTTP, partitioned(f), edit(f, s3, processorsOf(newline, gunzip, splitLogs, lambdaWith())),
		edit(f, s3, ext+`DataFormatConversionConfiguration=`+conversionJSON), edit(f, s3, ext+`ProcessingConfiguration={"Processors":[null,{"Type":"Lambda","Parameters":[null]}]}`),
		edit(f, s3, ext+`DataFormatConversionConfiguration.InputFormatConfiguration.Deserializer.OpenXJsonSerDe.ColumnToJsonKeyMappings={"a":"b"}`),
		`{"DeliveryStreamName":"a","SplunkDestinationConfiguration":{"x":[{}]}}`,
	} {
		f.Add([]byte(body))
	}
}

// Whatever a body holds is an answer and no panic, and errors are the API's.
func FuzzDecodeRequests(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for op, decode := range decoders {
			_, err := decode(body)
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Code != CodeValidation && e.Code != CodeSerialization) {
				t.Fatalf("%s: error %v", op, err)
			}
		}
	})
}

// A stream that is created is described so that an SDK reads it, is stored and read again, and is not changed
// by an update that says what it is.
func FuzzCreateAndDescribe(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		d, secrets, err := create(string(body))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			return
		}
		out := sdkDescription(t, []byte(describe(t, d, State{})))
		if len(out.Destinations) != 1 {
			t.Fatalf("%d destinations", len(out.Destinations))
		}
		stored, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Document
		if err := json.Unmarshal(stored, &back); err != nil || !back.Equal(d) {
			t.Fatalf("%s is read again as %s, %v", stored, conf(t, &back), err)
		}
		same := clone(d.conf)
		for from, to := range map[string]string{intermediateMember: "S3Update", backupMember: "S3BackupUpdate"} {
			if same.has(from) {
				same[to] = same[from]
				delete(same, from)
			}
		}
		change, err := json.Marshal(same)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, changed, err := update(d, secrets, `"`+d.kind.update+`":`+string(change)); err != nil || changed {
			t.Fatalf("the same again, %s: changed %v, error %v", change, changed, err)
		}
		if s, err := d.Config("logs", local); err == nil {
			if len(s.Spec()) == 0 {
				t.Fatal("the stream has no specification")
			}
			return
		}
		var e *Error
		var n *NotDeliverable
		if _, err := d.Config("logs", local); !errors.As(err, &e) && !errors.As(err, &n) {
			t.Fatalf("error %v", err)
		}
	})
}
