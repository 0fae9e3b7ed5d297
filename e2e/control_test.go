package e2e

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/smithy-go"

	"hydrant/e2e/parts"
)

// controlled is a daemon whose streams are made over the API and deliver to a store, by way of what the aws
// block says and the credentials of its environment. One stream, "declared", is in its file.
func controlled(t *testing.T, store *parts.S3Server, endpoint string) *daemon {
	t.Helper()
	d := configure(t, fmt.Sprintf("aws: { endpoints: { s3: %q } }\nstreams:\n  - { name: declared, destination: { file: { path: ./lake } } }\n", endpoint))
	d.env = []string{"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey}
	return d
}

// controlledMinIO is such a daemon, started, and a MinIO with the bucket "lake" that it delivers to.
func controlledMinIO(t *testing.T) (*parts.S3Server, *daemon) {
	t.Helper()
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	return store, controlled(t, store, store.Endpoint).start()
}

// Real clients lead streams through their lives, and what they put is in the store when the streams are gone.
func TestControlPlaneClients(t *testing.T) {
	t.Parallel()
	python, cli, modules := parts.Boto3(t), parts.AWSCLI(t), parts.NodeModules(t)
	store, d := controlledMinIO(t)
	var rows []string
	for i := range 100 {
		rows = append(rows, fmt.Sprintf(`{"n":%d}`, i))
	}
	file := filepath.Join(t.TempDir(), "rows")
	writeLines(t, file, rows)
	var streams []string
	for _, form := range []string{"S3", "ExtendedS3"} {
		for _, c := range []struct {
			name string
			live func(stream string)
		}{
			{"boto3", func(stream string) { run(t, python, "clients/control.py", d.api, stream, form, "lake", file) }},
			{"js", func(stream string) { run(t, "node", "clients/control.mjs", modules, d.api, stream, form, "lake", file) }},
			{"cli", func(stream string) { liveCLI(t, cli, d.api, stream, form, rows) }},
		} {
			stream := strings.ToLower(form) + "-" + c.name
			c.live(stream)
			streams = append(streams, stream)
			if t.Failed() {
				t.Fatalf("%s with %s", form, c.name)
			}
		}
	}
	bucket := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", bucket)
	for _, stream := range streams {
		got := lakeLines(t, filepath.Join(bucket, stream))
		if !slices.Equal(got, slices.Sorted(slices.Values(rows))) {
			t.Errorf("%s: %d rows in the store, want the %d that were put: %.300q", stream, len(got), len(rows), got)
		}
		versions := map[string]bool{}
		for _, path := range walk(t, filepath.Join(bucket, stream)) {
			versions[strings.TrimPrefix(filepath.Base(path), stream+"-")[:2]] = true
		}
		if !versions["2-"] {
			t.Errorf("%s: no object of version 2: %v", stream, versions)
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// lakeLines are the lines of all objects under a directory, sorted.
func lakeLines(t testing.TB, dir string) (all []string) {
	t.Helper()
	for _, path := range walk(t, dir) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = f
		if strings.HasSuffix(path, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
		b, err := io.ReadAll(r)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, strings.Fields(string(b))...)
	}
	slices.Sort(all)
	return all
}

// liveCLI leads a stream through its life as a person would script it.
func liveCLI(t *testing.T, program, endpoint, stream, form string, rows []string) {
	t.Helper()
	call := func(operation string, args ...string) string {
		t.Helper()
		return strings.Join(run(t, program, append([]string{"--endpoint-url", endpoint, "--output", "text", "firehose", operation}, args...)...), " ")
	}
	option := map[string]string{"S3": "--s3-destination-", "ExtendedS3": "--extended-s3-destination-"}[form]
	name := []string{"--delivery-stream-name", stream}
	arn := call("create-delivery-stream", append(name, option+"configuration",
		"RoleARN=arn:aws:iam::000000000000:role/firehose,BucketARN=arn:aws:s3:::lake,Prefix="+stream+"/,BufferingHints={SizeInMBs=1,IntervalInSeconds=900}",
		"--tags", "Key=by,Value=cli")...)
	if arn != "arn:aws:firehose:us-east-1:000000000000:deliverystream/"+stream {
		t.Errorf("created %q", arn)
	}
	put := func(some []string) {
		t.Helper()
		type record struct{ Data []byte }
		var records []record
		for _, row := range some {
			records = append(records, record{[]byte(row + "\n")})
		}
		input, err := json.Marshal(map[string]any{"DeliveryStreamName": stream, "Records": records})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "input.json")
		if err := os.WriteFile(path, input, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := call("put-record-batch", "--cli-input-json", "file://"+path, "--query", "FailedPutCount"); got != "0" {
			t.Errorf("FailedPutCount %s", got)
		}
	}
	put(rows[:50])
	described := call("describe-delivery-stream", append(name, "--query", "DeliveryStreamDescription.[DeliveryStreamStatus,VersionId,Destinations[0].DestinationId]")...)
	if described != "ACTIVE 1 destinationId-000000000001" {
		t.Errorf("described %q", described)
	}
	call("update-destination", append(name, "--current-delivery-stream-version-id", "1", "--destination-id", "destinationId-000000000001", option+"update", "Prefix="+stream+"/new/")...)
	put(rows[50:])
	call("tag-delivery-stream", append(name, "--tags", "Key=team,Value=web")...)
	if got := call("list-tags-for-delivery-stream", append(name, "--query", "Tags[].[Key,Value]")...); got != "by cli team web" {
		t.Errorf("tags %q", got)
	}
	call("untag-delivery-stream", append(name, "--tag-keys", "by")...)
	call("delete-delivery-stream", name...)
	eventually(t, "gone", func() bool { return !strings.Contains(call("list-delivery-streams", "--limit", "100"), stream) })
}

// Terraform's order of calls, with the members it sends.
func TestTerraformOrder(t *testing.T) {
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	name := new("planned")
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	describe := func() *types.DeliveryStreamDescription {
		t.Helper()
		out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: name})
		must("describe", err)
		return out.DeliveryStreamDescription
	}
	role, bucket := new("arn:aws:iam::000000000000:role/firehose"), new("arn:aws:s3:::lake")
	logging := &types.CloudWatchLoggingOptions{Enabled: new(false)}
	hints := &types.BufferingHints{IntervalInSeconds: new(int32(300)), SizeInMBs: new(int32(5))}
	_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: name, DeliveryStreamType: types.DeliveryStreamTypeDirectPut,
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			RoleARN: role, BucketARN: bucket, BufferingHints: hints, Prefix: new(""), ErrorOutputPrefix: new(""), CustomTimeZone: new("UTC"), FileExtension: new(""),
			CompressionFormat: types.CompressionFormatUncompressed, EncryptionConfiguration: &types.EncryptionConfiguration{NoEncryptionConfig: types.NoEncryptionConfigNoEncryption},
			CloudWatchLoggingOptions: logging, S3BackupMode: types.S3BackupModeDisabled,
			DataFormatConversionConfiguration: &types.DataFormatConversionConfiguration{Enabled: new(false)},
		},
		Tags: []types.Tag{{Key: new("env"), Value: new("test")}},
	})
	must("create", err)
	eventually(t, "ACTIVE", func() bool { return describe().DeliveryStreamStatus == types.DeliveryStreamStatusActive })
	read := describe()
	e := read.Destinations[0].ExtendedS3DestinationDescription
	if e == nil || aws.ToString(e.BucketARN) != *bucket || aws.ToString(e.RoleARN) != *role || e.CompressionFormat != types.CompressionFormatUncompressed ||
		aws.ToInt32(e.BufferingHints.SizeInMBs) != 5 || aws.ToInt32(e.BufferingHints.IntervalInSeconds) != 300 || e.S3BackupMode != types.S3BackupModeDisabled ||
		aws.ToBool(e.CloudWatchLoggingOptions.Enabled) || aws.ToString(e.CustomTimeZone) != "UTC" || aws.ToString(e.Prefix) != "" {
		t.Errorf("read after create: %+v", e)
	}
	if enc := read.DeliveryStreamEncryptionConfiguration; enc == nil || enc.Status != types.DeliveryStreamEncryptionStatusDisabled {
		t.Errorf("encryption %+v", enc)
	}
	tags, err := client.ListTagsForDeliveryStream(ctx, &firehose.ListTagsForDeliveryStreamInput{DeliveryStreamName: name})
	must("list tags", err)
	if len(tags.Tags) != 1 || aws.ToString(tags.Tags[0].Key) != "env" {
		t.Errorf("tags %+v", tags.Tags)
	}
	_, err = client.UpdateDestination(ctx, &firehose.UpdateDestinationInput{
		DeliveryStreamName: name, CurrentDeliveryStreamVersionId: read.VersionId, DestinationId: read.Destinations[0].DestinationId,
		ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{
			RoleARN: role, BucketARN: bucket, BufferingHints: &types.BufferingHints{IntervalInSeconds: new(int32(60)), SizeInMBs: new(int32(1))},
			Prefix: new("raw/!{timestamp:yyyy}/"), ErrorOutputPrefix: new("errors/!{firehose:error-output-type}/"), CustomTimeZone: new("UTC"), FileExtension: new(""),
			CompressionFormat: types.CompressionFormatGzip, EncryptionConfiguration: &types.EncryptionConfiguration{NoEncryptionConfig: types.NoEncryptionConfigNoEncryption},
			CloudWatchLoggingOptions: logging, DataFormatConversionConfiguration: &types.DataFormatConversionConfiguration{Enabled: new(false)},
		},
	})
	must("update", err)
	_, err = client.TagDeliveryStream(ctx, &firehose.TagDeliveryStreamInput{DeliveryStreamName: name, Tags: []types.Tag{{Key: new("owner"), Value: new("data")}}})
	must("tag", err)
	_, err = client.UntagDeliveryStream(ctx, &firehose.UntagDeliveryStreamInput{DeliveryStreamName: name, TagKeys: []string{"env"}})
	must("untag", err)
	if again := describe(); aws.ToString(again.VersionId) != "2" || again.LastUpdateTimestamp == nil ||
		aws.ToString(again.Destinations[0].ExtendedS3DestinationDescription.Prefix) != "raw/!{timestamp:yyyy}/" {
		t.Errorf("read after update: %+v", again)
	}
	_, err = client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: name, Record: &types.Record{Data: []byte("last\n")}})
	must("put", err)
	_, err = client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: name, AllowForceDelete: new(false)})
	must("delete", err)
	eventually(t, "ResourceNotFound", func() bool {
		out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: name})
		if err == nil && out.DeliveryStreamDescription.DeliveryStreamStatus != types.DeliveryStreamStatusDeleting {
			t.Fatalf("status %s after the deletion", out.DeliveryStreamDescription.DeliveryStreamStatus)
		}
		return errorCode(err) == "ResourceNotFoundException"
	})
	lake := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", lake)
	if got := lakeLines(t, filepath.Join(lake, "raw")); !slices.Equal(got, []string{"last"}) {
		t.Errorf("delivered %q", got)
	}
}

// errorCode is the API's code of an error, or "".
func errorCode(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// Line 25 of docs/conformance.md, but for a difference: a deletion delivers what is in the buffer, and one by force writes nothing.
func TestChecklist25DeleteWithDataInTheBuffer(t *testing.T) {
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	for _, force := range []bool{false, true} {
		for range 2 { // the name is free at once
			name := fmt.Sprintf("force-%v", force)
			createStream(ctx, t, client, name, "lake")
			if _, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: &name, Record: &types.Record{Data: []byte("row\n")}}); err != nil {
				t.Fatal(err)
			}
			if _, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name, AllowForceDelete: &force}); err != nil {
				t.Fatal(err)
			}
			eventually(t, name+" gone", func() bool {
				_, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
				return errorCode(err) == "ResourceNotFoundException"
			})
		}
	}
	if got := d.metric(`hydrant_dropped_records_total{stream="force-true"}`); got != "1" {
		t.Errorf("hydrant_dropped_records_total %s, want 1", got)
	}
	lake := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", lake)
	if got := lakeLines(t, filepath.Join(lake, "force-false")); !slices.Equal(got, []string{"row", "row"}) {
		t.Errorf("the deletions delivered %q", got)
	}
	if got := walk(t, filepath.Join(lake, "force-true")); len(got) != 0 {
		t.Errorf("a deletion by force wrote %q", got)
	}
}

// createStream makes a stream of one's own prefix that gathers for long.
func createStream(ctx context.Context, t testing.TB, client *firehose.Client, name, bucket string) {
	t.Helper()
	if err := tryCreate(ctx, client, name, bucket); err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
}

func tryCreate(ctx context.Context, client *firehose.Client, name, bucket string) error {
	_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: &name,
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			RoleARN: new("arn:aws:iam::000000000000:role/firehose"), BucketARN: new("arn:aws:s3:::" + bucket), Prefix: new(name + "/"),
			BufferingHints: &types.BufferingHints{IntervalInSeconds: new(int32(900)), SizeInMBs: new(int32(1))},
		},
	})
	return err
}
