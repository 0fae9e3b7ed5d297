package directput

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hydrant/record"
)

// plain is what a put's body says, in plain data.
type plain struct {
	stream  string // with ":" before it, or "" when absent
	present bool
	count   int
	records []string
	faults  int
	unknown int
}

func decodePlain(body []byte, single bool) (plain, error) {
	b := record.NewBatch(make([]byte, 0, bound(len(body))))
	e, err := decodeBatch(body, single, b)
	if err != nil {
		return plain{}, err
	}
	p := plain{present: e.present, count: e.count, faults: len(e.faults), unknown: e.unknown}
	if e.stream != nil {
		p.stream = ":" + *e.stream
	}
	for data := range record.Records(b.Encoded()) {
		p.records = append(p.records, string(data))
	}
	if n, err := record.Check(b.Encoded()); err != nil || n != b.Count() || n != len(p.records) {
		return p, fmt.Errorf("bug: batch of %d records has %d: %w", b.Count(), n, err)
	}
	if len(b.Buffer()) > bound(len(body)) {
		return p, fmt.Errorf("bug: %d bytes of body made a batch of %d, more than %d", len(body), len(b.Buffer()), bound(len(body)))
	}
	return p, nil
}

var errReference = errors.New("refused by the reference")

// reference does what decodeBatch does by means of encoding/json, whole values at a time.
func reference(body []byte, single bool) (p plain, err error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return p, errReference
	}
	known := []string{"DeliveryStreamName", "Records"}
	if single {
		known[1] = "Record"
	}
	top, unknown, err := referenceObject(body, known)
	if err != nil {
		return p, err
	}
	p.unknown = unknown
	if v := top["DeliveryStreamName"]; v != nil {
		var s string
		if v[0] != '"' || json.Unmarshal(v, &s) != nil {
			return p, errReference
		}
		p.stream = ":" + s
	}
	v := top[known[1]]
	if v == nil {
		return p, nil
	}
	p.present = true
	list := []json.RawMessage{v}
	if !single {
		if v[0] != '[' {
			return p, errReference
		}
		if err := json.Unmarshal(v, &list); err != nil {
			return p, err
		}
	}
	for _, r := range list {
		p.count++
		fault := func() {
			if p.count <= MaxBatchRecords {
				p.faults++
			}
		}
		if string(r) == "null" {
			fault()
			continue
		}
		members, unknown, err := referenceObject(r, []string{"Data"})
		if err != nil {
			return p, err
		}
		p.unknown += unknown
		data := members["Data"]
		if data == nil {
			fault()
			continue
		}
		var s string
		if data[0] != '"' || json.Unmarshal(data, &s) != nil || strings.ContainsAny(s, "\r\n") {
			return p, errReference
		}
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return p, err
		}
		if len(raw) > MaxRecordBytes {
			fault()
		}
		p.records = append(p.records, string(raw))
	}
	return p, nil
}

// referenceObject returns the members of an object that are known and not null, and how many others it has.
func referenceObject(text []byte, known []string) (members map[string]json.RawMessage, unknown int, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, 0, errReference
	}
	members = map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, 0, err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, 0, err
		}
		name := key.(string)
		if !slices.Contains(known, name) {
			unknown++
			continue
		}
		if _, twice := members[name]; twice {
			return nil, 0, errReference
		}
		members[name] = v
	}
	for name, v := range members {
		if string(v) == "null" {
			delete(members, name)
		}
	}
	return members, unknown, nil
}

// compare decodes a body in all ways.
func compare(t *testing.T, body []byte) {
	t.Helper()
	for _, single := range []bool{false, true} {
		got, err := decodePlain(body, single)
		if err != nil && strings.HasPrefix(err.Error(), "bug:") {
			t.Fatal(err)
		}
		if e, ok := errors.AsType[*apiError](err); ok {
			if e.code != "SerializationException" {
				t.Fatalf("error %v", e)
			}
		}
		slowly, kind := decodeSlowly(body, single)
		if kind != kindOf(err) || kind == "" && !reflect.DeepEqual(got, slowly) {
			t.Fatalf("single %v, %q:\n got %+v, %v\nwant %+v, %s", single, body, got, err, slowly, kind)
		}
		if kind == "depth" {
			continue // package json has another limit
		}
		want, wantErr := reference(body, single)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("single %v, %q:\n got %v\nwant %v", single, body, err, wantErr)
		}
		if err == nil && (got.stream != want.stream || got.present != want.present || got.count != want.count || got.faults != want.faults ||
			got.unknown != want.unknown || !slices.Equal(got.records, want.records)) {
			t.Fatalf("single %v, %q:\n got %+v\nwant %+v", single, body, got, want)
		}
	}
}

// bodies are the beginnings of what chance makes.
var bodies = []string{
	`{"DeliveryStreamName":"s","Record":{"Data":"aGVsbG8K"}}`,
	`{"DeliveryStreamName":"s","Records":[{"Data":"YQ=="},{"Data":""},{"Data":"YWI="}]}`,
	` { "Records" : [ ] , "Record" : null , "Other" : [1,-2.5e+3,true,false,null,"x\"\\\/\b\f\n\r\t",{"a":{}}] } `,
	`{"\u0044eliveryStreamName":"\ud83d\ude00\ud800\ud800\u0041","Records":[{"D\u0061ta":"\/\/8\u003d"},null,{}]}`,
	`{"Record":{"Data":"YR=="},"Records":{"Data":"YQ"}}`,
	`{"Record":{"Data":"YQ==","Data":"YQ=="}}`,
	`{"Record":{"Data":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"}}`,
	`{"Record":{"Data":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh\nYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"}}`,
	"{\"Record\":{\"Data\":\"YWFh\n\n\n\n\"}}",
	`{"Records":[{"Data": "YQ=="}, {"Data": "YWI="}, {"Data":"YQ==" },{"Data":"YQ==","x":"é\u00e9"},{"Data":"YR\/+"}, {"Data":"YQ==\\"}]}`,
	`{"Records":[{"Data":"YWJj\/\/8="},{"Data":"\u0059WJj"},{"Data": "\u0059Q="},{"Data":"YWJj\/\/\/\/"},{"Data":"YWJj\/\/\/\/" }]}`,
	`{"x":"seven b","y":"eight by","z":"nine byte","w":"ten bytes\\","é":"eight by\té","v":"éééééééé\\n"}`,
	`{"DeliveryStreamName":7}`, `{}`, `[]`, `null`, ``, `{"a":1e}`, `{"a":01}`, "{\"a\":\"\xff\"}",
}

// TestDecodeChance compares with the reference what chance makes of good bodies: the same in every run, and
// a part of what FuzzDecode tries.
func TestDecodeChance(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	rng := rand.New(rand.NewPCG(3, 4))
	const alphabet = "{}[]\",:\\ \n=/+AYQabu0019dDe.-nrt"
	for range 30_000 {
		body := []byte(bodies[rng.IntN(len(bodies))])
		for range rng.IntN(4) {
			c := alphabet[rng.IntN(len(alphabet))]
			i := rng.IntN(len(body) + 1)
			switch rng.IntN(3) {
			case 0:
				body = slices.Insert(body, i, c)
			case 1:
				if i < len(body) {
					body[i] = c
				}
			case 2:
				body = slices.Delete(body, i, min(len(body), i+1+rng.IntN(3)))
			}
		}
		compare(t, body)
	}
}

// TestDecodeLengths decodes records of every length around the widths in which base64 is decoded.
func TestDecodeLengths(t *testing.T) {
	data := make([]byte, 400)
	for i := range data {
		data[i] = byte(i * 37)
	}
	for n := range len(data) {
		compare(t, []byte(batchOf(string(data[:n]), string(data[:len(data)-n]), string(data[n/2:n]))))
		wrong := []byte(batchOf(string(data[:n])))
		if i := bytes.LastIndexByte(wrong, '}') - 3; n > 0 {
			wrong[i-n%(n+1)] = '*' // the character n before the last
			compare(t, wrong)
		}
	}
}

// TestDecodeBytes has every byte at every place of what is read in blocks: strings with and without escapes, and
// Data. None of them is part of a character.
func TestDecodeBytes(t *testing.T) {
	const block = "0123456789abcdefghi"
	for _, form := range []string{`{"x":"%s"}`, `{"DeliveryStreamName":"\\/%s"}`, `{"Records":[{"Data":"YQ=="},{"Data":"` + strings.Repeat("YWJj", 16) + `%sA"}]}`} {
		for c := range 256 {
			for i := range len(block) {
				text := block[:i] + string([]byte{byte(c)}) + block[i+1:]
				compare(t, []byte(strings.Replace(form, "%s", text, 1)))
			}
		}
	}
}

// FuzzDecode: nothing panics, and what is accepted is what the reference makes of it.
func FuzzDecode(f *testing.F) {
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { compare(t, body) })
}

// clicks are lines of JSON of about 870 bytes, as the benchmarks elsewhere have them.
func clicks(n, size int) []string {
	rng := rand.New(rand.NewPCG(1, 1))
	lines := make([]string, n)
	for i := range lines {
		line := fmt.Appendf(make([]byte, 0, size), `{"event_id":"%016x%016x","ts":%d,"user":%d,"page":"/p/%d","pad":"`, rng.Uint64(), rng.Uint64(), 1789014240448+i, rng.IntN(1e6), rng.IntN(1e4))
		for len(line) < size-3 {
			line = append(line, byte('a'+rng.IntN(26)))
		}
		lines[i] = string(append(line, "\"}\n"...))
	}
	return lines
}

// BenchmarkEnvelope decodes request bodies. Bytes are those of the records; MB/s/core is by CPU time.
func BenchmarkEnvelope(b *testing.B) {
	f := func(name string, lines []string, change ...string) {
		body := strings.NewReplacer(change...).Replace(batchOf(lines...))
		b.Run(name, func(b *testing.B) { benchEnvelope(b, []byte(body), len(lines), len(lines[0])) })
	}
	f("records=500/size=1024", clicks(500, 1024))
	f("records=500/size=100", clicks(500, 100))
	f("records=1/size=1024", clicks(1, 1024))
	f("records=4/size=996147", clicks(4, 996147))
	// As Python's encoder writes it, with white space, and what is compressed as PHP's does, with escaped slashes.
	f("spaces", clicks(500, 1024), ":", ": ", ",", ", ")
	random := make([]byte, 1024)
	rand.NewChaCha8([32]byte{}).Read(random)
	f("escapes", slices.Repeat([]string{string(random)}, 500), "/", `\/`)
}

func benchEnvelope(b *testing.B, body []byte, records, size int) {
	b.SetBytes(int64(records * size))
	b.ReportAllocs()
	batch, buf := &record.Batch{}, make([]byte, 0, bound(len(body)))
	began, n := cpu(b), 0
	for b.Loop() {
		n++
		batch.Reset(buf)
		e, err := decodeBatch(body, false, batch)
		if err != nil || e.count != records {
			b.Fatal(e.count, err)
		}
	}
	b.ReportMetric(float64(n*records*size)/1e6/(cpu(b)-began).Seconds(), "MB/s/core")
}

// BenchmarkPut is a whole call without network and disk.
func BenchmarkPut(b *testing.B) {
	lines := clicks(500, 1024)
	body := []byte(batchOf(lines...))
	h, err := New(Options{Appender: discard{}, Directory: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(500 * 1024)
	b.ReportAllocs()
	for b.Loop() {
		w := &nowhere{}
		h.ServeHTTP(w, request(body))
		if w.code != 200 {
			b.Fatal(w.code)
		}
	}
}

// request is a PutRecordBatch with this body.
func request(body []byte) *http.Request {
	return &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/"}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{"Content-Type": {contentType}, "X-Amz-Target": {targetPrefix + opPutRecordBatch}},
	}
}

// discard is an Appender and Directory that keeps nothing.
type discard struct{}

func (discard) Append(_ context.Context, _ string, c record.Call) (record.Receipt, bool, error) {
	return record.Receipt{First: 1, Count: c.Batch.Count()}, false, nil
}
func (discard) Names() []string                     { return []string{"s"} }
func (discard) Describe(string) (Description, bool) { return Description{}, true }

// nowhere is a ResponseWriter that keeps only the status.
type nowhere struct {
	header http.Header
	code   int
}

func (w *nowhere) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}
func (w *nowhere) SetReadDeadline(time.Time) error { return nil }

func (w *nowhere) WriteHeader(code int)        { w.code = code }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
