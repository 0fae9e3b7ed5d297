package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// noEnv has no variable.
func noEnv(string) (string, bool) { return "", false }

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

const smallest = `streams:
  - name: clicks
    destination: { file: { path: /lake, prefix: "clicks/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/" } }
`

func decode(t *testing.T, text string) *File {
	t.Helper()
	f, err := Decode("hydrant.yaml", []byte(text), noEnv)
	if err != nil {
		t.Fatalf("decode:\n%v\n%s", err, text)
	}
	return f
}

func TestSmallestFile(t *testing.T) {
	got := decode(t, smallest).Config
	want := &Config{
		DataDir: "./hydrant-data", OnDamage: "quarantine",
		Limits: Limits{Memory: 512 * MiB, Disk: 20 * GiB},
		Log:    Log{Level: "info", Format: "text"},
		AWS:    AWS{AccountID: "000000000000", Region: "us-east-1", RoleARNs: "ignore"},
		API:    API{Listen: Listen{"127.0.0.1:4573"}, ControlPlane: "read_write"},
		Admin:  Admin{Listen: Listen{"127.0.0.1:4574"}},
		Streams: []Stream{{
			Name:   "clicks",
			Source: Source{DirectPut: &DirectPut{}},
			Format: Format{Text: &Text{Delimiter: "none", Compression: "none"}},
			Buffer: Buffer{Size: 5 * MiB, Interval: Duration(300e9)},
			Destination: Destination{File: &FileDestination{Path: "/lake", Prefix: "clicks/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/",
				ErrorOutputPrefix: "errors/!{firehose:error-output-type}/", TimeZone: "UTC"}},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

const everything = `
data_dir: /var/lib/hydrant
on_damage: stop
limits: { memory: 1GiB, disk: 128MiB }
stop: { drain: 25s }
log: { level: debug, format: json }
aws:
  account_id: 012345678901
  region: eu-west-1
  endpoints: { s3: "http://127.0.0.1:9000", sts: "http://127.0.0.1:9001" }
api:
  listen: ["127.0.0.1:4573", "[::1]:4573"]
admin:
  listen: localhost:0
streams:
  - name: clicks
    tags: { team: web, 7: seven }
    limits: { records_per_second: 1000, bytes_per_second: 1MiB, disk: 1GiB }
    source: { direct_put: }
    format:
      parquet:
        schema:
          - event_id string
          - price decimal(10,2)
          - user struct<id:bigint,tags:array<string>>
        deserializer: { openx: { case_insensitive: false, column_to_json_key: { ts: timestamp }, dots_to_underscores: true } }
        compression: zstd
        encodings: modern
        timestamps: int96
        row_group: 64MiB
        page: 64KiB
        unknown_fields: { column: _rest }
    buffer: { size: 64MiB, interval: 1m }
    destination:
      s3:
        bucket: lake
        prefix: "clicks/"
        error_output_prefix: "bad/!{firehose:error-output-type}/"
        time_zone: Europe/Berlin
        file_extension: .pq
        path_style: true
        checksum: crc32c
        credentials: { access_key_id: AKID, secret_access_key: hunter2, session_token: token, role_arn: "arn:aws:iam::123456789012:role/r" }
        encryption: { kms: my-key }
        storage_class: STANDARD_IA
        retry_duration: forever
  - name: logs
    format: { parquet: { schema: "a string, b int", deserializer: { hive: { timestamp_formats: [millis] } }, unknown_fields: fail } }
    buffer: { file_size: 32MiB }
    destination: { s3: { bucket: logs, region: us-west-2, endpoint: "https://store.example", encryption: aes256 } }
`

func TestEverything(t *testing.T) {
	c := decode(t, everything).Config
	if c.AWS.AccountID != "012345678901" {
		t.Errorf("account id %q: its leading zero is part of it", c.AWS.AccountID)
	}
	s3 := c.Streams[0].Destination.S3
	secret, err := s3.Credentials.SecretAccessKey.Value()
	if err != nil || secret != "hunter2" {
		t.Errorf("secret %q, %v", secret, err)
	}
	s3.Credentials = Credentials{} // compared above
	want := []Stream{{
		Name:   "clicks",
		Tags:   map[string]string{"team": "web", "7": "seven"},
		Limits: StreamLimits{RecordsPerSecond: 1000, BytesPerSecond: MiB, Disk: GiB},
		Source: Source{DirectPut: &DirectPut{}},
		Format: Format{Parquet: &Parquet{
			Schema:       Schema{Columns: []string{"event_id string", "price decimal(10,2)", "user struct<id:bigint,tags:array<string>>"}},
			Deserializer: Deserializer{OpenX: &OpenX{ColumnToJSONKey: map[string]string{"ts": "timestamp"}, DotsToUnderscores: true}},
			Compression:  "zstd", Encodings: "modern", Timestamps: "int96", RowGroup: 64 * MiB, Page: 64 * KiB,
			UnknownFields: UnknownFields{Word: "column", Column: "_rest"},
		}},
		Buffer: Buffer{Size: 64 * MiB, Interval: Duration(60e9)},
		Destination: Destination{S3: &S3Destination{Bucket: "lake", Prefix: "clicks/", ErrorOutputPrefix: "bad/!{firehose:error-output-type}/",
			TimeZone: "Europe/Berlin", FileExtension: ".pq", Region: "eu-west-1", Endpoint: "http://127.0.0.1:9000", PathStyle: "true", Checksum: "crc32c",
			Encryption: Encryption{Word: "kms", KMS: "my-key"}, StorageClass: "STANDARD_IA"}},
	}, {
		Name:   "logs",
		Source: Source{DirectPut: &DirectPut{}},
		Format: Format{Parquet: &Parquet{
			Schema:       Schema{DDL: "a string, b int"},
			Deserializer: Deserializer{Hive: &Hive{TimestampFormats: []string{"millis"}}},
			Compression:  "snappy", Encodings: "compatible", Timestamps: "micros", RowGroup: 128 * MiB, Page: 1 * MiB,
			UnknownFields: UnknownFields{Word: "fail"},
		}},
		Buffer: Buffer{Interval: Duration(300e9), FileSize: 32 * MiB},
		Destination: Destination{S3: &S3Destination{Bucket: "logs", ErrorOutputPrefix: "errors/!{firehose:error-output-type}/",
			TimeZone: "UTC", Region: "us-west-2", Endpoint: "https://store.example", PathStyle: "auto", Checksum: "auto", Encryption: Encryption{Word: "aes256"}}},
	}}
	for i := range want {
		if !reflect.DeepEqual(c.Streams[i], want[i]) {
			t.Errorf("streams[%d]\n got %+v\nwant %+v", i, c.Streams[i], want[i])
		}
	}
}

// faults decodes text, which must fail, and returns the lines of the error without the file's name.
func faults(t *testing.T, text string, env func(string) (string, bool)) string {
	t.Helper()
	_, err := Decode("f", []byte(text), env)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("no *Error but %v from\n%s", err, text)
	}
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "f:")
	}
	return strings.Join(lines, "\n")
}

func TestFaults(t *testing.T) {
	// with puts lines into an otherwise right file.
	with := func(top string) string { return top + "\n" + smallest }
	stream := func(lines string) string {
		return "streams:\n  - name: s\n    destination: { file: { path: /lake } }\n" + lines
	}
	s3 := func(keys string) string {
		return "streams:\n  - name: s\n    destination:\n      s3: { bucket: lake, " + keys + " }\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", " is empty (the smallest useful file has `streams` with a name and a destination)"},
		{"comment only", "# nothing\n", " is empty (the smallest useful file has `streams` with a name and a destination)"},
		{"no streams", "data_dir: x\n", "1:1: streams: is required"},
		{"a list", "- a\n", "1:1: wants a mapping, not a list"},
		{"a scalar", "hello\n", "1:1: wants a mapping, not a scalar: \"hello\""},
		{"two documents", "streams: []\n---\nstreams: []\n", "3:1: a second document begins here (write everything in one)"},
		{"syntax", "streams: [\n  a: 1\n", "1:10: is not YAML: sequence end token ']' not found"},
		{"tab", "limits:\n\tmemory: 1GiB\n", "2:1: is not YAML: found character '\t' that cannot start any token"},

		{"unknown key", with("dat_dir: x"), "1:1: dat_dir: is not a known key (did you mean data_dir?)"},
		{"unknown key, camel case", with("dataDir: x"), "1:1: dataDir: is not a known key (did you mean data_dir?)"},
		{"unknown key, nothing near", with("log: { colour: red }"), "1:8: log.colour: is not a known key (known here: level or format)"},
		{"unknown key in a list", stream("    colour: red\n"), "4:5: streams[0].colour: is not a known key (known here: name, tags, limits, source, transform, partition, format, buffer, destination, backup, tests or exactly_once)"},
		{"key twice", with("on_damage: stop\non_damage: stop"), "2:1: on_damage: is given twice; the first is at 1:1"},
		{"key twice in a flow", with("log: { level: info, level: warn }"), "1:21: log.level: is given twice; the first is at 1:8"},

		{"watch", with("watch: often"), "1:8: watch: is not true or false: \"often\""},
		{"encryption, a word", with("encryption: true"), `1:13: encryption: wants a mapping, not a scalar: "true"`},
		{"encryption, one file for a list", with("encryption: { previous_key_files: k }"), `1:35: encryption.previous_key_files: wants a list, not a scalar: "k"`},
		{"not yet: a processor", stream("    transform: [ { dedupe: { key: x } } ]\n"), "4:20: streams[0].transform[0].dedupe: is not supported yet (take it out)"},
		{"not yet: a stream's key", stream("    exactly_once: true\n"), "4:5: streams[0].exactly_once: is not supported yet (take it out)"},
		{"text compression", stream("    format: { text: { compression: lz4 } }\n"), "4:36: streams[0].format.text.compression: is not none, gzip, zip, snappy, hadoop_snappy or zstd: \"lz4\" (write none, gzip, zip, snappy, hadoop_snappy or zstd)"},
		{"schema, neither", stream("    format: { parquet: { schema: { fil: x } } }\n"), "4:36: streams[0].format.parquet.schema.fil: is not a known key (did you mean file?)"},
		{"schema, an empty mapping", stream("    format: { parquet: { schema: {} } }\n"), "4:26: streams[0].format.parquet.schema: has no column (write a list of \"name type\", one DDL string, { file: FILE } or { glue: { database: D, table: T } })"},
		{"schema, both", stream("    format: { parquet: { schema: { file: x, glue: { database: d, table: t } } } }\n"), "4:26: streams[0].format.parquet.schema: takes exactly one of file and glue (keep one)"},
		{"schema, no file", stream("    format: { parquet: { schema: { file: '' } } }\n"), "4:42: streams[0].format.parquet.schema.file: is empty"},
		{"schema, a list for a file", stream("    format: { parquet: { schema: { file: [x] } } }\n"), "4:36: streams[0].format.parquet.schema.file: wants the name of a file, not a list"},
		{"schema, no table", stream("    format: { parquet: { schema: { glue: { database: d } } } }\n"), "4:36: streams[0].format.parquet.schema.glue.table: is required"},
		{"schema, an unknown key of a table", stream("    format: { parquet: { schema: { glue: { database: d, tabel: t, table: t } } } }\n"), "4:57: streams[0].format.parquet.schema.glue.tabel: is not a known key (did you mean table?)"},
		{"schema, a version", stream("    format: { parquet: { schema: { glue: { database: d, table: t, version: latest } } } }\n"), "4:76: streams[0].format.parquet.schema.glue.version: cannot be taken: \"latest\" (wanted: LATEST or a number)"},
		{"schema, an endpoint", stream("    format: { parquet: { schema: { glue: { database: d, table: t, endpoint: localhost } } } }\n"), "4:77: streams[0].format.parquet.schema.glue.endpoint: is not a URL: \"localhost\" (write it like https://host:port)"},
		{"schema, what only specifications have", stream("    format: { parquet: { schema: { glue: { database: d, table: t }, columns: [a int] } } }\n"), "4:69: streams[0].format.parquet.schema.columns: is not a known key (known here: file or glue)"},
		{"not yet: finite retry", s3("retry_duration: 1h"), "4:43: streams[0].destination.s3.retry_duration: a finite time is not supported yet: \"1h\" (the only value at present is forever)"},

		{"enumeration", with("on_damage: quarantin"), "1:12: on_damage: is not quarantine or stop: \"quarantin\" (did you mean quarantine? Write quarantine or stop)"},
		{"wrong kind", with("limits: 512MiB"), "1:9: limits: wants a mapping, not a scalar: \"512MiB\""},
		{"scalar wanted", with("data_dir: [a]"), "1:1: data_dir: wants a text, not a list"},
		{"list wanted", "streams: {}\n", "1:1: streams: wants a list, not a mapping"},
		{"a tag", with("data_dir: !!str x"), "1:11: data_dir: YAML tags are not used here: \"!!str\" (put a text that begins with ! in quotes)"},
		{"an unquoted prefix", stream("    tags: { a: !{x} }\n"), "4:17: is not YAML: found invalid tag character '{'"},

		{"size without unit", with("limits: { memory: 1024 }"), "1:19: limits.memory: is not a size: \"1024\" (a size needs a unit: KiB, MiB or GiB)"},
		{"size with SI unit", with("limits: { memory: 512MB }"), "1:19: limits.memory: is not a size: \"512MB\" (did you mean 512MiB? The units are KiB, MiB and GiB)"},
		{"memory too small", with("limits: { memory: 127MiB }"), "1:19: limits.memory: is below the least, 128MiB: \"127MiB\" (allowed: from 128MiB to 1024GiB)"},
		{"memory too large", with("limits: { memory: 1025GiB }"), "1:19: limits.memory: is above the most, 1024GiB: \"1025GiB\" (allowed: from 128MiB to 1024GiB)"},
		{"disk too small", with("limits: { disk: 127MiB }"), "1:17: limits.disk: is below the least, 128MiB: \"127MiB\" (allowed: from 128MiB to 1048576GiB)"},
		{"a rate that is no number", stream("    limits: { records_per_second: 1k }\n"), "4:35: streams[0].limits.records_per_second: is not a whole number: \"1k\" (write a whole number, like 1000)"},
		{"a rate below zero", stream("    limits: { records_per_second: -1 }\n"), "4:35: streams[0].limits.records_per_second: is not a whole number: \"-1\" (write a whole number, like 1000)"},
		{"a rate too high", stream("    limits: { records_per_second: 1000000001 }\n"), "4:35: streams[0].limits.records_per_second: is above the most, 1000000000: \"1000000001\" (allowed: 0 (no limit), or from 1 to 1000000000)"},
		{"a share that is too small", stream("    limits: { disk: 8191KiB }\n"), "4:21: streams[0].limits.disk: is below the least, 8MiB: \"8191KiB\" (allowed: 0 (no limit), or from 8MiB to 1048576GiB)"},
		{"duration without unit", with("stop: { drain: 5 }"), "1:16: stop.drain: is not a duration: \"5\" (a duration needs a unit: did you mean 5s?)"},
		{"duration in words", with("stop: { drain: 5 minutes }"), "1:16: stop.drain: is not a duration: \"5 minutes\" (write numbers with h, m, s or ms, like 300s, 5m or 1h30m)"},
		{"negative duration", with("stop: { drain: -5s }"), "1:16: stop.drain: is not a duration: \"-5s\" (a duration cannot be negative)"},
		{"duration too long", with("stop: { drain: 24h1ms }"), "1:16: stop.drain: is above the most, 24h: \"24h1ms\" (allowed: from 0s to 24h)"},

		{"name too long", "streams: [ { name: " + strings.Repeat("n", 65) + ", destination: { file: { path: /l } } } ]", "1:20: streams[0].name: cannot be taken: \"" + strings.Repeat("n", 65) + "\" (wanted: 1 to 64 letters, digits, _, . or -)"},
		{"name with a slash", "streams: [ { name: a/b, destination: { file: { path: /l } } } ]", "1:20: streams[0].name: cannot be taken: \"a/b\" (wanted: 1 to 64 letters, digits, _, . or -)"},
		{"no name", "streams:\n  - destination: { file: { path: /l } }", "2:5: streams[0].name: is required (1 to 64 letters, digits, _, . or -)"},
		{"same name", smallest + "  - name: clicks\n    destination: { file: { path: /other } }\n", "4:11: streams[1].name: is the name of streams[0] already: \"clicks\" (names are unique)"},
		{"no destination", "streams:\n  - name: s\n", "2:5: streams[0].destination: is required (exactly one of file, s3, http or redshift)"},
		{"empty destination", "streams:\n  - name: s\n    destination: {}\n", "3:5: streams[0].destination: wants exactly one of file, s3, http or redshift"},
		{"two destinations", "streams:\n  - name: s\n    destination: { file: { path: /l }, s3: { bucket: lake } }\n", "3:5: streams[0].destination: takes exactly one of file, s3, http or redshift, and has file and s3 (keep one)"},
		{"two formats", stream("    format: { text: {}, parquet: { schema: [a int] } }\n"), "4:5: streams[0].format: takes exactly one of text or parquet, and has text and parquet (keep one)"},
		{"format as a word", stream("    format: text\n"), "4:13: streams[0].format: wants a mapping, not a scalar: \"text\" (write { text: {} })"},
		{"file without path", "streams: [ { name: s, destination: { file: } } ]", "1:38: streams[0].destination.file.path: is required"},
		{"file with an empty path", "streams: [ { name: s, destination: { file: { path: '' } } } ]", "1:52: streams[0].destination.file.path: is empty"},
		{"file in data_dir", "data_dir: /d\nstreams: [ { name: s, destination: { file: { path: /d/lake } } } ]", "2:52: streams[0].destination.file.path: lies in data_dir, /d: \"/d/lake\" (choose a directory outside of it)"},
		{"no schema", stream("    format: { parquet: { compression: zstd } }\n"), "4:15: streams[0].format.parquet.schema: is required"},
		{"empty schema", stream("    format: { parquet: { schema: [] } }\n"), "4:26: streams[0].format.parquet.schema: has no column"},
		{"column as a mapping", stream("    format: { parquet: { schema: [ a: int ] } }\n"), "4:36: streams[0].format.parquet.schema[0]: is not a text (write it without the colon: \"a int\")"},
		{"page above row group", stream("    format: { parquet: { schema: [a int], row_group: 1MiB, page: 2MiB } }\n"), "4:66: streams[0].format.parquet.page: is larger than row_group, 1MiB: \"2MiB\""},
		{"size and file_size", stream("    buffer: { size: 1MiB, file_size: 1MiB }\n"), "4:38: streams[0].buffer.file_size: stands instead of size, and both are given: \"1MiB\" (keep one)"},
		{"empty tag key", stream("    tags: { '': x }\n"), "4:17: streams[0].tags.: has a key of 0 characters (from 1 to 128)"},

		{"time zone", s3("time_zone: Berlin"), "4:38: streams[0].destination.s3.time_zone: is not a known time zone: \"Berlin\" (write an IANA name, like UTC or Europe/Berlin)"},
		{"time zone of the machine", s3("time_zone: Local"), "4:38: streams[0].destination.s3.time_zone: is not a time zone: \"Local\" (write an IANA name, like UTC or Europe/Berlin)"},
		{"extension", s3("file_extension: parquet"), "4:43: streams[0].destination.s3.file_extension: cannot be taken: \"parquet\" (wanted: a dot and up to 127 of 0-9 a-z ! - _ . * ' ( ))"},
		{"bucket as URL", "streams: [ { name: s, destination: { s3: { bucket: 's3://lake' } } } ]", "1:52: streams[0].destination.s3.bucket: cannot be taken: \"s3://lake\" (wanted: a bucket's name: 3 to 255 letters, digits, ., _ or -)"},
		{"endpoint", s3("endpoint: 'localhost:9000'"), "4:37: streams[0].destination.s3.endpoint: is not a URL: \"localhost:9000\" (write it like https://host:port)"},
		{"endpoint with a password", s3("endpoint: 'http://u:secret@h'"), "4:37: streams[0].destination.s3.endpoint: has a user or a password in it: \"**redacted**\" (credentials have keys of their own)"},
		{"half a key", s3("credentials: { secret_access_key: x }"), "4:27: streams[0].destination.s3.credentials: has only one of access_key_id and secret_access_key (give both or neither)"},
		{"secret twice", s3("credentials: { access_key_id: a, secret_access_key: x, secret_access_key_file: y }"), "4:82: streams[0].destination.s3.credentials.secret_access_key_file: is given twice, here and as secret_access_key (keep one)"},
		{"secret in the wrong place", s3("credentials: hunter2"), "4:40: streams[0].destination.s3.credentials: wants a mapping, not a scalar"},
		{"encryption", s3("encryption: kms"), "4:39: streams[0].destination.s3.encryption: is not none or aes256: \"kms\" (write none, aes256 or { kms: KMS })"},
		{"encryption, empty mapping", s3("encryption: {}"), "4:27: streams[0].destination.s3.encryption: wants exactly one form (write none, aes256 or { kms: KMS })"},

		{"one address twice", with("api: { listen: '127.0.0.1:4574' }"), "1:16: api.listen: is the address of admin.listen too: \"127.0.0.1:4574\" (each listener has its own)"},

		{"variable not set", with("data_dir: ${NOWHERE}/x"), "1:11: data_dir: environment variable NOWHERE is not set (set it, or write ${NOWHERE:-default})"},
		{"variable without an end", with("data_dir: ${NOWHERE"), "1:11: data_dir: ${ without its } (write $${ for a literal ${)"},
		{"variable with a bad name", with("data_dir: ${no-where}"), "1:11: data_dir: ${no-where} is not the name of an environment variable (write ${NAME} or ${NAME:-default}, and $${ for a literal ${)"},
		{"variable where it makes noise", with("limits: { memory: '${NOWHERE}' }"), "1:19: limits.memory: environment variable NOWHERE is not set (set it, or write ${NOWHERE:-default})"},
		{"variable unquoted in a flow", with("limits: { memory: ${NOWHERE} }"), "1:20: is not YAML: ',' or '}' must be specified (inside { } or [ ] a ${NAME} must stand in quotes)"},
		{"unknown anchor", with("data_dir: *x"), "1:11: data_dir: no anchor of this name stands above: \"*x\""},
		{"anchor in itself", "streams: &x [ *x ]", "1:15: streams[0]: the anchor contains itself: \"*x\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := faults(t, c.text, noEnv); got != c.want {
				t.Errorf("\n got %s\nwant %s\nfrom\n%s", got, c.want, c.text)
			}
		})
	}
}

func TestEveryFaultAtOnce(t *testing.T) {
	got := faults(t, `data_dir: ""
limts: {}
watch: on demand
limits: { memory: 1KiB, disk: big }
api: { listen: 0.0.0.0:1 }
streams:
  - name: a b
    format: { parquet: { compression: lzo } }
    buffer:
      interval: 5
    destination:
      s3:
        region: ${NOWHERE}
  - destination: {}
`, noEnv)
	want := `2:1: limts: is not a known key (did you mean limits?)
3:8: watch: is not true or false: "on demand"
4:19: limits.memory: is below the least, 128MiB: "1KiB" (allowed: from 128MiB to 1024GiB)
4:31: limits.disk: is not a size: "big" (write a whole number with KiB, MiB or GiB, like 64MiB)
5:16: api.listen: can be reached from other machines, and api.auth is not given: "0.0.0.0:1" (give api.auth, write ` + "`auth: none`" + ` to let everybody in, or listen on 127.0.0.1, [::1], localhost or a Unix socket)
7:11: streams[0].name: cannot be taken: "a b" (wanted: 1 to 64 letters, digits, _, . or -)
8:15: streams[0].format.parquet.schema: is required
8:39: streams[0].format.parquet.compression: is not snappy, zstd, gzip or none: "lzo" (write snappy, zstd, gzip or none)
10:17: streams[0].buffer.interval: is not a duration: "5" (a duration needs a unit: did you mean 5s?)
12:7: streams[0].destination.s3.bucket: is required (a bucket's name: 3 to 255 letters, digits, ., _ or -)
13:17: streams[0].destination.s3.region: environment variable NOWHERE is not set (set it, or write ${NOWHERE:-default})
14:5: streams[1].destination: wants exactly one of file, s3, http or redshift
14:5: streams[1].name: is required (1 to 64 letters, digits, _, . or -)`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Both sides of every limit; the far side is in TestFaults or here as an error.
func TestLimits(t *testing.T) {
	file := func(key, value string) string {
		base := map[string]string{"memory": "512MiB", "disk": "20GiB", "drain": "0s", "size": "5MiB", "interval": "300s", "row_group": "64MiB", "page": "64KiB",
			"records": "0", "bytes": "0", "share": "0"}
		base[key] = value
		size := "size: " + base["size"]
		if key == "file_size" {
			size = "file_size: " + value
		}
		return "limits: { memory: " + base["memory"] + ", disk: " + base["disk"] + " }\nstop: { drain: " + base["drain"] + " }\n" +
			"streams:\n  - name: s\n    destination: { file: { path: /l } }\n" +
			"    limits: { records_per_second: " + base["records"] + ", bytes_per_second: " + base["bytes"] + ", disk: " + base["share"] + " }\n    buffer: { " + size + ", interval: " + base["interval"] + " }\n" +
			"    format: { parquet: { schema: [a int], row_group: " + base["row_group"] + ", page: " + base["page"] + " } }\n"
	}
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"memory", "128MiB", true}, {"memory", "131071KiB", false}, {"memory", "1024GiB", true}, {"memory", "1025GiB", false},
		{"disk", "128MiB", true}, {"disk", "131071KiB", false}, {"disk", "1048576GiB", true}, {"disk", "1048577GiB", false},
		{"records", "0", true}, {"records", "1", true}, {"records", "1000000000", true}, {"records", "1000000001", false}, {"records", "1.5", false},
		{"bytes", "0", true}, {"bytes", "1KiB", true}, {"bytes", "1024GiB", true}, {"bytes", "1025GiB", false},
		{"share", "0", true}, {"share", "8MiB", true}, {"share", "8191KiB", false}, {"share", "1048576GiB", true}, {"share", "1048577GiB", false},
		{"drain", "0", true}, {"drain", "24h", true}, {"drain", "86401s", false},
		{"size", "1KiB", true}, {"size", "0", false}, {"size", "5GiB", true}, {"size", "5242881KiB", false},
		{"interval", "0s", true}, {"interval", "24h", true}, {"interval", "86400001ms", false},
		{"file_size", "0", true}, {"file_size", "1KiB", true}, {"file_size", "5GiB", true}, {"file_size", "6GiB", false},
		{"row_group", "1MiB", true}, {"row_group", "1023KiB", false}, {"row_group", "1GiB", true}, {"row_group", "1025MiB", false},
		{"page", "4KiB", true}, {"page", "3KiB", false}, {"page", "64MiB", true}, {"page", "65MiB", false},
	} {
		if _, err := Decode("f", []byte(file(c.key, c.value)), noEnv); (err == nil) != c.ok {
			t.Errorf("%s: %s: %v", c.key, c.value, err)
		}
	}
}

func TestTagLimits(t *testing.T) {
	tags := func(n int, key, value string) error {
		var b strings.Builder
		b.WriteString("streams:\n  - name: s\n    destination: { file: { path: /l } }\n    tags:\n")
		for i := range n - 1 {
			b.WriteString("      k" + strings.Repeat("i", i) + ": v\n")
		}
		b.WriteString("      " + key + ": \"" + value + "\"\n")
		_, err := Decode("f", []byte(b.String()), noEnv)
		return err
	}
	long := strings.Repeat("é", 128)
	for _, c := range []struct {
		n          int
		key, value string
		ok         bool
	}{
		{50, "x", "", true}, {51, "x", "", false},
		{1, long, "", true}, {1, long + "x", "", false},
		{1, "x", long + long, true}, {1, "x", long + long + "x", false},
	} {
		if err := tags(c.n, c.key, c.value); (err == nil) != c.ok {
			t.Errorf("%d tags, key of %d bytes, value of %d bytes: %v", c.n, len(c.key), len(c.value), err)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := env("A", "one", "EMPTY", "", "SIZE", "256MiB", "BRACE", "${A}")
	for _, c := range []struct{ text, want string }{
		{"plain", "plain"}, {"${A}", "one"}, {"x${A}y${A}z", "xoneyonez"}, {"${B:-two}", "two"}, {"${B:-}", ""}, {"${EMPTY:-d}", "d"}, {"[${EMPTY}]", "[]"},
		{"$${A}", "${A}"}, {"$$${A}", "$${A}"}, {"$A $ $$", "$A $ $$"}, {"${BRACE}", "${A}"}, {"!{timestamp:HH}", "!{timestamp:HH}"}, {"${B:-a:-b}", "a:-b"},
	} {
		if got, problem, _ := expand(c.text, vars); got != c.want || problem != "" {
			t.Errorf("expand(%q) = %q, %q; want %q", c.text, got, problem, c.want)
		}
	}
	f, err := Decode("f", []byte("limits: { memory: \"${SIZE}\" }\ndata_dir: ${DIR:-/d}/${A}\n"+smallest), vars)
	if err != nil {
		t.Fatal(err)
	}
	if f.Config.Limits.Memory != 256*MiB || f.Config.DataDir != "/d/one" {
		t.Errorf("memory %v, data_dir %q", f.Config.Limits.Memory, f.Config.DataDir)
	}
}

func TestAnchorsAndMerges(t *testing.T) {
	f := decode(t, `
streams:
  - &base
    name: a
    buffer: &buf { size: 1MiB, interval: 60s }
    destination: { file: { path: /l } }
  - <<: *base
    name: b
  - name: c
    buffer: { <<: *buf, interval: 1s }
    destination: { file: { path: /c } }
`)
	s := f.Config.Streams
	if s[1].Name != "b" || s[1].Buffer != s[0].Buffer || s[1].Destination.File.Path != "/l" {
		t.Errorf("merged stream: %+v", s[1])
	}
	if s[2].Buffer.Size != MiB || s[2].Buffer.Interval != Duration(1e9) {
		t.Errorf("merged buffer: %+v", s[2].Buffer)
	}
}

// What would make a naive reader slow or overflow its stack is a fault like any other.
func TestHostileFiles(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		r := "*" + string(c-1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat(r+",", 9) + r + "]\n"
	}
	for name, text := range map[string]string{
		"bomb":              bomb,
		"open brackets":     strings.Repeat("[", 1<<20),
		"open braces":       strings.Repeat("{a: ", 1<<18),
		"sequences in line": strings.Repeat("- ", 1<<19),
		"indentation": func() string {
			var b strings.Builder
			for i := range 1000 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(),
		"anchors in line": strings.Repeat("&a ", 1<<18),
		"tags in line":    strings.Repeat("!!a ", 1<<18),
		"question marks":  strings.Repeat("? ", 1<<19),
		"colons":          strings.Repeat("a: ", 1<<18),
		"too large":       strings.Repeat("#", maxFile+1),
		"zero bytes":      strings.Repeat("\x00", 1000),
		"not UTF-8":       "data_dir: \xff\xfe\nstreams: []\nlog: \xff",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode("f", []byte(text), noEnv); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestPosition(t *testing.T) {
	f := decode(t, everything)
	for _, c := range []struct {
		path      string
		line, col int
	}{
		{"streams[0].destination.s3.prefix", 37, 17},
		{"streams[0].format.parquet.schema", 22, 9},
		{"streams[0].format.parquet.schema[1]", 24, 13},
		{"streams[1].format.parquet.schema", 48, 34},
		{"streams[1].destination.s3.prefix", 50, 20}, // not in the file: where it would be
		{"streams[1].name", 47, 11},
		{"nowhere", 1, 1},
	} {
		if line, col := f.Position(c.path); line != c.line || col != c.col {
			t.Errorf("%s: %d:%d, want %d:%d", c.path, line, col, c.line, c.col)
		}
	}
	err := f.Faults([]Fault{f.Fault("streams[0].destination.s3.prefix", "clicks/", "is odd", "make it even")})
	if want := "hydrant.yaml:37:17: streams[0].destination.s3.prefix: is odd: \"clicks/\" (make it even)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if f.Faults(nil) != nil {
		t.Error("no fault is an error")
	}
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hydrant.yaml")
	if _, err := Load(name, noEnv); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(name, []byte(smallest), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Load(name, noEnv); err != nil || f.Config.Streams[0].Name != "clicks" {
		t.Errorf("%v, %v", f, err)
	}
}

func TestRelativeDestinationBecomesAbsolute(t *testing.T) {
	f := decode(t, strings.Replace(smallest, "/lake", "lake", 1))
	want, err := filepath.Abs("lake")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Config.Streams[0].Destination.File.Path; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"data_dir", "interval", "size", "log", "api"}
	for _, c := range []struct{ text, want string }{
		{"data-dir", "data_dir"}, {"DataDir", "data_dir"}, {"intervall", "interval"}, {"szie", "size"}, {"logs", "log"}, {"apis", "api"}, {"xyz", ""}, {"", ""}, {strings.Repeat("a", 100), ""},
	} {
		if got := nearest(c.text, known); got != c.want {
			t.Errorf("nearest(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}
