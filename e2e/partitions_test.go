//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// Rows of made and of real records lie where their keys and their own times say, in a bucket, though the daemon is killed again
// and again while it routes, cuts and sweeps; late ones and those that have no partition are in the error output. DuckDB looks at
// every row and the folder that it lies in.
func TestPartitions(t *testing.T) {
	t.Parallel()
	duck := parts.DuckDB(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	place := fmt.Sprintf("bucket: lake, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: %s }", store.Endpoint, store.AccessKey, store.SecretKey)
	d := configure(t, fmt.Sprintf(`streams:
  - name: events
    partition:
      keys: { k: .k }
      event_time: { field: ts, formats: [unix_ms], allowed_lateness: 1h, late: quarantine }
    format: { parquet: { schema: "n bigint, k string, ts bigint" } }
    buffer: { size: 64KiB, interval: 2s }
    destination: { s3: { prefix: "events/k=!{partitionKeyFromQuery:k}/h=!{timestamp:yyyy-MM-dd-HH}/", error_output_prefix: "errors/!{firehose:error-output-type}/", %s } }
  - name: flights
    partition:
      keys: { origin: .origin }
      event_time: { field: date, formats: ["yyyy/MM/dd HH:mm"], time_zone: America/New_York, allowed_lateness: 8784h, late: quarantine }
    format: { parquet: { schema: "date string, delay bigint, distance bigint, origin string, destination string" } }
    buffer: { interval: 1h }
    destination: { s3: { prefix: "flights/from=!{partitionKeyFromQuery:origin}/m=!{timestamp:yyyy-MM}/", time_zone: America/New_York, %s } }
`, place, place))
	d.start()
	all, err := os.ReadFile(parts.Data(t, "flights"))
	if err != nil {
		t.Fatal(err)
	}
	flights := firstLines(all, 20_000)
	d.cli(0, strings.NewReader(string(flights)), "put", "--stream", "flights", "--endpoint", d.api)

	const calls, rows, keys = 8, 1500, 200
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	var accepted int64
	failed := map[string][]string{} // what the error output must have, by type
	put := func(lines []string) {
		t.Helper()
		accepted += int64(len(lines))
		d.cli(0, strings.NewReader(strings.Join(lines, "\n")+"\n"), "put", "--stream", "events", "--endpoint", d.api)
	}
	die := func() {
		t.Helper()
		d.kill()
		d.start()
	}
	put([]string{fmt.Sprintf(`{"n":-1,"k":"first","ts":%d}`, now.UnixMilli())}) // the watermark is an hour ago from here on
	for call := range calls {
		var lines []string
		for i := range rows {
			n := call*rows + i
			line, kind := fmt.Sprintf(`{"n":%d,"k":"key %d/ü","ts":%d}`, n, r.IntN(keys), now.Add(-time.Duration(r.IntN(50*60))*time.Second).UnixMilli()), ""
			switch n % 97 {
			case 0:
				line, kind = fmt.Sprintf(`{"n":%d,"k":"late","ts":%d}`, n, now.Add(-2*time.Hour).UnixMilli()), "late"
			case 1:
				line, kind = fmt.Sprintf("no JSON %d", n), "metadata-extraction-failed"
			case 2:
				line, kind = fmt.Sprintf(`{"n":%d,"k":"","ts":%d}`, n, now.UnixMilli()), "metadata-extraction-failed"
			case 3:
				line, kind = fmt.Sprintf(`{"n":%d,"k":"a"}`, n), "metadata-extraction-failed"
			}
			lines = append(lines, line)
			if kind != "" {
				failed[kind] = append(failed[kind], line)
			}
		}
		put(lines)
		switch call % 4 {
		case 0:
			die()
		case 1: // while it routes and sweeps
			d.flushAwayIn("events", 50*time.Millisecond)
			time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			die()
			time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			die()
		}
	}
	d.flush("events")
	d.flush("flights")
	var out int64
	for _, lines := range failed {
		out += int64(len(lines))
	}
	d.balance("events", accepted, out)
	d.balance("flights", int64(strings.Count(string(flights), "\n")), 0)
	if w := d.counter(`hydrant_watermark_timestamp_seconds{stream="events"}`); w < now.Add(-time.Hour).Unix()-1 || w > time.Now().Unix()-3600 {
		t.Errorf("watermark %d, it is %d", w, time.Now().Unix())
	}

	dir := t.TempDir()
	store.Fetch(t, "lake", dir)
	ask := func(sql string) string { t.Helper(); return fmt.Sprint(duck.Query(sql)) }
	events := fmt.Sprintf("read_parquet('%s/events/**/*.parquet', hive_partitioning=false, filename=true)", dir)
	if got, want := ask("select count(*)::INTEGER n, count(distinct n)::INTEGER d, count(distinct k)::INTEGER k from "+events), fmt.Sprintf("[map[d:%d k:%d n:%[1]d]]", accepted-out, keys+1); got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
	if got := ask(`select k, filename from ` + events + ` where not contains(filename, '/events/k=' || k || '/h=' || strftime(to_timestamp(ts / 1000) at time zone 'UTC', '%Y-%m-%d-%H') || '/') limit 3`); got != "[]" {
		t.Errorf("events in a wrong partition: %s", got)
	}
	lake := fmt.Sprintf("read_parquet('%s/flights/**/*.parquet', hive_partitioning=false, filename=true)", dir)
	source := filepath.Join(dir, "source.ndjson")
	if err := os.WriteFile(source, flights, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{source, lake}, {lake, source}} {
		from := func(s string) string {
			if s == source {
				s = fmt.Sprintf("read_json('%s', format='newline_delimited', columns={date: 'VARCHAR', delay: 'BIGINT', distance: 'BIGINT', origin: 'VARCHAR', destination: 'VARCHAR'})", s)
			}
			return "select date, delay, distance, origin, destination from " + s
		}
		if got := ask(from(c[0]) + " except all " + from(c[1]) + " limit 3"); got != "[]" {
			t.Errorf("flights only in one place: %s", got)
		}
	}
	if got := ask(`select date, filename from ` + lake + ` where not contains(filename, '/flights/from=' || origin || '/m=' || replace(date[:7], '/', '-') || '/') limit 3`); got != "[]" {
		t.Errorf("flights in a wrong partition: %s", got)
	}
	if got := ask(`select count(*)::INTEGER n from (select filename f, count(distinct (origin, date[:7])) c from ` + lake + ` group by f having c != 1)`); got != "[map[n:0]]" {
		t.Errorf("objects of several partitions: %s", got)
	}
	for kind, want := range failed {
		var got []string
		for _, path := range walk(t, filepath.Join(dir, "errors", kind)) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				var e struct {
					RawData []byte `json:"rawData"`
				}
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Fatalf("%s: %v in %s", path, err, line)
				}
				got = append(got, strings.TrimSuffix(string(e.RawData), "\n"))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d records in the error output as %s, want %d", len(got), kind, len(want))
		}
	}
}

// firstLines is the first n lines of a text.
func firstLines(text []byte, n int) []byte {
	end := 0
	for range n {
		end += bytes.IndexByte(text[end:], '\n') + 1
	}
	return text[:end]
}

// flushAwayIn has what waits cut, without waiting for more than that.
func (d *daemon) flushAwayIn(stream string, limit time.Duration) {
	d.t.Helper()
	d.call("POST", d.admin+"/v1/streams/"+stream+"/flush?timeout="+limit.String(), "")
}

// A dynamically partitioned stream is created over the API and delivers: values are printed as Firehose prints them, null, missing
// and empty ones fail, and so does the 501st partition, whose place is free after a delivery.
func TestChecklist16And17DynamicPartitioning(t *testing.T) {
	t.Parallel()
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	d := configure(t, fmt.Sprintf("aws: { endpoints: { s3: %q } }\nstreams: []\n", store.Endpoint))
	d.env = []string{"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey}
	d.start()
	client := firehoseClient(d.api, 1)
	ctx := t.Context()
	processor := func(kind types.ProcessorType, parameters ...string) types.Processor {
		p := types.Processor{Type: kind}
		for i := 0; i < len(parameters); i += 2 {
			p.Parameters = append(p.Parameters, types.ProcessorParameter{ParameterName: types.ProcessorParameterName(parameters[i]), ParameterValue: &parameters[i+1]})
		}
		return p
	}
	create := func(name, query string) error {
		_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &name,
			ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
				BucketARN: aws.String("arn:aws:s3:::lake"), RoleARN: aws.String("arn:aws:iam::123456789012:role/r"),
				Prefix:                           aws.String(name + "/c=!{partitionKeyFromQuery:customer}/d=!{partitionKeyFromQuery:day}/"),
				ErrorOutputPrefix:                aws.String("errors/!{firehose:error-output-type}/"),
				DynamicPartitioningConfiguration: &types.DynamicPartitioningConfiguration{Enabled: aws.Bool(true)},
				ProcessingConfiguration: &types.ProcessingConfiguration{Enabled: aws.Bool(true), Processors: []types.Processor{
					processor(types.ProcessorTypeRecordDeAggregation, "SubRecordType", "JSON"),
					processor(types.ProcessorTypeMetadataExtraction, "MetadataExtractionQuery", query, "JsonParsingEngine", "JQ-1.6"),
					processor(types.ProcessorTypeAppendDelimiterToRecord),
				}},
			}})
		return err
	}
	if err := create("bad", `{customer:.c|, day:.d}`); err == nil || !strings.Contains(err.Error(), "InvalidArgumentException") {
		t.Errorf("a query that is none: %v", err)
	}
	if err := create("s", `{customer:.c, day:.t[0:10]}`); err != nil {
		t.Fatal(err)
	}
	put := func(records ...string) {
		t.Helper()
		in := &firehose.PutRecordBatchInput{DeliveryStreamName: aws.String("s")}
		for _, r := range records {
			in.Records = append(in.Records, types.Record{Data: []byte(r)})
		}
		if out, err := client.PutRecordBatch(ctx, in); err != nil || *out.FailedPutCount != 0 {
			t.Fatal(out, err)
		}
	}
	row := func(customer string) string { return `{"c":` + customer + `,"t":"2026-07-13T14:00:00Z"}` }
	put(row(`"acme"`)+row("7"), row("1.0")+"\n"+row("true"), row(`"a/b"`), row(`"é"`), row(`"acme"`), row("null"), row(`""`), `{"t":"2026-07-13"}`, row("[1]"), `{"c":"x"}`)
	d.flush("s")
	list := func(prefix string) map[string]string { // texts by folder
		t.Helper()
		found := map[string]string{}
		for o, err := range store.Objects(t, "lake") {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(o.Key, prefix) {
				found[o.Key[:strings.LastIndexByte(o.Key, '/')+1]] += string(store.Get(t, "lake", o.Key))
			}
		}
		return found
	}
	want := map[string]string{}
	for value, text := range map[string]string{"acme": row(`"acme"`) + "\n" + row(`"acme"`), "7": row("7"), "1": row("1.0"), "true": row("true"), "a/b": row(`"a/b"`), "é": row(`"é"`)} {
		want["s/c="+value+"/d=2026-07-13/"] = text
	}
	if got := list("s/"); !maps.Equal(got, want) {
		t.Errorf("objects\n got %q\nwant %q", got, want)
	}
	for _, text := range list("errors/") {
		for line := range strings.Lines(text) {
			if !strings.Contains(line, `"errorCode":"DynamicPartitioning.MetadataExtractionFailed","errorMessage":"partitionKeys values must `) {
				t.Errorf("error line %s", line)
			}
		}
	}

	rows := make([]string, 500)
	for i := range rows {
		rows[i] = row(fmt.Sprintf(`"k%d"`, i))
	}
	put(rows...)
	put(row(`"k500"`), row(`"k0"`))
	d.flush("s")
	if n := len(list("s/c=k")); n != 500 {
		t.Errorf("%d partitions were delivered, want 500", n)
	}
	over := list("errors/activePartitionExceeded/")
	if len(over) != 1 || !strings.Contains(over["errors/activePartitionExceeded/"], `"errorCode":"DynamicPartitioning.ActivePartitionsLimitExceeded","errorMessage":"The number of active partitions has exceeded the configured limit"`) {
		t.Errorf("above the limit: %q", over)
	}
	put(row(`"k500"`))
	d.flush("s")
	if got := list("s/c=k500/"); len(got) != 1 {
		t.Errorf("after a delivery: %q", got)
	}
}
