package buffer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/record"
)

// runEnv is a run store on a disk that forgets.
type runEnv struct {
	*packEnv
	runs *runStore
}

func newRunEnv(t *testing.T, disk int64, key *Key) *runEnv {
	t.Helper()
	e := &runEnv{packEnv: newSealedEnv(t, disk, key)}
	e.ok(e.disk.Mkdir("/data/runs"))
	e.ok(e.disk.SyncDir("/data"))
	e.runs = newRunStore(fileOptions{FS: e.disk, Dir: "/data/runs", Directory: [16]byte{9, 9}, Rand: &counting{}, Seal: e.keys.seal, Space: e.space})
	return e
}

// runsBothWays runs a test with runs in clear and with sealed ones.
func runsBothWays(t *testing.T, test func(e *runEnv)) {
	t.Run("clear", func(t *testing.T) { test(newRunEnv(t, 1<<30, nil)) })
	t.Run("sealed", func(t *testing.T) { test(newRunEnv(t, 1<<30, testKey(1))) })
}

func (e *runEnv) create(kind RunKind, memory int64) *Run {
	e.Helper()
	r, err := e.runs.create(kind, memory)
	e.ok(err)
	return r
}

// name makes a run one that a frame names, and opens it.
func (e *runEnv) name(r *Run) *runReader {
	e.Helper()
	e.runs.keep([]*Run{r})
	e.runs.named([]*Run{r}, 4)
	return e.open(r.ID())
}

func (e *runEnv) open(id RunID) *runReader {
	e.Helper()
	reader, err := e.runs.open(id)
	e.ok(err)
	return reader
}

// epoch reads runs as one.
func (e *runEnv) epoch(cuts map[[16]byte]uint32, runs ...*runReader) *EpochReader {
	b := &Buffer{fs: e.disk, dir: "/data", log: e.runs.o.Log, runs: e.runs}
	r := &EpochReader{b: b, cuts: cuts}
	for _, run := range runs {
		r.add(run)
	}
	return r
}

func (e *runEnv) append(r *Run, key string, row RunRow) {
	e.Helper()
	e.ok(r.Append([]byte(key), row))
}

// openRun reads the footer of a run.
func openRun(fs fsys.FS, path string, keys *keyring) (*runContent, error) {
	f, err := fs.OpenFile(path, fsys.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, _, err := readRun(f, path, keys, nil)
	return c, err
}

func routedHead(records int64, first, next uint64) RunHead {
	return RunHead{Incarnation: 4, Consumer: Main, Kind: RunRouted, Version: 5, Epoch: 6, N: 1, First: first, Next: next, Counts: Counts{OK: records}}
}

func rowOf(seq uint64, sub uint32, data string) RunRow {
	return RunRow{Row: record.Row{Seq: seq, Sub: sub, Arrived: 1_700_000_000_000_000 + int64(seq)*137, Data: []byte(data)}, Counts: sub == 0}
}

// runModel is what a routed run should hold.
type runModel map[string][]RunRow

func (m runModel) sum() (t runTotals) {
	t.Keys = int64(len(m))
	for _, rows := range m {
		for _, row := range rows {
			keys := t.Keys
			t.add(&row)
			t.Keys = keys
		}
	}
	return t
}

// compare reads everything of an epoch and compares it with the model.
func (m runModel) compare(t *testing.T, e *EpochReader) {
	t.Helper()
	want := slices.Sorted(maps.Keys(m))
	var got []string
	for k, err := range e.Keys(nil) {
		if err != nil {
			t.Fatal(err)
		}
		name := string(k.Key)
		got = append(got, name)
		sum := EpochKey{Rows: int64(len(m[name]))}
		for _, row := range m[name] {
			sum.Bytes += int64(len(row.Data))
			if row.Counts {
				sum.Records++
			}
		}
		if k.Rows != sum.Rows || k.Records != sum.Records || k.Bytes != sum.Bytes {
			t.Fatalf("key %q has %+v, want %+v", name, k, sum)
		}
		m.compareRows(t, e, name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("keys are %.200q, want %.200q", got, want)
	}
}

func (m runModel) compareRows(t *testing.T, e *EpochReader, name string) {
	t.Helper()
	i := 0
	for row, err := range e.Rows([]byte(name)) {
		if err != nil {
			t.Fatal(err)
		}
		if i == len(m[name]) || !sameRow(row, m[name][i]) {
			t.Fatalf("row %d of key %q is %d.%d, %d bytes", i, name, row.Seq, row.Sub, len(row.Data))
		}
		i++
	}
	if i != len(m[name]) {
		t.Fatalf("key %q has %d rows, want %d", name, i, len(m[name]))
	}
}

func sameRow(a, b RunRow) bool {
	return a.Seq == b.Seq && a.Sub == b.Sub && a.Arrived == b.Arrived && a.Counts == b.Counts && bytes.Equal(a.Data, b.Data)
}

// fill appends random rows to a run, and returns what they are.
func (e *runEnv) fill(r *Run, seed uint64, keys, rows int, first uint64) runModel {
	e.Helper()
	m := runModel{}
	rnd := rand.New(rand.NewPCG(seed, 1))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for i := range rows {
		key := fmt.Sprintf("\x01dt=2026/key=%05d/", rnd.IntN(keys))
		var data string
		switch rnd.IntN(50) {
		case 0:
			data = ""
		case 1:
			data = string(noise[:rnd.IntN(3*runBlock)]) // its own block, and it does not shrink
		default:
			data = fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("ab", rnd.IntN(400)))
		}
		row := rowOf(first+uint64(i), uint32(i%3), data)
		row.Arrived -= int64(rnd.IntN(5_000_000))
		e.append(r, key, row)
		m[key] = append(m[key], row)
	}
	return m
}

func TestRunRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		name         string
		memory       int64
		keys, rows   int
		parts, pages int // at least
	}{
		{"one part", 64 << 20, 40, 2000, 1, 1},
		{"one key", 1 << 20, 1, 3000, 2, 1},
		{"many parts", 1, 300, 4000, 5, 1},
		{"more keys than a page has", 1, 4000, 9000, 5, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runsBothWays(t, func(e *runEnv) {
				r := e.create(RunRouted, tc.memory)
				m := e.fill(r, 7, tc.keys, tc.rows, 100)
				sum := m.sum()
				parts := len(r.parts) + 1
				if parts < tc.parts || r.InMemory() != (parts == 1) {
					e.Fatalf("%d parts, in memory %v", parts, r.InMemory())
				}
				h := routedHead(sum.Records, 100, 100+uint64(tc.rows))
				h.Counts.Failed, h.Counts.OK, h.Counts.Dropped, h.Lost, h.Watermark = 3, sum.Records-3, 9, 2, -5
				if r.Rows() != sum.Rows || r.Size() != sum.Bytes {
					e.Fatalf("%d rows of %d bytes, want %+v", r.Rows(), r.Size(), sum)
				}
				e.ok(r.Seal(h))
				if r.sum != sum {
					e.Fatalf("totals %+v, want %+v", r.sum, sum)
				}
				e.ok(e.disk.Durable(e.runs.path(r.ID())))
				c, err := openRun(e.disk, e.runs.path(r.ID()), e.keys)
				e.ok(err)
				if c.head != h || c.sum != sum || c.ref != r.ref || c.directory != [16]byte{9, 9} {
					e.Fatalf("footer has %+v, want %+v, %+v, %+v", c, h, sum, r.ref)
				}
				reader := e.name(r)
				if reader.head != h || reader.sum != sum || reader.ref != r.ref || (reader.length+runPage-1)/runPage < int64(tc.pages) {
					e.Fatalf("reader has %+v of %d bytes", reader.runContent, reader.length)
				}
				epoch := e.epoch(nil, reader)
				m.compare(t, epoch)
				// backwards, twice, and keys that are not there
				names := slices.Sorted(maps.Keys(m))
				for i := len(names) - 1; i >= 0; i -= 1 + len(names)/50 {
					m.compareRows(t, epoch, names[i])
					m.compareRows(t, epoch, names[i])
					m.compareRows(t, epoch, names[i]+"x")
					m.compareRows(t, epoch, "")
				}
				// a walk that goes on behind a key
				for i := 0; i < len(names); i += 1 + len(names)/50 {
					for _, after := range []string{names[i], names[i] + "\x00"} {
						want := ""
						if i+1 < len(names) {
							want = names[i+1]
						}
						got := ""
						for k, err := range epoch.Keys([]byte(after)) {
							e.ok(err)
							got = string(k.Key)
							break
						}
						if got != want {
							e.Fatalf("behind %q comes %q, want %q", after, got, want)
						}
					}
				}
				epoch.Close()
				epoch.Close()
				e.runs.remove(r.ID())
				if _, err := e.disk.ReadFile(e.runs.path(r.ID())); !errors.Is(err, fs.ErrNotExist) {
					e.Fatalf("a dead run: %v", err)
				}
				if s := e.space.stats(); s.Packs != 0 || s.Making != 0 {
					e.Fatalf("still charged: %+v", s)
				}
			})
		})
	}
}

// TestEpochMerge reads three runs as one, with keys that some size cuts have taken.
func TestEpochMerge(t *testing.T) {
	runsBothWays(t, func(e *runEnv) {
		whole := runModel{}
		var runs []*runReader
		var models []runModel
		for n := range 3 {
			r := e.create(RunRouted, 1<<20)
			m := e.fill(r, uint64(n), 500, 1500, 1+uint64(n)*1500)
			h := routedHead(m.sum().Records, 1+uint64(n)*1500, 1501+uint64(n)*1500)
			h.N = uint32(n) + 1
			e.ok(r.Seal(h))
			runs = append(runs, e.name(r))
			models = append(models, m)
		}
		cuts := map[[16]byte]uint32{}
		cutKeys := map[string]uint32{}
		for i, name := range slices.Sorted(maps.Keys(models[0])) {
			if n := uint32(i % 7); n > 0 && n < 4 {
				cuts[KeyHash([]byte(name))], cutKeys[name] = n, n
			}
		}
		for n, m := range models {
			for name, rows := range m {
				if uint32(n+1) > cutKeys[name] {
					whole[name] = append(whole[name], rows...)
				}
			}
		}
		epoch := e.epoch(cuts, runs...)
		defer epoch.Close()
		whole.compare(t, epoch)
		for name := range cutKeys {
			whole.compareRows(t, epoch, name)
		}
	})
}

func TestRunInMemory(t *testing.T) {
	e := newRunEnv(t, 1<<30, nil)
	r := e.create(RunRouted, 8<<20)
	m := e.fill(r, 3, 20, 300, 1)
	got := runModel{}
	var order []string
	for key, row := range r.Sorted() {
		row.Data = bytes.Clone(row.Data)
		name := string(key)
		if len(order) == 0 || order[len(order)-1] != name {
			order = append(order, name)
		}
		got[name] = append(got[name], row)
	}
	if !slices.Equal(order, slices.Sorted(maps.Keys(m))) {
		t.Fatalf("keys in the order %q", order)
	}
	for name := range m {
		if !slices.EqualFunc(got[name], m[name], sameRow) {
			t.Fatalf("rows of %q are others", name)
		}
	}
	if entries, err := e.disk.ReadDir("/data/runs"); err != nil || len(entries) > 0 || !r.InMemory() {
		t.Fatalf("a run in memory has files %v, %v", entries, err)
	}
	for range r.Sorted() { // it may be left early
		break
	}
	r.Abort()
	if s := e.space.stats(); s.Making != 0 {
		t.Fatalf("still charged: %+v", s)
	}
}

// TestRunOfNothing is one whose rows were all dropped.
func TestRunOfNothing(t *testing.T) {
	runsBothWays(t, func(e *runEnv) {
		r := e.create(RunRouted, 0)
		h := routedHead(0, 1, 50)
		h.Counts.Dropped = 49
		e.ok(r.Seal(h))
		if _, err := openRun(e.disk, e.runs.path(r.ID()), e.keys); err != nil {
			e.Fatal(err)
		}
		epoch := e.epoch(nil, e.name(r))
		defer epoch.Close()
		runModel{}.compare(e.T, epoch)
		runModel{}.compareRows(e.T, epoch, "a")
	})
}

func TestRawRun(t *testing.T) {
	runsBothWays(t, func(e *runEnv) {
		r := e.create(RunRaw, 0)
		var want []RunRow
		var chunks []Chunk
		seq, at := uint64(10), int64(1_700_000_000_000_000)
		for i := range 6000 {
			switch {
			case i%1000 == 999:
				seq += 5 // a hole
			case i < 2000: // each row in a second of its own
				at += 1_000_000
			case i%500 == 0:
				at += 2_000_000
			case i%400 == 0:
				at -= 7_000_000 // a clock that was set back
			}
			row := RunRow{Row: record.Row{Seq: seq, Arrived: at + int64(i%7), Data: []byte(strings.Repeat(fmt.Sprint(i, ","), i%300))}, Counts: true}
			want = append(want, row)
			if n := len(chunks); n == 0 || chunks[n-1].First+uint64(chunks[n-1].Count) != seq || chunks[n-1].Arrived/1_000_000 != row.Arrived/1_000_000 {
				chunks = append(chunks, Chunk{First: seq, Arrived: row.Arrived})
			}
			c := &chunks[len(chunks)-1]
			c.Count++
			c.Bytes += int64(len(row.Data))
			row.Counts = false // it is none of the caller's business
			e.append(r, "", row)
			seq++
		}
		h := RunHead{Incarnation: 4, Consumer: Backup, Kind: RunRaw, First: 8, Next: seq + 3}
		e.ok(r.Seal(h))
		c, err := openRun(e.disk, e.runs.path(r.ID()), e.keys)
		e.ok(err)
		if c.head != h || c.sum != r.sum || c.sum.Records != 6000 || c.sum.Rows != 6000 || c.sum.Keys != 0 {
			e.Fatalf("footer has %+v, want %+v", c, r.sum)
		}
		reader := e.name(r)
		defer reader.Close()
		var got []Chunk
		cursor := reader.cursor()
		for e.ok(cursor.next()); cursor.some; e.ok(cursor.next()) {
			for c := range cursor.cur.each {
				if n := len(got); n > 0 && sameChunk(&got[n-1], c.First, c.Arrived) { // the end of a block parts them
					got[n-1].Count += c.Count
					got[n-1].Bytes += c.Bytes
					continue
				}
				got = append(got, c)
			}
		}
		if !slices.Equal(got, chunks) {
			e.Fatalf("%d chunks, want %d", len(got), len(chunks))
		}
		for _, from := range []uint64{0, 10, 11, 500, want[3000].Seq, want[5999].Seq, want[5999].Seq + 1} {
			rest := want
			for len(rest) > 0 && rest[0].Seq < from {
				rest = rest[1:]
			}
			for row, err := range reader.rawRows(from) {
				e.ok(err)
				if len(rest) == 0 || !sameRow(row, rest[0]) {
					e.Fatalf("from %d: row %d", from, row.Seq)
				}
				rest = rest[1:]
			}
			if len(rest) > 0 {
				e.Fatalf("from %d: %d rows are missing", from, len(rest))
			}
		}
	})
}

// TestRunRefuses has both sides of each limit.
func TestRunRefuses(t *testing.T) {
	e := newRunEnv(t, 1<<30, nil)
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if _, err := e.runs.create(RunRouted+1, 0); err == nil {
		t.Error("a third kind was taken")
	}
	r := e.create(RunRouted, 0)
	e.append(r, strings.Repeat("k", maxRunKey), rowOf(7, 0, "x"))
	refused("a long key", r.Append(make([]byte, maxRunKey+1), rowOf(7, 0, "x")))
	refused("sequence 0", r.Append(nil, rowOf(0, 0, "x")))
	refused("the last sequence", r.Append(nil, rowOf(1<<64-1, 0, "x")))
	refused("a row of 64 MiB and one byte", r.Append(nil, rowOf(1, 0, string(make([]byte, maxRunRow+1)))))
	refused("a range without its first row", r.Seal(routedHead(1, 8, 9)))
	refused("a range without its last row", r.Seal(routedHead(1, 6, 7)))
	refused("an empty range", r.Seal(routedHead(1, 7, 7)))
	refused("other counts", r.Seal(routedHead(2, 7, 8)))
	h := routedHead(1, 7, 8)
	h.N = 0
	refused("no ordinal", r.Seal(h))
	h = routedHead(1, 7, 8)
	h.Lost = -1
	refused("a negative loss", r.Seal(h))
	h.Lost, h.Kind = 0, RunRaw
	refused("another kind", r.Seal(h))
	e.ok(r.Seal(routedHead(1, 7, 8)))
	refused("a row behind the seal", r.Append(nil, rowOf(7, 0, "x")))
	refused("a second seal", r.Seal(routedHead(1, 7, 8)))
	r.Abort()
	r.Abort()
	refused("a row behind the end", r.Append(nil, rowOf(7, 0, "x")))

	raw := e.create(RunRaw, 0)
	h = RunHead{Incarnation: 4, Kind: RunRaw, First: 5, Next: 9}
	refused("a raw run of nothing", raw.Seal(h))
	e.append(raw, "", rowOf(5, 0, "x"))
	refused("a key", raw.Append([]byte("k"), rowOf(6, 0, "x")))
	refused("a sub-record", raw.Append(nil, rowOf(6, 1, "x")))
	refused("the same row again", raw.Append(nil, rowOf(5, 0, "x")))
	for _, change := range []func(*RunHead){
		func(h *RunHead) { h.N = 1 }, func(h *RunHead) { h.Epoch = 1 }, func(h *RunHead) { h.Counts.OK = 1 }, func(h *RunHead) { h.Next = 5 },
	} {
		bad := h
		change(&bad)
		refused(fmt.Sprintf("%+v", bad), raw.Seal(bad))
	}
	e.ok(raw.Seal(h))
	raw.Abort()
	if entries, err := e.disk.ReadDir("/data/runs"); err != nil || len(entries) > 0 {
		t.Fatalf("files %v, %v", entries, err)
	}
	if s := e.space.stats(); s.Making != 0 || s.Packs != 0 {
		t.Fatalf("still charged: %+v", s)
	}
}

// goldenRun makes one small run of each kind.
func goldenRun(e *runEnv, kind RunKind) *Run {
	r := e.create(kind, 0)
	h := RunHead{Incarnation: 4, Consumer: Backup, Kind: kind, First: 5, Next: 12, Lost: 1, Watermark: 77}
	if kind == RunRaw {
		e.append(r, "", rowOf(5, 0, strings.Repeat("raw ", 20)))
		e.append(r, "", rowOf(6, 0, ""))
		e.append(r, "", rowOf(9, 0, "behind a hole"))
	} else {
		e.append(r, "b", rowOf(5, 0, strings.Repeat("routed ", 20)))
		e.append(r, "a", rowOf(6, 0, "x"))
		e.append(r, "b", rowOf(6, 1, "y"))
		h.Version, h.Epoch, h.N, h.Counts = 3, 2, 9, Counts{OK: 1, Dropped: 2, Failed: 1}
	}
	e.ok(r.Seal(h))
	return r
}

func TestRunGolden(t *testing.T) {
	for _, kind := range []RunKind{RunRaw, RunRouted} {
		e := newRunEnv(t, 1<<30, nil)
		r := goldenRun(e, kind)
		got, err := e.disk.ReadFile(e.runs.path(r.ID()))
		e.ok(err)
		name := "run-" + kind.String() + "-v1"
		golden(t, name, got)
		// what stands in testdata must be readable
		text, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
		e.ok(err)
		stored := undump(t, text)
		disk := forgetfs.New()
		put(t, disk, "/r", stored)
		c, err := openRun(disk, "/r", e.keys)
		e.ok(err)
		if c.head != r.h || c.ref != r.ref || c.sum != r.sum {
			t.Fatalf("%s reads as %+v", name, c)
		}
	}
}

// undump is the inverse of hex.Dump.
func undump(t *testing.T, text []byte) (b []byte) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		if len(line) < 60 {
			continue
		}
		part, err := hex.DecodeString(strings.ReplaceAll(line[10:58], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

// put writes a file.
func put(t *testing.T, disk *forgetfs.FS, name string, b []byte) {
	t.Helper()
	f, err := disk.OpenFile(name, fsys.Create)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// everything reads all rows of a run file that stands under the name of run id, and what it says of them.
func everything(e *runEnv, id RunID, kind RunKind) (rows []string, lost int64, err error) {
	r, err := e.runs.open(id)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	print := func(key []byte, row RunRow, err error) error {
		loss, damaged := errors.AsType[*runLoss](err)
		if damaged {
			if lost += loss.Rows; loss.Rows == 0 {
				lost = 3 - int64(len(rows)) // a page of the footer: nobody knows
			}
			return nil
		}
		if err == nil {
			rows = append(rows, fmt.Sprintf("%q %d.%d %d %v %q", key, row.Seq, row.Sub, row.Arrived, row.Counts, row.Data))
		}
		return err
	}
	if kind == RunRaw {
		for row, err := range r.rawRows(0) {
			if err := print(nil, row, err); err != nil {
				return nil, 0, err
			}
		}
		return rows, lost, nil
	}
	var s runScratch
	for c := r.cursor(); ; {
		if err := c.next(); err != nil || !c.some {
			return rows, lost, err
		}
		for row, err := range r.rows(&s, c.cur) {
			if err := print(c.cur.Key, row, err); err != nil {
				return nil, 0, err
			}
		}
	}
}

// TestRunBitFlips: no changed byte of a run is taken for what was written. Those before the footer cost the rows of
// a block, those behind it the run.
func TestRunBitFlips(t *testing.T) {
	runsBothWays(t, func(e *runEnv) {
		for _, kind := range []RunKind{RunRaw, RunRouted} {
			r := goldenRun(e, kind)
			e.name(r).Close()
			name := e.runs.path(r.ID())
			good, err := e.disk.ReadFile(name)
			e.ok(err)
			want, lost, err := everything(e, r.ID(), kind)
			e.ok(err)
			if lost != 0 || len(want) != 3 {
				e.Fatalf("%d rows, %d lost", len(want), lost)
			}
			f, err := e.disk.OpenFile(name, fsys.ReadWrite)
			e.ok(err)
			for i := range good {
				for _, bit := range []byte{1, 0x80} {
					_, err := f.WriteAt([]byte{good[i] ^ bit}, int64(i))
					e.ok(err)
					c, openErr := openRun(e.disk, name, e.keys)
					got, lost, err := everything(e, r.ID(), kind)
					if int64(len(got))+lost != 3 && err == nil {
						e.Fatalf("byte %d: %d rows and %d lost", i, len(got), lost)
					}
					for _, row := range got {
						if !slices.Contains(want, row) {
							e.Fatalf("byte %d: row %s", i, row)
						}
					}
					if openErr == nil && (c.head != r.h || c.sum != r.sum || c.ref != r.ref) {
						e.Fatalf("byte %d: the footer reads as %+v", i, c)
					}
					if openErr == nil && err == nil && lost == 0 {
						e.Fatalf("byte %d of %d can be changed unseen", i, len(good))
					}
				}
				_, err := f.WriteAt(good[i:i+1], int64(i))
				e.ok(err)
			}
			f.Close()
		}
	})
}

func TestInspectRun(t *testing.T) {
	runsBothWays(t, func(e *runEnv) {
		r := goldenRun(e, RunRouted)
		name := e.runs.path(r.ID())
		var keys []string
		onKey := func(k EpochKey) { keys = append(keys, fmt.Sprintf("%s %d %d %d", k.Key, k.Rows, k.Records, k.Bytes)) }
		report, err := InspectRun(e.disk, name, true, onKey, testKey(1))
		e.ok(err)
		if report.RunHead != r.h || report.ID != r.ref.ID || report.Footer != r.ref.Footer || report.Length != r.ref.Length || report.Keys != 2 || report.Rows != 3 || len(report.Damaged) > 0 {
			e.Fatalf("report %+v", report)
		}
		if want := []string{"a 1 1 1", "b 2 1 141"}; !slices.Equal(keys, want) {
			e.Fatalf("keys %q, want %q", keys, want)
		}
		if e.keys.seal != nil {
			_, err := InspectRun(e.disk, name, false, nil)
			if _, ok := errors.AsType[*KeyError](err); !ok {
				e.Fatalf("without the key: %v", err)
			}
			return
		}
		e.ok(e.disk.Flip(name, packHeaderSize+20, 1)) // in the block of key a
		report, err = InspectRun(e.disk, name, true, nil)
		e.ok(err)
		if len(report.Damaged) != 1 || string(report.Damaged[0].Key) != "a" || report.Damaged[0].Rows != 1 || report.Damaged[0].Offset != packHeaderSize {
			e.Fatalf("damage %+v", report.Damaged)
		}
		raw := goldenRun(e, RunRaw)
		report, err = InspectRun(e.disk, e.runs.path(raw.ID()), true, func(EpochKey) { t.Error("a raw run has keys") })
		e.ok(err)
		if report.Rows != 3 || report.Keys != 0 {
			e.Fatalf("report %+v", report)
		}
	})
}
