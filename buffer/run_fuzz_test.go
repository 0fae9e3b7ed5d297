package buffer

import (
	"bytes"
	"fmt"
	"testing"

	"hydrant/sample"
)

// FuzzRunFile: a run file of any bytes is read or refused, without a panic, and what its rows take of memory is no
// more than its blocks say.
func FuzzRunFile(f *testing.F) {
	for _, kind := range []RunKind{RunRaw, RunRouted} {
		e := newRunEnv(&testing.T{}, 1<<20, nil)
		r := goldenRun(e, kind)
		b, err := e.disk.ReadFile(e.runs.path(r.ID()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e := newRunEnv(t, 1<<20, nil)
		id := RunID{7}
		put(t, e.disk, e.runs.path(id), b)
		c, openErr := openRun(e.disk, e.runs.path(id), e.keys)
		e.runs.register(4, runRef{ID: id, Length: int64(len(b))}, nil)
		for _, kind := range []RunKind{RunRaw, RunRouted} {
			rows, lost, err := everything(e, id, kind)
			if openErr == nil && err == nil && c.ref.ID == id && c.head.Kind == kind && int64(len(rows))+lost != c.sum.Rows {
				t.Fatalf("%d rows and %d lost of %d", len(rows), lost, c.sum.Rows)
			}
		}
	})
}

// FuzzRunEntry: there is one way to write an entry.
func FuzzRunEntry(f *testing.F) {
	f.Add(appendEntry(nil, []byte("key"), 300, 7, 5, 900, []blockInfo{{100, 3, 2}, {200, 4, 3}}), false)
	raw := appendEntry(nil, nil, 300, 3, 3, 9, []blockInfo{{100, 3, 3}})
	f.Add(append(raw, 10, 4, 2, 0, 2, 6, 8, 1, 1, 3, 2), true)
	f.Fuzz(func(t *testing.T, b []byte, isRaw bool) {
		kind := RunRouted
		if isRaw {
			kind = RunRaw
		}
		var e runEntry
		rest, err := parseEntry(b, kind, 1<<40, &e)
		if err != nil {
			return
		}
		if string(e.whole)+string(rest) != string(b) {
			t.Fatal("the entry and the rest are not all")
		}
		if isRaw {
			n := int64(0)
			for c := range e.each {
				n += int64(c.Count)
			}
			if n != e.Rows {
				t.Fatalf("chunks of %d rows in an entry of %d", n, e.Rows)
			}
			return
		}
		var infos []blockInfo
		walk := e
		for walk.Blocks > 0 {
			infos = append(infos, walk.info())
		}
		if again := appendEntry(nil, e.Key, e.Offset, e.Rows, e.Records, e.Bytes, infos); !bytes.Equal(again, e.whole) {
			t.Fatalf("% x is written as % x", e.whole, again)
		}
	})
}

// FuzzRunBlock changes blocks, puts their checksum right, and reads them.
func FuzzRunBlock(f *testing.F) {
	var enc rowEncoder
	for seq := range uint64(50) {
		row := rowOf(seq+1, uint32(seq%2), "some text, and some text")
		enc.add(&row)
	}
	f.Add(bytes.Clone(enc.seal(nil, RunID{7}, 256)), int64(50))
	f.Fuzz(func(t *testing.T, b []byte, rows int64) {
		if _, err := openRunBlock(nil, b, RunID{7}, 256, rows); err == nil && rows != 50 {
			t.Fatal("a block of other rows was taken")
		}
		if len(b) < runBlockHeader {
			return
		}
		crc := placedCRC(RunID{7}, 256, b[4:])
		b[0], b[1], b[2], b[3] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
		clear, err := openRunBlock(nil, b, RunID{7}, 256, rows)
		if err != nil {
			return
		}
		var row RunRow
		for d := (rowDecoder{b: clear}); d.next(&row) == nil; {
		}
	})
}

// benchmarkRuns writes a run of benchmark rows, or reads one, over and over. The disk is memory.
func benchmarkRuns(b *testing.B, keys int, read bool) {
	var rows [][]byte
	var size int64
	for line := range bytes.Lines(sample.Clicks(1, 0, 30_000)) {
		rows = append(rows, line)
		size += int64(len(line))
	}
	names := make([][]byte, keys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "\x01customer=%06d/2026/11/25/14/", i)
	}
	e := newRunEnv(&testing.T{}, 4<<30, nil)
	write := func() *Run {
		r, err := e.runs.create(RunRouted, 64<<20)
		for i, data := range rows {
			if err == nil {
				row := rowOf(uint64(i)+1, 0, "")
				row.Data = data
				err = r.Append(names[i*7919%keys], row)
			}
		}
		if err == nil {
			err = r.Seal(routedHead(int64(len(rows)), 1, uint64(len(rows))+1))
		}
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	b.SetBytes(size)
	b.ReportAllocs()
	if !read {
		var length int64
		for b.Loop() {
			r := write()
			length = r.ref.Length
			r.Abort()
		}
		b.ReportMetric(float64(size)/float64(length), "ratio")
		return
	}
	run := write()
	e.runs.named([]*Run{run}, 4)
	for b.Loop() {
		reader, err := e.runs.open(run.ID())
		if err != nil {
			b.Fatal(err)
		}
		epoch := e.epoch(nil, reader)
		n := 0
		for k, err := range epoch.Keys(nil) {
			if err != nil {
				b.Fatal(err)
			}
			for range epoch.Rows(k.Key) {
				n++
			}
		}
		epoch.Close()
		if n != len(rows) {
			b.Fatalf("%d rows", n)
		}
	}
}

func BenchmarkRunWrite(b *testing.B) {
	for _, keys := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) { benchmarkRuns(b, keys, false) })
	}
}

func BenchmarkRunRead(b *testing.B) {
	for _, keys := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) { benchmarkRuns(b, keys, true) })
	}
}
