package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// flightsSchema and webhooksSchema declare every member of the first, and of the second the part that
// analysts ask for; the stream webhooks_whole keeps all of a payload as text.
const (
	flightsSchema  = `date string, delay int, distance int, origin string, destination string`
	webhooksSchema = `event string, payload struct<action:string,number:bigint,ref:string,deleted:boolean,` +
		`sender:struct<login:string,id:bigint,type:string,site_admin:boolean>,` +
		`repository:struct<id:bigint,full_name:string,private:boolean,owner:struct<login:string,id:bigint>,topics:array<string>,open_issues_count:int,description:string>,` +
		`issue:struct<id:bigint,title:string,body:string,labels:array<struct<id:bigint,name:string,color:string>>,created_at:timestamp>,` +
		`commits:array<struct<id:string,message:string,author:struct<name:string,email:string>,added:array<string>>>>`
	webhooksDuckDB = `{event: 'VARCHAR', payload: 'STRUCT(action VARCHAR, number BIGINT, ref VARCHAR, deleted BOOLEAN,` +
		` sender STRUCT(login VARCHAR, id BIGINT, type VARCHAR, site_admin BOOLEAN),` +
		` repository STRUCT(id BIGINT, full_name VARCHAR, private BOOLEAN, "owner" STRUCT(login VARCHAR, id BIGINT), topics VARCHAR[], open_issues_count INTEGER, description VARCHAR),` +
		` issue STRUCT(id BIGINT, title VARCHAR, body VARCHAR, labels STRUCT(id BIGINT, name VARCHAR, color VARCHAR)[], created_at TIMESTAMPTZ),` +
		` commits STRUCT(id VARCHAR, message VARCHAR, author STRUCT(name VARCHAR, email VARCHAR), added VARCHAR[])[])'}`
)

// misfits are records that cannot become rows of flights, with the code that the error output must give.
var misfits = map[string]string{
	`no JSON at all`: "DataFormatConversion.ParseError",
	`{"date":"2001/01/01 00:47","delay":99999999999,"distance":1,"origin":"A","destination":"B"}`: "DataFormatConversion.MalformedData",
	`{"date":"2001/01/01 00:47","delay":"soon","distance":1,"origin":"A","destination":"B"}`:      "DataFormatConversion.MalformedData",
	"{\"date\":\"\xff\xfe\",\"delay\":1,\"distance\":1,\"origin\":\"A\",\"destination\":\"B\"}":   "DataFormatConversion.ParseError",
	`{"date":"2001/01/01 00:47","delay":1`:                                                        "DataFormatConversion.ParseError",
	`[{"date":"2001/01/01 00:47"}]`:                                                               "DataFormatConversion.ParseError",
}

func TestClientsIntoMinIO(t *testing.T) {
	t.Parallel()
	clients := clients(t)
	duck := parts.DuckDB(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	stream := func(name, schema, compression string) string {
		return fmt.Sprintf(`
  - name: %[1]s
    format: { parquet: { schema: %[2]q, compression: %[3]s } }
    buffer: { size: 4MiB, interval: 300s }
    destination: { s3: { bucket: lake, endpoint: %[4]q, prefix: "%[1]s/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/",
      error_output_prefix: "errors/%[1]s/!{firehose:error-output-type}/",
      credentials: { access_key_id: %[5]s, secret_access_key: %[6]s } } }`,
			name, schema, compression, store.Endpoint, store.AccessKey, store.SecretKey)
	}
	d := configure(t, "streams:"+stream("flights", flightsSchema, "zstd")+stream("webhooks", webhooksSchema, "snappy")+
		stream("webhooks_whole", "event string, payload string", "gzip")).start()

	flights, webhooks := lines(t, "testdata/flights-20k.ndjson.gz"), lines(t, "testdata/github-webhooks.ndjson.gz")
	bad := slices.Sorted(maps.Keys(misfits))
	before := time.Now().UTC()
	ids := map[string]string{} // record id → who got it
	for i, c := range clients {
		part := func(all []string) []string { return all[i*len(all)/len(clients) : (i+1)*len(all)/len(clients)] }
		for stream, records := range map[string][]string{
			"flights":        append(slices.Clone(part(bad)), part(flights)...),
			"webhooks":       part(webhooks),
			"webhooks_whole": part(webhooks),
		} {
			file := filepath.Join(t.TempDir(), stream+".ndjson")
			if err := os.WriteFile(file, []byte(strings.Join(records, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			got := c.put(t, d.api, stream, file)
			if len(got) != len(records) {
				t.Fatalf("%s put %d records of %s and got %d record ids", c.name, len(records), stream, len(got))
			}
			for _, id := range got {
				if other, ok := ids[id]; ok {
					t.Fatalf("%s got the record id %s that %s already had", c.name, id, other)
				}
				ids[id] = c.name
			}
		}
	}
	for _, s := range []string{"flights", "webhooks", "webhooks_whole"} {
		d.flush(s)
	}
	after := time.Now().UTC()

	bucket := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", bucket)
	checkLayout(t, bucket, []string{"flights", "webhooks", "webhooks_whole"}, before, after)

	source := filepath.Join(t.TempDir(), "source")
	writeLines(t, source+"-flights", flights)
	writeLines(t, source+"-webhooks", webhooks)
	same(t, duck, "flights",
		fmt.Sprintf(`select date, delay, distance, origin, destination from read_json('%s-flights', format='newline_delimited', columns={date:'VARCHAR', delay:'INTEGER', distance:'INTEGER', origin:'VARCHAR', destination:'VARCHAR'})`, source),
		fmt.Sprintf(`select date, delay, distance, origin, destination from read_parquet('%s/flights/**/*.parquet', hive_partitioning=true)`, bucket), len(flights))
	same(t, duck, "webhooks",
		fmt.Sprintf(`select event, payload from read_json('%s-webhooks', format='newline_delimited', columns=%s)`, source, webhooksDuckDB),
		fmt.Sprintf(`select event, payload from read_parquet('%s/webhooks/**/*.parquet', hive_partitioning=false)`, bucket), len(webhooks))
	checkWhole(t, duck, bucket, webhooks)
	checkErrors(t, filepath.Join(bucket, "errors/flights/format-conversion-failed"), bad)

	d.balance("flights", int64(len(flights)+len(bad)), int64(len(bad)))
	d.balance("webhooks", int64(len(webhooks)), 0)
	d.balance("webhooks_whole", int64(len(webhooks)), 0)
	for _, s := range []string{"flights", "webhooks", "webhooks_whole"} {
		if got := d.metric(fmt.Sprintf("hydrant_unaccounted_records{stream=%q}", s)); got != "0" {
			t.Errorf("hydrant_unaccounted_records of %s is %s", s, got)
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	for object, err := range store.Objects(t, "lake") {
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"manifest-id", "sha256", "first-seq", "count"} {
			if object.Metadata[want] == "" {
				t.Errorf("object %s has no %s in its metadata: %v", object.Key, want, object.Metadata)
			}
		}
	}
}

type client struct {
	name string
	put  func(t *testing.T, endpoint, stream, file string) (ids []string)
}

// clients are the real ones that people have.
func clients(t *testing.T) []client {
	python := parts.Boto3(t)
	aws := parts.AWSCLI(t)
	modules := parts.NodeModules(t)
	return []client{
		{"AWS CLI", func(t *testing.T, endpoint, stream, file string) []string {
			return putCLI(t, aws, endpoint, stream, file)
		}},
		{"boto3", func(t *testing.T, endpoint, stream, file string) []string {
			return run(t, python, "clients/put.py", endpoint, stream, file)
		}},
		{"AWS SDK for JavaScript", func(t *testing.T, endpoint, stream, file string) []string {
			return run(t, "node", "clients/put.mjs", modules, endpoint, stream, file)
		}},
		{"AWS SDK for Go", putGo},
	}
}

// run returns the lines that a client program prints.
func run(t *testing.T, program string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.Fields(string(out))
}

// putCLI sends batches of 500 as a person would script it.
func putCLI(t *testing.T, program, endpoint, stream, file string) (ids []string) {
	run(t, program, "--endpoint-url", endpoint, "firehose", "describe-delivery-stream", "--delivery-stream-name", stream)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for batch := range slices.Chunk(bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")), 300) {
		type record struct{ Data []byte }
		var records []record
		for _, line := range batch {
			records = append(records, record{line})
		}
		input, err := json.Marshal(map[string]any{"DeliveryStreamName": stream, "Records": records})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "input.json")
		if err := os.WriteFile(path, input, 0o600); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, run(t, program, "--endpoint-url", endpoint, "--output", "text", "firehose", "put-record-batch",
			"--cli-input-json", "file://"+path, "--query", "RequestResponses[].RecordId")...)
	}
	return ids
}

func putGo(t *testing.T, endpoint, stream, file string) (ids []string) {
	client := firehose.New(firehose.Options{BaseEndpoint: &endpoint, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for batch := range slices.Chunk(bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")), 300) {
		var records []types.Record
		for _, line := range batch {
			records = append(records, types.Record{Data: line})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		out, err := client.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &stream, Records: records})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if n := aws.ToInt32(out.FailedPutCount); n != 0 {
			t.Fatalf("FailedPutCount %d", n)
		}
		for _, r := range out.RequestResponses {
			ids = append(ids, aws.ToString(r.RecordId))
		}
	}
	return ids
}

// lines reads a gzip file of NDJSON.
func lines(t testing.TB, path string) (all []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(z)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		all = append(all, scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func writeLines(t testing.TB, path string, all []string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkLayout fails unless every object stands under <stream>/dt=/hour= of a moment between the two, or
// under the stream's error prefix.
func checkLayout(t *testing.T, dir string, streams []string, before, after time.Time) {
	t.Helper()
	hours := map[string]bool{}
	for h := before.Truncate(time.Hour); !h.After(after); h = h.Add(time.Hour) {
		hours[h.Format("dt=2006-01-02/hour=15")] = true
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		seen++
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		stream, rest, _ := strings.Cut(key, "/")
		if stream == "errors" {
			return nil
		}
		partition, name := filepath.Split(rest)
		if !slices.Contains(streams, stream) || !hours[strings.TrimSuffix(partition, "/")] ||
			!strings.HasPrefix(name, stream+"-1-") || !strings.HasSuffix(name, ".parquet") {
			t.Errorf("object in the wrong place: %s (hours %v)", key, slices.Sorted(maps.Keys(hours)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no objects at all")
	}
}

// same fails unless two queries give the same multiset of n rows.
func same(t *testing.T, duck *parts.Duck, what, source, lake string, n int) {
	t.Helper()
	for _, c := range []struct {
		kind, sql string
		want      int
	}{
		{"in the source", source, n},
		{"in the lake", lake, n},
		{"only in the source", fmt.Sprintf("(%s) except all (%s)", source, lake), 0},
		{"only in the lake", fmt.Sprintf("(%s) except all (%s)", lake, source), 0},
	} {
		rows := duck.Query(fmt.Sprintf("select count(*)::INTEGER n from (%s)", c.sql))
		if got := fmt.Sprint(rows[0]["n"]); got != fmt.Sprint(c.want) {
			t.Errorf("%s: %s rows %s, want %d; first: %v", what, got, c.kind, c.want, first(duck.Query("select * from ("+c.sql+") limit 1")))
		}
	}
}

func first(rows []map[string]any) any {
	if len(rows) == 0 {
		return "none"
	}
	return rows[0]
}

// checkWhole compares every field of every payload with its source, whatever its shape.
func checkWhole(t *testing.T, duck *parts.Duck, bucket string, source []string) {
	t.Helper()
	rows := duck.Query(fmt.Sprintf("select event, payload from read_parquet('%s/webhooks_whole/**/*.parquet', hive_partitioning=false)", bucket))
	canonical := func(event string, payload []byte) string {
		var v any
		dec := json.NewDecoder(bytes.NewReader(payload))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("payload of a %s event: %v", event, err)
		}
		b, _ := json.Marshal(v)
		return event + " " + string(b)
	}
	var want, got []string
	for _, line := range source {
		var r struct {
			Event   string
			Payload json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		want = append(want, canonical(r.Event, r.Payload))
	}
	for _, row := range rows {
		got = append(got, canonical(row["event"].(string), []byte(row["payload"].(string))))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("webhooks_whole: the %d payloads in the lake are not the %d of the source", len(got), len(want))
	}
}

// checkErrors fails unless the error objects hold exactly these records, each with its reason.
func checkErrors(t *testing.T, dir string, want []string) {
	t.Helper()
	found := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			var r struct {
				AttemptsMade     int
				ArrivalTimestamp int64
				LastErrorCode    string
				LastErrorMessage string
				RawData          string
				SequenceNumber   string
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v in %s", path, err, line)
			}
			raw, err := base64.StdEncoding.DecodeString(r.RawData)
			if err != nil {
				t.Fatalf("%s: rawData: %v", path, err)
			}
			if code := misfits[string(raw)]; r.LastErrorCode != code || r.LastErrorMessage == "" || r.AttemptsMade != 1 ||
				time.Since(time.UnixMilli(r.ArrivalTimestamp)) > time.Hour || r.SequenceNumber == "" {
				t.Errorf("error record %s\nof %q: want code %s with a message", line, raw, code)
			}
			found[string(raw)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if found[w] != 1 {
			t.Errorf("the error output holds %q %d times, want once", w, found[w])
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d different records in the error output, want %d", len(found), len(want))
	}
}
