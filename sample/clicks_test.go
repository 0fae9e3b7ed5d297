package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func hash(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestClicksAreThePublishedBytes(t *testing.T) {
	f := func(n uint64, size int, want string) {
		t.Helper()
		got := Clicks(DefaultSeed, 0, n)
		if len(got) != size || hash(got) != want {
			t.Errorf("%d lines: %d bytes with hash %s, want %d with %s", n, len(got), hash(got), size, want)
		}
	}
	f(1, 946, "c8261e610652c11121236ec40328e20a019eb332d127ca132ae110568a769b27")
	f(1000, 867_271, "6929735eb339be0828bf96ecdbb6927a37c27cf90a0508e41b04f6acc18be725")
}

// Records do not depend on each other, whatever way they are asked for.
func TestEveryWayGivesTheSameRecords(t *testing.T) {
	c := Clickstream{Seed: DefaultSeed}
	want := Clicks(DefaultSeed, 0, 50)
	if got := append(c.Lines(0, 20), c.Lines(20, 30)...); !bytes.Equal(got, want) {
		t.Error("two ranges joined are not the whole")
	}
	var all []byte
	next := uint64(0)
	for i, r := range c.All(0, 50) {
		if i != next {
			t.Fatalf("index %d, want %d", i, next)
		}
		next++
		all = append(append(all, r...), '\n')
	}
	if !bytes.Equal(all, want) {
		t.Error("All is not Lines")
	}
	var w bytes.Buffer
	if err := c.Write(&w, 0, 3000); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.Bytes(), c.Lines(0, 3000)) {
		t.Error("Write is not Lines")
	}
	if bytes.Equal(Clicks(7, 0, 1), Clicks(8, 0, 1)) {
		t.Error("the seed makes no difference")
	}
}

func TestStartAndStepMoveTheEventTime(t *testing.T) {
	start := time.Date(2031, 12, 31, 23, 59, 0, 0, time.UTC)
	c := Clickstream{Seed: 1, Start: start, Step: 1500 * time.Microsecond}
	onTime := 0
	for i, r := range c.All(0, 2000) {
		var e struct {
			EventTime time.Time `json:"event_time"`
		}
		if err := json.Unmarshal(r, &e); err != nil {
			t.Fatal(err)
		}
		after := e.EventTime.Sub(start.Add(time.Duration(i) * c.Step))
		if after < -2*time.Hour || after > 5*time.Second {
			t.Fatalf("record %d has its event %v after its turn", i, after)
		}
		if after >= -2*time.Millisecond {
			onTime++
		}
	}
	if onTime < 1950 || onTime == 2000 {
		t.Errorf("%d of 2000 records are on time, want about 1980", onTime)
	}
	named := Clickstream{Seed: 1, Start: time.UnixMilli(defaultStart), Step: defaultStep * time.Millisecond}
	if !bytes.Equal(named.Lines(0, 100), Clicks(1, 0, 100)) {
		t.Error("the default start and step, written down, give other records")
	}
}

func TestVariants(t *testing.T) {
	c := Clickstream{Seed: DefaultSeed}
	moved := 0
	for i, r := range c.All(0, 300) {
		var want, got any
		if err := json.Unmarshal(r, &want); err != nil {
			t.Fatal(err)
		}
		s := Shuffled(1, i, r)
		if err := json.Unmarshal(s, &got); err != nil || !reflect.DeepEqual(got, want) || len(s) != len(r) {
			t.Fatalf("shuffled record %d is another value: %v\n%s\n%s", i, err, r, s)
		}
		if !bytes.HasPrefix(s, []byte(`{"event_id"`)) {
			moved++
		}
		s = Spaced(r)
		got = nil
		if err := json.Unmarshal(s, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("spaced record %d is another value: %v\n%s", i, err, s)
		}
		if i == 0 && !bytes.HasPrefix(s, []byte(`{"event_id": "ed70b18d-407b-49c6-bded-3761af1ef8b2", "event_type": "`)) {
			t.Errorf("spaced record starts %.80s", s)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, s); err != nil || !bytes.Equal(compact.Bytes(), r) {
			t.Fatalf("spaced record %d is not the record with blanks", i)
		}
	}
	if moved < 250 {
		t.Errorf("%d of 300 shuffled records start with another member, want about 285", moved)
	}
}

func TestBroken(t *testing.T) {
	c := Clickstream{Seed: DefaultSeed}
	seen := map[Fault]bool{}
	for i := range uint64(14_000) {
		fault := FaultOf(i)
		if (fault != Sound) != (i%1000 == 999) {
			t.Fatalf("record %d has fault %d", i, fault)
		}
		if fault == Sound {
			continue
		}
		seen[fault] = true
		r := c.Append(nil, i)
		b := Broken(i, r)
		if bytes.Equal(b, r) {
			t.Fatalf("record %d with fault %d is unchanged", i, fault)
		}
		strict := json.Valid(b) && utf8.Valid(b)
		if wantValid := fault == StatusIsString || fault == TagsIsObject; strict != wantValid {
			t.Errorf("record %d with fault %d: valid JSON is %v, want %v\n%s", i, fault, strict, wantValid, b)
		}
		if strict {
			var e struct {
				Status, Tags json.RawMessage
				Items        []any
			}
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatal(err)
			}
			if got, want := string(e.Status) == `"fine"`, fault == StatusIsString; got != want {
				t.Errorf("record %d with fault %d: status %s", i, fault, e.Status)
			}
			if got, want := string(e.Tags) == `{"promo":true}`, fault == TagsIsObject; got != want {
				t.Errorf("record %d with fault %d: tags %s", i, fault, e.Tags)
			}
		}
	}
	if len(seen) != int(faults)-1 {
		t.Errorf("%d faults seen, want %d", len(seen), faults-1)
	}
}

func TestBodies(t *testing.T) {
	block := BlockBatch()
	if len(block) != 690_043 {
		t.Errorf("the batch of blocks has %d bytes, want 690,043", len(block))
	}
	var body struct {
		DeliveryStreamName string
		Records            []struct{ Data []byte }
	}
	if err := json.Unmarshal(block, &body); err != nil {
		t.Fatal(err)
	}
	var payload []byte
	for _, r := range body.Records {
		payload = append(payload, r.Data...)
	}
	if len(body.Records) != 500 || !bytes.Equal(payload, Clicks(DefaultSeed, 0, 700)[:512_000]) {
		t.Errorf("%d records with %d bytes that are not the stream's first", len(body.Records), len(payload))
	}

	if err := json.Unmarshal(LineBatch(2), &body); err != nil {
		t.Fatal(err)
	}
	payload = nil
	for _, r := range body.Records {
		payload = append(append(payload, r.Data...), '\n')
	}
	if body.DeliveryStreamName != "clicks" || !bytes.Equal(payload, Clicks(DefaultSeed, 1000, 500)) {
		t.Errorf("the third batch of lines is not records 1000 to 1499")
	}

	got := string(AppendRecordBody(nil, "s", []byte("abc")))
	if want := `{"DeliveryStreamName":"s","Record":{"Data":"` + base64.StdEncoding.EncodeToString([]byte("abc")) + `"}}`; got != want {
		t.Errorf("body of PutRecord %s, want %s", got, want)
	}
}

func TestTables(t *testing.T) {
	sum := uint64(0)
	for _, e := range eventTypes {
		sum += e.weight
	}
	if sum != 1000 {
		t.Errorf("weights of event types add up to %d", sum)
	}
	for i, w := range words {
		if ascii := strings.IndexFunc(w, func(r rune) bool { return r >= 0x80 || r == '&' }) < 0; i < asciiWords && !ascii {
			t.Errorf("word %d, %q, cannot stand in a URL", i, w)
		}
	}
	if len(words) != 64 || len(tags) != 16 || len(cities) != 32 {
		t.Errorf("%d words, %d tags, %d cities", len(words), len(tags), len(cities))
	}
}

func BenchmarkClicks(b *testing.B) {
	const n = 10_000
	c := Clickstream{Seed: DefaultSeed}
	b.SetBytes(int64(len(c.Lines(0, n))))
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = buf[:0]
		for i := range uint64(n) {
			buf = append(c.Append(buf, i), '\n')
		}
	}
}
