package decompress

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"strings"
	"testing"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/transformtest"
)

func zip(text string) string {
	var b bytes.Buffer
	w := stdgzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func must(t testing.TB, o Options) *Decompress {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGzip(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	full := strings.Repeat("\x00", transform.MaxData)
	transformtest.Run(t, must(t, Options{Format: Gzip}), [][]string{
		{zip("hello"), "hello"},
		{zip(""), ""},
		{zip("two ") + zip("members"), "two members"},
		{zip(full), full},
		{zip(full + "x"), "Decompression failed.: The record cannot be expanded as gzip: it holds more than 16777216 bytes."},
		{zip(full + full), "Decompression failed.: The record cannot be expanded as gzip: it holds more than 16777216 bytes."},
		{"", "Decompression failed.: The record cannot be expanded as gzip: it is empty."},
		{"hello, I am no gzip", "Decompression failed.: The record cannot be expanded as gzip: gzip: invalid header."},
		{zip("hello")[:20], "Decompression failed.: The record cannot be expanded as gzip: unexpected EOF."},
		{zip("hello") + "garbage that is long enough", "Decompression failed.: The record cannot be expanded as gzip: gzip: invalid header."},
	})
}

const (
	document = `{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"g","logStream":"s","subscriptionFilters":["f"],` +
		`"logEvents":[{"id":"1","timestamp":1,"message":"first \u00e9"},{"id":"2","timestamp":2,"message":"{\"a\":1}"}]}`
	control = `{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],` +
		`"logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}`
)

func TestCloudWatchLogs(t *testing.T) {
	none := "Hydrant.Decompress: The record is no document of CloudWatch Logs: "
	transformtest.Run(t, must(t, Options{Format: CloudWatchLogs}), [][]string{
		{zip(document), document},
		{zip(control), control},
		{zip("[]"), "Hydrant.Decompress: The record is an array, a JSON object is needed."},
	})
	transformtest.Run(t, must(t, Options{Format: CloudWatchLogs, Extract: true}), [][]string{
		{zip(document), "first é\n{\"a\":1}\n"},
		{zip(control), "Dropped"},
		{zip(`{"messageType":"DATA_MESSAGE","logEvents":[]}`), ""},
		{zip(`{}`), none + "messageType is missing or no string."},
		{zip(`{"messageType":"OTHER"}`), none + `messageType is "OTHER".`},
		{zip(`{"messageType":"DATA_MESSAGE"}`), none + "logEvents is missing or no array."},
		{zip(`{"messageType":"DATA_MESSAGE","logEvents":[{"message":"a"},{"message":1}]}`), none + "logEvents[1].message is missing or no string."},
		{zip(`{"messageType":"DATA_MESSAGE","logEvents":[1]}`), none + "logEvents[0].message is missing or no string."},
		{document, "Decompression failed.: The record cannot be expanded as gzip: gzip: invalid header."},
	})
}

func TestFailuresHaveFirehosesType(t *testing.T) {
	c := transformtest.Chain(t, must(t, Options{Format: Gzip}))
	_, err := c.Apply(record.Row{Data: []byte("x")}, func(r transform.Result) error {
		if r.Failure.Type != "decompression-failed" || string(r.Row.Data) != "x" {
			t.Errorf("%+v %q", r.Failure, r.Row.Data)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, bad := range []Options{{}, {Format: "zstd"}, {Format: Gzip, Extract: true}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// Records are expanded as the standard library does it.
func FuzzDecompress(f *testing.F) {
	flagged := zip("hello")[:3] + "\x80" + zip("hello")[4:]
	for _, s := range []string{zip("hello"), zip(""), zip(document), zip("a") + zip("b"), "", "\x1f\x8b", zip("hello")[:15], flagged} {
		f.Add([]byte(s))
	}
	p := must(f, Options{Format: Gzip})
	logs := transformtest.Chain(f, must(f, Options{Format: CloudWatchLogs, Extract: true}))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := p.expand(nil, data)
		var want []byte
		z, zerr := stdgzip.NewReader(bytes.NewReader(data))
		if zerr == nil {
			want, zerr = io.ReadAll(io.LimitReader(z, transform.MaxData+1))
			if len(want) > transform.MaxData {
				zerr = io.ErrShortBuffer
			}
		}
		if err != nil && zerr == nil && reservedFlags(data) {
			return // the format wants them to be zero; the standard library does not look
		}
		if (err == nil) != (zerr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q: %q, %v; the standard library: %q, %v", data, got, err, want, zerr)
		}
		transformtest.Apply(t, logs, zip(string(data)))
	})
}

// reservedFlags tells whether something that may be a member's header has flags that RFC 1952 reserves.
func reservedFlags(data []byte) bool {
	for {
		_, rest, found := bytes.Cut(data, []byte("\x1f\x8b\x08"))
		if !found {
			return false
		}
		if len(rest) > 0 && rest[0]&0xe0 != 0 {
			return true
		}
		data = rest
	}
}
