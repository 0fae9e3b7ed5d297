package aggregate

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// whole is an aggregate that another writer made: pk1 "hello", pk2 "world!" with the hash key 123.
const whole = "f3899ac20a03706b310a03706b3212033132331a0908001a0568656c6c6f1a0c080110001a06776f726c64214be8207dea623edc19df3d4691ae3457"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed puts the beginning and the checksum around a message.
func sealed(message []byte) []byte {
	sum := md5.Sum(message)
	return slices.Concat(magic[:], message, sum[:])
}

// text is all records of a, in one line.
func text(a *Aggregate) string {
	var b strings.Builder
	for i := range a.Len() {
		r := a.At(i)
		fmt.Fprintf(&b, "%s=%s", r.PartitionKey, r.Data)
		if r.ExplicitHashKey != nil {
			fmt.Fprintf(&b, "(%s)", r.ExplicitHashKey)
		}
		b.WriteByte(' ')
	}
	return b.String()
}

func TestParse(t *testing.T) {
	var a Aggregate
	f := func(name string, data []byte, want string) {
		t.Helper()
		ok, err := a.Parse(data)
		got := text(&a)
		switch {
		case err != nil:
			var index *IndexError
			var key *KeyError
			if !errors.As(err, &index) && !errors.As(err, &key) || !ok {
				t.Errorf("%s: %v, %v", name, ok, err)
			}
			got += "! " + err.Error()
		case !ok:
			got += "none"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	good := unhex(t, whole)
	f("of another writer", good, "pk1=hello pk2=world!(123) ")
	f("empty", nil, "none")
	f("short", good[:3], "none")
	f("only the beginning", good[:4], "none")
	f("sixteen bytes after the beginning", append(slices.Clone(good[:4]), make([]byte, 16)...), "none")
	f("other data", []byte(`{"a":1}`+strings.Repeat(" ", 40)), "none")
	f("another checksum", append(slices.Clone(good[:len(good)-1]), 0), "none")
	f("another message", slices.Concat(good[:10], []byte{good[10] + 1}, good[11:]), "none")
	f("torn", good[:len(good)-1], "none")
	f("a byte more", append(slices.Clone(good), 0), "none")
	f("no message behind the right checksum", sealed(unhex(t, "0a")), "none")
	f("a length beyond the end", sealed(unhex(t, "0aff01")), "none")
	f("a length of all bits", sealed(unhex(t, "0affffffffffffffffff01")), "none")
	f("no data, which is required", sealed(unhex(t, "0a0161 1a020800")), "none")
	f("no key, which is required", sealed(unhex(t, "0a0161 1a021a00")), "none")
	f("a record that ends early", sealed(unhex(t, "0a0161 1a0208")), "none")
	f("no records", sealed(unhex(t, "0a0161")), "")
	f("a table behind the records", sealed(unhex(t, "1a0508001a0178 0a0161")), "a=x ")
	f("empty key and data", sealed(unhex(t, "0a00 1a0408001a00")), "= ")
	f("tags and fields of later versions", sealed(unhex(t, "0a0161 220130 2801 1a0a 0800 1a0178 22030a0161")), "a=x ")
	f("a field of another type", sealed(unhex(t, "0801 0a0161 1a0508001a0178")), "a=x ")
	f("fields that are there twice", sealed(unhex(t, "0a0161 0a0162 1a0a 0800 0801 1a0178 1a0179")), "b=y ")
	f("a group", sealed(unhex(t, "2b2c 0a0161 1a0508001a0178")), "a=x ")
	f("a key outside its table", sealed(unhex(t, "0a0161 1a0508001a0178 1a0508011a0178")), "! record 1 of the aggregate has partition key 1 of a table of 1")
	f("a key without a table", sealed(unhex(t, "1a0508001a0178")), "! record 0 of the aggregate has partition key 0 of a table of 0")
	f("a hash key outside its table", sealed(unhex(t, "0a0161 1a07080010001a0178")), "! record 0 of the aggregate has explicit hash key 0 of a table of 0")
	f("a key that fits no table", sealed(unhex(t, "0a0161 1a0e08ffffffffffffffffff011a0178")), "! record 0 of the aggregate has partition key 4294967294 of a table of 1")
	f("a hash key that fits no table", sealed(unhex(t, "0a0161 1a10080010ffffffffffffffffff011a0178")), "! record 0 of the aggregate has explicit hash key 4294967294 of a table of 0")
	long := func(n int) []byte {
		return Append(nil, []Record{{PartitionKey: bytes.Repeat([]byte("k"), n), Data: []byte("x")}})
	}
	f("the longest key", long(MaxKey), strings.Repeat("k", MaxKey)+"=x ")
	f("a longer key", long(MaxKey+1), "! partition key 0 of the aggregate has 1025 bytes, and the most is 1024")
	f("after an error", good, "pk1=hello pk2=world!(123) ")
}

func TestParseLarge(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 10<<20-40)
	data := Append(nil, []Record{{PartitionKey: []byte("k"), Data: big}})
	if len(data) > 10<<20 || len(data) < 10<<20-16 {
		t.Fatalf("%d bytes: the test means one of 10 MiB", len(data))
	}
	var a Aggregate
	if ok, err := a.Parse(data); !ok || err != nil || a.Len() != 1 || !bytes.Equal(a.At(0).Data, big) {
		t.Errorf("a record of 10 MiB: %v, %v, %d records", ok, err, a.Len())
	}
}

func TestAppendWritesWhatAnotherWriterDoes(t *testing.T) {
	// The other writer had put a key into the table of hash keys; ours comes to the same bytes.
	got := hex.EncodeToString(Append(nil, []Record{
		{PartitionKey: []byte("pk1"), Data: []byte("hello")},
		{PartitionKey: []byte("pk2"), ExplicitHashKey: []byte("123"), Data: []byte("world!")},
	}))
	if got != whole {
		t.Errorf("got  %s\nwant %s", got, whole)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, whole))
	f.Add(unhex(f, whole)[4:44])
	f.Add(unhex(f, "0a01611a0e08ffffffffffffffffff011a0178"))
	f.Add(unhex(f, "1a0508001a01780a0161"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again Aggregate
		_, _ = a.Parse(b)
		// With the right beginning and checksum, so that the message is read.
		ok, err := a.Parse(sealed(b))
		if err != nil && (!ok || a.Len() != 0) {
			t.Fatalf("%v, %v, %d records", ok, err, a.Len())
		}
		if !ok || err != nil || a.Len() == 0 {
			return
		}
		records := make([]Record, a.Len())
		for i := range records {
			records[i] = a.At(i)
		}
		if ok, err := again.Parse(Append(nil, records)); !ok || err != nil || text(&again) != text(&a) {
			t.Fatalf("written again: %v, %v: %q, want %q", ok, err, text(&again), text(&a))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var records []Record
	for i := range 500 {
		records = append(records, Record{PartitionKey: protowire.AppendVarint(nil, uint64(i%50)), Data: bytes.Repeat([]byte("x"), 300)})
	}
	data := Append(nil, records)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var a Aggregate
	for b.Loop() {
		if ok, err := a.Parse(data); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
