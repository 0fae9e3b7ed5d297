package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const transforms = `
streams:
  - name: s
    transform:
      - decompress: gzip
      - decompress: cloudwatch_logs
      - decompress: { cloudwatch_logs: { extract: messages } }
      - decompress: { cloudwatch_logs: }
      - deaggregate: json
      - deaggregate: { delimited: IyMjIw== }
      - append_delimiter: "\n"
      - jq: '.user_id |= tostring'
      - filter: '.type != "heartbeat"'
      - rename: { user.id: user_id, b: a }
      - set: { z: web, n: 5, "a.b": null, q: "\"5\"" }
      - remove: [debug, headers.cookie]
      - flatten: { separator: __ }
      - flatten:
      - redact: { fields: [email], with: sha256 }
      - lookup: { file: t.csv, key: .country, into: country_name, refresh: 5m }
      - lookup: { file: /t.csv, key: a, into: b, refresh: 0 }
    tests:
      - { name: first, input: "{}\n", want: dropped }
      - { input_base64: "aGVs bG8=", want: [ ok, { ok: "{}" }, { text: 5 }, failed, { failed: Hydrant.Jq } ] }
    destination: { file: { path: /l } }
`

func TestTransform(t *testing.T) {
	s := decode(t, transforms).Config.Streams[0]
	abs, err := filepath.Abs("t.csv")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"source":{"direct_put":{}},"transform":[{"decompress":"gzip"},{"decompress":"cloudwatch_logs"},{"decompress":{"cloudwatch_logs":{"extract":"messages"}}},` +
		`{"decompress":"cloudwatch_logs"},{"deaggregate":"json"},{"deaggregate":{"delimited":"IyMjIw=="}},{"append_delimiter":"\n"},{"jq":".user_id |= tostring"},` +
		`{"filter":".type != \"heartbeat\""},{"rename":{"user.id":"user_id","b":"a"}},{"set":{"z":"web","n":"5","a.b":"null","q":"\"5\""}},{"remove":["debug","headers.cookie"]},` +
		`{"flatten":{"separator":"__"}},{"flatten":{"separator":"_"}},{"redact":{"fields":["email"],"with":"sha256"}},` +
		`{"lookup":{"file":"` + abs + `","key":".country","into":"country_name","refresh":"5m"}},{"lookup":{"file":"/t.csv","key":"a","into":"b","refresh":"0s"}}],`
	spec := string(s.Spec())
	if !strings.HasPrefix(spec, want) {
		t.Errorf("\n got %s\nwant %s…", spec, want)
	}
	back, err := ParseSpec("s", []byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Transform, s.Transform) {
		t.Errorf("\n got %+v\nwant %+v", back.Transform, s.Transform)
	}
	if len(s.Tests) != 2 || strings.Contains(spec, "tests") || strings.Contains(spec, "first") {
		t.Errorf("%d tests, spec %s", len(s.Tests), spec)
	}
	if in, err := s.Tests[0].Data(); err != nil || string(in) != "{}" || !reflect.DeepEqual(s.Tests[0].Want, Wants{{"dropped", ""}}) {
		t.Errorf("%q %v %v", in, err, s.Tests[0])
	}
	if in, err := s.Tests[1].Data(); err != nil || string(in) != "hello" ||
		!reflect.DeepEqual(s.Tests[1].Want, Wants{{"ok", ""}, {"ok", "{}"}, {"text", "5"}, {"failed", ""}, {"failed", "Hydrant.Jq"}}) {
		t.Errorf("%q %v %v", in, err, s.Tests[1])
	}
}

// A stream without transforms has the spec that it had before there were any.
func TestNoTransformNoTrace(t *testing.T) {
	for _, extra := range []string{"", "    transform: []\n", "    transform:\n", "    tests: [ { input: a, want: ok } ]\n"} {
		text := "streams:\n  - name: s\n" + extra + "    destination: { file: { path: /l } }\n"
		want := `{"source":{"direct_put":{}},"format":{"text":{"delimiter":"none","compression":"none"}},"buffer":{"size":"5MiB","interval":"5m","file_size":"0"},` +
			`"destination":{"file":{"path":"/l","prefix":"","error_output_prefix":"errors/!{firehose:error-output-type}/","time_zone":"UTC","file_extension":""}}}`
		if got := string(decode(t, text).Config.Streams[0].Spec()); got != want {
			t.Errorf("%q\n got %s\nwant %s", extra, got, want)
		}
	}
}

func TestTransformFaults(t *testing.T) {
	for _, c := range []struct{ entry, want string }{
		{"decompress: zstd", `streams[0].transform[0].decompress: is no known compression: "zstd" (write gzip, cloudwatch_logs or { cloudwatch_logs: { extract: messages } })`},
		{"decompress: { cloudwatch_logs: { extract: all } }", `streams[0].transform[0].decompress: is no known compression (write gzip, cloudwatch_logs or { cloudwatch_logs: { extract: messages } })`},
		{"deaggregate: csv", `streams[0].transform[0].deaggregate: is no known way of taking records apart: "csv" (write json or { delimited: BASE64 })`},
		{"deaggregate: { delimited: '####' }", `streams[0].transform[0].deaggregate.delimited: is not base64: "####" (a newline is Cg==, #### is IyMjIw==)`},
		{"append_delimiter: ''", `streams[0].transform[0].append_delimiter: cannot be taken (wanted: 1 to 64 characters)`},
		{"jq: ''", `streams[0].transform[0].jq: cannot be taken (wanted: a jq expression)`},
		{"rename: [a]", `streams[0].transform[0].rename: wants a mapping of texts, not a list`},
		{"rename: {}", `streams[0].transform[0].rename: is empty`},
		{"set: { a: { b: 1 } }", `streams[0].transform[0].set.a: wants a text, not a mapping`},
		{"redact: { fields: [a] }", `streams[0].transform[0].redact.with: is required`},
		{"redact: { fields: [a], with: md5 }", `streams[0].transform[0].redact.with: is not sha256, mask or remove: "md5" (write sha256, mask or remove)`},
		{"lookup: { file: a, key: b, into: c, refresh: 10ms }", `streams[0].transform[0].lookup.refresh: is below the least, 1s: "10ms" (allowed: 0 (never), or from 1s to 24h)`},
		{"filtre: .a", `streams[0].transform[0].filtre: is not a known key (did you mean filter?)`},
		{"dedupe: { key: a }", `streams[0].transform[0].dedupe: is not supported yet (take it out)`},
		{"lambda: {}", `streams[0].transform[0].lambda.function: is required`},
		{"http: { url: 'ftp://h' }", `streams[0].transform[0].http.url: is not a URL: "ftp://h" (write it like https://host/path)`},
		{"http: { url: 'http://u:secret@h' }", `streams[0].transform[0].http.url: has a user or a password in it: "**redacted**" (give headers: { Authorization: "Basic ..." })`},
		{"http: { url: 'http://h', headers: { Content-Length: 3 } }", `streams[0].transform[0].http.headers.Content-Length: is a header of the connection, which sets it by itself (take it out)`},
		{"http: { url: 'http://h', retries: 301 }", `streams[0].transform[0].http.retries: is above the most, 300: "301" (allowed: from 0 to 300)`},
		{"http: { url: 'http://h', concurrency: 0 }", `streams[0].transform[0].http.concurrency: is below the least, 1: "0" (allowed: from 1 to 256)`},
		{"http: { url: 'http://h', timeout: 16m }", `streams[0].transform[0].http.timeout: is above the most, 15m: "16m" (allowed: from 1s to 15m)`},
		{"http: { url: 'http://h', buffer: { size: 4MiB } }", `streams[0].transform[0].http.buffer.size: is above the most, 3MiB: "4MiB" (allowed: from 205KiB to 3MiB)`},
		{"lambda: { function: f, buffer: { interval: 901s } }", `streams[0].transform[0].lambda.buffer.interval: is above the most, 900s: "901s" (allowed: from 0s to 900s)`},
		{"lambda: { function: f } }, { lambda: { function: f } }, { http: { url: 'http://h' }", `streams[0].transform[2]: is function number 3 (a stream has at most 2)`},
		{"jq: ., filter: .", `streams[0].transform[0]: takes exactly one of decompress, deaggregate, append_delimiter, jq, filter, rename, set, remove, flatten, redact, lookup, http or lambda, and has jq and filter (keep one)`},
	} {
		_, err := Decode("f", []byte("streams: [ { name: s, destination: { file: { path: /l } }, transform: [ { "+c.entry+" } ] } ]"), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.entry, err, c.want)
		}
	}
	for _, c := range []struct{ test, want string }{
		{"input: a", "streams[0].tests[0].want: is required"},
		{"want: []", "streams[0].tests[0].want: is empty (a record of which nothing is left is dropped)"},
		{"want: Ok", `streams[0].tests[0].want: is no result: "Ok"`},
		{"want: { dropped: 1 }", "streams[0].tests[0].want: is no result"},
		{"want: ok, input: a, input_base64: YQ==", "streams[0].tests[0].input_base64: stands instead of input, and both are given (keep one)"},
		{"want: ok, input_base64: YQ=", `streams[0].tests[0].input_base64: is not base64: "YQ="`},
	} {
		_, err := Decode("f", []byte("streams: [ { name: s, destination: { file: { path: /l } }, tests: [ { "+c.test+" } ] } ]"), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.test, err, c.want)
		}
	}
}
