//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"hydrant/e2e/parts"
)

// markerPoints are the crash points around what markers say. Only a stream with markers passes there.
var markerPoints = []crashPoint{{"note-written", 4}, {"notes-removed", 2}, {"markers-decided", 1}, {"marker-stored", 2}}

// A daemon that writes markers dies where each of its decisions about them becomes durable, and is killed at any other time. What
// the markers of a bucket list, as DuckDB reads it, is all that was sent, once, in time or late; in a directory where somebody
// else's _SUCCESS.json stands, too.
func TestMarkers(t *testing.T) {
	t.Parallel()
	duck := parts.DuckDB(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	d := configure(t, fmt.Sprintf(`streams:
  - name: events
    partition:
      keys: { k: .k }
      event_time: { field: ts, formats: [unix_ms], allowed_lateness: 0s }
      markers: true
    format: { parquet: { schema: "n bigint, k string, ts bigint" } }
    buffer: { size: 64KiB, interval: 1s }
    destination: { s3: { prefix: "events/k=!{partitionKeyFromQuery:k}/s=!{timestamp:yyyy-MM-dd-HH-mm-ss}/", error_output_prefix: "errors/!{firehose:error-output-type}/",
      bucket: lake, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: %s } } }
`, store.Endpoint, store.AccessKey, store.SecretKey))
	old := time.Now().Add(-time.Hour).UTC()
	theirs := old.Format("events/k=a/s=2006-01-02-15-04-05/_SUCCESS.json")
	if _, err := store.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("lake"), Key: &theirs, Body: strings.NewReader(`{"objects":[]}`)}); err != nil {
		t.Fatal(err)
	}
	n := 0
	batch := func() string {
		var b strings.Builder
		for i := range 60 {
			ts := time.Now().Add(-time.Duration(i%4) * 500 * time.Millisecond)
			if i%10 == 9 {
				ts = old // late from the second call on
			}
			fmt.Fprintf(&b, `{"n":%d,"k":"%c","ts":%d}`+"\n", n, 'a'+i%3, ts.UnixMilli())
			n++
		}
		return b.String()
	}
	put := func() {
		t.Helper()
		d.cli(0, strings.NewReader(batch()), "put", "--stream", "events", "--endpoint", d.api)
	}
	d.start()
	put()
	d.flush("events")
	for _, p := range markerPoints {
		put()
		d.kill() // before these rows are routed
		d.program, d.env = withCrashPoints(t), []string{"HYDRANT_CRASH_POINT=" + p.name}
		d.launch()
		if !d.ended(20 * time.Second) {
			t.Fatalf("the daemon did not come to %s", p.name)
		}
		d.kill()
		d.program, d.env = "", nil
		d.start()
	}
	d.flush("events")
	d.kill()
	d.start()
	put()
	d.flush("events")
	time.Sleep(1100 * time.Millisecond)
	last := time.Now()
	d.cli(0, strings.NewReader(fmt.Sprintf(`{"n":-1,"k":"last","ts":%d}`, last.UnixMilli())), "put", "--stream", "events", "--endpoint", d.api)
	d.flush("events")
	eventually(t, "one object waits for its marker", func() bool { return d.counter(`hydrant_unmarked_objects{stream="events"}`) == 1 })

	dir := t.TempDir()
	store.Fetch(t, "lake", dir)
	if b, err := os.ReadFile(filepath.Join(dir, theirs)); err != nil || string(b) != `{"objects":[]}` {
		t.Errorf("somebody else's object is %q, %v", b, err)
	}
	ask := func(sql string) string { t.Helper(); return fmt.Sprint(duck.Query(sql)) }
	var listed []string
	markers, early := 0, 0
	accepted := int64(0)
	for _, path := range withSuffix(walk(t, filepath.Join(dir, "events")), ".json") {
		var m struct {
			Complete bool  `json:"complete"`
			Accepted int64 `json:"accepted_records"`
			Objects  []struct {
				Key     string `json:"key"`
				Bytes   int64  `json:"bytes"`
				Records int64  `json:"records"`
			} `json:"objects"`
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if strings.HasSuffix(path, theirs) {
			continue
		}
		markers++
		if accepted += m.Accepted; !m.Complete {
			early++
		}
		for _, o := range m.Objects {
			at := filepath.Join(dir, o.Key)
			if info, err := os.Stat(at); err != nil || info.Size() != o.Bytes {
				t.Errorf("%s lists %+v: %v", path, o, err)
			}
			if !strings.HasPrefix(at, filepath.Dir(path)+"/") {
				t.Errorf("%s lists %s", path, o.Key)
			}
			listed = append(listed, at)
		}
	}
	all := withSuffix(walk(t, filepath.Join(dir, "events")), ".parquet")
	if len(listed) != len(all)-1 || early > 0 {
		t.Errorf("%d markers, of which %d are early, list %d of %d objects; the last one has no marker yet", markers, early, len(listed), len(all))
	}
	// What DuckDB reads of the lists, each object as often as it is listed, is all that was sent, once.
	got := ask(fmt.Sprintf(`SET VARIABLE files = (SELECT list('%[1]s/' || o.key) FROM
  (SELECT unnest(objects) AS o FROM read_json('%[1]s/events/**/_SUCCESS*.json', columns = {objects: 'STRUCT(key VARCHAR)[]'})));
SELECT count(*)::INTEGER n, count(DISTINCT n)::INTEGER d FROM read_parquet(getvariable('files'), hive_partitioning = false)`, dir))
	rows := d.status("events").Accepted - 1
	if want := fmt.Sprintf("[map[d:%d n:%[1]d]]", rows); got != want || accepted != rows {
		t.Errorf("DuckDB reads %s of what markers list, want %s; they account for %d records", got, want, accepted)
	}
	if late := ask(fmt.Sprintf(`select count(*)::INTEGER n from read_parquet('%s/events/k=a/%s/*.parquet', hive_partitioning=false)`, dir, old.Format("s=2006-01-02-15-04-05"))); late == "[map[n:0]]" {
		t.Error("no row came late")
	}
	t.Logf("%d markers list %d objects of %d rows", markers, len(listed), rows)
}
