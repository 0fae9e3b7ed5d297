//go:build unix

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
	"hydrant/transform/hook/hooktest"
)

// A stream that is created over the API with a Lambda processor sends its records through the function, whose parameters
// are described with their defaults, and an update takes the function away again.
func TestFunctionOfTheAPI(t *testing.T) {
	t.Parallel()
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	d := configure(t, fmt.Sprintf("aws: { endpoints: { s3: %q, lambda: %q } }\nstreams: []\n", store.Endpoint, hooktest.Node(t)))
	d.env = []string{"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey}
	d.start()
	client := firehoseClient(d.api, 1)
	const function = "arn:aws:lambda:eu-west-1:123456789012:function:function"
	_, err := client.CreateDeliveryStream(t.Context(), &firehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("s"),
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			BucketARN: aws.String("arn:aws:s3:::lake"), RoleARN: aws.String("arn:aws:iam::123456789012:role/r"),
			Prefix: aws.String("data/!{timestamp:yyyy}/"), ErrorOutputPrefix: aws.String("errors/!{firehose:error-output-type}/"),
			ProcessingConfiguration: &types.ProcessingConfiguration{Enabled: aws.Bool(true), Processors: []types.Processor{{
				Type:       types.ProcessorTypeLambda,
				Parameters: []types.ProcessorParameter{{ParameterName: types.ProcessorParameterNameLambdaArn, ParameterValue: aws.String(function)}},
			}}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	describe := func() *types.ExtendedS3DestinationDescription {
		t.Helper()
		out, err := client.DescribeDeliveryStream(t.Context(), &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("s")})
		if err != nil {
			t.Fatal(err)
		}
		return out.DeliveryStreamDescription.Destinations[0].ExtendedS3DestinationDescription
	}
	given := map[string]string{}
	for _, p := range describe().ProcessingConfiguration.Processors[0].Parameters {
		given[string(p.ParameterName)] = aws.ToString(p.ParameterValue)
	}
	if given["LambdaArn"] != function || given["NumberOfRetries"] != "3" || given["BufferSizeInMBs"] != "1" || given["BufferIntervalInSeconds"] != "60" {
		t.Errorf("the function is described as %v", given)
	}
	put := func(lines ...string) {
		t.Helper()
		d.cli(0, strings.NewReader(strings.Join(lines, "\n")+"\n"), "put", "--stream", "s", "--endpoint", d.api)
		d.flush("s")
	}
	put(`{"text":"one ü"}`, `{"type":"heartbeat"}`, "no JSON")
	if _, err := client.UpdateDestination(t.Context(), &firehose.UpdateDestinationInput{DeliveryStreamName: aws.String("s"),
		CurrentDeliveryStreamVersionId: aws.String("1"), DestinationId: aws.String("destinationId-000000000001"),
		ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{ProcessingConfiguration: &types.ProcessingConfiguration{Enabled: aws.Bool(false)}}}); err != nil {
		t.Fatal(err)
	}
	put("as it came")
	dir := t.TempDir()
	store.Fetch(t, "lake", dir)
	text := func(under string) (all string) {
		for _, path := range walk(t, filepath.Join(dir, under)) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all += string(b)
		}
		return all
	}
	data, failed := text("data"), text("errors/processing-failed")
	if !strings.Contains(data, `"text":"ONE Ü"`) || !strings.Contains(data, "as it came\n") || strings.Contains(data, "heartbeat") {
		t.Errorf("delivered: %s", data)
	}
	if strings.Count(failed, "\n") != 1 || !strings.Contains(failed, `"lambdaARN":"`+function+`:$LATEST"`) {
		t.Errorf("error output: %s", failed)
	}
	if got, want := d.status("s"), (status{State: "active", Accepted: 4, Delivered: 2, Failed: 1, Dropped: 1}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}
