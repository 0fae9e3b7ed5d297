//go:build unix

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
)

// copied are the records of a backup's gzip objects below a directory, each of which ends in ";" here, and how often each is
// there.
func copied(t testing.TB, dir string) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, path := range walk(t, dir) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for record := range strings.SplitAfterSeq(string(text), ";") {
			if record != "" {
				found[record]++
			}
		}
	}
	return found
}

// Streams keep a backup of their source records over the API. The daemon is killed again and again; what it acknowledged
// is in the backup once, as it was sent, and once in the destination. A backup can be turned on later, and never off.
func TestBackupOverAPI(t *testing.T) {
	t.Parallel()
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 1)
	role := new("arn:aws:iam::000000000000:role/firehose")
	backup := types.S3DestinationConfiguration{
		RoleARN: role, BucketARN: new("arn:aws:s3:::lake"), Prefix: new("raw/both/"), CompressionFormat: types.CompressionFormatGzip,
		BufferingHints: &types.BufferingHints{IntervalInSeconds: new(int32(60)), SizeInMBs: new(int32(1))},
	}
	both := "both"
	_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: &both,
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			RoleARN: role, BucketARN: backup.BucketARN, Prefix: new("both/"), BufferingHints: &types.BufferingHints{IntervalInSeconds: new(int32(0)), SizeInMBs: new(int32(1))},
			S3BackupMode: types.S3BackupModeEnabled, S3BackupConfiguration: &backup,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	acked, sent := map[string]bool{}, 0
	pad := strings.Repeat("x", 4000)
	for range 3 {
		for until := time.Now().Add(time.Second); time.Now().Before(until); {
			records := make([]types.Record, 50)
			for i := range records {
				records[i].Data = fmt.Appendf(nil, "%d %s;", sent, pad)
				sent++
			}
			_, err := client.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &both, Records: records})
			for _, r := range records {
				acked[string(r.Data)] = err == nil
			}
		}
		d.kill()
		d.start()
	}

	// One that begins without.
	createStream(ctx, t, client, "later", "lake")
	put := func(data string) {
		t.Helper()
		if _, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: new("later"), Record: &types.Record{Data: []byte(data)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("before;")
	update := func(mode types.S3BackupMode) error {
		said, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: new("later")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.UpdateDestination(ctx, &firehose.UpdateDestinationInput{
			DeliveryStreamName: new("later"), CurrentDeliveryStreamVersionId: said.DeliveryStreamDescription.VersionId, DestinationId: said.DeliveryStreamDescription.Destinations[0].DestinationId,
			ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{
				S3BackupMode: mode, S3BackupUpdate: &types.S3DestinationUpdate{RoleARN: role, BucketARN: backup.BucketARN, Prefix: new("raw/later/"), CompressionFormat: types.CompressionFormatGzip},
			},
		})
		return err
	}
	if err := update(types.S3BackupModeEnabled); err != nil {
		t.Fatal(err)
	}
	put("after;")
	if err := update(types.S3BackupModeDisabled); errorCode(err) != "InvalidArgumentException" || !strings.Contains(err.Error(), "Disabling S3 backup is not currently supported.") {
		t.Errorf("a backup is turned off: %v", err)
	}
	said, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: new("later")})
	if err != nil {
		t.Fatal(err)
	}
	if e := said.DeliveryStreamDescription.Destinations[0].ExtendedS3DestinationDescription; e.S3BackupMode != types.S3BackupModeEnabled || *e.S3BackupDescription.Prefix != "raw/later/" {
		t.Errorf("described with backup %q, %+v", e.S3BackupMode, e.S3BackupDescription)
	}

	d.flush("both")
	d.flush("later")
	lake := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", lake)
	copies := copied(t, filepath.Join(lake, "raw", "both"))
	delivered := map[string]int{}
	for _, path := range walk(t, filepath.Join(lake, "both")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for record := range strings.SplitAfterSeq(string(text), ";") {
			if record != "" {
				delivered[record]++
			}
		}
	}
	n := 0
	for record, ok := range acked {
		if ok {
			n++
		}
		if a, b := copies[record], delivered[record]; ok && a != 1 || a > 1 || a != b {
			t.Errorf("record %.8s (acknowledged: %v) is in the backup %d times and %d times in the destination", record, ok, a, b)
		}
		delete(copies, record)
	}
	for record := range copies {
		t.Errorf("the backup has what was never sent: %.20q", record)
	}
	if st, b := d.status("both"), d.backupStatus("both"); n < 100 || st.Unaccounted+b.Unaccounted+b.Backlog != 0 || b.Accepted != st.Accepted || b.Delivered != b.Accepted {
		t.Errorf("%d acknowledged; counters %+v, of the backup %+v", n, st, b)
	}
	if later := copied(t, filepath.Join(lake, "raw", "later")); len(later) != 1 || later["after;"] != 1 {
		t.Errorf("the backup that was turned on later has %v", later)
	}
	if lines := d.metric(`hydrant_backup_unaccounted_records{stream="both"}`); lines != "0" {
		t.Errorf("hydrant_backup_unaccounted_records is %s", lines)
	}
}
