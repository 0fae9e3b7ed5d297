package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestSpec(t *testing.T) {
	c := decode(t, everything).Config
	for i, want := range []string{
		`{"source":{"direct_put":{}},"format":{"parquet":{"schema":["event_id string","price decimal(10,2)","user struct<id:bigint,tags:array<string>>"],` +
			`"deserializer":{"openx":{"case_insensitive":false,"column_to_json_key":{"ts":"timestamp"},"dots_to_underscores":true}},"compression":"zstd","encodings":"modern",` +
			`"timestamps":"int96","row_group":"64MiB","page":"64KiB","unknown_fields":{"column":"_rest"}}},"buffer":{"size":"64MiB","interval":"1m","file_size":"0"},` +
			`"destination":{"s3":{"bucket":"lake","prefix":"clicks/","error_output_prefix":"bad/!{firehose:error-output-type}/","time_zone":"Europe/Berlin","file_extension":".pq",` +
			`"region":"eu-west-1","endpoint":"http://127.0.0.1:9000","path_style":"true","checksum":"crc32c","credentials":{"access_key_id":"configured","secret_access_key":"configured",` +
			`"session_token":"configured","profile":"","role_arn":"arn:aws:iam::123456789012:role/r"},"encryption":{"kms":"my-key"},"storage_class":"STANDARD_IA","retry_duration":"forever"}}}`,
		`{"source":{"direct_put":{}},"format":{"parquet":{"schema":"a string, b int","deserializer":{"hive":{"timestamp_formats":["millis"]}},"compression":"snappy","encodings":"compatible",` +
			`"timestamps":"micros","row_group":"128MiB","page":"1MiB","unknown_fields":"fail"}},"buffer":{"size":"0","interval":"5m","file_size":"32MiB"},` +
			`"destination":{"s3":{"bucket":"logs","prefix":"","error_output_prefix":"errors/!{firehose:error-output-type}/","time_zone":"UTC","file_extension":"","region":"us-west-2",` +
			`"endpoint":"https://store.example","path_style":"auto","checksum":"auto","credentials":{"profile":"","role_arn":""},"encryption":"aes256","storage_class":"","retry_duration":"forever"}}}`,
	} {
		if got := string(c.Streams[i].Spec()); got != want {
			t.Errorf("streams[%d]\n got %s\nwant %s", i, got, want)
		}
	}
}

func TestSpecReadsBack(t *testing.T) {
	for _, text := range []string{smallest, everything, "streams: [ { name: s, format: { parquet: { schema: [a int], deserializer: { hive: } } }, destination: { file: { path: /l } } } ]"} {
		for _, s := range decode(t, text).Config.Streams {
			got, err := ParseSpec(s.Name, s.Spec())
			if err != nil {
				t.Errorf("%s: %v", s.Spec(), err)
				continue
			}
			if err := got.TakeSecrets(&s); err != nil {
				t.Error(err)
			}
			s.Tags, s.Limits = nil, StreamLimits{}
			if !reflect.DeepEqual(*got, s) {
				t.Errorf("\n got %+v\nwant %+v", *got, s)
			}
			if string(got.Spec()) != string(s.Spec()) {
				t.Errorf("its spec is another:\n%s\n%s", got.Spec(), s.Spec())
			}
		}
	}
}

// Equal streams have equal specs, whatever order a map is walked in.
func TestSpecIsCanonical(t *testing.T) {
	s := decode(t, "streams: [ { name: s, destination: { file: { path: /l } }, format: { parquet: { schema: [a int], "+
		"deserializer: { openx: { column_to_json_key: { e: 1, b: 2, d: 3, a: 4, c: 5, f: 6, g: 7, h: 8 } } } } } } ]").Config.Streams[0]
	want := string(s.Spec())
	for range 20 {
		if got := string(s.Spec()); got != want {
			t.Fatalf("two specs of one stream:\n%s\n%s", got, want)
		}
	}
}

// What decides about delivery is in the spec; what does not, is not.
func TestSpecChangesWithTheStream(t *testing.T) {
	base := "streams: [ { name: s, destination: { s3: { bucket: lake, credentials: { access_key_id: a, secret_access_key: b } } } } ]\n"
	spec := func(text string) string { return string(decode(t, text).Config.Streams[0].Spec()) }
	for _, c := range []struct {
		name, old, new string
		same           bool
	}{
		{"a rotated secret", "secret_access_key: b", "secret_access_key: c", true},
		{"a tag", "name: s", "name: s, tags: { a: b }", true},
		{"its limits", "name: s", "name: s, limits: { records_per_second: 5, bytes_per_second: 1MiB, disk: 1GiB }", true},
		{"a default written out", "name: s", "name: s, buffer: { interval: 5m }", true},
		{"the interval", "name: s", "name: s, buffer: { interval: 6m }", false},
		{"the bucket", "lake", "pond", false},
		{"the region of all", "streams:", "aws: { region: eu-west-1 }\nstreams:", false},
		{"the endpoint of all", "streams:", "aws: { endpoints: { s3: 'http://h' } }\nstreams:", false},
		{"no key at all", "credentials: { access_key_id: a, secret_access_key: b }", "", false},
	} {
		if got := spec(strings.Replace(base, c.old, c.new, 1)) == spec(base); got != c.same {
			t.Errorf("%s: same spec %v, want %v", c.name, got, c.same)
		}
	}
}

func TestParseSpecErrors(t *testing.T) {
	good := string(decode(t, smallest).Config.Streams[0].Spec())
	for _, c := range []struct{ spec, want string }{
		{"", `stream "s": its stored specification is not readable: EOF`},
		{"{", `stream "s": its stored specification is not readable: EOF`},
		{good + "{}", `stream "s": its stored specification is not readable: text after the end of the document`},
		{strings.Replace(good, `"source"`, `"sources"`, 1), `stream "s": its stored specification was written by another version of this program: sources: is not a known key (did you mean source?)`},
		{`{"source":{"direct_put":{}}}`, `stream "s": its stored specification was written by another version of this program: destination: is required (exactly one of file, s3, http or redshift)`},
		{`[]`, `stream "s": its stored specification was written by another version of this program: wants a mapping, not a list`},
		{strings.Repeat("[", 100), `stream "s": its stored specification is not readable: too large`},
	} {
		if _, err := ParseSpec("s", []byte(c.spec)); err == nil || err.Error() != c.want {
			t.Errorf("ParseSpec(%.40q): %v\nwant %s", c.spec, err, c.want)
		}
	}
}

// A limit that was tightened since must not keep what is buffered from being delivered.
func TestParseSpecChecksNoLimits(t *testing.T) {
	good := string(decode(t, smallest).Config.Streams[0].Spec())
	s, err := ParseSpec("s", []byte(strings.Replace(good, `"interval":"5m"`, `"interval":"48h"`, 1)))
	if err != nil || s.Buffer.Interval.String() != "48h" {
		t.Errorf("%v, %v", s, err)
	}
}

func TestTakeSecrets(t *testing.T) {
	stream := func(destination string) *Stream {
		return &decode(t, "streams: [ { name: s, destination: { "+destination+" } } ]").Config.Streams[0]
	}
	with := stream("s3: { bucket: lake, credentials: { access_key_id: a, secret_access_key: b } }")
	rotated := stream("s3: { bucket: lake, credentials: { access_key_id: c, secret_access_key: d } }")
	moved := stream("s3: { bucket: pond, endpoint: 'http://h', credentials: { access_key_id: e, secret_access_key: f } }")
	chain := stream("s3: { bucket: lake }")
	profile := stream("s3: { bucket: lake, credentials: { profile: p } }")
	file := stream("file: { path: /l }")
	for _, c := range []struct {
		name         string
		old, present *Stream
		want         string // secret or profile
		fails        bool
	}{
		{"the same key", with, with, "b", false},
		{"a rotated key", with, rotated, "d", false},
		{"a key, and another place's", with, moved, "f", false},
		{"a key, and now the chain", with, chain, "", false},
		{"a key, and now a profile", with, profile, "p", false},
		{"a key of a stream that is gone", with, nil, "", true},
		{"a key, and now another kind of destination", with, file, "", true},
		{"the chain of a stream that is gone", chain, nil, "", false},
		{"the chain, and now a key", chain, with, "b", false},
		{"the chain, and another place with a key", chain, moved, "", false},
		{"a profile, and another place with a key", profile, moved, "p", false},
		{"a file of a stream that is gone", file, nil, "", false},
	} {
		s, err := ParseSpec("s", c.old.Spec())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.TakeSecrets(c.present); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		} else if err == nil && s.Destination.S3 != nil {
			k := s.Destination.S3.Credentials
			if got, err := k.SecretAccessKey.Value(); err != nil || got+k.Profile != c.want {
				t.Errorf("%s: %q, %v; want %q", c.name, got+k.Profile, err, c.want)
			}
		}
	}
	s, _ := ParseSpec("s", with.Spec())
	if v, err := s.Destination.S3.Credentials.SecretAccessKey.Value(); err == nil {
		t.Errorf("a secret that was never stored has the value %q", v)
	}
}

func TestSpecTooLarge(t *testing.T) {
	schema := func(n int) string {
		return "streams: [ { name: s, destination: { file: { path: /l } }, format: { parquet: { schema: '" + strings.Repeat("a", n) + " int' } } } ]"
	}
	base := len(decode(t, schema(1)).Config.Streams[0].Spec()) - 1
	decode(t, schema(maxSpec-base))
	if got := faults(t, schema(maxSpec-base+1), noEnv); got != "1:12: streams[0]: is described by 61441 bytes (at most 61440; the schema is the largest part)" {
		t.Error(got)
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"source":{"direct_put":{}},"format":{"text":{"delimiter":"none","compression":"none"}},"buffer":{"size":"5MiB","interval":"5m","file_size":"0"},"destination":{"file":{"path":"/l"}}}`))
	f.Add([]byte(`{"destination":{"s3":{"bucket":"b","encryption":{"kms":"k"}}},"format":{"parquet":{"schema":["a int"]}}}`))
	f.Fuzz(func(t *testing.T, spec []byte) {
		s, err := ParseSpec("s", spec)
		if err != nil {
			return
		}
		again, err := ParseSpec("s", s.Spec())
		if err != nil {
			t.Fatalf("its own spec is not readable: %v\n%s", err, s.Spec())
		}
		if string(again.Spec()) != string(s.Spec()) {
			t.Fatalf("its spec changes:\n%s\n%s", s.Spec(), again.Spec())
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, text := range []string{smallest, everything, "a: &a [*a]\n", "streams: [ { name: s, destination: { file: { path: ${HOME} } } } ]", "? a\n: b\n", "data_dir: |\n  x\nlog: >-\n  y\n", "<<: {a: b}\n", "'a': \"\\x41\"\n", "- - - a\n", "a: !!binary aGk=\n", "%YAML 1.2\n---\nstreams: []\n...\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Decode("f", data, env("HOME", "/home/h"))
		if err != nil {
			e, ok := err.(*Error)
			if !ok || len(e.Faults) == 0 || e.Error() == "" {
				t.Fatalf("not a list of faults: %v", err)
			}
			return
		}
		for _, s := range file.Config.Streams {
			if _, err := ParseSpec(s.Name, s.Spec()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
