package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/smithy-go"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
)

// The lines of docs/conformance.md that need the real binary, real clients and a real store. The numbers in the
// names are those of its table.

// refusal is code and message of an error of the API.
func refusal(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode() + ": " + e.ErrorMessage()
	}
	return fmt.Sprint(err)
}

// createWith creates a stream of S3 that gathers for long, as edit makes it.
func createWith(ctx context.Context, client *firehose.Client, name string, edit func(c *types.ExtendedS3DestinationConfiguration)) error {
	c := &types.ExtendedS3DestinationConfiguration{
		RoleARN: new("arn:aws:iam::000000000000:role/firehose"), BucketARN: new("arn:aws:s3:::lake"),
		BufferingHints: &types.BufferingHints{IntervalInSeconds: new(int32(900)), SizeInMBs: new(int32(128))},
	}
	edit(c)
	_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &name, ExtendedS3DestinationConfiguration: c})
	return err
}

// Lines 1, 2 and 10: what is wrong with the shape of a request comes before everything else, with all faults at once;
// what its expressions mean comes after, in Firehose's words. Nothing is created.
func TestChecklist1And2And10Refusals(t *testing.T) {
	d := controlled(t, &parts.S3Server{}, "http://127.0.0.1:9").start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	f := func(name, want string, edit func(c *types.ExtendedS3DestinationConfiguration)) {
		t.Helper()
		if got := refusal(createWith(ctx, client, name, edit)); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	const enum = "Value at 'extendedS3DestinationConfiguration.compressionFormat' failed to satisfy constraint: Member must satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]"
	for _, name := range []string{"fresh", "declared"} { // which exists: it is not looked up
		f(name, "ValidationException: 1 validation error detected: "+enum, func(c *types.ExtendedS3DestinationConfiguration) { c.CompressionFormat = "gzip" })
		f(name, "ValidationException: 2 validation errors detected: "+enum+"; Value at 'extendedS3DestinationConfiguration.s3BackupMode' failed to satisfy constraint: Member must satisfy enum value set: [Disabled, Enabled]",
			func(c *types.ExtendedS3DestinationConfiguration) { c.CompressionFormat, c.S3BackupMode = "gzip", "on" })
	}
	_, err := client.UpdateDestination(ctx, &firehose.UpdateDestinationInput{DeliveryStreamName: new("nobody"), CurrentDeliveryStreamVersionId: new("1"),
		DestinationId: new("destinationId-000000000001"), ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{CompressionFormat: "gzip"}})
	if errorCode(err) != "ValidationException" {
		t.Errorf("an update of a stream that is not there: %v", err)
	}

	prefix := func(prefix, errorPrefix, want string) {
		t.Helper()
		f("fresh", "InvalidArgumentException: "+want, func(c *types.ExtendedS3DestinationConfiguration) {
			c.Prefix, c.ErrorOutputPrefix = &prefix, &errorPrefix
		})
	}
	const typed, letter = "e/!{firehose:error-output-type}/", "Invalid conversion character used in the value of the expression in Prefix"
	for _, l := range strings.Split("C I J P R T U V b f i j l o p r t", " ") {
		prefix("!{timestamp:"+l+"}/", typed, letter)
	}
	prefix("!{firehose:foo}/", typed, letter)
	prefix("!{foo:x}/", typed, "Namespace to the left of colon (foo) is an invalid keyword!")
	prefix("a/!{timestamp:yyyy", typed, "Invalid expression usage")
	prefix("a/!{}", typed, "Invalid expression usage")
	prefix("!{timestamp:yyyy}/", "", "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions")
	prefix("!{timestamp:yyyy}/", "e/!{timestamp:yyyy}/", "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}")
	prefix("!{firehose:error-output-type}/", typed, "Prefix must not contain any occurrence of !{firehose:error-output-type}")
	prefix(strings.Repeat("x", 513), typed, "Length of evaluated prefix cannot be greater than 512")

	listed, err := client.ListDeliveryStreams(ctx, &firehose.ListDeliveryStreamsInput{})
	if err != nil || !slices.Equal(listed.DeliveryStreamNames, []string{"declared"}) {
		t.Errorf("listed %v, %v", listed, err)
	}
}

// Lines 4, 5 and 15: the limits of puts from both sides; what was taken is in the object, byte for byte, and records
// without bytes are delivered as nothing.
func TestChecklist4And5And15Puts(t *testing.T) {
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	for _, name := range []string{"puts", "nothing"} {
		if err := createWith(ctx, client, name, func(c *types.ExtendedS3DestinationConfiguration) { c.Prefix = new(name + "/") }); err != nil {
			t.Fatal(err)
		}
	}
	var want bytes.Buffer
	var count int64
	batch := func(records [][]byte, code string) {
		t.Helper()
		in := &firehose.PutRecordBatchInput{DeliveryStreamName: new("puts"), Records: []types.Record{}}
		for _, r := range records {
			in.Records = append(in.Records, types.Record{Data: r})
		}
		out, err := client.PutRecordBatch(ctx, in)
		if errorCode(err) != code {
			t.Fatalf("%d records: %v, want code %q", len(records), err, code)
		}
		if err != nil {
			return
		}
		if aws.ToInt32(out.FailedPutCount) != 0 || len(out.RequestResponses) != len(records) {
			t.Errorf("%d records: %d failed, %d answers", len(records), aws.ToInt32(out.FailedPutCount), len(out.RequestResponses))
		}
		for i, r := range out.RequestResponses {
			if aws.ToString(r.RecordId) == "" || r.ErrorCode != nil || r.ErrorMessage != nil {
				t.Errorf("record %d: %+v", i, r)
			}
			want.Write(records[i])
			count++
		}
	}
	single := func(data []byte, code string) {
		t.Helper()
		_, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: new("puts"), Record: &types.Record{Data: data}})
		if errorCode(err) != code {
			t.Fatalf("a record of %d bytes: %v, want code %q", len(data), err, code)
		}
		if err == nil {
			want.Write(data)
			count++
		}
	}
	const recordBytes, batchRecords, batchBytes = 1_024_000, 500, 4 << 20
	largest := bytes.Repeat([]byte("x"), recordBytes)
	single([]byte("first\n"), "")
	single([]byte{}, "")
	single(largest, "")
	single(append(largest[:recordBytes:recordBytes], 'x'), "ValidationException")
	batch(nil, "ValidationException")
	batch(slices.Repeat([][]byte{[]byte("é\r\n\n\x00\xff")}, batchRecords), "")
	batch(slices.Repeat([][]byte{{'y'}}, batchRecords+1), "ValidationException")
	batch([][]byte{{'y'}, append(largest[:recordBytes:recordBytes], 'x')}, "ValidationException")
	full := append(slices.Repeat([][]byte{largest}, 4), bytes.Repeat([]byte("z"), batchBytes-4*recordBytes))
	batch(append(full[:5:5], []byte{'y'}), "InvalidArgumentException")
	batch(full, "")
	batch([][]byte{{}, []byte("last"), {}}, "")
	for range 2 {
		if _, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: new("nothing"), Record: &types.Record{Data: []byte{}}}); err != nil {
			t.Fatal(err)
		}
	}
	d.flush("puts")
	d.flush("nothing")
	got := map[string]string{}
	for o, err := range store.Objects(t, "lake") {
		if err != nil {
			t.Fatal(err)
		}
		stream, _, _ := strings.Cut(o.Key, "/")
		got[stream] += string(store.Get(t, "lake", o.Key))
	}
	if got["puts"] != want.String() {
		t.Errorf("%d bytes in the store, which are not the %d that were put", len(got["puts"]), want.Len())
	}
	if nothing, there := got["nothing"]; nothing != "" || !there {
		t.Errorf("records without bytes were delivered as %q, object %v; want an empty object", nothing, there)
	}
	d.balance("puts", count, 0)
	d.balance("nothing", 2, 0)
}

// Line 14: delimiters stand between records and not behind the last one, and the processor is described as it was given,
// without its parameters.
func TestChecklist14AppendDelimiter(t *testing.T) {
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	name := new("delimited")
	if err := createWith(ctx, client, *name, func(c *types.ExtendedS3DestinationConfiguration) {
		c.Prefix = new("d/")
		c.ProcessingConfiguration = &types.ProcessingConfiguration{Enabled: new(true), Processors: []types.Processor{{Type: types.ProcessorTypeAppendDelimiterToRecord,
			Parameters: []types.ProcessorParameter{{ParameterName: types.ProcessorParameterNameDelimiter, ParameterValue: new(`\n`)}}}}}
	}); err != nil {
		t.Fatal(err)
	}
	out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: name})
	if err != nil {
		t.Fatal(err)
	}
	if p := out.DeliveryStreamDescription.Destinations[0].ExtendedS3DestinationDescription.ProcessingConfiguration; p == nil || !aws.ToBool(p.Enabled) || len(p.Processors) != 1 || len(p.Processors[0].Parameters) != 0 {
		t.Errorf("described as %+v", p)
	}
	for _, data := range []string{"abc", "abc\n", "abc"} {
		if _, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: name, Record: &types.Record{Data: []byte(data)}}); err != nil {
			t.Fatal(err)
		}
	}
	d.flush(*name)
	bucket := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", bucket)
	if got := delivered(t, bucket); got != "abc\nabc\n\nabc" {
		t.Errorf("delivered %q", got)
	}
}

// Lines 9 and 11: where objects stand, and that their times are those of the oldest record's arrival, in the stream's
// time zone, however much later they are delivered, and by whom.
func TestChecklist9And11Keys(t *testing.T) {
	t.Parallel()
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	const date, stamp, uuid = "2006/01/02/15/", "2006-01-02-15-04-05", `-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`
	streams := []struct {
		name, prefix, zone string
		under              string // what a key begins with: a layout of time, in which ~ stands for a random string
	}{
		{"none", "", "", date},
		{"bare", "logs", "", "logs" + date},
		{"slash", "s/", "", "s/" + date},
		{"random", "a/!{firehose:random-string}/", "", "a/~/"},
		{"hive", "h/!{timestamp:'y='yyyy'/m='MM'/d='dd'/h='HH}/", "Asia/Tokyo", "h/y=2006/m=01/d=02/h=15/"},
		{"zone", "z/", "America/St_Johns", "z/" + date},
	}
	for _, s := range streams {
		if err := createWith(ctx, client, s.name, func(c *types.ExtendedS3DestinationConfiguration) {
			c.Prefix, c.ErrorOutputPrefix = new(s.prefix), new("e/!{firehose:error-output-type}/")
			if s.zone != "" {
				c.CustomTimeZone = new(s.zone)
			}
		}); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
	put := func() {
		t.Helper()
		for _, s := range streams {
			if _, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: new(s.name), Record: &types.Record{Data: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := time.Now().Truncate(time.Second)
	put()
	after := time.Now()
	d.kill()
	eventually(t, "a later second", func() bool { return time.Now().After(after.Truncate(time.Second).Add(time.Second)) })
	d.start()
	put() // which is in the same object, if the hour is the same
	keys := map[string][]string{}
	for _, s := range streams {
		d.flush(s.name)
	}
	for o, err := range store.Objects(t, "lake") {
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(filepath.Base(o.Key), "-")
		keys[name] = append(keys[name], o.Key)
	}
	for _, s := range streams {
		zone, err := time.LoadLocation(s.zone)
		if err != nil {
			t.Fatal(err)
		}
		var pattern []string
		for at := before; !at.After(after); at = at.Add(time.Second) {
			text := regexp.QuoteMeta(at.In(zone).Format(s.under)) + s.name + "-1-" + at.In(zone).Format(stamp) + uuid
			pattern = append(pattern, strings.ReplaceAll(text, "~", "[0-9a-f]{11}"))
		}
		all := regexp.MustCompile("^(" + strings.Join(pattern, "|") + ")$")
		if !slices.ContainsFunc(keys[s.name], all.MatchString) {
			t.Errorf("%s: keys %q, want one like %s", s.name, keys[s.name], all)
		}
		if len(keys[s.name]) != 1 && before.Hour() == time.Now().Hour() {
			t.Errorf("%s: %d objects, want 1", s.name, len(keys[s.name]))
		}
	}
}

// An update reaches what waits: it is delivered under the new prefix, by an object whose name has the new version.
func TestUpdateReachesWhatWaits(t *testing.T) {
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	name := new("moved")
	createStream(ctx, t, client, *name, "lake")
	put := func(data string) {
		t.Helper()
		if _, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: name, Record: &types.Record{Data: []byte(data)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("sealed\n")
	d.flush(*name)
	put("waits\n")
	if _, err := client.UpdateDestination(ctx, &firehose.UpdateDestinationInput{DeliveryStreamName: name, CurrentDeliveryStreamVersionId: new("1"),
		DestinationId: new("destinationId-000000000001"), ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{Prefix: new("new/")}}); err != nil {
		t.Fatal(err)
	}
	put("follows\n")
	d.flush(*name)
	var got []string
	for o, err := range store.Objects(t, "lake") {
		if err != nil {
			t.Fatal(err)
		}
		prefix, _, _ := strings.Cut(o.Key, "/")
		version, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(o.Key), "moved-"), "-")
		for _, row := range strings.Fields(string(store.Get(t, "lake", o.Key))) {
			got = append(got, prefix+" "+version+" "+row)
		}
	}
	slices.Sort(got)
	if want := []string{"moved 1 sealed", "new 2 follows", "new 2 waits"}; !slices.Equal(got, want) {
		t.Errorf("rows with prefix and version: %q, want %q", got, want)
	}
}

// The states of a stream: what a stream that is being deleted answers, while the store is down; and that it is gone,
// with its records delivered, when the store is back.
func TestChecklist25WhileDeleting(t *testing.T) {
	t.Parallel()
	store, d := controlledMinIO(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := firehoseClient(d.api, 3)
	name := new("going")
	createStream(ctx, t, client, *name, "lake")
	put := func() error {
		_, err := client.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: name, Record: &types.Record{Data: []byte("row\n")}})
		return err
	}
	remove := func() error {
		_, err := client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: name})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	store.Kill(t)
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	_, update := client.UpdateDestination(ctx, &firehose.UpdateDestinationInput{DeliveryStreamName: name, CurrentDeliveryStreamVersionId: new("1"),
		DestinationId: new("destinationId-000000000001"), ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{Prefix: new("x/")}})
	_, tag := client.TagDeliveryStream(ctx, &firehose.TagDeliveryStreamInput{DeliveryStreamName: name, Tags: []types.Tag{{Key: new("k")}}})
	for _, c := range []struct {
		what string
		err  error
		want string
	}{
		{"put", put(), "ResourceNotFoundException: Firehose going is not active in 000000000000 account."},
		{"update", update, "ResourceInUseException: Cannot update firehose: going when it is in DELETING status"},
		{"tag", tag, "ResourceInUseException: "},
		{"create", tryCreate(ctx, client, *name, "lake"), "ResourceInUseException: Firehose going under accountId 000000000000 already exists"},
		{"delete", remove(), "<nil>"},
	} {
		if got := refusal(c.err); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.what, got, c.want)
		}
	}
	out, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: name})
	if err != nil || out.DeliveryStreamDescription.DeliveryStreamStatus != types.DeliveryStreamStatusDeleting {
		t.Errorf("described %+v, %v", out, err)
	}
	store.Restart(t)
	serves(t, store, "lake")
	eventually(t, "gone", func() bool {
		_, err := client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: name})
		return errorCode(err) == "ResourceNotFoundException"
	})
	bucket := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", bucket)
	if got := lakeLines(t, bucket); !slices.Equal(got, []string{"row"}) {
		t.Errorf("delivered %q", got)
	}
}

// Line 26: with the store down puts are taken up to the stream's bound, over which they get the answer that every
// client repeats: the clients' own retries bring their records in when the store is back, and nothing is lost, also
// over kill -9.
func TestChecklist26StoreDownUntilTheBound(t *testing.T) {
	python, cli, modules := parts.Boto3(t), parts.AWSCLI(t), parts.NodeModules(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "10") // of the CLI; the others have their own
	store := parts.MinIO(t)
	store.CreateBucket(t, "late-bucket")
	d := configure(t, strings.Replace(s3Stream(store, store.SecretKey), "  - name: s\n", "  - name: s\n    limits: { disk: 8MiB }\n", 1)).start()
	store.Kill(t)
	row := func(i int) string { return fmt.Sprintf("%06d%s", i, strings.Repeat(".", 100<<10)) }
	taken := 0
	for ; ; taken++ {
		code, body := d.put("s", row(taken)+"\n")
		if code == http.StatusOK {
			continue
		}
		if code != http.StatusServiceUnavailable || !strings.HasPrefix(body, `{"__type":"ServiceUnavailableException","message":"Slow down.`) {
			t.Fatalf("after %d records: %d %s", taken, code, body)
		}
		break
	}
	if taken < 20 {
		t.Errorf("%d records of 100 KiB were taken, of a bound of 8 MiB", taken)
	}
	d.kill()
	d.start()

	// The clients are refused, and repeat themselves.
	proxy := faultproxy.New(t, d.api)
	var mu sync.Mutex
	attempts := map[string]int{} // of puts, by client
	proxy.Inject(faultproxy.Rule{Times: -1, Match: func(r *http.Request) bool {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutRecord") {
			name, _, _ := strings.Cut(r.UserAgent(), "/")
			mu.Lock()
			defer mu.Unlock()
			attempts[name]++
		}
		return false // it is passed on
	}})
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "row")
		writeLines(t, path, []string{text})
		return path
	}
	var wg sync.WaitGroup
	large := "." + strings.Repeat(".", 100<<10)
	wg.Go(func() { run(t, python, "clients/put.py", proxy.URL, "s", file("boto3"+large)) })
	wg.Go(func() { run(t, "node", "clients/put.mjs", modules, proxy.URL, "s", file("js"+large)) })
	wg.Go(func() {
		data := base64.StdEncoding.EncodeToString([]byte("cli" + large))
		input := file(fmt.Sprintf(`{"DeliveryStreamName":"s","Record":{"Data":%q}}`, data))
		run(t, cli, "--endpoint-url", proxy.URL, "firehose", "put-record", "--cli-input-json", "file://"+input)
	})
	wg.Go(func() {
		if _, err := firehoseClient(proxy.URL, 100).PutRecord(t.Context(), &firehose.PutRecordInput{DeliveryStreamName: new("s"), Record: &types.Record{Data: []byte("go" + large)}}); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "every client has repeated itself", func() bool {
		mu.Lock()
		defer mu.Unlock()
		again := 0
		for _, n := range attempts {
			if n > 1 {
				again++
			}
		}
		if again < 4 {
			return false
		}
		t.Logf("puts so far: %v", attempts)
		return true
	})
	store.Restart(t)
	serves(t, store, "late-bucket")
	d.flush("s") // which does not wait for the next attempt's time
	wg.Wait()
	d.flush("s")
	bucket := filepath.Join(t.TempDir(), "bucket")
	store.Fetch(t, "late-bucket", bucket)
	var got, want []string
	for _, line := range lakeLines(t, bucket) {
		got = append(got, line[:strings.IndexByte(line, '.')])
	}
	for i := range taken {
		want = append(want, fmt.Sprintf("%06d", i))
	}
	want = append(want, "boto3", "cli", "go", "js")
	if !slices.Equal(got, want) {
		t.Errorf("%d records in the store, want the %d that were taken: %.300q", len(got), len(want), got)
	}
	d.balance("s", int64(len(want)), 0)
}

// Lines 21 and 27: with the place of the rows and that of what failed down at once nothing is skipped, and the error
// object has Firehose's members.
func TestChecklist21And27DestinationAndErrorOutputDown(t *testing.T) {
	store := parts.MinIO(t)
	store.CreateBucket(t, "late-bucket")
	d := configure(t, strings.Replace(s3Stream(store, store.SecretKey), "text: { delimiter: after }", `parquet: { schema: "n int" }`, 1)).start()
	store.Kill(t)
	const rows, failures = 20, 5
	before := time.Now().UnixMilli()
	for i := range rows {
		d.mustPut("s", fmt.Sprintf(`{"n":%d}`, i))
	}
	for i := range failures {
		d.mustPut("s", fmt.Sprintf(`{"n":"oops %d"}`, i))
	}
	after := time.Now().UnixMilli()
	lastFailure(d, "connection refused")
	d.kill()
	d.start()
	lastFailure(d, "connection refused")
	store.Restart(t)
	serves(t, store, "late-bucket")
	d.flush("s")
	d.balance("s", rows+failures, failures)
	bucket := filepath.Join(t.TempDir(), "bucket")
	store.Fetch(t, "late-bucket", bucket)
	if found := withSuffix(walk(t, filepath.Join(bucket, "in")), ".parquet"); len(found) == 0 {
		t.Error("no Parquet in the store")
	}
	var bad []string
	for _, path := range walk(t, filepath.Join(bucket, "errors", "format-conversion-failed")) {
		for line := range strings.Lines(string(read(t, path))) {
			bad = append(bad, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(bad) != failures {
		t.Fatalf("%d lines in the error output, want %d: %q", len(bad), failures, bad)
	}
	slices.SortFunc(bad, func(a, b string) int { return strings.Compare(rawOf(t, a), rawOf(t, b)) })
	members := regexp.MustCompile(`^\{"attemptsMade":1,"arrivalTimestamp":(\d+),"lastErrorCode":"DataFormatConversion\.MalformedData",` +
		`"lastErrorMessage":"[^"]*(\\"[^"]*)*","attemptEndingTimestamp":(\d+),"rawData":"[^"]+","sequenceNumber":"\d+","subSequenceNumber":0,"dataCatalogTable":null\}$`)
	for i, line := range bad {
		m := members.FindStringSubmatch(line)
		if m == nil || rawOf(t, line) != fmt.Sprintf(`{"n":"oops %d"}`, i) {
			t.Errorf("line %d: %s", i, line)
			continue
		}
		if arrived := millis(t, m[1]); arrived < before || arrived > after || millis(t, m[3]) < arrived {
			t.Errorf("times of %s: it was put between %d and %d", line, before, after)
		}
	}
}

// rawOf is the record that a line of the error output stands for.
func rawOf(t *testing.T, line string) string {
	t.Helper()
	var v struct{ RawData []byte }
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return string(v.RawData)
}

func millis(t *testing.T, s string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
