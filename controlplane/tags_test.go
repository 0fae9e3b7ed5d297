package controlplane

import (
	"fmt"
	"strings"
	"testing"

	"hydrant/buffer"
	"hydrant/firehose"
)

func TestTags(t *testing.T) {
	b := newBench(t)
	b.made("logs", "")
	list := func(more, want string) {
		t.Helper()
		b.f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"logs"`+more+`}`, want)
	}
	list("", `{"Tags":[],"HasMoreTags":false}`)
	b.f("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"b","Value":"1"},{"Key":"a"},{"Key":"b","Value":"2"}]}`, `{}`)
	list("", `{"Tags":[{"Key":"a","Value":""},{"Key":"b","Value":"2"}],"HasMoreTags":false}`)
	b.f("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"a","Value":"x"},{"Key":"c","Value":"3"}]}`, `{}`)
	list(`,"Limit":2`, `{"Tags":[{"Key":"a","Value":"x"},{"Key":"b","Value":"2"}],"HasMoreTags":true}`)
	list(`,"Limit":2,"ExclusiveStartTagKey":"b"`, `{"Tags":[{"Key":"c","Value":"3"}],"HasMoreTags":false}`)
	list(`,"ExclusiveStartTagKey":"bb"`, `{"Tags":[{"Key":"c","Value":"3"}],"HasMoreTags":false}`)
	b.f("UntagDeliveryStream", `{"DeliveryStreamName":"logs","TagKeys":["b","never"]}`, `{}`)
	list("", `{"Tags":[{"Key":"a","Value":"x"},{"Key":"c","Value":"3"}],"HasMoreTags":false}`)
	if d := b.describe("logs"); d.VersionID != "1" || d.LastUpdateTimestamp != nil {
		t.Errorf("tags make a version: %+v", d)
	}
	for _, op := range []struct{ name, body string }{
		{"TagDeliveryStream", `{"DeliveryStreamName":"%s","Tags":[{"Key":"a"}]}`}, {"UntagDeliveryStream", `{"DeliveryStreamName":"%s","TagKeys":["a"]}`},
	} {
		b.f(op.name, fmt.Sprintf(op.body, "nobody"), "ResourceNotFoundException: Firehose nobody under account 123456789012 not found.")
		b.r.set("files", yaml)
		b.f(op.name, fmt.Sprintf(op.body, "files"), "InvalidArgumentException: "+op.name+": Firehose files is declared in the configuration file, which owns it: change it there.")
		b.r.set("logs", func(s *buffer.Stream) { s.State = buffer.Discarding })
		b.f(op.name, fmt.Sprintf(op.body, "logs"), "ResourceInUseException: "+op.name+": Firehose logs under account 123456789012 is in DELETING status")
		b.r.set("logs", func(s *buffer.Stream) { s.State = buffer.Active })
	}
	b.f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"nobody"}`, "ResourceNotFoundException: Firehose nobody under account 123456789012 not found.")
	b.f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"files"}`, `{"Tags":[{"Key":"team","Value":"web"}],"HasMoreTags":false}`)
}

// numbered is a list of tags.
func numbered(from, n int) string {
	var tags []string
	for i := range n {
		tags = append(tags, fmt.Sprintf(`{"Key":"k%02d","Value":"v"}`, from+i))
	}
	return "[" + strings.Join(tags, ",") + "]"
}

func TestTagLimit(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Encrypted = true })
	const full = "LimitExceededException: A Firehose can have at most 50 tags; remove some before you add others."
	b.f("CreateDeliveryStream", `{"DeliveryStreamName":"logs","Tags":`+numbered(0, 50)+`,"DeliveryStreamEncryptionConfigurationInput":{"KeyType":"AWS_OWNED_CMK"},"ExtendedS3DestinationConfiguration":{`+someRole+`,`+someBucket+`}}`,
		`{"DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/logs"}`)
	b.f("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"one more"}]}`, full)
	b.f("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"k00","Value":"new"}]}`, `{}`) // there already
	b.f("UntagDeliveryStream", `{"DeliveryStreamName":"logs","TagKeys":["k00"]}`, `{}`)
	b.f("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"one more"}]}`, `{}`)
	if got := b.call("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"aws:x"}]}`); !strings.HasPrefix(got, "ValidationException: ") {
		t.Errorf("a reserved key: %s", got)
	}
	if _, err := mergeTags(nil, []firehose.Tag{{Key: encryptionTag}}); err == nil {
		t.Error("a reserved key is taken")
	}
}

func TestEncryption(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	customer := `{"DeliveryStreamName":"logs","DeliveryStreamEncryptionConfigurationInput":{"KeyType":"CUSTOMER_MANAGED_CMK","KeyARN":"` + arn + `"}}`
	t.Run("no key", func(t *testing.T) {
		b := newBench(t)
		b.made("logs", "")
		const want = "InvalidKMSResourceException: There is no key for encryption at rest: the configuration has no encryption.key_file."
		b.f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"logs"}`, want)
		b.f("CreateDeliveryStream", `{"DeliveryStreamName":"two","DeliveryStreamEncryptionConfigurationInput":{"KeyType":"AWS_OWNED_CMK"},"ExtendedS3DestinationConfiguration":{`+someRole+`,`+someBucket+`}}`, want)
		b.f("StopDeliveryStreamEncryption", `{"DeliveryStreamName":"logs"}`, `{}`)
		if d := b.describe("logs"); d.DeliveryStreamEncryptionConfiguration.Status != "DISABLED" {
			t.Errorf("description %+v", d)
		}
		// A stream from before the key was taken away.
		b.r.set("logs", func(s *buffer.Stream) { s.Tags = withKey(s.Tags, &firehose.Key{Type: firehose.OwnedKey}) })
		if d := b.describe("logs"); d.DeliveryStreamEncryptionConfiguration.Status != "DISABLED" {
			t.Errorf("description %+v", d)
		}
	})
	t.Run("a stream that reads another", func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Encrypted = true })
		b.f("CreateDeliveryStream", `{"DeliveryStreamName":"logs","DeliveryStreamType":"KinesisStreamAsSource",`+
			`"KinesisStreamSourceConfiguration":{"KinesisStreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/in",`+someRole+`},"ExtendedS3DestinationConfiguration":{`+someRole+`,`+someBucket+`}}`,
			`{"DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/logs"}`)
		b.f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"logs"}`,
			"InvalidArgumentException: Server side encryption from firehose is only allowed for direct put delivery streams and database as a source delivery streams")
	})
	t.Run("a key", func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Encrypted = true })
		b.made("logs", "")
		b.f("TagDeliveryStream", `{"DeliveryStreamName":"logs","Tags":[{"Key":"a","Value":"1"}]}`, `{}`)
		want := func(status, kind, key string) {
			t.Helper()
			e := b.describe("logs").DeliveryStreamEncryptionConfiguration
			if e.Status != status || e.KeyType != kind || e.KeyARN != key {
				t.Errorf("described as %+v, want %s %s %s", e, status, kind, key)
			}
			b.f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"logs"}`, `{"Tags":[{"Key":"a","Value":"1"}],"HasMoreTags":false}`)
		}
		want("DISABLED", "", "")
		b.f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"logs"}`, `{}`)
		want("ENABLED", "AWS_OWNED_CMK", "")
		b.f("StartDeliveryStreamEncryption", customer, `{}`)
		want("ENABLED", "CUSTOMER_MANAGED_CMK", arn)
		b.f("StartDeliveryStreamEncryption", strings.Replace(customer, `,"KeyARN":"`+arn+`"`, "", 1), "InvalidArgumentException: KeyARN has to be specified when KeyType is CUSTOMER_MANAGED_CMK")
		want("ENABLED", "CUSTOMER_MANAGED_CMK", arn)
		b.f("StopDeliveryStreamEncryption", `{"DeliveryStreamName":"logs"}`, `{}`)
		want("DISABLED", "", "")
		if d := b.describe("logs"); d.VersionID != "1" {
			t.Errorf("encryption makes a version: %+v", d)
		}
		b.r.set("files", yaml)
		b.f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"files"}`, "InvalidArgumentException: StartDeliveryStreamEncryption: Firehose files is declared in the configuration file, which owns it: change it there.")
		b.f("StopDeliveryStreamEncryption", `{"DeliveryStreamName":"nobody"}`, "ResourceNotFoundException: Firehose nobody under account 123456789012 not found.")
	})
}
