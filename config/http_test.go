package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const httpStream = `streams:
  - name: s
    destination:
      http:
        url: https://collector.example/firehose?source=a
        access_key: "${KEY}"
        headers: { X-Team: web, Authorization: "Bearer ${TOKEN}" }
        content_encoding: none
        common_attributes: { env: prod }
        timeout: 30s
        max_in_flight: 4
        tls: { ca_file: /ca.pem, cert_file: /c.pem, key_file: /k.pem }
        retry_duration: 0s
    backup:
      s3: { bucket: lake-backup, prefix: "source/", error_output_prefix: "bad/" }
      compression: none
`

func decodeHTTP(t *testing.T, text string) (*Stream, error) {
	t.Helper()
	env := map[string]string{"KEY": "k3y", "TOKEN": "t0ken"}
	f, err := Decode("hydrant.yaml", []byte(text), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if f == nil || len(f.Config.Streams) == 0 {
		return nil, err
	}
	return &f.Config.Streams[0], err
}

func TestHTTPDestination(t *testing.T) {
	s, err := decodeHTTP(t, httpStream)
	if err != nil {
		t.Fatal(err)
	}
	want := &HTTPDestination{
		URL: "https://collector.example/firehose?source=a", Body: "firehose", AccessKey: NewSecret("k3y"),
		Headers:         Headers{{"X-Team", NewSecret("web")}, {"Authorization", NewSecret("Bearer t0ken")}},
		ContentEncoding: "none", CommonAttributes: map[string]string{"env": "prod"}, Timeout: Duration(30 * time.Second), MaxInFlight: 4,
		TLS: ClientTLS{CAFile: "/ca.pem", CertFile: "/c.pem", KeyFile: "/k.pem"},
	}
	if !reflect.DeepEqual(s.Destination.HTTP, want) {
		t.Errorf("got %+v\nwant %+v", s.Destination.HTTP, want)
	}
	if b := s.Backup; b.Mode != "failed" || b.S3.Bucket != "lake-backup" || b.S3.Region != "us-east-1" || b.Compression != "none" || b.File != nil {
		t.Errorf("backup %+v", b)
	}
	const spec = `"destination":{"http":{"url":"https://collector.example/firehose?source=a","body":"firehose","access_key":"configured",` +
		`"headers":{"X-Team":"configured","Authorization":"configured"},"content_encoding":"none","common_attributes":{"env":"prod"},"timeout":"30s","max_in_flight":"4",` +
		`"tls":{"ca_file":"/ca.pem","cert_file":"/c.pem","key_file":"/k.pem"},"retry_duration":"0s"}},"backup":{"mode":"failed","s3":{"bucket":"lake-backup",`
	if got := string(s.Spec()); !strings.Contains(got, spec) {
		t.Errorf("spec %s\nwant in it %s", got, spec)
	}

	old, err := ParseSpec("s", s.Spec())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Destination.HTTP.Headers[1].Value.Value(); err == nil {
		t.Error("a header has a value that no data directory keeps")
	}
	if err := old.TakeSecrets(s); err != nil || !reflect.DeepEqual(old, s) {
		t.Errorf("taken: %v\n got %+v\nwant %+v", err, old, s)
	}
	if err := old.TakeSecrets(&Stream{}); err == nil {
		t.Error("secrets of an endpoint that is gone were found")
	}
}

func TestHTTPDefaults(t *testing.T) {
	s, err := decodeHTTP(t, "streams: [ { name: s, destination: { http: { url: 'http://h' } }, backup: { file: { path: /b } } } ]")
	if err != nil {
		t.Fatal(err)
	}
	want := &HTTPDestination{URL: "http://h", Body: "firehose", ContentEncoding: "gzip", Timeout: Duration(3 * time.Minute), MaxInFlight: 1, RetryDuration: RetryTime(5 * time.Minute)}
	if !reflect.DeepEqual(s.Destination.HTTP, want) || s.Buffer.Size != 5*MiB || s.Backup.Compression != "gzip" {
		t.Errorf("got %+v\nwant %+v; %+v, %+v", s.Destination.HTTP, want, s.Buffer, s.Backup)
	}
	s, err = decodeHTTP(t, "streams: [ { name: s, destination: { http: { url: 'http://h', retry_duration: forever } }, backup: { file: { path: /b } } } ]")
	if err != nil || s.Destination.HTTP.RetryDuration != Forever || !strings.Contains(string(s.Spec()), `"retry_duration":"forever"`) {
		t.Errorf("forever: %v, %s", err, s.Spec())
	}
}

// A stream without a backup has the spec that it had when there was none.
func TestBackupIsNotInOtherSpecs(t *testing.T) {
	s := decode(t, "streams: [ { name: s, destination: { file: { path: /l } } } ]").Config.Streams[0]
	if got := string(s.Spec()); strings.Contains(got, "backup") {
		t.Errorf("spec %s", got)
	}
}

func TestHTTPFaults(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	lines := filepath.Join(dir, "lines")
	for name, text := range map[string]string{secret: "Bearer x\n", lines: "a\nb\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := func(http, rest string) string {
		return "streams: [ { name: s, destination: { http: { url: 'http://h', " + http + " } }, backup: { file: { path: /b } }" + rest + " } ]"
	}
	attributes := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("a" + string(rune('A'+i/26)) + string(rune('a'+i%26)) + ": v, ")
		}
		return "common_attributes: { " + b.String() + " }"
	}
	for _, c := range []struct{ name, text, want string }{ // want "": none
		{"no url", "streams: [ { name: s, destination: { http: }, backup: { file: { path: /b } } } ]", "streams[0].destination.http.url: is required (an http or https URL)"},
		{"other scheme", strings.Replace(base("", ""), "http://h", "ftp://h", 1), `streams[0].destination.http.url: is not a URL: "ftp://h" (write it like https://host/path)`},
		{"password", strings.Replace(base("", ""), "http://h", "http://u:p@h", 1), `streams[0].destination.http.url: has a user or a password in it: "**redacted**" (give headers: { Authorization: "Basic ..." })`},
		{"fragment", strings.Replace(base("", ""), "http://h", "http://h/#x", 1), `streams[0].destination.http.url: has a fragment in it: "http://h/#x" (take out what stands after #)`},
		{"body", base("body: xml", ""), `streams[0].destination.http.body: is not firehose, ndjson or json_array: "xml" (write firehose, ndjson or json_array)`},
		{"longest key", base("access_key: "+strings.Repeat("k", 4096), ""), ""},
		{"key too long", base("access_key: "+strings.Repeat("k", 4097), ""), "streams[0].destination.http.access_key: has 4097 bytes (at most 4096)"},
		{"key of another body", base("body: ndjson, access_key: k", ""), "streams[0].destination.http.access_key: is of body firehose, and body is ndjson (give the endpoint's own header in headers)"},
		{"attributes of another body", base("body: ndjson, common_attributes: { a: b }", ""), "streams[0].destination.http.common_attributes: is of body firehose, and body is ndjson (give headers)"},
		{"50 attributes", base(attributes(50), ""), ""},
		{"51 attributes", base(attributes(51), ""), "streams[0].destination.http.common_attributes: has 51 attributes (at most 50)"},
		{"longest attribute", base("common_attributes: { "+strings.Repeat("n", 256)+": "+strings.Repeat("v", 1024)+" }", ""), ""},
		{"attribute too long", base("common_attributes: { a: "+strings.Repeat("v", 1025)+" }", ""), "streams[0].destination.http.common_attributes.a: has a name of 1 and a value of 1025 bytes (names have 1 to 256 bytes and are not blank, values up to 1024)"},
		{"content type of ndjson", base("body: ndjson, headers: { Content-Type: text/plain }", ""), ""},
		{"content type of firehose", base("headers: { Content-Type: text/plain }", ""), "streams[0].destination.http.headers.Content-Type: is a header that every request gets by itself (take it out)"},
		{"protocol header", base("headers: { x-amz-firehose-request-id: a }", ""), "streams[0].destination.http.headers.x-amz-firehose-request-id: is a header that every request gets by itself (take it out)"},
		{"header name", base("headers: { 'a b': c }", ""), "streams[0].destination.http.headers.a b: is not a header's name"},
		{"header of two lines", base(`headers: { a: "b\nc" }`, ""), "streams[0].destination.http.headers.a: has a value of several lines, which no header can have"},
		{"header twice", base("headers: { a: b, A: c }", ""), "streams[0].destination.http.headers.A: is given twice (keep one)"},
		{"headers as text", base("headers: s3cret", ""), `streams[0].destination.http.headers: wants a mapping of texts, not a scalar (write it like { Authorization: "Bearer ${TOKEN}" })`},
		{"header from a file", base("headers: { Authorization_file: "+secret+" }", ""), ""},
		{"header from a file of lines", base("headers: { A_file: "+lines+" }", ""), "streams[0].destination.http.headers.A_file: holds a text of several lines, which no header can have: \"" + lines + `"`},
		{"half a certificate", base("tls: { cert_file: /c }", ""), "streams[0].destination.http.tls: has only one of cert_file and key_file (give both or neither)"},
		{"retry", base("retry_duration: 5", ""), `streams[0].destination.http.retry_duration: is neither a duration nor forever: "5" (a duration needs a unit: did you mean 5s?)`},
		{"longest retry", base("retry_duration: 720h", ""), ""},
		{"retry too long", base("retry_duration: 721h", ""), `streams[0].destination.http.retry_duration: is above the most, 720h: "721h" (write forever for no end)`},
		{"in flight", base("max_in_flight: 65", ""), `streams[0].destination.http.max_in_flight: is above the most, 64: "65" (allowed: from 1 to 64)`},
		{"no backup", "streams: [ { name: s, destination: { http: { url: 'http://h' } } } ]", "streams[0].backup: is required with an http destination (say where records go that cannot be delivered: backup: { file: { path: DIR } } or { s3: { bucket: B } })"},
		{"parquet", base("", ", format: { parquet: { schema: [a int] } }"), "streams[0].format.parquet: cannot be posted to an http destination (take format out; body says what is posted)"},
		{"text settings", base("", ", format: { text: { delimiter: after } }"), "streams[0].format.text: has settings, and an http destination takes none of them (take format out; body and content_encoding say what is posted)"},
		{"largest body", base("", ", buffer: { size: 64MiB }"), ""},
		{"body too large", base("", ", buffer: { size: 65MiB }"), `streams[0].buffer.size: is more than a request takes: "65MiB" (at most 64MiB with an http destination)`},
		{"file size too large", base("", ", buffer: { file_size: 65MiB }"), `streams[0].buffer.file_size: is more than a request takes: "65MiB" (at most 64MiB with an http destination)`},
		{"empty backup", "streams: [ { name: s, destination: { file: { path: /l } }, backup: {} } ]", "streams[0].backup: wants exactly one of s3 or file"},
		{"two backups", "streams: [ { name: s, destination: { file: { path: /l } }, backup: { file: { path: /b }, s3: { bucket: bbb } } } ]", "streams[0].backup: takes exactly one of s3 or file, and has both (keep one)"},
		{"buffer of failed records", "streams: [ { name: s, destination: { file: { path: /l } }, backup: { buffer: { size: 5MiB }, file: { path: /b } } } ]", "streams[0].backup.buffer: is for source records, of which mode: failed keeps none (write mode: all, or take it out)"},
		{"no error output", "streams: [ { name: s, destination: { file: { path: /l } }, backup: { error_output: destination, file: { path: /b } } } ]", `streams[0].backup.error_output: leaves nothing to a backup with mode: failed: "destination" (write mode: all, or take the backup out)`},
		{"error output of requests", "streams: [ { name: s, destination: { http: { url: 'http://h' } }, backup: { mode: all, error_output: destination, file: { path: /b } } } ]", `streams[0].backup.error_output: is an http endpoint, which has none: "destination" (leave it out)`},
		{"smallest buffer", "streams: [ { name: s, destination: { file: { path: /l } }, backup: { mode: all, buffer: { size: 1KiB, interval: 0s }, file: { path: /b } } } ]", ""},
		{"backup in data_dir", "data_dir: /d\nstreams: [ { name: s, destination: { file: { path: /l } }, backup: { file: { path: /d/b } } } ]", `streams[0].backup.file.path: lies in data_dir, /d: "/d/b" (choose a directory outside of it)`},
		{"two error outputs", "streams: [ { name: s, destination: { file: { path: /l, error_output_prefix: 'e/' } }, backup: { file: { path: /b } } } ]", "streams[0].destination.file.error_output_prefix: is given although the stream has a backup, which all error output goes to (give it below backup)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeHTTP(t, c.text)
			var got []string
			if e, ok := err.(*Error); ok {
				for _, f := range e.Faults {
					got = append(got, f.String())
				}
			} else if err != nil {
				got = append(got, err.Error())
			}
			if c.want == "" && len(got) == 0 || len(got) == 1 && strings.HasSuffix(got[0], c.want) && c.want != "" {
				return
			}
			t.Errorf("got %q\nwant %q", slices.Clip(got), c.want)
		})
	}
}

// A stream that keeps all source records has a buffer for them; a specification of one that does not is as it was before
// there was any.
func TestBackupOfAll(t *testing.T) {
	dir := t.TempDir()
	of := func(backup string) *Stream {
		t.Helper()
		own := ""
		if strings.Contains(backup, "destination") {
			own = ", error_output_prefix: 'e/'"
		}
		s, err := decodeHTTP(t, "streams: [ { name: s, destination: { file: { path: "+dir+"/l"+own+" } }, backup: { "+backup+", file: { path: "+dir+"/b } } } ]")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	failed := of("mode: failed")
	if spec := string(failed.Spec()); failed.KeepsAll() || failed.Backup.Buffer != nil || strings.Contains(spec, `"error_output":`) || !strings.Contains(spec, `"backup":{"mode":"failed","file":`) {
		t.Errorf("mode failed: %+v, %s", failed.Backup, spec)
	}
	all := of("mode: all")
	if want := (BackupBuffer{Size: DefaultSize, Interval: DefaultBackupInterval}); !all.KeepsAll() || *all.Backup.Buffer != want || all.Backup.ErrorOutput != ErrorsToBackup {
		t.Errorf("mode all: %+v, buffer %+v", all.Backup, all.Backup.Buffer)
	}
	// With error_output: destination the destination's own error output is what it was, prefix included.
	own := of("mode: all, error_output: destination, buffer: { size: 1MiB }")
	if own.Destination.File.ErrorOutputPrefix != "e/" || own.Backup.Buffer.Size != MiB || own.Backup.Buffer.Interval != DefaultBackupInterval {
		t.Errorf("own error output: %+v, %+v", own.Destination.File, own.Backup.Buffer)
	}
	for _, s := range []*Stream{failed, all, own} {
		back, err := ParseSpec("s", s.Spec())
		if err != nil || string(back.Spec()) != string(s.Spec()) || back.KeepsAll() != s.KeepsAll() {
			t.Errorf("specification %s came back as %s, %v", s.Spec(), back.Spec(), err)
		}
	}
}
