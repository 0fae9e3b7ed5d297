package buffer

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hydrant/record"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares bytes with the dump in testdata/golden.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name+".hex")
	// zeros at the end say nothing
	trimmed := bytes.TrimRight(b, "\x00")
	got := fmt.Sprintf("%d bytes\n%s", len(b), hex.Dump(trimmed))
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s has changed on disk; got\n%s", name, got)
	}
}

func id16(b byte) (id [16]byte) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

func setOf(numbers ...int) (s objectSet) {
	for _, i := range numbers {
		s.add(i)
	}
	return s
}

const testSalt = 0x5a17

// sampleEvents has one of each kind, and both kinds of REPLACE and of sets.
func sampleEvents() map[string]event {
	head := ManifestHead{
		ID: id16(1), Incarnation: 7, Consumer: Main, Version: 3, Epoch: 9, First: 100, Next: 103,
		Counts: Counts{OK: 2, Dropped: 0, Failed: 1},
	}
	pack := packRef{ID: id16(0x40), Length: 12345}
	for i := range pack.Footer {
		pack.Footer[i] = byte(i)
	}
	manifest := &manifestEvent{Head: head, Objects: 3, Destinations: []string{"clicks/data/s3", "clicks/error/s3"}, Packs: []packRef{pack}}
	replaced := *manifest
	replaced.Head.ID = id16(0x20)
	replaced.Head.Replaces = head.ID
	replaced.Head.Replaced = []int{0, 2}
	from := func(id byte, source Source, lost int64) *manifestEvent {
		m := *manifest
		m.Head.ID, m.Head.Source, m.Head.Lost = id16(id), source, lost
		return &m
	}
	raw := &runEvent{
		Head: RunHead{Incarnation: 7, Consumer: Main, Kind: RunRaw, First: 100, Next: 103},
		Ref:  runRef{ID: id16(0x50), Length: 4711, Footer: pack.Footer}, Sum: runSum{Rows: 3, Records: 3, Bytes: 99, Oldest: 1700000000000000},
	}
	routed := &runEvent{
		Head: RunHead{Incarnation: 7, Consumer: Main, Kind: RunRouted, Version: 3, Epoch: 9, N: 2, First: 100, Next: 103, Counts: Counts{OK: 1, Dropped: 1}, Lost: 1, Watermark: 5},
		Ref:  runRef{ID: id16(0x60), Length: 4712, Footer: pack.Footer}, Sum: runSum{Rows: 2, Records: 1, Bytes: 98, Oldest: 1700000000000001},
	}
	lanes := laneMarks{Rows: 3, At: []LanePosition{{"clicks-0", []byte("4711")}, {"clicks-10", []byte{0, 0xFF}}}}
	rawLanes, manifestLanes := *raw, *manifest
	rawLanes.Head.Consumer, rawLanes.Ref.ID, rawLanes.Lanes = Main, id16(0x51), lanes
	manifestLanes.Head.ID, manifestLanes.Lanes = id16(0x75), lanes
	return map[string]event{
		"run-lanes":          &rawLanes,
		"manifest-lanes":     &manifestLanes,
		"lanes":              &lanesEvent{Incarnation: 7, At: 100, Set: lanes.At, Gone: []string{"@start", "clicks-3"}},
		"run-raw":            raw,
		"run-routed":         routed,
		"manifest-key":       from(0x71, Source{Kind: SourceKey, Key: KeyHash([]byte("\x01a/")), Run: 2}, 0),
		"manifest-sweep":     from(0x72, Source{Kind: SourceSweep, Run: 3, Bound: []byte("\x01b/")}, 0),
		"manifest-sweep-all": from(0x73, Source{Kind: SourceSweep, Run: 3, All: true}, 0),
		"manifest-lossy":     from(0x74, Source{}, 4),
		"stream": &streamEvent{Stream: Stream{
			Incarnation: 7, Name: "clicks", State: Paused, Version: 3, Tags: map[string]string{"team": "web", "env": "prod"},
			Consumers: []uint8{Main, Backup}, Spec: []byte(`{"format":"text"}`),
			Created: time.UnixMicro(1700000000000001).UTC(), Changed: time.UnixMicro(1700000000000002).UTC(),
		}, Firsts: []uint64{1, 55}},
		"stream-ends": &streamEvent{Stream: Stream{
			Incarnation: 7, Name: "clicks", Version: 4, Consumers: []uint8{Main}, Spec: []byte("{}"),
			Created: time.UnixMicro(1700000000000001).UTC(), Changed: time.UnixMicro(1700000000000002).UTC(),
		}, Firsts: []uint64{1}, Ends: []consumerEnd{{Backup, 91}}},
		"manifest":         manifest,
		"progress-ranges":  &progressEvent{Manifest: head.ID, Objects: setOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 64, 65, 200)},
		"progress-bitmap":  &progressEvent{Manifest: head.ID, Objects: setOf(0, 2, 5, 9)},
		"commit":           &commitEvent{Manifest: head.ID},
		"replace-manifest": &replaceEvent{Manifest: head.ID, Objects: setOf(0, 2), Minus: Counts{OK: 2}, Reason: "foreign", New: &replaced},
		"replace-file":     &replaceEvent{Manifest: head.ID, Objects: setOf(1), Minus: Counts{OK: 1}, Reason: "sha256", File: "quarantine/x", Lost: 1},
		"replace-nothing":  &replaceEvent{Manifest: head.ID, Objects: setOf(1), Minus: Counts{OK: 1}, Reason: "deleted", Discard: true, Dropped: 1},
		"hole":             &holeEvent{Incarnation: 7, First: 100, Next: 103, Cause: "a DATA frame is damaged", File: "quarantine/j-0001-segment-4"},
	}
}

// frameOf lays a frame out as the committer does.
func frameOf(e event, ordinal uint64) []byte {
	f := newLedgerFrame(e, 7, Main, 100, 103)
	setOrdinal(f.payload, ordinal)
	h := f.head
	h.PayloadCRC = payloadCRC(f.payload)
	return layOut(h, f.payload)
}

func layOut(h frameHead, payload []byte) []byte {
	h.LSN, h.Durable, h.Group, h.Arrived = 0x1122334455667000, 0x1122334455666000, 42, 1700000000123456
	b := make([]byte, frameSize(len(payload)))
	h.put(b, testSalt)
	copy(b[frameHeader:], payload)
	return b
}

func TestGoldenFrames(t *testing.T) {
	for name, e := range sampleEvents() {
		golden(t, "frame-"+name, frameOf(e, 17))
	}
	b := batch("one", "", "three")
	call := record.Call{Batch: b, Invocation: id16(0x90), Attempt: 2, KeyHash: [8]byte{1, 2, 3}, BodyHash: id16(0xb0)}
	payload := make([]byte, dataPrefix)
	putDataPrefix(payload, &call)
	payload = append(payload, b.Encoded()...)
	head := frameHead{Type: frameData, First: 100, Count: 3, Incarnation: 7, Length: uint32(len(payload)), PayloadCRC: payloadCRC(payload)}
	golden(t, "frame-data", layOut(head, payload))
	if got := frameSize(len(payload)); got%frameAlign != 0 || head.size() != got {
		t.Errorf("size %d", got)
	}
	mark := make([]byte, ordinalSize)
	setOrdinal(mark, 17)
	golden(t, "frame-mark", layOut(frameHead{Type: frameMark, Length: 8, PayloadCRC: payloadCRC(mark)}, mark))
	next := nextPayload(17, 5, 3)
	golden(t, "frame-next", layOut(frameHead{Type: frameNext, Length: uint32(len(next)), PayloadCRC: payloadCRC(next)}, next))
	golden(t, "frame-pad", layOut(frameHead{Type: framePad, Length: 24, PayloadCRC: payloadCRC(make([]byte, 24))}, make([]byte, 24)))
	w := writer{}
	(&checkpointHead{Ordinal: 17, C: 0x2000, Part: 0, Parts: 1, Raw: 3}).encode(&w)
	w.raw([]byte("zst"))
	golden(t, "frame-checkpoint", layOut(frameHead{Type: frameCheckpoint, Flags: flagOpening, Length: uint32(len(w.b)), PayloadCRC: payloadCRC(w.b)}, w.b))
}

func sampleSlotHead() slotHead {
	return slotHead{Salt: testSalt, Directory: id16(1), Start: 4, Segment: 9, Base: 9 << 20, Prev: 8, PrevEnd: 8<<20 + 8192, Size: 1 << 20, Opened: 12288}
}

func sampleIDs() []savedCall {
	return []savedCall{
		{(&invocation{ID: id16(1), KeyHash: [8]byte{9}, BodyHash: id16(2), Stream: 7}).digest(), knownCall{first: 100, segment: 4, mark: 1}},
		{(&invocation{ID: id16(3), Stream: 8}).digest(), knownCall{first: 5, segment: 4}},
	}
}

// sampleLedger is a ledger with one of everything in it.
func sampleLedger() *ledger {
	l := newLedger()
	ev := sampleEvents()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	old := *ev["stream"].(*streamEvent)
	old.Firsts = []uint64{1, 1}
	old.Stream.Version = 3
	must(l.apply(&old))
	s := l.streams[7]
	l.data(s, 1, 99)
	l.data(s, 100, 3)
	l.data(s, 103, 20)
	must(l.apply(&manifestEvent{Head: ManifestHead{ID: id16(0x70), Incarnation: 7, First: 1, Next: 100, Version: 3, Counts: Counts{OK: 99}}}))
	must(l.apply(ev["manifest"]))
	must(l.apply(&progressEvent{Manifest: id16(1), Objects: setOf(1)}))
	must(l.apply(&replaceEvent{Manifest: id16(1), Objects: setOf(0), Minus: Counts{OK: 1}, New: &manifestEvent{
		Head: ManifestHead{ID: id16(0x20), Incarnation: 7, First: 100, Next: 103, Version: 3, Replaces: id16(1), Replaced: []int{0}, Counts: Counts{OK: 1}}, Objects: 1, Packs: []packRef{{ID: id16(0x33), Length: 999}}}}))
	must(l.apply(&holeEvent{Incarnation: 7, First: 110, Next: 112}))
	newer := old
	newer.Stream.Version, newer.Stream.State = 4, Active
	must(l.apply(&newer))
	must(l.apply(&streamEvent{Stream: Stream{Incarnation: 9, Name: "views", Version: 1, Consumers: []uint8{Main}}, Firsts: []uint64{1}}))
	l.ordinal = 8
	return l
}

// sampleRuns is a ledger with raw runs, of which one is decided in part, and two epochs of routed runs.
func sampleRuns(t testing.TB) *ledger {
	l := newLedger()
	must := func(e event) {
		t.Helper()
		if err := l.apply(e); err != nil {
			t.Fatal(err)
		}
	}
	must(&streamEvent{Stream: Stream{Incarnation: 7, Name: "clicks", Version: 3, Consumers: []uint8{Main, Backup}}, Firsts: []uint64{1, 1}})
	l.data(l.streams[7], 1, 100)
	run := func(kind RunKind, id byte, epoch uint64, n uint32, first, next uint64, counts Counts) *runEvent {
		return &runEvent{
			Head: RunHead{Incarnation: 7, Kind: kind, Version: 3, Epoch: epoch, N: n, First: first, Next: next, Counts: counts},
			Ref:  runRef{ID: id16(id), Length: int64(id)}, Sum: runSum{Rows: int64(next - first), Records: counts.OK + counts.Failed, Bytes: 10 * int64(next-first), Oldest: int64(first)},
		}
	}
	keys := func(id byte, epoch uint64, next uint64, source Source, counts Counts) *manifestEvent {
		return &manifestEvent{Head: ManifestHead{ID: id16(id), Incarnation: 7, Version: 3, Epoch: epoch, First: 1, Next: next, Source: source, Counts: counts},
			Objects: 1, Packs: []packRef{{ID: id16(id + 1)}}}
	}
	must(run(RunRaw, 0x10, 0, 0, 1, 30, Counts{}))
	must(run(RunRouted, 0x11, 4, 1, 1, 11, Counts{OK: 8, Dropped: 1, Failed: 1}))
	must(run(RunRouted, 0x12, 4, 2, 11, 21, Counts{OK: 10}))
	must(keys(0x30, 4, 11, Source{Kind: SourceKey, Key: KeyHash([]byte("a")), Run: 1}, Counts{OK: 3}))
	must(keys(0x32, 4, 21, Source{Kind: SourceKey, Key: KeyHash([]byte("b")), Run: 2}, Counts{OK: 2}))
	must(keys(0x34, 4, 21, Source{Kind: SourceSweep, Run: 2, Bound: []byte("b")}, Counts{OK: 4}))
	must(run(RunRaw, 0x13, 0, 0, 30, 50, Counts{}))
	must(&holeEvent{Incarnation: 7, First: 50, Next: 60})
	must(run(RunRaw, 0x14, 0, 0, 60, 70, Counts{}))
	must(run(RunRouted, 0x15, 5, 1, 21, 35, Counts{OK: 14}))
	return l
}

// sampleLanes is a ledger with lanes: of some rows everything has ended, of others it is under a manifest or in a raw run.
func sampleLanes(t testing.TB) *ledger {
	l := newLedger()
	must := func(e event) {
		t.Helper()
		if err := l.apply(e); err != nil {
			t.Fatal(err)
		}
	}
	at := func(places ...string) (list []LanePosition) {
		for i := 0; i < len(places); i += 2 {
			list = append(list, LanePosition{places[i], []byte(places[i+1])})
		}
		return list
	}
	cut := func(id byte, first, next uint64, objects int, places ...string) *manifestEvent {
		e := &manifestEvent{Head: ManifestHead{ID: id16(id), Incarnation: 7, Version: 3, First: first, Next: next, Counts: Counts{OK: int64(next - first)}}, Objects: objects}
		if objects > 0 {
			e.Packs = []packRef{{ID: id16(id + 1)}}
		}
		e.Lanes = laneMarks{Rows: int64(next - first), At: at(places...)}
		return e
	}
	must(&streamEvent{Stream: Stream{Incarnation: 7, Name: "clicks", Version: 3, Consumers: []uint8{Main}}, Firsts: []uint64{1}})
	must(&lanesEvent{Incarnation: 7, At: 1, Set: at("@start", "latest at 5")})
	must(cut(0x10, 1, 11, 0, "c-0", "100", "c-1", "7"))
	must(cut(0x20, 11, 21, 1, "c-1", "8", "c-2", "0"))
	must(&runEvent{Head: RunHead{Incarnation: 7, Kind: RunRaw, First: 21, Next: 30}, Ref: runRef{ID: id16(0x30), Length: 4}, Sum: runSum{Rows: 9, Records: 9, Bytes: 90},
		Lanes: laneMarks{Rows: 9, At: at("c-0", "109")}})
	must(&lanesEvent{Incarnation: 7, At: 30, Set: at("c-1", "end"), Gone: []string{"c-0", "c-9"}})
	return l
}

func TestGoldenHeaders(t *testing.T) {
	h := sampleSlotHead()
	golden(t, "slot-header", h.encode())
	id := ident{Directory: id16(1), Slot: 1 << 20, Salt: testSalt}
	golden(t, "ident", id.encode())
	golden(t, "ids", encodeIDs(id16(1), 4, sampleIDs()))
	golden(t, "checkpoint-state", sampleLedger().encodeState())
	golden(t, "checkpoint-runs", sampleRuns(t).encodeState())
	golden(t, "checkpoint-lanes", sampleLanes(t).encodeState())
}

// The checksum is CRC32C: its check value, and the vectors of RFC 3720 appendix B.4.
func TestCRCVectors(t *testing.T) {
	ascending := make([]byte, 32)
	for i := range ascending {
		ascending[i] = byte(i)
	}
	for _, v := range []struct {
		in   []byte
		want uint32
	}{
		{make([]byte, 32), 0x8a9136aa},
		{bytes.Repeat([]byte{0xff}, 32), 0x62a8ab43},
		{ascending, 0x46dd794e},
		{[]byte("1234567"), payloadCRC([]byte("1234567\x00"))}, // the zeros that align count
	} {
		if got := payloadCRC(v.in); got != v.want {
			t.Errorf("CRC of %x: %08x, want %08x", v.in, got, v.want)
		}
	}
}

// Every change of one bit of a frame is noticed.
func TestFlippedBits(t *testing.T) {
	for name, e := range sampleEvents() {
		b := frameOf(e, 17)
		for bit := range 8 * len(b) {
			c := slices.Clone(b)
			c[bit/8] ^= 1 << (bit % 8)
			h, err := parseFrameHead(c, testSalt)
			if err == nil {
				err = h.checkPayload(c[frameHeader:])
			}
			if err == nil {
				t.Fatalf("%s: bit %d can change unnoticed", name, bit)
			}
		}
		if _, err := parseFrameHead(b, testSalt+1); err == nil {
			t.Fatalf("%s: accepted under another salt", name)
		}
	}
	check := func(name string, b []byte, size int, parse func([]byte) error) {
		if err := parse(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for bit := range 8 * size {
			c := slices.Clone(b)
			c[bit/8] ^= 1 << (bit % 8)
			if parse(c) == nil {
				t.Fatalf("%s: bit %d can change unnoticed", name, bit)
			}
		}
	}
	h := sampleSlotHead()
	check("slot header", h.encode(), blockSize, func(b []byte) error { _, err := parseSlotHead(b); return err })
	id := ident{Directory: id16(1), Slot: 1 << 20, Salt: testSalt}
	check("IDENT", id.encode(), identSize, func(b []byte) error { _, err := parseIdent(b); return err })
	ids := encodeIDs(id16(1), 4, sampleIDs())
	check("side file", ids, len(ids), func(b []byte) error { _, _, _, err := decodeIDs(b); return err })
}

func TestEventsRoundTrip(t *testing.T) {
	for name, e := range sampleEvents() {
		f := newLedgerFrame(e, 7, Main, 100, 103)
		setOrdinal(f.payload, 17)
		ordinal, got, err := decodeEvent(&f.head, f.payload)
		if err != nil || ordinal != 17 || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: ordinal %d, err %v, got %+v, want %+v", name, ordinal, err, got, e)
		}
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	l := sampleLedger()
	raw := l.encodeState()
	for _, part := range []int{64, 1000, checkpointPart} {
		payloads, err := packCheckpoint(raw, 8, 0x4000, part)
		if err != nil {
			t.Fatal(err)
		}
		var packed []byte
		for i, p := range payloads {
			h, body, err := parseCheckpointPart(p)
			if err != nil || len(p) > part || h != (checkpointHead{8, 0x4000, uint32(i), uint32(len(payloads)), uint32(len(raw))}) {
				t.Fatalf("part %d: %+v, %d bytes, %v", i, h, len(p), err)
			}
			packed = append(packed, body...)
		}
		back, err := unpackCheckpoint(packed, uint32(len(raw)))
		if err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("unpacked %d bytes, %v", len(back), err)
		}
		if _, err := unpackCheckpoint(packed, uint32(len(raw)-1)); err == nil {
			t.Fatal("a wrong length was accepted")
		}
	}
	back, err := decodeState(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := back.encodeState(); !bytes.Equal(got, raw) {
		t.Fatalf("the state changed:\n%s%s", hex.Dump(raw), hex.Dump(got))
	}
	m := back.manifests[id16(1)]
	if got := m.pending(); !slices.Equal(got, []int{2}) {
		t.Errorf("pending %v", got)
	}
	c := back.streams[7].consumers[0]
	if c.position != 103 || c.counts != (Counts{OK: 101, Failed: 1}) || c.lost != 2 || !reflect.DeepEqual(c.holes, []span{{110, 112}}) {
		t.Errorf("consumer %+v", c)
	}
	if v, ok := back.streams[7].versions[3]; !ok || v.State != Paused {
		t.Errorf("old version %+v", v)
	}
}

// Runs come through a checkpoint as the frames have left them.
func TestCheckpointOfRuns(t *testing.T) {
	l := sampleRuns(t)
	raw := l.encodeState()
	back, err := decodeState(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := back.encodeState(); !bytes.Equal(got, raw) {
		t.Fatalf("the state changed:\n%s%s", hex.Dump(raw), hex.Dump(got))
	}
	for _, l := range []*ledger{l, back} {
		s := l.streams[7]
		c := s.consumers[0]
		if c.base != 35 || c.position != 70 || len(c.raw) != 2 || c.raw[0].first != 30 || c.lost != 10 || c.routed() != 10+14 ||
			c.counts != (Counts{OK: 9, Dropped: 1}) || c.newest != 5 {
			t.Errorf("consumer %+v", c)
		}
		e := c.epoch(4)
		if e.closedAt != 2 || string(e.bound) != "b" || e.left != 10 || !reflect.DeepEqual(e.cuts, map[[16]byte]uint32{KeyHash([]byte("a")): 1, KeyHash([]byte("b")): 2}) ||
			e.sum() != (runSum{Rows: 20, Records: 19, Bytes: 200, Oldest: 1}) {
			t.Errorf("epoch %+v", e)
		}
		if want := int64(2*rawRunWeight + 3*routedRunWeight + 2*keyCutWeight + 2*epochWeight); l.runWeight != want || s.runWeight != want || l.weight != want+s.weight {
			t.Errorf("runs weigh %d of %d, want %d", l.runWeight, l.weight, want)
		}
		if s.users[3] != 3+2 || s.consumers[1].position != 1 {
			t.Errorf("users %v, backup %+v", s.users, s.consumers[1])
		}
	}
	// all that ends gives back what it weighed
	for _, id := range []byte{0x30, 0x32, 0x34} {
		if err := back.apply(&commitEvent{Manifest: id16(id)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range []ManifestHead{
		{Epoch: 4, First: 1, Next: 21, Source: Source{Kind: SourceSweep, Run: 2, All: true}, Counts: Counts{OK: 7}},
		{Epoch: 5, First: 21, Next: 35, Source: Source{Kind: SourceSweep, Run: 1, All: true}, Counts: Counts{OK: 14}},
		{Epoch: 6, First: 35, Next: 50, Counts: Counts{OK: 15}},
		{Epoch: 7, First: 60, Next: 100, Counts: Counts{OK: 40}},
	} {
		e.ID, e.Incarnation, e.Version = id16(byte(i+0x80)), 7, 3
		if err := back.apply(&manifestEvent{Head: e}); err != nil {
			t.Fatal(err)
		}
	}
	s := back.streams[7]
	c := s.consumers[0]
	if back.weight != 0 || s.runWeight != 0 || s.weight != 0 || len(s.users) != 0 || c.base != 100 || c.lost != 10+3 || c.routed() != 0 || len(back.retiredRuns) != 5 {
		t.Errorf("at the end: weight %d, stream %+v, consumer %+v, %d runs retired", back.weight, s, c, len(back.retiredRuns))
	}
	if got := back.encodeState(); got[0] != checkpointLayout {
		t.Errorf("without runs the layout is %d", got[0])
	}
}

// A checkpoint of a long outage fits: a million objects in a thousand packs.
func TestCheckpointOfAnOutage(t *testing.T) {
	l := newLedger()
	if err := l.apply(&streamEvent{Stream: Stream{Incarnation: 1, Name: "clicks", Version: 1, Consumers: []uint8{Main}}, Firsts: []uint64{1}}); err != nil {
		t.Fatal(err)
	}
	source := rand.NewChaCha8([32]byte{})
	for i := range 1000 {
		e := &manifestEvent{Head: ManifestHead{
			Incarnation: 1, Version: 1, Epoch: uint64(i), First: uint64(1 + i*100000), Next: uint64(1 + (i+1)*100000), Counts: Counts{OK: 100000},
		}, Objects: 1000, Destinations: []string{"clicks/data/s3"}, Packs: []packRef{{Length: 1 << 27}}}
		for _, random := range [][]byte{e.Head.ID[:], e.Packs[0].ID[:], e.Packs[0].Footer[:]} {
			source.Read(random)
		}
		if err := l.apply(e); err != nil {
			t.Fatal(err)
		}
		p := &progressEvent{Manifest: e.Head.ID}
		for o := range 1000 {
			if source.Uint64()&1 == 0 {
				p.Objects.add(o)
			}
		}
		if err := l.apply(p); err != nil {
			t.Fatal(err)
		}
	}
	payloads, err := packCheckpoint(l.encodeState(), 1, 0, checkpointPart)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for _, p := range payloads {
		n += len(p)
	}
	if n > 1<<20 {
		t.Errorf("%d bytes", n)
	}
}

func TestObjectSet(t *testing.T) {
	f := func(bytesWanted int, numbers ...int) {
		t.Helper()
		s := setOf(numbers...)
		var w writer
		s.put(&w)
		if len(w.b) != bytesWanted {
			t.Errorf("%v takes %d bytes, want %d", numbers, len(w.b), bytesWanted)
		}
		r := reader{b: w.b}
		back := readObjectSet(&r, maxObjects)
		if err := r.done("set"); err != nil || !slices.Equal(slices.Collect(back.all()), numbers) {
			t.Errorf("%v came back as %v, %v", numbers, slices.Collect(back.all()), err)
		}
	}
	f(5)
	f(6, 0)
	f(6, 7)
	f(13, 63, 64)
	f(13, 200)
	f(7, 1, 3, 5, 8)
	f(13, 1000, 1001, 1002)
}

func FuzzFrame(f *testing.F) {
	for _, e := range sampleEvents() {
		f.Add(frameOf(e, 17))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseFrameHead(b, testSalt)
		if err != nil {
			return
		}
		again := make([]byte, frameHeader)
		h.put(again, testSalt)
		if !bytes.Equal(again, b[:frameHeader]) {
			t.Fatalf("header %+v is written differently", h)
		}
		if h.checkPayload(b[frameHeader:]) == nil {
			fuzzPayload(t, &h, b[frameHeader:][:h.Length])
		}
	})
}

// fuzzPayload decodes a payload: whatever is accepted is written the same way again.
func fuzzPayload(t *testing.T, h *frameHead, payload []byte) {
	switch h.Type {
	case frameData:
		parseData(payload, h.Count)
	case frameMark:
		parseMark(payload)
	case frameNext:
		ordinal, segment, slot, err := parseNext(payload)
		if err == nil && !bytes.Equal(nextPayload(ordinal, segment, slot), payload) {
			t.Fatal("NEXT is written differently")
		}
	case frameCheckpoint:
		head, body, err := parseCheckpointPart(payload)
		if err == nil && head.Raw < 1<<20 {
			unpackCheckpoint(body, head.Raw)
		}
	default:
		ordinal, e, err := decodeEvent(h, payload)
		if err != nil {
			return
		}
		again := encodeEvent(e)
		setOrdinal(again, ordinal)
		if !bytes.Equal(again, payload) {
			t.Fatalf("%v is written differently:\n%x\n%x", h.Type, payload, again)
		}
	}
}

func FuzzPayload(f *testing.F) {
	for _, e := range sampleEvents() {
		fr := newLedgerFrame(e, 7, Main, 100, 103)
		f.Add(uint8(fr.head.Type), fr.payload)
	}
	f.Add(uint8(frameNext), nextPayload(1, 2, 3))
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		h := frameHead{Type: frameType(kind), Incarnation: 7, First: 100, Count: 3, Length: uint32(len(payload))}
		fuzzPayload(t, &h, payload)
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(sampleLedger().encodeState())
	f.Add(newLedger().encodeState())
	f.Add(sampleRuns(f).encodeState())
	f.Add(sampleLanes(f).encodeState())
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := decodeState(raw)
		if err != nil {
			return
		}
		l.encodeState()
	})
}

func FuzzSlotHeader(f *testing.F) {
	h := sampleSlotHead()
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseSlotHead(b)
		if err != nil {
			return
		}
		if again := h.encode(); !bytes.Equal(again[:slotHeaderSize], b[:slotHeaderSize]) {
			t.Fatalf("header %+v is written differently", h)
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add(encodeIDs(id16(1), 4, sampleIDs()))
	f.Fuzz(func(t *testing.T, b []byte) {
		directory, segment, entries, err := decodeIDs(b)
		if err == nil && !bytes.Equal(encodeIDs(directory, segment, entries), b) {
			t.Fatal("side file is written differently")
		}
	})
}
