package record

import (
	"bytes"
	"reflect"
	"testing"
)

func TestMeta(t *testing.T) {
	for _, m := range []Meta{
		{},
		{Topic: "clicks", Lane: "7", Offset: "12345", Timestamp: 1700000000123, Key: []byte("k"),
			Headers: []Header{{"trace", []byte("abc")}, {"empty", []byte{}}, {"null", nil}, {"trace", []byte{0, 255}}}},
		{Topic: "events", Lane: "shardId-000000000000", Offset: "495.3", Timestamp: -1, Key: []byte{}},
	} {
		b := AppendMeta([]byte("x"), &m)[1:]
		got, err := ParseMeta(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
		if got := MetaFault(b); got != "" {
			t.Errorf("%+v has the fault %q", m, got)
		}
		for n := range b {
			if _, err := ParseMeta(b[:n]); err == nil {
				t.Errorf("%d of %d bytes of %+v were taken", n, len(b), m)
			}
		}
		if _, err := ParseMeta(append(b[:len(b):len(b)], 0)); err == nil {
			t.Errorf("a byte too many behind %+v was taken", m)
		}
	}
}

// TestMetaFault: a fault stands at the end, and takes nothing where there is none.
func TestMetaFault(t *testing.T) {
	m := Meta{Topic: "clicks", Headers: []Header{{"a", []byte("b")}}, Fault: "schema 7 is not known"}
	got, err := ParseMeta(AppendMeta(nil, &m))
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v came back as %+v, %v", m, got, err)
	}
	if got := MetaFault(AppendMeta(nil, &m)); got != m.Fault {
		t.Errorf("the fault is %q", got)
	}
	with := len(AppendMeta(nil, &m))
	m.Fault = ""
	if without := len(AppendMeta(nil, &m)); with-without != 1+len("schema 7 is not known") {
		t.Errorf("a fault takes %d bytes", with-without)
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add(AppendMeta(nil, &Meta{Topic: "clicks", Lane: "7", Key: []byte("k"), Headers: []Header{{"a", nil}, {"b", []byte("c")}}}))
	f.Add(AppendMeta(nil, &Meta{Topic: "clicks", Fault: "x"}))
	f.Add([]byte{0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMeta(b)
		if err != nil {
			return
		}
		if got := MetaFault(b); got != m.Fault {
			t.Errorf("%x has the fault %q, and %q", b, m.Fault, got)
		}
		again, err := ParseMeta(AppendMeta(nil, &m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%x is %+v and then %+v, %v", b, m, again, err)
		}
		if bytes.Equal(m.Key, []byte{}) && (m.Key == nil) != (again.Key == nil) {
			t.Errorf("%x: no key and an empty key are not told apart", b)
		}
	})
}
