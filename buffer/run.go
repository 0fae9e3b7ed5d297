package buffer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"hydrant/record"
)

// RunID names a run file for ever.
type RunID [16]byte

// RunKind says what the rows of a run are.
type RunKind uint8

const (
	RunRaw    RunKind = iota // rows as they arrived, in the order of their sequences
	RunRouted                // rows as they will be delivered, by key
)

func (k RunKind) String() string {
	if k == RunRouted {
		return "routed"
	}
	return "raw"
}

// RunRow is one row of a run.
type RunRow struct {
	record.Row
	Counts bool // the record counts with this row: the first part of it that was not dropped. Of raw rows always
}

// RunHead is what a RUN frame and the footer of its run both say. Epoch, N and Counts are of routed runs only.
type RunHead struct {
	Incarnation uint32
	Consumer    uint8
	Kind        RunKind
	Version     uint64 // of the stream's configuration that made the rows
	Epoch       uint64
	N           uint32 // ordinal of the run in its epoch, from 1
	First, Next uint64 // range of sequences it takes
	Counts      Counts // of the records in the range: OK and Failed have rows, Dropped has none
	Lost        int64  // records of the range that damage has taken
	Watermark   int64  // of the stream after the range, in µs of event time; 0: none, or as it was. Consumer.Watermark has it
	Meta        bool   // its rows, raw ones, have metadata, which may be empty
}

// check finds what no run can say of itself.
func (h *RunHead) check(sum *runTotals) error {
	switch {
	case h.Kind > RunRouted:
		return fmt.Errorf("run of kind %d", h.Kind)
	case h.Next <= h.First:
		return fmt.Errorf("run takes the range [%d, %d)", h.First, h.Next)
	case h.Counts.OK < 0 || h.Counts.Dropped < 0 || h.Counts.Failed < 0 || h.Lost < 0:
		return fmt.Errorf("run with negative counts %+v, %d lost", h.Counts, h.Lost)
	case h.Kind == RunRaw && (h.Epoch != 0 || h.N != 0 || h.Counts != Counts{} || sum.Keys != 0 || sum.Rows == 0):
		return errors.New("raw run without rows, or with keys, an epoch, or counts")
	case h.Kind == RunRouted && h.Meta:
		return errors.New("routed run with metadata")
	case h.Kind == RunRouted && h.N == 0:
		return errors.New("routed run without an ordinal")
	case h.Kind == RunRouted && sum.Records != h.Counts.OK+h.Counts.Failed:
		return fmt.Errorf("rows of %d records in a run of %d ok and %d failed ones", sum.Records, h.Counts.OK, h.Counts.Failed)
	}
	return nil
}

// runTotals sums up the rows of a run.
type runTotals struct {
	Keys    int64 // of a raw run 0
	Rows    int64
	Records int64 // rows with Counts
	Bytes   int64 // of Data
	Oldest  int64 // arrival of the oldest row in µs, 0 where there is none
}

func (t *runTotals) add(row *RunRow) {
	if t.Rows == 0 || row.Arrived < t.Oldest {
		t.Oldest = row.Arrived
	}
	t.Rows++
	t.Bytes += int64(len(row.Data))
	if row.Counts {
		t.Records++
	}
}

// runRef is how a frame names a run.
type runRef struct {
	ID     RunID
	Length int64    // of the file
	Footer [32]byte // SHA-256 of the footer
}

const (
	minRunMemory = 1 << 20 // the least that a run gathers before it writes
	maxRunKey    = 1100    // bytes of a row's key
)

// Run is a file of compressed rows in the making. One goroutine writes it.
//
// Rows of a routed run are gathered in memory. When that is full they are written as a sorted part: the blocks of
// each key one behind the other. What a table must say of a part's keys stays in memory while it is small and goes
// to the file otherwise; Seal merges these tables into the footer. So a run takes the memory that it is given, a
// quarter of it more, and two megabytes, however many keys and rows it has. Rows of a raw run are in order as they
// come and go to their block at once.
type Run struct {
	draft
	store  *runStore
	kind   RunKind
	memory int64
	state  packState
	sealed bool // and not aborted: it may stand in a frame

	h   RunHead // of a sealed run
	ref runRef  // how a frame names it
	sum runTotals

	least, most uint64 // sequences

	gathered arena
	block    rowEncoder // raw: in the making between calls
	coded    []byte     // of a block
	entry    []byte
	infos    []blockInfo

	chunks []Chunk // of block; raw
	parts  []runPart
	held   int64       // bytes of tables in memory
	table  tableWriter // raw: the footer's
	pages  []byte      // of table
}

// runPart is the table of a part, in memory or in the file.
type runPart struct {
	pages       []byte // nil: in the file
	off, length int64
}

// NewRun starts a run. memory is how many bytes Append may gather before a sorted part is written; the least is
// 1 MiB. The file comes with the first write. It is an orphan, removed at the next start, until a RUN frame names
// it. Every run ends in Abort, or in a frame that names it.
func (b *Buffer) NewRun(kind RunKind, memory int64) (*Run, error) { return b.runs.create(kind, memory) }

// ID of the run.
func (r *Run) ID() RunID { return r.draft.id }

// Size is the bytes of Data appended.
func (r *Run) Size() int64 { return r.sum.Bytes }

// Rows appended.
func (r *Run) Rows() int64 { return r.sum.Rows }

// InMemory tells whether nothing was written yet.
func (r *Run) InMemory() bool { return r.buf == nil && r.state == packOpen }

// Append adds a row; key and Data are copied. In a routed run keys come in any order, and the rows of a key keep
// theirs; in a raw one the key is empty and sequences ascend. Errors may be ErrNoSpace: then only Abort helps.
func (r *Run) Append(key []byte, row RunRow) error {
	switch {
	case r.state != packOpen:
		return errors.New("append to a run that is sealed or aborted")
	case r.fault != nil:
		return r.fault
	case len(row.Data) > maxRunRow:
		return fmt.Errorf("row of %d bytes: a run takes %d", len(row.Data), maxRunRow)
	case len(key) > maxRunKey:
		return fmt.Errorf("key of %d bytes: a run takes %d", len(key), maxRunKey)
	case row.Seq == 0 || row.Seq == math.MaxUint64:
		return fmt.Errorf("row with sequence %d", row.Seq)
	}
	if r.kind == RunRaw {
		return r.appendRaw(key, row)
	}
	if r.gathered.full(len(key), len(row.Data), r.memory) {
		if err := r.writePart(); err != nil {
			return err
		}
	}
	if r.sum.Rows == 0 || row.Seq < r.least {
		r.least = row.Seq
	}
	r.most = max(r.most, row.Seq)
	r.sum.add(&row)
	r.gathered.add(key, &row)
	return nil
}

func (r *Run) appendRaw(key []byte, row RunRow) error {
	if len(key) > 0 || row.Sub != 0 || row.Seq <= r.most {
		return fmt.Errorf("row %d.%d of key %.20q behind row %d: rows of a raw run have no key and ascend", row.Seq, row.Sub, key, r.most)
	}
	row.Counts = true
	fresh := r.newChunk(&row)
	size := len(row.Data)
	if r.block.meta {
		size = metaRowSize(row.Meta, row.Data)
	}
	if !r.block.fits(size) || fresh && len(r.chunks) == maxEntryChunks {
		if err := r.writeRaw(); err != nil {
			return err
		}
		fresh = true
	}
	if r.sum.Rows == 0 {
		r.least = row.Seq
	}
	r.most = row.Seq
	r.sum.add(&row)
	r.block.add(&row)
	if fresh {
		r.chunks = append(r.chunks, Chunk{First: row.Seq, Arrived: row.Arrived})
	}
	c := &r.chunks[len(r.chunks)-1]
	c.Count++
	c.Bytes += int64(len(row.Data))
	return nil
}

// newChunk tells whether a row of a raw run begins a chunk: where sequences were left out, or in another second.
func (r *Run) newChunk(row *RunRow) bool {
	n := len(r.chunks)
	return n == 0 || !sameChunk(&r.chunks[n-1], row.Seq, row.Arrived)
}

func sameChunk(c *Chunk, seq uint64, arrived int64) bool {
	return c.First+uint64(c.Count) == seq && floorSecond(c.Arrived) == floorSecond(arrived)
}

// floorSecond is the second of an arrival in µs.
func floorSecond(us int64) int64 {
	if us < 0 {
		us -= 999_999
	}
	return us / 1_000_000
}

// Sorted iterates over the rows by key, ascending, those of a key in the order in which they were appended. Only
// of a routed run while InMemory. Key and row are valid until the next step.
func (r *Run) Sorted() iter.Seq2[[]byte, RunRow] {
	if r.kind != RunRouted || !r.InMemory() {
		panic("bug: rows of a run in memory, which it is not")
	}
	return func(yield func([]byte, RunRow) bool) {
		var key []byte
		for _, i := range r.gathered.sorted() {
			k := &r.gathered.keys[i]
			for row := range r.gathered.rows(k) {
				key = append(key[:0], k.name...)
				if !yield(key, row) {
					return
				}
			}
		}
	}
}

// begin makes the file where there is none.
func (r *Run) begin() error {
	if r.file != nil {
		return nil
	}
	if err := r.store.fileStore.create(&r.draft); err != nil {
		r.fault = err
		return err
	}
	return nil
}

// writeBlock writes r.block and begins the next.
func (r *Run) writeBlock() (blockInfo, error) {
	r.coded = r.block.seal(r.coded, r.draft.id, r.size())
	info := blockInfo{int64(len(r.coded)), r.block.rows, r.block.records}
	_, err := r.write(r.coded)
	r.block.reset()
	if cap(r.coded) > 3*runBlock {
		r.coded = nil
	}
	return info, err
}

// writePart writes what was gathered, sorted.
func (r *Run) writePart() error {
	if err := r.begin(); err != nil {
		return err
	}
	part := runPart{}
	table := tableWriter{id: r.draft.id, emit: func(page []byte) error {
		part.pages = append(part.pages, page...)
		return nil
	}}
	for _, i := range r.gathered.sorted() {
		if err := r.writeKey(&r.gathered.keys[i], &table); err != nil {
			return err
		}
	}
	if err := table.end(); err != nil {
		return err
	}
	if len(r.parts) == 0 {
		r.sum.Keys = int64(len(r.gathered.keys))
	}
	r.gathered.reset()
	part.length = int64(len(part.pages))
	r.parts = append(r.parts, part)
	r.held += part.length
	if len(r.parts) == 1 || r.held <= r.memory/4 {
		return nil
	}
	return r.spillTables()
}

// writeKey writes the rows of a key that were gathered.
func (r *Run) writeKey(k *arenaKey, table *tableWriter) error {
	r.infos = r.infos[:0]
	offset, rows, records, data := r.size(), int64(0), int64(0), int64(0)
	emit := func() error {
		rows, records, data = rows+r.block.rows, records+r.block.records, data+r.block.data
		info, err := r.writeBlock()
		r.infos = append(r.infos, info)
		return err
	}
	entry := func() error {
		r.entry = appendEntry(r.entry[:0], []byte(k.name), offset, rows, records, data, r.infos)
		r.infos = r.infos[:0]
		offset, rows, records, data = r.size(), 0, 0, 0
		return table.add(r.entry)
	}
	for row := range r.gathered.rows(k) {
		if !r.block.fits(len(row.Data)) {
			if err := emit(); err != nil {
				return err
			}
			if len(r.infos) == maxEntryBlocks {
				if err := entry(); err != nil {
					return err
				}
			}
		}
		r.block.add(&row)
	}
	if err := emit(); err != nil {
		return err
	}
	return entry()
}

// spillTables moves the tables of parts to the file.
func (r *Run) spillTables() error {
	for i := range r.parts {
		p := &r.parts[i]
		if p.pages == nil {
			continue
		}
		p.off = r.size()
		if _, err := r.write(p.pages); err != nil {
			return err
		}
		p.pages = nil
	}
	r.held = 0
	return nil
}

// writeRaw writes the block of a raw run, and what the footer will say of it to memory: some 40 bytes for each, and
// as many again for each second in which rows came.
func (r *Run) writeRaw() error {
	if err := r.begin(); err != nil {
		return err
	}
	offset, rows, data := r.size(), r.block.rows, r.block.data
	info, err := r.writeBlock()
	if err != nil {
		return err
	}
	r.infos = append(r.infos[:0], info)
	e := appendEntry(r.entry[:0], nil, offset, rows, rows, data, r.infos)
	first, next := r.chunks[0].First, r.most+1
	e = binary.AppendUvarint(e, first)
	e = binary.AppendUvarint(e, next-first)
	e = binary.AppendUvarint(e, uint64(len(r.chunks)))
	seq, arrived := first, int64(0)
	for _, c := range r.chunks {
		e = binary.AppendUvarint(e, c.First-seq)
		e = binary.AppendUvarint(e, uint64(c.Count))
		e = binary.AppendUvarint(e, uint64(c.Bytes))
		e = binary.AppendVarint(e, c.Arrived-arrived)
		seq, arrived = c.First+uint64(c.Count), c.Arrived
	}
	r.entry, r.chunks = e, r.chunks[:0]
	return r.table.add(e)
}

// Seal writes what is left and the footer, and fsyncs file and directory (I7). A sealed run is immutable. After an
// error, which may be ErrNoSpace, only Abort helps.
func (r *Run) Seal(h RunHead) error {
	switch {
	case r.state != packOpen:
		return errors.New("seal a run that is sealed or aborted")
	case r.fault != nil:
		return r.fault
	case h.Kind != r.kind:
		return fmt.Errorf("seal a %v run as a %v one", r.kind, h.Kind)
	case h.Meta != r.block.meta:
		return fmt.Errorf("seal a run with metadata %t as one with %t", r.block.meta, h.Meta)
	case r.sum.Rows > 0 && (r.least < h.First || r.most >= h.Next):
		return fmt.Errorf("rows of sequences %d to %d in a run of [%d, %d)", r.least, r.most, h.First, h.Next)
	}
	if err := h.check(&r.sum); err != nil {
		return err
	}
	if err := r.seal(h); err != nil {
		if r.fault == nil {
			r.fault = err
		}
		return err
	}
	r.state, r.sealed, r.h = packSealed, true, h
	r.ref = runRef{ID: r.draft.id, Length: r.length, Footer: r.footer}
	r.drop()
	r.done()
	return nil
}

func (r *Run) seal(h RunHead) (err error) {
	if r.kind == RunRaw {
		if err = r.writeRaw(); err == nil {
			err = r.table.end()
		}
		r.parts = append(r.parts, runPart{pages: r.pages, length: int64(len(r.pages))})
	} else if len(r.gathered.keys) > 0 {
		err = r.writePart()
	} else {
		err = r.begin() // all that the run took was dropped
	}
	if err != nil {
		return err
	}
	begin, hash := r.size(), sha256.New()
	r.digest(hash)
	if len(r.parts) == 1 {
		_, err = r.write(r.parts[0].pages)
	} else {
		err = r.mergeTables()
	}
	if err != nil {
		return err
	}
	foot := runFooter{ID: r.draft.id, RunHead: h, runTotals: r.sum}
	if _, err := r.write(foot.encode()); err != nil {
		return err
	}
	r.digested()
	r.digest()
	return r.finish(begin, [32]byte(hash.Sum(nil)))
}

// mergeTables writes the tables of all parts as one, and counts the keys.
func (r *Run) mergeTables() error {
	end := r.size()
	cursors := make([]*tableCursor, len(r.parts))
	for i, p := range r.parts {
		c := &tableCursor{id: r.draft.id, kind: RunRouted, end: end, off: p.off, length: p.length, order: i, page: -1, r: &r.draft}
		if p.pages != nil {
			c.r = bytes.NewReader(p.pages)
		}
		if err := c.next(); err != nil {
			return fmt.Errorf("read run %q again: %w", r.path(), err)
		}
		cursors[i] = c
	}
	table := tableWriter{id: r.draft.id, emit: func(page []byte) error {
		_, err := r.write(page)
		return err
	}}
	var last []byte
	r.sum.Keys = 0
	for m := newTableMerge(cursors); len(m) > 0; {
		e := &m[0].cur
		if r.sum.Keys == 0 || !bytes.Equal(e.Key, last) {
			r.sum.Keys++
			last = append(last[:0], e.Key...)
		}
		if err := table.add(e.whole); err != nil {
			return err
		}
		if err := m.next(); err != nil {
			return fmt.Errorf("read run %q again: %w", r.path(), err)
		}
	}
	return table.end()
}

// Abort removes the file, as Pack.Abort does.
func (r *Run) Abort() {
	if r.state == packAborted {
		return
	}
	finished := r.state == packSealed
	r.state, r.sealed = packAborted, false
	r.drop()
	if r.buf == nil && !finished {
		return // its file was never made
	}
	r.abort(finished)
}

// drop lets go of memory.
func (r *Run) drop() {
	r.gathered.reset()
	r.gathered.keys, r.gathered.index, r.gathered.order = nil, nil, nil
	r.block, r.coded, r.entry, r.infos, r.chunks, r.parts, r.pages = rowEncoder{}, nil, nil, nil, nil, nil, nil
	r.table = tableWriter{}
}
