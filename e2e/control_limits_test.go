package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// There may be as many streams as a checkpoint of the journal holds, which is some thousand small ones, and over
// that the answer is Firehose's. They are all there at the next start, and one that goes makes room.
func TestQuotaOfStreams(t *testing.T) {
	t.Parallel()
	store := parts.MinIO(t)
	d := controlled(t, store, store.Endpoint)
	d.edit("streams:\n", "limits: { disk: 128MiB }\nstreams:\n")
	d.start()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	random := rand.New(rand.NewPCG(1, 1))
	// With as many tags as there may be, which nothing makes smaller.
	tryLarge := func(name string) error {
		var tags []types.Tag
		for i := range 50 {
			value := make([]byte, 256)
			for i := range value {
				value[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[random.IntN(64)]
			}
			tags = append(tags, types.Tag{Key: new(fmt.Sprintf("tag%d", i)), Value: new(string(value))})
		}
		_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &name, Tags: tags,
			ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{RoleARN: new("arn:aws:iam::000000000000:role/firehose"), BucketARN: new("arn:aws:s3:::lake")}})
		return err
	}
	made, refused := 0, error(nil)
	for ; refused == nil && made < 2000; made++ {
		refused = tryLarge(fmt.Sprintf("stream-%05d", made))
	}
	made--
	want := fmt.Sprintf("You have already consumed your firehose quota of %d hoses. Firehose names: [declared, stream-00000, stream-00001, ", made+1)
	if made < 20 || errorCode(refused) != "LimitExceededException" || !strings.Contains(refused.Error(), want) {
		t.Fatalf("%d streams were made, then: %.300s, want %s…", made, refused, want)
	}
	t.Logf("%d streams", made)
	d.kill()
	began := time.Now()
	d.start()
	t.Logf("started again in %s", time.Since(began))
	var names []string
	for more, start := true, (*string)(nil); more; {
		out, err := client.ListDeliveryStreams(ctx, &firehose.ListDeliveryStreamsInput{Limit: new(int32(7)), ExclusiveStartDeliveryStreamName: start})
		if err != nil {
			t.Fatal(err)
		}
		names, more = append(names, out.DeliveryStreamNames...), aws.ToBool(out.HasMoreDeliveryStreams)
		start = &names[len(names)-1]
	}
	if len(names) != made+1 {
		t.Errorf("%d streams are listed, %d were made beside the one of the file", len(names), made)
	}
	for _, name := range names[1:3] { // one may be some bytes smaller, compressed, than the one that is to come
		if _, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name}); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is gone", func() bool {
			_, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
			return errorCode(err) == "ResourceNotFoundException"
		})
	}
	if err := tryLarge("one-more"); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Encryption that a stream asks for is reported when the data directory is encrypted, also after a restart.
func TestStreamEncryption(t *testing.T) {
	store := parts.MinIO(t)
	d := controlled(t, store, store.Endpoint)
	key := filepath.Join(d.dir, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.edit("streams:\n", fmt.Sprintf("encryption: { key_file: %q }\nstreams:\n", key))
	d.start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	name := "made"
	createStream(ctx, t, client, name, "lake")
	want := func(status types.DeliveryStreamEncryptionStatus, key types.KeyType) {
		t.Helper()
		out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if e := out.DeliveryStreamDescription.DeliveryStreamEncryptionConfiguration; e == nil || e.Status != status || e.KeyType != key {
			t.Errorf("described as %+v, want %s %s", e, status, key)
		}
	}
	want(types.DeliveryStreamEncryptionStatusDisabled, "")
	if _, err := client.StartDeliveryStreamEncryption(ctx, &firehose.StartDeliveryStreamEncryptionInput{DeliveryStreamName: &name,
		DeliveryStreamEncryptionConfigurationInput: &types.DeliveryStreamEncryptionConfigurationInput{KeyType: types.KeyTypeAwsOwnedCmk}}); err != nil {
		t.Fatal(err)
	}
	want(types.DeliveryStreamEncryptionStatusEnabled, types.KeyTypeAwsOwnedCmk)
	d.kill()
	d.start()
	want(types.DeliveryStreamEncryptionStatusEnabled, types.KeyTypeAwsOwnedCmk)
	if _, err := client.StopDeliveryStreamEncryption(ctx, &firehose.StopDeliveryStreamEncryptionInput{DeliveryStreamName: &name}); err != nil {
		t.Fatal(err)
	}
	want(types.DeliveryStreamEncryptionStatusDisabled, "")
}
