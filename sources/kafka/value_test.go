package kafka

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/sources/sourcetest"
)

// schemaRegistry answers as Confluent's does, for schemas by id and by subject and version.
type schemaRegistry struct {
	*httptest.Server
	mu       sync.Mutex
	ids      map[string]map[string]any // path → answer
	asked    map[string]int
	down     bool
	password string
}

func newSchemaRegistry(t testing.TB) *schemaRegistry {
	r := &schemaRegistry{ids: map[string]map[string]any{}, asked: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *schemaRegistry) put(path, schema string, more ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := map[string]any{"schema": schema}
	for i := 0; i < len(more); i += 2 {
		a[more[i].(string)] = more[i+1]
	}
	r.ids[path] = a
}

func (r *schemaRegistry) set(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *schemaRegistry) times(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[path]
}

func (r *schemaRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[req.URL.Path]++
	_, password, _ := req.BasicAuth()
	a, ok := r.ids[req.URL.Path]
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	switch {
	case r.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case password != r.password:
		w.WriteHeader(http.StatusUnauthorized)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error_code":40403,"message":"Schema not found"}`)
	default:
		json.NewEncoder(w).Encode(a)
	}
}

func framed(id uint32, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), payload...)
}

const userSchema = `{"type":"record","name":"User","namespace":"a.b","fields":[
	{"name":"name","type":"string"},
	{"name":"age","type":["null","int"]},
	{"name":"born","type":{"type":"int","logicalType":"date"}},
	{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
	{"name":"tags","type":{"type":"array","items":"string"}},
	{"name":"friend","type":["null","User"],"default":null}]}`

// TestAvro: values become JSON as the schema says, whatever the types.
func TestAvro(t *testing.T) {
	f := func(schema string, value any, want string) {
		t.Helper()
		s, err := avro.Parse(schema)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Encode(value)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := parseAvro([]string{schema})
		if err != nil {
			t.Fatal(err)
		}
		got, err := mine.json(b)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", schema, got, err, want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is no JSON", got)
		}
		for n := range b {
			if out, err := mine.json(b[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are %s", schema, n, len(b), out)
			}
		}
		if _, err := mine.json(append(b[:len(b):len(b)], 0)); err == nil {
			t.Errorf("%s: a byte too many was taken", schema)
		}
	}
	at := time.Date(2026, 3, 1, 12, 30, 5, 123456789, time.UTC)
	logical := func(typ, name string) string { return fmt.Sprintf(`{"type":%q,"logicalType":%q}`, typ, name) }
	f(`"null"`, nil, `null`)
	f(`"boolean"`, true, `true`)
	f(`"int"`, int32(-7), `-7`)
	f(`"long"`, int64(math.MaxInt64), `9223372036854775807`)
	f(`"float"`, float32(0.1), `0.1`)
	f(`"double"`, 1e300, `1e+300`)
	f(`"double"`, math.NaN(), `"NaN"`)
	f(`"double"`, math.Inf(-1), `"-Infinity"`)
	f(`"string"`, "a\"\\\n\x01ü😀", `"a\"\\\n\u0001ü😀"`)
	f(`"bytes"`, []byte{0, 255}, `"AP8="`)
	f(`{"type":"fixed","name":"f","size":2}`, []byte{1, 2}, `"AQI="`)
	f(`{"type":"enum","name":"e","symbols":["A","B"]}`, "B", `"B"`)
	f(`{"type":"map","values":"long"}`, map[string]int64{"k\t": 1}, `{"k\t":1}`)
	f(`{"type":"array","items":{"type":"array","items":"int"}}`, [][]int32{{1, 2}, {}, {3}}, `[[1,2],[],[3]]`)
	f(logical("int", "date"), at, `"2026-03-01"`)
	f(logical("int", "time-millis"), 12*time.Hour+5*time.Millisecond, `"12:00:00.005"`)
	f(logical("long", "time-micros"), time.Hour, `"01:00:00"`)
	f(logical("long", "timestamp-millis"), at, `"2026-03-01T12:30:05.123Z"`)
	f(logical("long", "timestamp-micros"), at, `"2026-03-01T12:30:05.123456Z"`)
	f(logical("long", "timestamp-nanos"), at, `"2026-03-01T12:30:05.123456789Z"`)
	f(logical("long", "local-timestamp-micros"), at, `"2026-03-01T12:30:05.123456"`)
	f(logical("long", "timestamp-millis"), int64(math.MaxInt64), `9223372036854775807`)
	f(logical("string", "uuid"), "123e4567-e89b-12d3-a456-426614174000", `"123e4567-e89b-12d3-a456-426614174000"`)
	f(`{"type":"fixed","name":"u","size":16,"logicalType":"uuid"}`, [16]byte{0x12, 15: 1}, `"12000000-0000-0000-0000-000000000001"`)
	decimal := `{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}`
	for text, want := range map[string]string{"0": "0.000", "1.5": "1.500", "-0.001": "-0.001", "-12345.678": "-12345.678", "99999999999999999.999": "99999999999999999.999"} {
		r, _ := new(big.Rat).SetString(text)
		f(decimal, r, want)
	}
	user := map[string]any{"name": "n", "age": int32(3), "born": at, "at": at, "price": big.NewRat(1, 4), "tags": []string{"x"}, "friend": map[string]any{
		"name": "m", "age": nil, "born": at, "at": at, "price": big.NewRat(-1, 4), "tags": []string{}, "friend": nil}}
	f(userSchema, user, `{"name":"n","age":3,"born":"2026-03-01","at":"2026-03-01T12:30:05.123Z","price":0.25,"tags":["x"],"friend":{"name":"m","age":null,"born":"2026-03-01","at":"2026-03-01T12:30:05.123Z","price":-0.25,"tags":[],"friend":null}}`)
}

// TestAvroBounds: values that never end, or are nested without end, are refused.
func TestAvroBounds(t *testing.T) {
	nulls, err := parseAvro([]string{`{"type":"array","items":"null"}`})
	if err != nil {
		t.Fatal(err)
	}
	many := append(binary.AppendVarint(nil, 1<<60), 0)
	if _, err := nulls.json(many); err != errAvroLong {
		t.Errorf("%v", err)
	}
	few := append(binary.AppendVarint(nil, 3), 0)
	if got, err := nulls.json(few); err != nil || string(got) != "[null,null,null]" {
		t.Errorf("%s, %v", got, err)
	}
	sized := append(binary.AppendVarint(binary.AppendVarint(nil, -3), 0), 0)
	if got, err := nulls.json(sized); err != nil || string(got) != "[null,null,null]" {
		t.Errorf("%s, %v", got, err)
	}
	deep, err := parseAvro([]string{`{"type":"record","name":"n","fields":[{"name":"n","type":["null","n"]}]}`})
	if err != nil {
		t.Fatal(err)
	}
	chain := func(n int) []byte { return append([]byte(strings.Repeat("\x02", n)), 0) }
	if _, err := deep.json(chain(avroDepth / 2)); err != errAvroDeep {
		t.Errorf("%v", err)
	}
	if _, err := deep.json(chain(avroDepth/2 - 1)); err != nil {
		t.Errorf("%v", err)
	}
}

// TestRegistry: schemas are asked for once, with those that they refer to; ids that are not known fail records, and a
// registry that does not answer fails none.
func TestRegistry(t *testing.T) {
	r := newSchemaRegistry(t)
	r.password = "pw"
	g, err := newRegistry(Registry{URL: r.URL + "/", Username: "u", Password: func() (string, error) { return "pw", nil }})
	if err != nil {
		t.Fatal(err)
	}
	r.put("/schemas/ids/1", `"long"`)
	r.put("/schemas/ids/2", `message M {}`, "schemaType", "PROTOBUF")
	r.put("/schemas/ids/3", `{"type":"record","name":"r","fields":[{"name":"x","type":"a.Inner"}]}`,
		"references", []any{map[string]any{"name": "a.Inner", "subject": "in ner", "version": 2}})
	r.put("/subjects/in ner/versions/2", `{"type":"record","name":"Inner","namespace":"a","fields":[{"name":"y","type":"int"}]}`)
	r.put("/schemas/ids/4", `{"type":"recor"}`)
	r.put("/schemas/ids/5", `"int"`, "references", []any{map[string]any{"name": "a", "subject": "gone", "version": 1}})
	ask := func(id uint32, value string) string {
		s, err := g.schema(t.Context(), id)
		if err != nil {
			return err.Error()
		}
		out, err := s.json([]byte(value))
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	for range 3 {
		for _, c := range []struct {
			id          uint32
			value, want string
		}{
			{1, "\x0e", "7"},
			{2, "", `Schema 2 is of type "PROTOBUF" and not AVRO.`},
			{3, "\x02", `{"x":{"y":1}}`},
			{4, "", "Schema 4 cannot be used: "},
			{5, "", "Schema 5 refers to one that the schema registry does not know."},
			{6, "", "Schema 6 is not known to the schema registry."},
		} {
			if got := ask(c.id, c.value); !strings.HasPrefix(got, c.want) {
				t.Errorf("%d: %s, want %s", c.id, got, c.want)
			}
		}
	}
	for _, path := range []string{"/schemas/ids/1", "/schemas/ids/3", "/schemas/ids/6", "/subjects/in ner/versions/2"} {
		if n := r.times(path); n != 1 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	r.set(true)
	if got := ask(7, ""); got != "the schema registry answered /schemas/ids/7 with status 503" {
		t.Error(got)
	}
	r.set(false)
	r.put("/schemas/ids/7", `"long"`)
	if got := ask(7, "\x02"); got != "1" {
		t.Error(got)
	}
	r.password = "another"
	if got := ask(8, ""); !strings.Contains(got, "401: correct username and password") || strings.Contains(got, "pw") {
		t.Error(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.schema(ctx, 9); err == nil {
		t.Error("a canceled ctx asks")
	}
	g.client.CloseIdleConnections()
}

// TestDecode: what is not as the format says keeps its bytes and says why.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		format, value, data, fault string
	}{
		{Raw, "\x00\x00", "\x00\x00", ""},
		{ConfluentJSON, "\x00\x00\x00\x00\x07{}", "{}", ""},
		{ConfluentJSON, "\x00\x00\x00\x00\x07", "", ""},
		{ConfluentJSON, "\x00\x00\x00\x07", "\x00\x00\x00\x07", "The value does not begin with the id of a schema, as confluent_json does."},
		{ConfluentJSON, `{"a":1}`, `{"a":1}`, "The value does not begin with the id of a schema, as confluent_json does."},
		{ConfluentJSON, "", "", "The value does not begin with the id of a schema, as confluent_json does."},
	} {
		v, err := newValues(Value{Format: c.format}, false)
		if err != nil {
			t.Fatal(err)
		}
		data, fault, drop, err := v.decode(t.Context(), []byte(c.value))
		if err != nil || drop || string(data) != c.data || fault != c.fault {
			t.Errorf("%s %q: %q %q %v %v", c.format, c.value, data, fault, drop, err)
		}
	}
}

// TestRegistryDown: a registry that is down holds the partitions that wait for a schema of it, and no others; a schema that
// nobody knows fails its records alone.
func TestRegistryDown(t *testing.T) {
	reg := newSchemaRegistry(t)
	reg.put("/schemas/ids/1", `{"type":"record","name":"r","fields":[{"name":"n","type":"int"}]}`)
	reg.put("/schemas/ids/2", `"string"`)
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	var to sourcetest.Destination
	o := c.options()
	o.Value = Value{ConfluentAvro, Registry{URL: reg.URL}}
	m := newCounted(t)
	o.Reading = m.StreamReading
	run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	c.produce(&kgo.Record{Topic: "t", Partition: 0, Value: framed(1, []byte{2})})
	await(t, "a record", func() bool { return to.Len() == 1 })
	reg.set(true)
	c.produce(&kgo.Record{Topic: "t", Partition: 1, Value: framed(2, []byte("\x04ab"))})
	await(t, "a failed question", func() bool { return reg.times("/schemas/ids/2") > 0 })
	// More than is held in memory waits behind it, while the other partition goes on.
	big := framed(2, append(binary.AppendVarint(nil, 500_000), strings.Repeat("x", 500_000)...))
	for n := range 16 {
		c.produce(&kgo.Record{Topic: "t", Partition: 1, Value: big})
		c.produce(&kgo.Record{Topic: "t", Partition: 0, Value: framed(1, binary.AppendVarint(nil, int64(n)))})
	}
	await(t, "the other partition", func() bool { return to.Len() == 17 })
	reg.set(false)
	await(t, "those that waited", func() bool { return to.Len() == 34 })
	ordered(t, &to)
	c.produce(&kgo.Record{Topic: "t", Partition: 0, Value: framed(9, []byte{2})}, &kgo.Record{Topic: "t", Partition: 0, Value: framed(1, nil)}, &kgo.Record{Topic: "t", Partition: 0, Value: framed(1, []byte{6})})
	await(t, "the last", func() bool { return to.Len() == 37 })
	rows := to.Rows()[34:]
	if rows[0].Meta.Fault != "Schema 9 is not known to the schema registry." || rows[0].Data != string(framed(9, []byte{2})) {
		t.Errorf("%+v", rows[0])
	}
	if rows[1].Meta.Fault != "The value is not what schema 1 says: it ends early." || rows[2].Meta.Fault != "" || rows[2].Data != `{"n":3}` {
		t.Errorf("%+v", rows[1:])
	}
}

// FuzzAvro: no value of any length makes the walk fail in another way than by an error, and what it makes is JSON.
func FuzzAvro(f *testing.F) {
	s, err := parseAvro([]string{userSchema})
	if err != nil {
		f.Fatal(err)
	}
	w, err := avro.Parse(userSchema)
	if err != nil {
		f.Fatal(err)
	}
	at := time.Unix(0, 0)
	b, err := w.Encode(map[string]any{"name": "n", "age": int32(3), "born": at, "at": at, "price": big.NewRat(1, 4), "tags": []string{"x", "y"}, "friend": nil})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := s.json(b); err == nil && !json.Valid(out) {
			t.Errorf("%x is %s", b, out)
		}
	})
}
