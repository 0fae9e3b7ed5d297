package e2e

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// What goes over the wire, with every operation and without any SDK: status, headers and form of answers.
func TestWire(t *testing.T) {
	d := controlled(t, &parts.S3Server{}, "http://127.0.0.1:9").start()
	const uuid = `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	ids := map[string]bool{}
	f := func(op, body string, status int, want string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.api+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		req.Header.Set("X-Amz-Target", "Firehose_20150804."+op)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		id, date := resp.Header.Get("x-amzn-RequestId"), resp.Header.Get("Date") // SDKs correct their clocks by the date
		if _, err := http.ParseTime(date); err != nil || !regexp.MustCompile(uuid).MatchString(id) || ids[id] {
			t.Errorf("%s: request id %q, date %q", op, id, date)
		}
		ids[id] = true
		if got := resp.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
			t.Errorf("%s: content type %q", op, got)
		}
		if resp.StatusCode != status || !regexp.MustCompile("^"+want+"$").Match(got) || resp.ContentLength != int64(len(got)) {
			t.Errorf("%s %s:\n got %d %s (Content-Length %d)\nwant %d %s", op, body, resp.StatusCode, got, resp.ContentLength, status, want)
		}
	}
	refused := func(op, body, code string) {
		t.Helper()
		f(op, body, 400, `\{"__type":"`+code+`","message":"[^"]+"\}`)
	}
	const wired, stamp = `{"DeliveryStreamName":"wired"}`, `\d{10}(\.\d{1,3})?`
	f("CreateDeliveryStream", `{"DeliveryStreamName":"wired","S3DestinationConfiguration":{"RoleARN":"arn:aws:iam::000000000000:role/firehose","BucketARN":"arn:aws:s3:::lake"},"Unknown":1,"Tags":null}`,
		200, `\{"DeliveryStreamARN":"arn:aws:firehose:us-east-1:000000000000:deliverystream/wired"\}`)
	f("DescribeDeliveryStream", wired, 200, `\{"DeliveryStreamDescription":\{.*"VersionId":"1","CreateTimestamp":`+stamp+`,"Destinations":\[.*\],"HasMoreDestinations":false\}\}`)
	f("PutRecord", `{"DeliveryStreamName":"wired","Record":{"Data":"YQ=="}}`, 200, `\{"RecordId":"[0-9a-v]{45}","Encrypted":false\}`)
	f("PutRecordBatch", `{"DeliveryStreamName":"wired","Records":[{"Data":""},{"Data":"YQ=="}]}`, 200,
		`\{"FailedPutCount":0,"Encrypted":false,"RequestResponses":\[\{"RecordId":"[0-9a-v]{45}"\},\{"RecordId":"[0-9a-v]{45}"\}\]\}`)
	f("TagDeliveryStream", `{"DeliveryStreamName":"wired","Tags":[{"Key":"k"}]}`, 200, `\{\}`)
	f("ListTagsForDeliveryStream", wired, 200, `\{"Tags":\[\{"Key":"k","Value":""\}\],"HasMoreTags":false\}`)
	f("UntagDeliveryStream", `{"DeliveryStreamName":"wired","TagKeys":["k","unknown"]}`, 200, `\{\}`)
	f("ListTagsForDeliveryStream", wired, 200, `\{"Tags":\[\],"HasMoreTags":false\}`)
	f("StopDeliveryStreamEncryption", wired, 200, `\{\}`)
	f("StartDeliveryStreamEncryption", wired, 400, `\{"__type":"InvalidKMSResourceException","message":"[^"]+","code":"NotFoundException"\}`)
	f("UpdateDestination", `{"DeliveryStreamName":"wired","CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001","S3DestinationUpdate":{"Prefix":"x/"}}`, 200, `\{\}`)
	f("DescribeDeliveryStream", wired, 200, `.*"VersionId":"2","CreateTimestamp":`+stamp+`,"LastUpdateTimestamp":`+stamp+`,"Destinations":.*`)
	f("ListDeliveryStreams", `{}`, 200, `\{"DeliveryStreamNames":\["declared","wired"\],"HasMoreDeliveryStreams":false\}`)
	f("DeleteDeliveryStream", `{"DeliveryStreamName":"wired","AllowForceDelete":true}`, 200, `\{\}`)
	for _, op := range []string{"DeleteDeliveryStream", "DescribeDeliveryStream", "ListTagsForDeliveryStream", "StartDeliveryStreamEncryption", "StopDeliveryStreamEncryption"} {
		refused(op, `{"DeliveryStreamName":"nobody"}`, "ResourceNotFoundException")
		refused(op, `{}`, "ValidationException")
		refused(op, ``, "SerializationException")
		refused(op, `{"DeliveryStreamName":7}`, "SerializationException")
	}
	refused("PutRecords", `{}`, "UnknownOperationException")
	refused("PutRecord", `{"DeliveryStreamName":"nobody","Record":{"Data":"YQ=="}}`, "ResourceNotFoundException")
	refused("DeleteDeliveryStream", `{"DeliveryStreamName":"declared"}`, "InvalidArgumentException")
}

// Where the data directory is encrypted every answer to a put says so. A stream of the file is described as encrypted; one
// that was made over the API as it asked for, which is what Terraform waits for.
func TestEncryptedIsTold(t *testing.T) {
	d := controlled(t, &parts.S3Server{}, "http://127.0.0.1:9")
	d.encrypt("one")
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	createStream(ctx, t, client, "made", "lake")
	const arn = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	want := func(name string, status types.DeliveryStreamEncryptionStatus, kind types.KeyType, key string) {
		t.Helper()
		put, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: &name, Record: &types.Record{Data: []byte("x")}})
		if err != nil || !aws.ToBool(put.Encrypted) {
			t.Errorf("%s: put answers %+v, %v", name, put, err)
		}
		batch, err := client.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &name, Records: []types.Record{{Data: []byte("x")}}})
		if err != nil || !aws.ToBool(batch.Encrypted) {
			t.Errorf("%s: a batch answers %+v, %v", name, batch, err)
		}
		out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if e := out.DeliveryStreamDescription.DeliveryStreamEncryptionConfiguration; e == nil || e.Status != status || e.KeyType != kind || aws.ToString(e.KeyARN) != key {
			t.Errorf("%s: described as %+v, want %s %s %s", name, e, status, kind, key)
		}
	}
	const enabled, disabled = types.DeliveryStreamEncryptionStatusEnabled, types.DeliveryStreamEncryptionStatusDisabled
	want("declared", enabled, types.KeyTypeAwsOwnedCmk, "")
	want("made", disabled, "", "")
	if _, err := client.StartDeliveryStreamEncryption(ctx, &firehose.StartDeliveryStreamEncryptionInput{DeliveryStreamName: new("made"),
		DeliveryStreamEncryptionConfigurationInput: &types.DeliveryStreamEncryptionConfigurationInput{KeyType: types.KeyTypeCustomerManagedCmk, KeyARN: new(arn)}}); err != nil {
		t.Fatal(err)
	}
	want("made", enabled, types.KeyTypeCustomerManagedCmk, arn)
	if _, err := client.StopDeliveryStreamEncryption(ctx, &firehose.StopDeliveryStreamEncryptionInput{DeliveryStreamName: new("made")}); err != nil {
		t.Fatal(err)
	}
	want("made", disabled, "", "")
}

// What real clients make of answers: the exceptions that they have classes for, request ids, times and retries.
func TestWireClients(t *testing.T) {
	t.Parallel()
	python, cli, modules := parts.Boto3(t), parts.AWSCLI(t), parts.NodeModules(t)
	limited := strings.Replace(textStream, "  - name: s\n", "  - name: python\n    limits: { records_per_second: 2 }\n", 1)
	d := configure(t, limited+strings.Replace(strings.TrimPrefix(limited, "streams:\n"), "python", "js", 1)).start()
	var wg sync.WaitGroup
	wg.Go(func() { run(t, python, "clients/wire.py", d.api, "python") })
	wg.Go(func() { run(t, "node", "clients/wire.mjs", modules, d.api, "js") })
	for _, c := range []struct {
		want string
		args []string
	}{
		{"An error occurred (ResourceNotFoundException) when calling the PutRecord operation: Firehose nobody under account 000000000000 not found.",
			[]string{"put-record", "--delivery-stream-name", "nobody", "--record", "Data=YQ=="}},
		{"An error occurred (InvalidArgumentException) when calling the DeleteDeliveryStream operation: ", []string{"delete-delivery-stream", "--delivery-stream-name", "js"}},
	} {
		wg.Go(func() {
			if code, out := try(t, cli, append([]string{"--endpoint-url", d.api, "firehose"}, c.args...)...); code != 254 || !strings.Contains(out, c.want) {
				t.Errorf("aws %s: exit code %d, %s\nwant 254, %s", strings.Join(c.args, " "), code, out, c.want)
			}
		})
	}
	wg.Wait()
}

// try returns exit code and output of a client program that is expected to fail.
func try(t *testing.T, program string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=")
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}
