package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/record"
)

// flip changes one byte of a file.
func (e *runEnv) flip(name string, off int64) {
	e.Helper()
	e.ok(e.disk.Flip(name, off, 0x40))
}

// TestEpochDamage: a damaged block costs its rows, a damaged page of the footer the rows of its keys; the others are
// read, the run is kept aside, and each damage is told once.
func TestEpochDamage(t *testing.T) {
	runsBothWays(t, func(e *runEnv) {
		var text bytes.Buffer
		e.runs.o.Log = slog.New(slog.NewTextHandler(&text, nil))
		e.ok(e.disk.Mkdir("/data/quarantine"))
		r := e.create(RunRouted, 1<<20)
		m := e.fill(r, 7, 4000, 8000, 1)
		e.ok(r.Seal(routedHead(m.sum().Records, 1, 8001)))
		reader := e.name(r)
		name := e.runs.path(r.ID())
		// the first block of the seventh key, and the second page
		c := reader.cursor()
		for range 7 {
			e.ok(c.next())
		}
		victim := string(c.cur.Key)
		block := c.cur.Offset + 20
		e.ok(c.enter(1))
		page := reader.offset + runPage + 500
		var gone []string
		for e.ok(c.next()); c.page == 1; e.ok(c.next()) {
			if name := string(c.cur.Key); !slices.Contains(gone, name) {
				gone = append(gone, name)
			}
		}
		reader.Close()
		place := func(clear int64) int64 { return clear }
		if e.keys.seal != nil {
			place = func(clear int64) int64 {
				return clear + (clear-packHeaderSize)/sealBlock*sealOverhead + sealCounter
			}
		}
		e.flip(name, place(block))
		e.flip(name, place(page))

		epoch := e.epoch(nil, e.open(r.ID()))
		defer epoch.Close()
		var seen []string
		lost := int64(0)
		for k, err := range epoch.Keys(nil) {
			e.ok(err)
			seen = append(seen, string(k.Key))
			n := int64(0)
			for _, err := range epoch.Rows(k.Key) {
				e.ok(err)
				n++
			}
			if n > int64(len(m[string(k.Key)])) {
				e.Fatalf("key %q has %d rows", k.Key, n)
			}
			if lost += k.Rows - n; n < k.Rows && e.keys.seal == nil && string(k.Key) != victim {
				e.Fatalf("key %q has lost %d rows", k.Key, k.Rows-n)
			}
		}
		if lost == 0 {
			e.Fatal("the rows of the damaged block are there")
		}
		if _, err := openRun(e.disk, name, e.keys); err == nil {
			e.Fatal("a damaged footer was taken")
		} else if _, ok := errors.AsType[*runDamage](err); !ok {
			e.Fatalf("a damaged footer: %v", err)
		}
		missing := 0
		for _, key := range gone {
			if !slices.Contains(seen, key) {
				missing++
			}
		}
		if missing < len(gone)-2 || len(seen)+missing < len(m)-700 {
			e.Fatalf("%d of %d keys were seen, %d of %d of the page are missing", len(seen), len(m), missing, len(gone))
		}
		if e.keys.seal == nil && len(seen)+missing != len(m) {
			e.Fatalf("%d keys were seen, %d are missing, of %d", len(seen), missing, len(m))
		}
		copied, err := e.disk.ReadFile("/data/quarantine/" + path.Base(name))
		e.ok(err)
		stored, err := e.disk.ReadFile(name)
		e.ok(err)
		if !bytes.Equal(copied, stored) {
			e.Fatal("quarantine/ has another file")
		}
		for line := range strings.Lines(text.String()) {
			if n := strings.Count(text.String(), line[strings.Index(line, "err="):]); n != 1 {
				e.Fatalf("told %d times: %s", n, line)
			}
		}
		if n := strings.Count(text.String(), "rows of a run are lost"); n < 2 || e.keys.seal == nil && n != 2 {
			e.Fatalf("%d losses were told:\n%s", n, text.String())
		}
	})
}

// TestRawRunDamage: damage says which sequences it has taken.
func TestRawRunDamage(t *testing.T) {
	e := newRunEnv(t, 1<<30, nil)
	r := e.create(RunRaw, 0)
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200)
	const rows = 20_000
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for seq := range uint64(rows) {
		e.ok(r.Append(nil, RunRow{Row: record.Row{Seq: 100 + 2*seq, Arrived: int64(seq), Data: noise[:rnd.IntN(len(noise))]}}))
	}
	e.ok(r.Seal(RunHead{Incarnation: 4, Kind: RunRaw, First: 100, Next: 100 + 2*rows}))
	reader := e.name(r)
	defer reader.Close()
	c := reader.cursor()
	for range 3 {
		e.ok(c.next())
	}
	block := c.cur
	if c.pages() < 3 {
		t.Fatalf("the table has %d pages", c.pages())
	}
	e.ok(c.enter(1))
	e.ok(c.next())
	first := c.cur.First
	e.ok(c.enter(2))
	e.ok(c.next())
	next := c.cur.First
	e.flip(e.runs.path(r.ID()), block.Offset+20)
	e.flip(e.runs.path(r.ID()), reader.offset+runPage+9)
	fresh := e.open(r.ID())
	defer fresh.Close()
	for _, from := range []uint64{0, block.First + 6, block.Next, first + 3, next, 100 + 2*rows} {
		var losses []string
		got := map[uint64]bool{}
		for row, err := range fresh.rawRows(from) {
			if loss, lost := errors.AsType[*runLoss](err); lost {
				losses = append(losses, fmt.Sprint(loss.First, loss.Next, loss.Rows))
				continue
			}
			e.ok(err)
			got[row.Seq] = true
		}
		var want []string
		if from < block.Next {
			at := max(from, block.First)
			want = append(want, fmt.Sprint(at, block.Next, (block.Next-at+1)/2))
		}
		if from < next {
			// the table leaves out what lies between two blocks
			want = append(want, fmt.Sprint(max(from, first-1), next, 0))
		}
		for seq := uint64(100); seq < 100+2*rows; seq += 2 {
			lost := seq >= block.First && seq < block.Next || seq >= first && seq < next
			if got[seq] != (seq >= from && !lost) {
				t.Fatalf("from %d: row %d is there: %v", from, seq, got[seq])
			}
		}
		if !slices.Equal(losses, want) {
			t.Fatalf("from %d: lost are %q, want %q", from, losses, want)
		}
	}
}

// TestRunNoSpace meets the limit at each write; what was charged is given back.
func TestRunNoSpace(t *testing.T) {
	for _, key := range []*Key{nil, testKey(1)} {
		for limit := int64(0); ; limit += 300 << 10 {
			e := newRunEnv(t, limit, key)
			if e.space.ballast.present {
				e.noBallast()
			}
			r := e.create(RunRouted, 0)
			row := rowOf(1, 0, strings.Repeat("x", 40<<10))
			rnd := rand.New(rand.NewPCG(1, 2))
			var err error
			n := uint64(0)
			for ; n < 100 && err == nil; n++ {
				for i := range row.Data {
					row.Data[i] = byte(rnd.Uint32())
				}
				row.Seq = n + 1
				err = r.Append(fmt.Appendf(nil, "%d", n%7), row)
			}
			if err == nil {
				err = r.Seal(routedHead(100, 1, 101))
			}
			if err == nil {
				r.Abort()
				break
			}
			if !errors.Is(err, ErrNoSpace) {
				t.Fatalf("limit %d: %v", limit, err)
			}
			if again := r.Append(nil, row); !errors.Is(again, ErrNoSpace) {
				t.Fatalf("limit %d: a row after that: %v", limit, again)
			}
			if again := r.Seal(routedHead(int64(n), 1, 101)); !errors.Is(again, ErrNoSpace) {
				t.Fatalf("limit %d: a seal after that: %v", limit, again)
			}
			r.Abort()
			if s := e.space.stats(); s.Making != 0 {
				t.Fatalf("limit %d: still charged: %+v", limit, s)
			}
			if entries, err := e.disk.ReadDir("/data/runs"); err != nil || len(entries) > 0 {
				t.Fatalf("limit %d: files %v, %v", limit, entries, err)
			}
		}
	}
}

// TestRunDiskFails: any operation that fails ends the run, and leaves nothing behind.
func TestRunDiskFails(t *testing.T) {
	for at := 1; ; at++ {
		e := newRunEnv(t, 1<<30, nil)
		n, done := 0, true
		e.disk.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
			if !strings.HasPrefix(op.Path, "/data/runs") || op.Kind == forgetfs.OpRemove {
				return nil
			}
			if n++; n == at {
				done = false
				return &forgetfs.Fault{Err: syscall.EIO}
			}
			return nil
		})
		r := e.create(RunRouted, 0)
		var err error
		row := rowOf(1, 0, strings.Repeat("x", 40<<10))
		for i := range uint64(100) {
			if row.Seq = i + 1; err == nil {
				err = r.Append(fmt.Appendf(nil, "%d", i%7), row)
			}
		}
		if err == nil {
			err = r.Seal(routedHead(100, 1, 101))
		}
		if done != (err == nil) {
			t.Fatalf("operation %d failed: %v", at, err)
		}
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatalf("operation %d failed: %v", at, err)
		}
		r.Abort()
		e.disk.SetHook(nil)
		if entries, err := e.disk.ReadDir("/data/runs"); err != nil || len(entries) > 0 {
			t.Fatalf("operation %d failed: files %v, %v", at, entries, err)
		}
		if done {
			return
		}
	}
}

// TestRunStore is the life of run files beside their rows: orphans, doubt, and readers.
func TestRunStore(t *testing.T) {
	e := newRunEnv(t, 1<<30, nil)
	exists := func(r *Run) bool {
		_, err := e.disk.ReadFile(e.runs.path(r.ID()))
		return err == nil
	}
	orphan, named, doubtful, unkept := goldenRun(e, RunRaw), goldenRun(e, RunRouted), goldenRun(e, RunRaw), goldenRun(e, RunRaw)
	e.runs.keep([]*Run{unkept, doubtful})
	e.runs.unkeep([]*Run{unkept})
	e.runs.doubt([]*Run{doubtful})
	unkept.Abort()
	doubtful.Abort()
	if exists(unkept) || !exists(doubtful) {
		t.Fatalf("unkept %v, doubtful %v", exists(unkept), exists(doubtful))
	}
	e.runs.certain()
	if exists(doubtful) {
		t.Fatal("a run that no frame can name is still there")
	}
	reader := e.name(named)
	put(t, e.disk, "/data/runs/other.run", []byte("x"))
	e.ok(e.runs.sweep())
	if !exists(orphan) {
		t.Fatal("a run in the making was swept")
	}
	delete(e.runs.making, orphan.ID()) // of an earlier process
	e.ok(e.runs.sweep())
	if exists(orphan) || !exists(named) {
		t.Fatalf("after the sweep: orphan %v, named %v", exists(orphan), exists(named))
	}
	if _, err := e.disk.ReadFile("/data/runs/other.run"); err != nil {
		t.Fatal("a file of somebody else is gone")
	}
	e.runs.remove(named.ID())
	if !exists(named) {
		t.Fatal("a run that is being read is gone")
	}
	if _, err := e.runs.open(named.ID()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a dead run opens: %v", err)
	}
	epoch := e.epoch(nil, reader)
	n := 0
	for range epoch.Rows([]byte("b")) {
		n++
	}
	epoch.Close()
	if n != 2 || exists(named) {
		t.Fatalf("%d rows; there after the last reader: %v", n, exists(named))
	}
	// another process
	again := newRunStore(e.runs.o)
	back := goldenRun(e, RunRaw)
	again.register(4, back.ref, nil)
	again.register(4, back.ref, nil)
	r, err := again.open(back.ID())
	e.ok(err)
	e.ok(r.Close())
	e.ok(r.Close())
	again.close()
	if r, err := again.create(RunRaw, 0); err == nil {
		e.ok(r.Append(nil, rowOf(1, 0, "x")))
		if err := r.Seal(RunHead{Incarnation: 4, First: 1, Next: 2}); !errors.Is(err, ErrClosed) {
			t.Fatalf("sealed after close: %v", err)
		}
		r.Abort()
	}
}

// TestRunMemory: a run takes the memory that it was given and little more, whatever the number of keys; and so does
// who reads it.
func TestRunMemory(t *testing.T) {
	e := newRunEnv(t, 1<<30, nil)
	e.runs.o.FS, e.runs.o.Dir = fsys.OS(), t.TempDir()
	live := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	const keys, memory = 200_000, 2 << 20
	before := live()
	r := e.create(RunRouted, memory)
	row := rowOf(1, 0, strings.Repeat("value ", 10))
	var key []byte
	spilled := false
	for i := range uint64(keys) {
		row.Seq = i + 1
		key = fmt.Appendf(key[:0], "\x01a/rather/long/prefix/of/a/partition/key=%08d/", i*7919%keys)
		e.ok(r.Append(key, row))
		for _, p := range r.parts {
			spilled = spilled || p.pages == nil
		}
	}
	if !spilled || len(r.parts) < 10 {
		t.Fatalf("%d parts, tables in the file: %v", len(r.parts), spilled)
	}
	const most = memory + memory/4 + 3<<20
	if used := live() - before; used > most {
		t.Errorf("a run of %d keys takes %d bytes of memory, at most %d are its own", keys, used, int64(most))
	}
	e.ok(r.Seal(routedHead(keys, 1, keys+1)))
	if r.sum.Keys != keys {
		t.Fatalf("%d keys", r.sum.Keys)
	}
	epoch := e.epoch(nil, e.name(r))
	defer epoch.Close()
	n := 0
	for k, err := range epoch.Keys(nil) {
		e.ok(err)
		for range epoch.Rows(k.Key) {
			n++
		}
		if n == keys/2 {
			if used := live() - before; used > 3<<20 {
				t.Errorf("who reads a run of %d keys takes %d bytes of memory", keys, used)
			}
		}
	}
	if n != keys {
		t.Fatalf("%d rows", n)
	}
	if f := r.buf; f != nil {
		t.Error("a sealed run keeps its buffer")
	}
}
