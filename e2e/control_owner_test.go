package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// edit changes the configuration file.
func (d *daemon) edit(old, new string) {
	d.t.Helper()
	b, err := os.ReadFile(d.config)
	if err == nil && !strings.Contains(string(b), old) {
		d.t.Fatalf("the configuration has no %q:\n%s", old, b)
	}
	if err == nil {
		err = os.WriteFile(d.config, []byte(strings.Replace(string(b), old, new, 1)), 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// A stream of the API is not the file's: it stays whatever the file lists, its name is refused to the file while
// it takes records, and while it drains the file takes it over with what waits.
func TestFileAndAPISideBySide(t *testing.T) {
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	d := controlled(t, store, "http://"+freeAddress(t)).start() // nobody is there
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	name := "made"
	put := func(row string) error {
		_, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: &name, Record: &types.Record{Data: []byte(row + "\n")}})
		return err
	}
	createStream(ctx, t, client, name, "lake")
	if err := put("first"); err != nil {
		t.Fatal(err)
	}
	d.kill()

	const declared = "  - { name: declared, destination: { file: { path: ./lake } } }\n"
	d.edit(declared, declared+"  - { name: made, destination: { file: { path: ./lake, prefix: \"taken/\" } }, buffer: { interval: 100ms } }\n")
	d.launch()
	if code := d.wait(20 * time.Second); code != 1 {
		t.Errorf("exit code %d of a daemon whose file has the name of a stream of the API", code)
	}
	if !strings.Contains(d.log.String(), `stream \"made\" is there already and was created over the API`) &&
		!strings.Contains(d.log.String(), `stream "made" is there already and was created over the API`) {
		t.Errorf("the log does not say why:\n%s", tail(d.log.String(), 2000))
	}
	d.edit("name: made", "name: other")
	d.edit("  - { name: declared", "  - { name: renamed")
	d.start()
	if s := d.status(name); s.State != "active" || s.Accepted != 1 || s.Backlog != 1 {
		t.Errorf("after the file has changed: %+v", s)
	}
	if err := put("second"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name}); err != nil {
		t.Fatal(err)
	}
	if err := put("late"); errorCode(err) != "ResourceNotFoundException" || !strings.Contains(err.Error(), "is not active in") {
		t.Errorf("put to a stream that is being deleted: %v", err)
	}
	eventually(t, "the rest is cut and cannot be sent", func() bool { return d.metric(`hydrant_outstanding_batches{stream="made"}`) != "0" })
	d.stop()
	d.edit("name: other", "name: made")
	d.start()
	if err := put("third"); err != nil {
		t.Fatal(err)
	}
	// What was cut before is bound for the store, which is still not there; the rest goes where the file says.
	eventually(t, "the file's destination has the rest", func() bool {
		return slices.Equal(lakeLines(t, filepath.Join(d.dir, "lake", "taken")), []string{"third"})
	})
	if s := d.status(name); s.Accepted != 3 || s.Delivered != 1 || s.Backlog != 2 || s.Unaccounted != 0 || s.State != "active" {
		t.Errorf("taken over: %+v", s)
	}
}

// A control plane that is read-only shows everything and changes nothing.
func TestReadOnlyControlPlane(t *testing.T) {
	store := parts.MinIO(t)
	d := controlled(t, store, store.Endpoint)
	d.edit("api: { listen:", "api: { control_plane: read_only, listen:")
	d.start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 1)
	if err := tryCreate(ctx, client, "made", "lake"); errorCode(err) != "AccessDeniedException" {
		t.Errorf("create: %v", err)
	}
	name := "declared"
	if _, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name}); errorCode(err) != "AccessDeniedException" {
		t.Errorf("delete: %v", err)
	}
	if _, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name}); err != nil {
		t.Errorf("describe: %v", err)
	}
	if _, err := client.ListTagsForDeliveryStream(ctx, &firehose.ListTagsForDeliveryStreamInput{DeliveryStreamName: &name}); err != nil {
		t.Errorf("list tags: %v", err)
	}
}
