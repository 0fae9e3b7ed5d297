package firehose

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"hydrant/config"
)

// fromKinesis are the edits that make a stream one that reads a data stream.
var fromKinesis = []string{
	`DeliveryStreamType="KinesisStreamAsSource"`,
	`KinesisStreamSourceConfiguration={"KinesisStreamARN":"arn:aws:kinesis:eu-central-1:123456789012:stream/in","RoleARN":"` + role + `"}`,
}

func TestKinesisStreamAsSource(t *testing.T) {
	d, _, err := create(edit(t, s3, fromKinesis...))
	if err != nil {
		t.Fatal(err)
	}
	if d.Type() != KinesisStreamAsSource || d.MayEncrypt() == nil {
		t.Errorf("type %s, may be encrypted: %v", d.Type(), d.MayEncrypt())
	}
	aws := config.AWS{AccountID: "123456789012", Region: "eu-west-1", Endpoints: config.Endpoints{Kinesis: "http://k:1"}}
	want := config.Kinesis{
		Stream: "arn:aws:kinesis:eu-central-1:123456789012:stream/in", Start: "latest", KPL: "split",
		Consumer: config.KinesisConsumer{Word: "polling"}, Checkpoints: config.KinesisCheckpoints{Word: "local"},
		Region: "eu-central-1", Endpoint: "http://k:1",
	}
	for _, roles := range []string{"ignore", "assume"} {
		if aws.RoleARNs = roles; roles == "assume" {
			want.RoleARN = role
		}
		s, err := d.Config("logs", aws)
		if err != nil || s.Source.DirectPut != nil || *s.Source.Kinesis != want {
			t.Errorf("the stream reads %+v, %v, want %+v", s.Source, err, want)
		}
		if back, err := config.ParseSpec("logs", s.Spec()); err != nil || *back.Source.Kinesis != want {
			t.Errorf("%s: %v", s.Spec(), err)
		}
	}

	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Document
	if err := json.Unmarshal(text, &back); err != nil || !back.Equal(d) || !reflect.DeepEqual(back.from, d.from) {
		t.Errorf("%s is read back as %+v, %v", text, back, err)
	}
	next, _, changed, err := update(d, Secrets{}, extUpdate+`{"Prefix":"x/"}`)
	if err != nil || !changed || next.Type() != KinesisStreamAsSource {
		t.Errorf("updated: %v, %v, type %s", changed, err, next.Type())
	}
	direct, _, err := create(edit(t, s3))
	if err != nil || direct.Equal(d) || direct.Type() != DirectPut || direct.MayEncrypt() != nil {
		t.Errorf("a stream that is put to: %v", err)
	}

	answer, err := d.Describe(Settings{AccountID: "123456789012", Region: "eu-west-1"}, State{Name: "logs", Version: 1, Created: time.UnixMilli(1789014240448)})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"DeliveryStreamType":"KinesisStreamAsSource"`,
		`"Source":{"KinesisStreamSourceDescription":{"DeliveryStartTimestamp":1789014240.448,"KinesisStreamARN":"arn:aws:kinesis:eu-central-1:123456789012:stream/in","RoleARN":"` + role + `"}}`,
	} {
		if !strings.Contains(string(answer), part) {
			t.Errorf("%s\nhas no %s", answer, part)
		}
	}
	if strings.Contains(string(answer), "DeliveryStreamEncryptionConfiguration") {
		t.Errorf("%s\nsays something of encryption", answer)
	}
}
