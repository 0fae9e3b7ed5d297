package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// contents are the records of an encoded batch.
func contents(encoded []byte) []string {
	var records []string
	for data := range Records(encoded) {
		records = append(records, string(data))
	}
	return records
}

func TestBatch(t *testing.T) {
	long := strings.Repeat("x", 300)
	want := []string{"a", "", long, "\x00\xff"}
	encoded := []byte("\x01a\x00\xac\x02" + long + "\x02\x00\xff")
	for name, b := range map[string]*Batch{
		"zero":      {},
		"nil":       NewBatch(nil),
		"small":     NewBatch(make([]byte, 5)),
		"exact":     NewBatch(make([]byte, 0, Headroom+len(encoded))),
		"spacious":  NewBatch(make([]byte, 77, 1<<16)),
		"no longer": NewBatch(make([]byte, 0, Headroom)),
	} {
		for range 2 { // the second time after Reset
			if b.Count() != 0 || b.Payload() != 0 || len(b.Encoded()) != 0 {
				t.Errorf("%s: an empty batch has %d records, %d bytes, %q", name, b.Count(), b.Payload(), b.Encoded())
			}
			for i, r := range want {
				if i%2 == 0 {
					b.Append([]byte(r))
				} else if n := copy(b.Extend(len(r)), r); n != len(r) {
					t.Errorf("%s: Extend(%d) has %d bytes", name, len(r), n)
				}
			}
			if b.Count() != 4 || b.Payload() != 303 || !bytes.Equal(b.Encoded(), encoded) {
				t.Errorf("%s: %d records, %d bytes, %q", name, b.Count(), b.Payload(), b.Encoded())
			}
			if got := b.Buffer(); len(got) != Headroom+len(encoded) || !bytes.Equal(got[Headroom:], encoded) {
				t.Errorf("%s: buffer of %d bytes", name, len(got))
			}
			if got := contents(b.Encoded()); !slices.Equal(got, want) {
				t.Errorf("%s: records %q", name, got)
			}
			if n, err := Check(b.Encoded()); n != 4 || err != nil {
				t.Errorf("%s: Check: %d, %v", name, n, err)
			}
			b.Reset(b.Buffer())
		}
	}
}

// TestBatchUsesItsBuffer: what fits is laid out in the buffer that was given.
func TestBatchUsesItsBuffer(t *testing.T) {
	buf := make([]byte, 0, 1024)
	b := NewBatch(buf)
	b.Append([]byte("abc"))
	copy(b.Extend(3), "def")
	if got := string(buf[Headroom : Headroom+8]); got != "\x03abc\x03def" {
		t.Errorf("the buffer has %q", got)
	}
	if &b.Buffer()[0] != &buf[:1][0] {
		t.Error("the batch moved")
	}
}

// TestViewsAreBounded: appending to a record, or to what Extend returned, does not write over the next one.
func TestViewsAreBounded(t *testing.T) {
	b := NewBatch(make([]byte, 0, 1024))
	view := b.Extend(1)
	copy(view, "a")
	b.Append([]byte("b"))
	_ = append(view, "XYZ"...)
	for data := range Records(b.Encoded()) {
		_ = append(data, "XYZ"...)
	}
	if got := contents(b.Encoded()); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("records %q", got)
	}
}

func TestRecordsStops(t *testing.T) {
	b := &Batch{}
	for range 5 {
		b.Append([]byte("x"))
	}
	n := 0
	for range Records(b.Encoded()) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d records after a break at 2", n)
	}
}

func TestCheck(t *testing.T) {
	f := func(encoded string, count int, offset int) {
		t.Helper()
		n, err := Check([]byte(encoded))
		want := ""
		if offset >= 0 {
			want = fmt.Sprintf("record %d at byte %d: length runs past the end of the batch", count, offset)
		}
		if n != count || err == nil != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: got %d, %v, want %d, %q", encoded, n, err, count, want)
		}
		if got := len(contents([]byte(encoded))); got != count {
			t.Errorf("%q: Records has %d, want %d", encoded, got, count)
		}
	}
	f("", 0, -1)
	f("\x00", 1, -1)
	f("\x01a\x00\x02bc", 3, -1)
	f("\x01", 0, 0)
	f("\x01a\x02b", 1, 2)
	f("\x00\x80", 1, 1)
	f("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc", 0, 0) // 2^64-1
	f("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02abc", 0, 0) // more than 64 bits
	f("\xff\xff\xff\xff\xff\xff\xff\xff\x7fabc", 0, 0)     // 2^63-1
}

// FuzzCheck: nothing panics, Check and Records agree, and records that are appended again come out the same.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x01a\x00\x02bc", "\x01", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x81\x00a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		count, err := Check(encoded)
		records := contents(encoded)
		if len(records) != count {
			t.Fatalf("Check: %d, Records: %d", count, len(records))
		}
		b, total := NewBatch(nil), int64(0)
		for i, r := range records {
			if i%2 == 0 {
				b.Append([]byte(r))
			} else {
				copy(b.Extend(len(r)), r)
			}
			total += int64(len(r))
		}
		if !slices.Equal(contents(b.Encoded()), records) || b.Payload() != total {
			t.Fatalf("%q became %q", records, b.Encoded())
		}
		// Lengths need not be of the shortest form, but the shortest form is never longer.
		if err == nil && len(b.Encoded()) > len(encoded) {
			t.Fatalf("%q became %q", encoded, b.Encoded())
		}
	})
}

var someDirectory = [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}

func TestID(t *testing.T) {
	f := func(id ID, want string) {
		t.Helper()
		got := id.String()
		if got != want || len(got) != IDLength {
			t.Errorf("%+v: got %q, want %q", id, got, want)
		}
		back, err := ParseID(got)
		if err != nil || back != id {
			t.Errorf("%q: got %+v, %v, want %+v", got, back, err, id)
		}
		if appended := string(id.Append([]byte("x:"))); appended != "x:"+want {
			t.Errorf("Append: %q", appended)
		}
	}
	f(ID{}, "000000000000000000000000000000000000000000000")
	f(ID{Seq: 1}, "000000000000000000000000000000000000000000002")
	f(ID{Directory: someDirectory, Incarnation: math.MaxUint32, Seq: math.MaxUint64}, "008i4cq4alj7f24platspnfevvvvvvvvvvvvvvvvvvvvu")
	f(ID{Directory: someDirectory, Incarnation: 3, Seq: 256}, "008i4cq4alj7f24platspnfevs00000300000000000g0")
}

// TestIDsSortBySequence: the printed form of one stream's ids sorts as the records do.
func TestIDsSortBySequence(t *testing.T) {
	r := Receipt{Directory: someDirectory, Incarnation: 3, First: 250}
	last := ""
	for i := range 1000 {
		id := r.ID(i)
		if id.Seq != 250+uint64(i) || id.Incarnation != 3 || id.Directory != someDirectory {
			t.Fatalf("record %d: %+v", i, id)
		}
		if id.String() <= last {
			t.Fatalf("%q does not sort after %q", id, last)
		}
		last = id.String()
	}
}

func TestParseIDRefuses(t *testing.T) {
	good := ID{Directory: someDirectory, Incarnation: 3, Seq: 256}.String()
	for _, s := range []string{"", "x", good[:44], good + "0", strings.ToUpper(good), good[:44] + "1", good[:44] + "w", good[:44] + "=", " " + good[1:], good[:20] + "\n" + good[20:44],
		"49578734086442259037497492980620233840400173390482112514000000"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q: taken for %+v", s, id)
		} else if !strings.Contains(err.Error(), "not a record id of this program") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// FuzzParseID: nothing panics, and there is one text for each id.
func FuzzParseID(f *testing.F) {
	f.Add("")
	f.Add(ID{}.String())
	f.Add(ID{Directory: someDirectory, Incarnation: 3, Seq: 256}.String())
	f.Add(strings.Repeat("v", IDLength))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && id.String() != s {
			t.Fatalf("%q is read as %+v, which prints as %q", s, id, id)
		}
		// And the other way, from what the text holds as bytes.
		var raw [idBytes]byte
		copy(raw[:], s)
		id = ID{Directory: [16]byte(raw[:16]), Incarnation: binary.BigEndian.Uint32(raw[16:]), Seq: binary.BigEndian.Uint64(raw[20:])}
		if back, err := ParseID(id.String()); err != nil || back != id {
			t.Fatalf("%+v prints as %q, which is read as %+v, %v", id, id, back, err)
		}
	})
}

func TestErrors(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if got := fmt.Errorf("append: %w", err).Error(); got != "append: "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(&NotFound{Stream: "s"}, `no stream "s"`)
	f(&NotFound{Stream: "s", Inactive: true}, `stream "s" takes no records`)
	f(&Refusal{Reason: "disk", Message: "The disk is full."}, "The disk is full.")
	if r, ok := errors.AsType[*Refusal](fmt.Errorf("x: %w", &Refusal{Reason: "disk"})); !ok || r.Reason != "disk" {
		t.Errorf("got %+v", r)
	}
}

func BenchmarkBatch(b *testing.B) {
	data := bytes.Repeat([]byte("x"), 870)
	batch, buf := &Batch{}, make([]byte, 1<<20)
	b.SetBytes(500 * int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset(buf)
		for range 500 {
			batch.Append(data)
		}
	}
}

func BenchmarkID(b *testing.B) {
	id, dst := ID{Directory: someDirectory, Seq: 1}, make([]byte, 0, IDLength)
	b.SetBytes(IDLength)
	b.ReportAllocs()
	for b.Loop() {
		dst = id.Append(dst[:0])
	}
}

// TestKeep drops records from the end, down to none.
func TestKeep(t *testing.T) {
	all := []string{"a", "", strings.Repeat("x", 300), "b"}
	for n := range len(all) + 2 {
		b, want := NewBatch(nil), NewBatch(nil)
		for i, r := range all {
			b.Append([]byte(r))
			if i < n {
				want.Append([]byte(r))
			}
		}
		b.Keep(n)
		if b.Count() != want.Count() || b.Payload() != want.Payload() || !bytes.Equal(b.Encoded(), want.Encoded()) {
			t.Errorf("%d kept: %d records, %d bytes, %q", n, b.Count(), b.Payload(), b.Encoded())
		}
	}
	var zero Batch
	if zero.Keep(3); zero.Count() != 0 || len(zero.Encoded()) != 0 {
		t.Errorf("the zero batch kept %d records", zero.Count())
	}
}

// TestRetract takes records back whose lengths take one to four bytes.
func TestRetract(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1<<21 - 1, 1 << 21} {
		b := NewBatch(nil)
		b.Append([]byte("kept"))
		want := string(b.Buffer())
		b.Extend(n)
		b.Retract(n)
		if string(b.Buffer()) != want || b.Count() != 1 || b.Payload() != 4 {
			t.Errorf("%d bytes were not taken back: %d records, %d bytes, buffer of %d", n, b.Count(), b.Payload(), len(b.Buffer()))
		}
		b.Append([]byte("next"))
		if count, err := Check(b.Encoded()); count != 2 || err != nil {
			t.Errorf("%d bytes: %d records, %v", n, count, err)
		}
	}
}
