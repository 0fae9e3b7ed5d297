package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// Secrets of the streams of these tests, which may stand in the file of secrets and nowhere else.
const (
	somePassword  = "hunter22-of-the-loader"
	someAccessKey = "open-sesame-for-the-collector"
)

// destinations are configurations of what cannot be reached, and what becomes of them, in JSON.
var destinations = map[string]struct{ configuration, update string }{
	"Redshift": {
		`{"RoleARN":"arn:aws:iam::000000000000:role/firehose","ClusterJDBCURL":"jdbc:redshift://nobody.abc.us-east-1.redshift.amazonaws.com:5439/dev",
			"CopyCommand":{"DataTableName":"public.clicks","DataTableColumns":"id,at","CopyOptions":"json 'auto' gzip"},"Username":"loader","Password":"` + somePassword + `",
			"RetryOptions":{"DurationInSeconds":7200},"S3BackupMode":"Disabled",
			"S3Configuration":{"RoleARN":"arn:aws:iam::000000000000:role/firehose","BucketARN":"arn:aws:s3:::lake","Prefix":"stage/","CompressionFormat":"GZIP","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":900}}}`,
		`{"Username":"other","Password":"another-` + somePassword + `","S3Update":{"Prefix":"stage2/"}}`,
	},
	"HttpEndpoint": {
		`{"EndpointConfiguration":{"Url":"https://127.0.0.1:1/collect","Name":"collector","AccessKey":"` + someAccessKey + `"},
			"BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":900},"RequestConfiguration":{"ContentEncoding":"GZIP"},"RetryOptions":{"DurationInSeconds":7200},"S3BackupMode":"FailedDataOnly",
			"S3Configuration":{"RoleARN":"arn:aws:iam::000000000000:role/firehose","BucketARN":"arn:aws:s3:::lake","Prefix":"failed/"}}`,
		`{"EndpointConfiguration":{"Url":"https://127.0.0.1:1/elsewhere","AccessKey":"another-` + someAccessKey + `"},"S3Update":{"CompressionFormat":"GZIP"}}`,
	},
}

// oneLine is a JSON text without line ends: the AWS CLI's own syntax for arguments begins with anything else.
func oneLine(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Real clients lead streams whose destinations cannot be reached, or not yet, through their lives: what is put waits,
// passwords and keys are shown to nobody, and a deletion by force discards and counts.
func TestControlPlaneDestinations(t *testing.T) {
	python, cli, modules := parts.Boto3(t), parts.AWSCLI(t), parts.NodeModules(t)
	_, d := controlledMinIO(t)
	var rows []string
	for i := range 100 {
		rows = append(rows, fmt.Sprintf(`{"n":%d}`, i))
	}
	file := filepath.Join(t.TempDir(), "rows")
	writeLines(t, file, rows)
	for form, c := range destinations {
		configuration, update := oneLine(t, c.configuration), oneLine(t, c.update)
		for name, live := range map[string]func(stream string){
			"boto3": func(stream string) {
				run(t, python, "clients/destination.py", d.api, stream, form, configuration, update, file)
			},
			"js": func(stream string) {
				run(t, "node", "clients/destination.mjs", modules, d.api, stream, form, configuration, update, file)
			},
			"cli": func(stream string) { liveDestinationCLI(t, cli, d, stream, form, configuration, update) },
		} {
			stream := strings.ToLower(form) + "-" + name
			live(stream)
			if t.Failed() {
				t.Fatalf("%s with %s", form, name)
			}
			want := "100"
			if name == "cli" {
				want = "1"
			}
			if got := d.metric(fmt.Sprintf("hydrant_dropped_records_total{stream=%q}", stream)); got != want {
				t.Errorf("%s: hydrant_dropped_records_total %s, want %s", stream, got, want)
			}
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	noSecrets(t, d)
}

// noSecrets fails the test where a secret stands in what the daemon has printed, or anywhere in its data directory but
// in the file that there is for them.
func noSecrets(t testing.TB, d *daemon) {
	t.Helper()
	hidden := func(where string, b []byte) {
		t.Helper()
		for _, s := range []string{somePassword, someAccessKey} {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s shows a secret", where)
			}
		}
	}
	hidden("the log", []byte(d.log.String()))
	err := filepath.WalkDir(d.data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "secrets" || e.Name() == "ballast" {
			return err
		}
		b, err := os.ReadFile(path)
		hidden(path, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// liveDestinationCLI leads a stream through its life as a person would script it.
func liveDestinationCLI(t *testing.T, program string, d *daemon, stream, form, configuration, update string) {
	t.Helper()
	call := func(operation string, args ...string) string {
		t.Helper()
		args = append([]string{"--endpoint-url", d.api, "--output", "text", "firehose", operation, "--delivery-stream-name", stream}, args...)
		return strings.Join(run(t, program, args...), " ")
	}
	option := map[string]string{"Redshift": "--redshift-destination-", "HttpEndpoint": "--http-endpoint-destination-"}[form]
	if arn := call("create-delivery-stream", option+"configuration", configuration, "--tags", "Key=by,Value=cli"); !strings.HasSuffix(arn, ":deliverystream/"+stream) {
		t.Errorf("created %q", arn)
	}
	call("put-record", "--record", "Data=cm93Cg==")
	described := call("describe-delivery-stream", "--query", "DeliveryStreamDescription.[DeliveryStreamStatus,VersionId,Destinations[0].DestinationId]")
	if described != "ACTIVE 1 destinationId-000000000001" {
		t.Errorf("described %q", described)
	}
	call("update-destination", "--current-delivery-stream-version-id", "1", "--destination-id", "destinationId-000000000001", option+"update", update)
	if version := call("describe-delivery-stream", "--query", "DeliveryStreamDescription.VersionId"); version != "2" {
		t.Errorf("version %q after an update", version)
	}
	call("tag-delivery-stream", "--tags", "Key=team,Value=web")
	call("untag-delivery-stream", "--tag-keys", "by")
	if got := call("list-tags-for-delivery-stream", "--query", "Tags[].[Key,Value]"); got != "team web" {
		t.Errorf("tags %q", got)
	}
	call("delete-delivery-stream", "--allow-force-delete")
	eventually(t, stream+" gone", func() bool {
		return !strings.Contains(strings.Join(run(t, program, "--endpoint-url", d.api, "--output", "text", "firehose", "list-delivery-streams", "--limit", "100"), " "), stream)
	})
}

// A stream that waits says why, keeps over a kill -9 what was acknowledged, takes records up to its share of the disk
// without harm to others, and can only be ended by force.
func TestStreamThatWaits(t *testing.T) {
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	d := controlled(t, store, store.Endpoint)
	d.edit("streams:", "limits: { disk: 128MiB, memory: 128MiB }\nstreams:")
	d.start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 1)
	name := "waits"
	var c types.RedshiftDestinationConfiguration
	if err := json.Unmarshal([]byte(destinations["Redshift"].configuration), &c); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &name, RedshiftDestinationConfiguration: &c}); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{})
	put := func(stream string, size int) error {
		data := make([]byte, size)
		random.Read(data)
		_, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: &stream, Record: &types.Record{Data: data}})
		return err
	}
	if err := put(name, 10); err != nil {
		t.Fatal(err)
	}
	d.kill()
	d.start()
	if s := d.status(name); s.State != "failed" || s.Accepted != 1 || s.Backlog != 1 || s.Unaccounted != 0 {
		t.Errorf("status %+v", s)
	}
	if shown := d.cli(0, nil, "stream", "show", name, "--admin", d.admin); !strings.Contains(shown, "COPY of Amazon Redshift reads buckets of AWS alone") {
		t.Errorf("stream show says\n%s", shown)
	}
	if !strings.Contains(d.log.String(), "COPY of Amazon Redshift reads buckets of AWS alone") {
		t.Error("the log does not say why")
	}
	// What waits is more than the ring of the journal and the memory for it have room for, and less than the disk has.
	const size = 1000 << 10
	taken := int64(1)
	for refusals := 0; refusals < 20; {
		switch err := put(name, size); {
		case err == nil:
			taken, refusals = taken+1, 0
		case errorCode(err) != "ServiceUnavailableException":
			t.Fatal(err)
		case strings.Contains(err.Error(), "share of the disk"):
			refusals = 20
		default: // memory is short until rows have been moved
			refusals++
			<-time.After(50 * time.Millisecond)
		}
		if taken > 128 {
			t.Fatal("there is no bound")
		}
	}
	if taken < 16 {
		t.Errorf("only %d records of %d bytes may wait", taken, size)
	}
	// The ring goes around for the other stream, twice.
	for range 150 {
		eventually(t, "put to the other stream", func() bool {
			err := put("declared", size)
			if err != nil && errorCode(err) != "ServiceUnavailableException" {
				t.Fatalf("the other stream: %v", err)
			}
			return err == nil
		})
	}
	d.flush("declared")
	d.kill()
	d.start()
	if s := d.status(name); s.Accepted != taken || s.Backlog != taken || s.Unaccounted != 0 {
		t.Errorf("%d taken: %+v", taken, s)
	}
	t.Logf("%d records of %d bytes wait", taken, size)
	if _, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name}); err != nil {
		t.Fatal(err)
	}
	out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
	if err != nil || out.DeliveryStreamDescription.DeliveryStreamStatus != types.DeliveryStreamStatusDeleting ||
		out.DeliveryStreamDescription.FailureDescription == nil || !strings.Contains(*out.DeliveryStreamDescription.FailureDescription.Details, "AllowForceDelete") {
		t.Errorf("deleted without force: %+v, %v", out, err)
	}
	if _, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name, AllowForceDelete: new(true)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool {
		_, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
		return errorCode(err) == "ResourceNotFoundException"
	})
	if got := d.counter(`hydrant_dropped_records_total{stream="waits"}`); got != taken {
		t.Errorf("%d dropped, want %d", got, taken)
	}
}
