//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"golang.org/x/sys/unix"

	"hydrant/e2e/parts"
)

// foundObject is an object in the answers of inspect --where and --what.
type foundObject struct {
	Stream, Role, Place, Key string
	First                    uint64 `json:"range_first"`
	Next                     uint64 `json:"range_next"`
	Waits                    bool   `json:"in_data_directory"`
}

// A record is found by its id: in its object, in the error output and in the backup, while it waits for a dead store and when
// it is delivered, in a bucket and in files. An object tells its records and which others have them.
func TestWhereAndWhat(t *testing.T) {
	t.Parallel()
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	s3 := func(prefix string) string {
		return fmt.Sprintf(`s3: { bucket: lake, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: %s }, %s }`, store.Endpoint, store.AccessKey, store.SecretKey, prefix)
	}
	lake := filepath.Join(t.TempDir(), "lake")
	const columns = `parquet: { schema: "id bigint" }`
	d := configure(t, fmt.Sprintf(`streams:
  - name: bucket
    format: { %[1]s }
    buffer: { interval: 0s }
    destination: { %[2]s }
    backup: { mode: all, error_output: destination, buffer: { interval: 0s }, %[3]s }
  - name: files
    format: { %[1]s }
    buffer: { interval: 0s }
    destination: { file: { path: %[4]q, prefix: "files/", error_output_prefix: "errors/" } }
    backup: { mode: all, error_output: destination, buffer: { interval: 0s }, file: { path: %[4]q, prefix: "raw/" } }
`, columns, s3(`prefix: "bucket/", error_output_prefix: "errors/"`), s3(`prefix: "raw/"`), lake)).start()
	client := firehoseClient(d.api, 3)
	ids := map[string][]string{}
	put := func(stream string) {
		t.Helper()
		for _, data := range []string{`{"id":1}`, `misfit`} {
			out, err := client.PutRecord(t.Context(), &firehose.PutRecordInput{DeliveryStreamName: &stream, Record: &types.Record{Data: []byte(data)}})
			if err != nil {
				t.Fatal(err)
			}
			ids[stream] = append(ids[stream], *out.RecordId)
		}
	}
	where := func(code int, id string) (found []foundObject) {
		t.Helper()
		var answer struct{ Objects []foundObject }
		if err := json.Unmarshal([]byte(d.cli(code, nil, "inspect", "--where", id, "-c", d.config, "--json")), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Objects
	}
	roles := func(list []foundObject) (out []string) {
		for _, o := range list {
			out = append(out, o.Role)
		}
		return out
	}
	for range 3 {
		for _, stream := range []string{"bucket", "files"} {
			put(stream)
			d.flush(stream)
		}
	}
	// Not every file system keeps what files say of their records.
	kept := unix.Setxattr(lake, "user.hydrant.test", []byte("x"), 0) == nil
	if found := where(0, ids["bucket"][0]); len(found) == 0 {
		t.Fatal("the first record is not found")
	}
	for _, stream := range []string{"bucket", "files"} {
		for i, id := range ids[stream] {
			if stream == "files" && !kept {
				continue
			}
			found := where(0, id)
			got := roles(found)
			// A record and the one after it may have been cut together: then either may be in the object or in the error output.
			if !slices.Contains(got, "backup") || !slices.Contains(got, map[bool]string{true: "data", false: "error"}[i%2 == 0]) {
				t.Errorf("record %d of %s is in %+v", i, stream, found)
				continue
			}
			for _, o := range found {
				if o.Stream != stream || o.Waits {
					t.Errorf("record %d of %s is in %+v", i, stream, o)
				}
				name := "s3://lake/" + o.Key
				if stream == "files" {
					name = filepath.Join(lake, filepath.FromSlash(o.Key))
				}
				var what struct {
					Object  foundObject
					First   string        `json:"first_record_id"`
					Last    string        `json:"last_record_id"`
					Related []foundObject `json:"related"`
				}
				if err := json.Unmarshal([]byte(d.cli(0, nil, "inspect", "--what", name, "-c", d.config, "--json")), &what); err != nil {
					t.Fatal(err)
				}
				if what.Object.Key != o.Key || what.Object.Stream != stream || what.First > id || what.Last < id {
					t.Errorf("%s, which has record %s, says %+v", name, id, what)
				}
				others := roles(what.Related)
				if o.Role == "backup" && !slices.Contains(others, "data") && !slices.Contains(others, "error") || o.Role != "backup" && !slices.Contains(others, "backup") {
					t.Errorf("%s is linked to %+v", name, what.Related)
				}
			}
		}
	}
	// The beginning of what a prefix begins with lists that, and no other.
	for below, want := range map[string]bool{"buck": true, "bucket/2": true, "other/": false} {
		var answer struct{ Objects []foundObject }
		text := d.cli(map[bool]int{true: 0, false: 1}[want], nil, "inspect", "--where", ids["bucket"][0], "-c", d.config, "--below", below, "--json")
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatal(err)
		}
		if got := len(answer.Objects) > 0; got != want || slices.Contains(roles(answer.Objects), "backup") {
			t.Errorf("below %q: %+v", below, answer.Objects)
		}
	}
	// With a store that is gone, an object is in the data directory. Its names cannot be listed then.
	store.Kill(t)
	put("bucket")
	eventually(t, "a batch waits", func() bool { return d.metric(`hydrant_backup_outstanding_batches{stream="bucket"}`) != "0" })
	if text := d.cli(1, nil, "inspect", "--where", ids["bucket"][6], "-c", d.config); strings.Contains(text, "no object has it") || !strings.Contains(text, "in the data directory") {
		t.Errorf("with a store that does not answer: %s", text)
	}
	if text := d.cli(1, nil, "inspect", "--what", "s3://lake/bucket/none", "-c", d.config); strings.Contains(text, "in no place") {
		t.Errorf("a store that does not answer is taken for one that has not got an object: %s", text)
	}
	var answer struct {
		Objects  []foundObject
		Unlisted []struct{ Place, Error string }
	}
	text := d.cli(1, nil, "inspect", "--where", ids["bucket"][6], "-c", d.config, "--json")
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&answer); err != nil || len(answer.Unlisted) == 0 || !strings.Contains(text, "the answer lacks") {
		t.Errorf("with a store that does not answer: %v, %s", err, text)
	}
	if !slices.ContainsFunc(answer.Objects, func(o foundObject) bool { return o.Stream == "bucket" && o.Role == "backup" && o.Waits }) {
		t.Errorf("a record that waits is in %+v", answer.Objects)
	}
}
