package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/format/parquet"
	"hydrant/format/text"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/sinks/file"
	"hydrant/sources/directput"
)

func decoded(t *testing.T, streams string) *config.Config {
	t.Helper()
	f, err := config.Decode("f", []byte("limits: { memory: 1GiB }\nstreams:\n"+streams), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return f.Config
}

const twoStreams = `
  - name: files
    format: { text: { delimiter: after, compression: gzip } }
    buffer: { size: 1MiB, interval: 10s }
    destination: { file: { path: /lake, prefix: "in/", time_zone: Europe/Berlin, file_extension: .log } }
  - name: bucket
    format: { parquet: { schema: [a int], compression: zstd } }
    buffer: { file_size: 32MiB }
    destination: { s3: { bucket: lake, region: eu-west-1, credentials: { access_key_id: a, secret_access_key: b }, encryption: { kms: k } } }
`

// What the configuration says arrives in the pipeline, through what a data directory keeps of it.
func TestOpen(t *testing.T) {
	c := decoded(t, twoStreams)
	p := newParts(c, nil)
	files, err := p.open(buffer.Stream{Name: "files", Spec: c.Streams[0].Spec()})
	if err != nil {
		t.Fatal(err)
	}
	if files.Size != 1<<20 || files.FileSize != 0 || files.Interval != 10*time.Second || files.FileExtension != ".log" || files.TimeZone.String() != "Europe/Berlin" ||
		files.Prefix.String() != "in/" || files.ErrorPrefix.String() != "errors/!{firehose:error-output-type}/" || files.Destination.ID != "files/data/file" || files.Destination.Kind != "file" || files.RetryDuration != 0 {
		t.Errorf("pipeline %+v", files)
	}
	if _, ok := files.Format.(*text.Format); !ok || files.Format.Extension() != ".gz" {
		t.Errorf("format %T with extension %s", files.Format, files.Format.Extension())
	}
	if _, ok := files.Destination.Sink.(*file.Sink); !ok {
		t.Errorf("sink %T", files.Destination.Sink)
	}

	bucket, err := p.open(buffer.Stream{Name: "bucket", Spec: c.Streams[1].Spec()})
	if err != nil {
		t.Fatal(err)
	}
	if bucket.Size != 0 || bucket.FileSize != 32<<20 || bucket.Interval != 5*time.Minute || bucket.Destination.ID != "bucket/data/s3" || bucket.TimeZone != time.UTC {
		t.Errorf("pipeline %+v", bucket)
	}
	if _, ok := bucket.Format.(*parquet.Format); !ok {
		t.Errorf("format %T", bucket.Format)
	}
	if s, ok := bucket.Destination.Sink.(*renewable); !ok || s.stream != "bucket" || s.in.sink == nil {
		t.Errorf("sink %T", bucket.Destination.Sink)
	}
}

// The deserializer's words arrive: what a format does with a row tells.
func TestOpenDeserializer(t *testing.T) {
	for _, c := range []struct {
		deserializer, row string
		ok                bool
		want              string
	}{
		{"{ openx: {} }", `{"A":1,"b.c":2}`, true, `{"a":1,"b_c":null,"t":null}`},
		{"{ openx: { case_insensitive: false } }", `{"A":1,"a":2}`, true, `{"a":2,"b_c":null,"t":null}`},
		{"{ openx: { dots_to_underscores: true } }", `{"b.c":2}`, true, `{"a":null,"b_c":2,"t":null}`},
		{"{ openx: { column_to_json_key: { a: z } } }", `{"z":3}`, true, `{"a":3,"b_c":null,"t":null}`},
		{"{ hive: {} }", `{"a":"1"}`, false, ``},
		{"{ hive: { timestamp_formats: [millis] } }", `{"t":1000}`, true, `{"a":null,"b_c":null,"t":"1970-01-01T00:00:01Z"}`},
	} {
		conf := decoded(t, "  - { name: s, destination: { file: { path: /l } }, format: { parquet: { schema: [a int, b_c int, t timestamp], deserializer: "+c.deserializer+" } } }\n")
		pipe, err := newParts(conf, nil).open(buffer.Stream{Name: "s", Spec: conf.Streams[0].Spec()})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		e := pipe.Format.NewEncoder()
		e.Reset(&out)
		if err := e.Append(record.Row{Seq: 1, Data: []byte(c.row)}); (err == nil) != c.ok {
			t.Errorf("%s: %s: %v", c.deserializer, c.row, err)
			continue
		}
		if !c.ok {
			continue
		}
		if _, err := e.Close(); err != nil {
			t.Fatal(err)
		}
		rows, err := parquet.ReadRows(bytes.NewReader(out.Bytes()), int64(out.Len()), -1)
		if err != nil || len(rows) != 1 || string(rows[0]) != c.want {
			t.Errorf("%s: %s became %s, %v; want %s", c.deserializer, c.row, rows, err, c.want)
		}
	}
}

// A stream that was taken out of the file, and one whose specification is from another version, say so.
func TestOpenErrors(t *testing.T) {
	c := decoded(t, twoStreams)
	gone := newParts(&config.Config{Limits: c.Limits}, nil)
	for _, v := range []buffer.Stream{
		{Name: "bucket", Spec: c.Streams[1].Spec()},
		{Name: "files", Spec: []byte(`{"destination":{"pigeon":{}}}`)},
		{Name: "files", Spec: []byte(`{"destination":{"file":{"path":"/l","prefix":"!{"}}}`)},
		{Name: "files", Spec: nil},
	} {
		if p, err := gone.open(v); err == nil || p != nil {
			t.Errorf("%s: %v, %v", v.Spec, p, err)
		}
	}
	if _, err := gone.open(buffer.Stream{Name: "files", Spec: c.Streams[0].Spec()}); err != nil {
		t.Errorf("a stream that needs no secret: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	c := decoded(t, twoStreams)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, k := range []struct {
		stream buffer.Stream
		want   directput.Description
	}{
		{buffer.Stream{Name: "files", Version: 1, Created: at, Changed: at, Spec: c.Streams[0].Spec()},
			directput.Description{Name: "files", Version: 1, Created: at, Destination: directput.Destination{
				File: &directput.FileDestination{Path: "/lake"}, Prefix: "in/", ErrorOutputPrefix: "errors/!{firehose:error-output-type}/", FileExtension: ".log", TimeZone: "Europe/Berlin",
				BufferSize: 1 << 20, BufferInterval: 10 * time.Second, Compression: "gzip"}}},
		{buffer.Stream{Name: "bucket", Version: 2, Created: at, Changed: at.Add(1), State: buffer.Deleting, Spec: c.Streams[1].Spec()},
			directput.Description{Name: "bucket", Status: "DELETING", Version: 2, Created: at, Updated: at.Add(1), Destination: directput.Destination{
				S3: &directput.S3Destination{Bucket: "lake", KMSKeyARN: "k"}, ErrorOutputPrefix: "errors/!{firehose:error-output-type}/", TimeZone: "UTC",
				BufferSize: 32 << 20, BufferInterval: 5 * time.Minute, Parquet: "zstd"}}},
		{buffer.Stream{Name: "web", Version: 1, Created: at, Spec: decoded(t, `
  - name: web
    destination: { http: { url: "https://host/x", access_key: k, common_attributes: { a: b }, retry_duration: forever } }
    backup: { s3: { bucket: failed, prefix: p/, credentials: { role_arn: "arn:aws:iam::123456789012:role/r" } }, compression: none }
    buffer: { size: 1MiB, interval: 1m }`).Streams[0].Spec()},
			directput.Description{Name: "web", Version: 1, Created: at, Destination: directput.Destination{
				HTTP: &directput.HTTPDestination{URL: "https://host/x", Gzip: true, Attributes: map[string]string{"a": "b"}, Retry: -1,
					Backup: &directput.S3Destination{Bucket: "failed", RoleARN: "arn:aws:iam::123456789012:role/r"}, BackupPrefix: "p/", BackupErrorPrefix: "errors/!{firehose:error-output-type}/", BackupCompression: "none"},
				BufferSize: 1 << 20, BufferInterval: time.Minute, Compression: "none"}}},
		{buffer.Stream{Name: "rows", Version: 1, Created: at, Spec: decoded(t, `
  - name: rows
    destination: { redshift: { dsn: { host: h, user: u, password: hunter2 }, table: a.b, columns: [x, y], iam_role: default, copy_options: csv, retry_duration: 1m, staging: { s3: { bucket: stage, prefix: p/ } } } }
    buffer: { size: 1MiB, interval: 1m }`).Streams[0].Spec()},
			directput.Description{Name: "rows", Version: 1, Created: at, Destination: directput.Destination{
				Redshift: &directput.RedshiftDestination{JDBCURL: "jdbc:redshift://h:5439/dev", User: "u", RoleARN: "default", Table: "a.b", Columns: "x,y", CopyOptions: "csv", Retry: time.Minute,
					Staging: directput.S3Destination{Bucket: "stage"}},
				Prefix: "p/", ErrorOutputPrefix: "errors/!{firehose:error-output-type}/", TimeZone: "UTC", BufferSize: 1 << 20, BufferInterval: time.Minute, Compression: "none"}}},
		{buffer.Stream{Name: "odd", Version: 1, Created: at, Spec: []byte("?")}, directput.Description{Name: "odd", Version: 1, Created: at}},
	} {
		if got := describe(k.stream, func() (string, string) { return "123456789012", "eu-west-1" }); !reflect.DeepEqual(got, k.want) {
			t.Errorf("\n got %+v\nwant %+v", got, k.want)
		}
	}
}

func TestEncodeWorkers(t *testing.T) {
	if got := encodeWorkers(64 << 20); got != 1 {
		t.Errorf("%d workers in 64 MiB", got)
	}
	if got := encodeWorkers(383 << 20); got != 1 {
		t.Errorf("%d workers in 383 MiB", got)
	}
}

// A role is assumed where aws.role_arns says so, and not otherwise; a reload is enough to change that.
func TestRoles(t *testing.T) {
	var asked atomic.Int64
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer sts.Close()
	var signed atomic.Int64
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer store.Close()
	configured := func(roles string) *config.Config {
		f, err := config.Decode("f", []byte(`
aws: { role_arns: `+roles+`, endpoints: { sts: "`+sts.URL+`" } }
streams:
  - name: s
    destination: { s3: { bucket: lake, endpoint: "`+store.URL+`", credentials: { access_key_id: a, secret_access_key: b, role_arn: "arn:aws:iam::123456789012:role/r" } } }
`), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		return f.Config
	}
	var log bytes.Buffer
	c := configured("ignore")
	p := newParts(c, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "role_arns is ignore") || !strings.Contains(log.String(), "role/r") {
		t.Errorf("the log says nothing of a role that is ignored: %q", &log)
	}
	pipe, err := p.open(buffer.Stream{Name: "s", Spec: c.Streams[0].Spec()})
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Destination.Sink.Close()
	pipe.Destination.Sink.Verify(t.Context(), sinks.Object{Key: "k"})
	if asked.Load() != 0 || signed.Load() != 1 {
		t.Fatalf("ignore: the token service was asked %d times, the store %d times", asked.Load(), signed.Load())
	}
	p.renew(configured("assume"), func(string) bool { return true })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	pipe.Destination.Sink.Verify(ctx, sinks.Object{Key: "k"})
	if asked.Load() == 0 || signed.Load() != 1 {
		t.Fatalf("assume: the token service was asked %d times, the store %d times", asked.Load(), signed.Load())
	}
}
