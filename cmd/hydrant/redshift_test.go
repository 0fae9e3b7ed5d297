package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/sinks"
)

// redshiftFile is a file with one stream that loads; more is of its destination, rest of the stream.
func redshiftFile(dsn, more, rest string) string {
	return fmt.Sprintf(`streams:
  - name: clicks
    destination:
      redshift:
        dsn: %s
        table: public.clicks
        %s
        staging: { s3: { bucket: stage, region: eu-west-1, prefix: clicks/ } }
%s`, dsn, more, rest)
}

const (
	someWarehouse = `"postgres://u:hunter2@wh.example:5439/dev"`
	someRole      = "iam_role: default"
	someParquet   = "    format: { parquet: { schema: [\"id bigint\", \"tags array<string>\"] } }\n"
)

// A redshift destination becomes a pipeline whose loads go by the address and the secrets of the configuration in force.
func TestRedshiftPipeline(t *testing.T) {
	c := configOf(t, redshiftFile(someWarehouse, someRole+"\n        retry_duration: 2h", someParquet))
	p := newParts(c, slog.New(slog.DiscardHandler))
	pipe, err := p.open(buffer.Stream{Name: "clicks", Version: 1, Spec: c.Streams[0].Spec()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSinks(pipe)
	d := pipe.Destination
	if d.ID != "clicks/data/redshift" || d.Kind != "redshift" || d.Place != `wh.example:5439/dev "public"."hydrant_ledger"` || !d.GiveUp || d.GiveUpAfter != 2*time.Hour || d.Rows == nil ||
		d.Layout != `Parquet  ["id" "tags"] nested=true` {
		t.Errorf("destination %+v", d)
	}
	if pipe.Errors.ID != "clicks/errors/s3" || pipe.Errors.Kind != "s3" || pipe.Errors.Place != " stage" {
		t.Errorf("errors go to %+v", pipe.Errors)
	}
	key, body := d.Skipped(sinks.Part{ID: "m/0", Key: "clicks/x", Size: 7}, "clicks", time.Date(2026, 11, 25, 10, 2, 3, 0, time.UTC), "id")
	if key != "clicks/errors/manifests/2026/11/25/10/clicks-2026-11-25-10-02-03-id" || string(body) != `{"entries":[{"url":"s3://stage/clicks/x","mandatory":true,"meta":{"content_length":7}}]}`+"\n" {
		t.Errorf("manifest %s\n%s", key, body)
	}
	w := d.Sink.(*warehouse)
	before := w.now()
	p.renew(configOf(t, redshiftFile(someWarehouse, someRole, someParquet)), func(string) bool { return true })
	if w.now() != before {
		t.Error("a reload that changes nothing makes another sink")
	}
	p.renew(configOf(t, redshiftFile(`{ host: new.example, user: u, password: hunter3 }`, someRole, someParquet)), func(string) bool { return true })
	if w.now() == before || w.d.DSN.Parts.Host != "new.example" {
		t.Error("the address of the file is not followed")
	}

	c = configOf(t, redshiftFile(someWarehouse, "credentials: { access_key_id: k, secret_access_key: s }\n        retry_duration: forever\n        copy_options: \"csv\"",
		"    format: { text: { delimiter: after, compression: gzip } }\n    backup: { file: { path: /b, prefix: x/ } }\n"))
	pipe, err = p.open(buffer.Stream{Name: "clicks", Version: 2, Spec: c.Streams[0].Spec()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSinks(pipe)
	if d := pipe.Destination; d.GiveUp || d.Rows != nil || pipe.Errors.ID != "clicks/backup/file" {
		t.Errorf("destination %+v, errors %+v", d, pipe.Errors)
	}
	if key, _ := pipe.Destination.Skipped(sinks.Part{}, "clicks", time.Unix(0, 0), "id"); !strings.HasPrefix(key, "x/errors/manifests/1970/") {
		t.Errorf("manifest %s", key)
	}
}

// What cannot be loaded is said when the file is read, by its key, and without the password.
func TestRedshiftFlaws(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"another store", redshiftFile(`"postgres://u:hunter2@x.abc.eu-west-1.redshift.amazonaws.com/dev"`, someRole, someParquet) + "aws: { endpoints: { s3: 'http://127.0.0.1:9000' } }\n",
			"destination.redshift.staging.s3.endpoint: is not AWS's, and COPY of Amazon Redshift reads buckets of AWS alone"},
		{"no user", redshiftFile(`"jdbc:redshift:iam://wh.example:5439/dev"`, someRole, someParquet), "destination.redshift.dsn: the URL has no user"},
		{"a parameter", redshiftFile(`"postgres://u:hunter2@wh/dev?pool=3"`, someRole, someParquet), `destination.redshift.dsn: the parameter "pool" is unknown`},
		{"copy options", redshiftFile(someWarehouse, someRole+"\n        copy_options: NOLOAD", someParquet), "destination.redshift.copy_options: NOLOAD cannot be given"},
		{"columns", redshiftFile(someWarehouse, someRole+"\n        columns: [id]", someParquet), "destination.redshift.columns: has 1 columns, and the schema 2"},
		{"merge", redshiftFile(someWarehouse, someRole+"\n        merge_on: [nothing]", someParquet), "destination.redshift.merge_on: the column \"nothing\" is not loaded"},
		{"role", redshiftFile(someWarehouse, "iam_role: me", someParquet), "iam_role \"me\" is not the ARN"},
		{"a role for COPY", redshiftFile(someWarehouse, "credentials: { role_arn: 'arn:aws:iam::123456789012:role/x' }", someParquet), "destination.redshift.credentials.role_arn: is not assumed for COPY"},
		{"millis", redshiftFile(someWarehouse, someRole, strings.Replace(someParquet, "parquet: {", "parquet: { timestamps: millis,", 1)), "cannot take timestamps in millis"},
		{"snappy text", redshiftFile(someWarehouse, someRole, "    format: { text: { compression: snappy } }\n"), "format.text.compression: cannot be read by COPY"},
		{"partition", redshiftFile(someWarehouse, someRole, someParquet+"    partition: { keys: { k: .k } }\n"), "partition: is of streams whose destination is file or s3"},
		{"extension", strings.Replace(redshiftFile(someWarehouse, someRole, someParquet), "prefix: clicks/", "file_extension: .gz", 1), "file_extension: makes COPY decompress"},
		{"error prefix and backup", strings.Replace(redshiftFile(someWarehouse, someRole, someParquet+"    backup: { file: { path: /b } }\n"), "prefix: clicks/", "error_output_prefix: e/", 1), "error_output_prefix: is given although the stream has a backup"},
	} {
		f, err := config.Decode("hydrant.yaml", []byte(c.text), os.LookupEnv)
		text := ""
		if err != nil {
			text = err.Error()
		} else {
			for _, fault := range checkStreams(f, nil) {
				text += fault.String() + "\n"
			}
		}
		if !strings.Contains(text, c.want) || strings.Contains(text, "hunter") {
			t.Errorf("%s:\n%s\nwant %s", c.name, text, c.want)
		}
	}
}

// memorySecrets keeps secrets as the data directory does.
type memorySecrets map[string][]byte

func (m memorySecrets) Put(secret []byte) (string, error) {
	id := fmt.Sprintf("%032d", len(m))
	m[id] = secret
	return id, nil
}
func (m memorySecrets) Get(id string) ([]byte, error)        { return m[id], nil }
func (m memorySecrets) Keep(used func(id string) bool) error { return nil }

// oneStreamStore takes the definition of one stream.
type oneStreamStore struct{ is buffer.Stream }

func (o *oneStreamStore) Change(name string, f func(now *buffer.Stream) (buffer.Stream, error)) (buffer.Stream, error) {
	def, err := f(nil)
	def.Name, def.Version = name, 1
	o.is = def
	return def, err
}
func (o *oneStreamStore) Definition(string) (buffer.Stream, bool) { return o.is, o.is.Name != "" }
func (o *oneStreamStore) Definitions() []buffer.Stream            { return nil }

// A stream that was created over the API loads with the password that is kept for it, which stands nowhere else.
func TestRedshiftOverTheAPI(t *testing.T) {
	c := configOf(t, "aws: { region: eu-west-1 }\n"+redshiftFile(someWarehouse, someRole, someParquet))
	p := newParts(c, slog.New(slog.DiscardHandler))
	kept, store := memorySecrets{}, &oneStreamStore{}
	p.secrets = kept
	plane, err := controlplane.New(controlplane.Options{Streams: store, Check: p.check, Secrets: kept, Versions: func() []buffer.Stream { return nil }, AWS: c.AWS})
	if err != nil {
		t.Fatal(err)
	}
	create := func(options string) error {
		_, _, err := plane.Call(t.Context(), controlplane.Call{Operation: "CreateDeliveryStream", Body: []byte(`{"DeliveryStreamName":"clicks","RedshiftDestinationConfiguration":{
			"RoleARN":"arn:aws:iam::123456789012:role/firehose","ClusterJDBCURL":"jdbc:redshift://c.abc.eu-west-1.redshift.amazonaws.com:5439/dev",
			"CopyCommand":{"DataTableName":"public.clicks","DataTableColumns":"id, name","CopyOptions":"` + options + `"},"Username":"loader","Password":"hunter22",
			"S3Configuration":{"RoleARN":"arn:aws:iam::123456789012:role/firehose","BucketARN":"arn:aws:s3:::stage","Prefix":"clicks/","CompressionFormat":"GZIP"}}}`)})
		return err
	}
	if err := create("json 'auto' IGNOREALLERRORS"); err == nil || !strings.Contains(err.Error(), "IGNOREALLERRORS cannot be given") {
		t.Errorf("a COPY that loses rows is taken: %v", err)
	}
	if err := create("json 'auto' gzip"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(store.is.Spec), "hunter") {
		t.Errorf("the specification holds the password: %s", store.is.Spec)
	}
	pipe, err := p.open(store.is)
	if err != nil {
		t.Fatal(err)
	}
	defer closeSinks(pipe)
	d := pipe.Destination
	if d.Kind != "redshift" || d.Place != `c.abc.eu-west-1.redshift.amazonaws.com:5439/dev "public"."hydrant_ledger"` || d.GiveUpAfter != time.Hour || d.Layout != `format(0) gzip ["id" "name"] nested=false` {
		t.Errorf("destination %+v", d)
	}
	_, login, err := addressOf(p.now.Load(), &d.Sink.(*warehouse).d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := login(t.Context()); err != nil || l.User != "loader" || l.Password != "hunter22" {
		t.Errorf("login %+v, %v", l, err)
	}
}

func configOf(t *testing.T, text string) *config.Config {
	t.Helper()
	f, err := config.Decode("hydrant.yaml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return f.Config
}
