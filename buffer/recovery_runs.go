package buffer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"hydrant/buffer/fsys"
)

// knownRun is a run file that was read during recovery.
type knownRun struct {
	content *runContent
	key     *dataKey
	table   *rawRows // of a raw run
	err     error
	gone    bool // missing or damaged
}

func (r *recovery) runPath(id RunID) string {
	return path.Join(r.b.dir, runsDir, hex.EncodeToString(id[:])+runSuffix)
}

// run reads the footer of a run, once.
func (r *recovery) run(id RunID) *knownRun {
	if k := r.runs[id]; k != nil {
		return k
	}
	k := &knownRun{}
	r.runs[id] = k
	k.content, k.table, k.err = r.readRun(id)
	if k.err == nil {
		k.key = k.content.key
	}
	return k
}

// readRun reads the footer of a run, and makes the table of a raw one.
func (r *recovery) readRun(id RunID) (*runContent, *rawRows, error) {
	name := r.runPath(id)
	f, err := r.b.fs.OpenFile(name, fsys.ReadOnly)
	if err != nil {
		return nil, nil, fmt.Errorf("open run: %w", err)
	}
	defer f.Close()
	table := &rawRows{id: id}
	content, _, err := readRun(f, name, r.b.keys, func(c *runContent, _ *envelope, e runEntry) error {
		if c.head.Kind == RunRaw {
			for k := range e.each {
				table.add(k)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	table.length, table.first, table.next = content.ref.Length, content.head.First, content.head.Next
	return content, table, nil
}

// rebuildRun finds what a damaged RUN said in the footer of the run with its mark. Where there is none the run has
// died since. Of a raw one that is enough: what comes behind it in the journal makes it dead again, or its rows are lost.
// Of a routed one it is not known which epoch it was of.
func (r *recovery) rebuildRun(p *replayer, s *oldSegment, h *frameHead) error {
	entries, err := r.b.fs.ReadDir(path.Join(r.b.dir, runsDir))
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, e := range entries {
		id, ok := runKind.parse(e.Name)
		if !ok || runMark(id, RunRaw)&^1 != h.Arrived&^1 {
			continue
		}
		k := r.run(id)
		if k.err != nil {
			return p.stop(s, int64(h.LSN-s.base), h, k.err.Error())
		}
		c := k.content
		if c.head.Incarnation != h.Incarnation || c.head.Consumer != h.Consumer || c.head.First != h.First || c.head.Next != h.next() {
			continue
		}
		rows := c.sum.Rows
		if n := c.head.Counts; c.head.Kind == RunRouted {
			rows = n.OK + n.Dropped + n.Failed + c.head.Lost
		}
		p.brought(p.l.streams[h.Incarnation], h, rows)
		p.taken(h.Incarnation, h.next())
		if err := p.l.apply(&runEvent{Head: c.head, Ref: c.ref, Sum: c.sum.ledger()}); err != nil {
			return p.stop(s, int64(h.LSN-s.base), h, err.Error())
		}
		return nil
	}
	if h.Arrived&1 != int64(RunRaw) {
		return r.fatal()
	}
	dead := &runEvent{
		Head: RunHead{Incarnation: h.Incarnation, Consumer: h.Consumer, Kind: RunRaw, First: h.First, Next: h.next()},
		Ref:  runRef{ID: RunID(binary.LittleEndian.AppendUint64(make([]byte, 8), h.LSN))},
		Sum:  runSum{Rows: int64(h.Count), Records: int64(h.Count)},
	}
	p.brought(p.l.streams[h.Incarnation], h, dead.Sum.Rows)
	p.taken(h.Incarnation, h.next())
	if err := p.l.apply(dead); err != nil {
		return p.stop(s, int64(h.LSN-s.base), h, err.Error())
	}
	return nil
}

// judgeRuns reads the footers of all runs that the ledger names. One that is missing or damaged is gone: its rows are
// lost, and are counted when a decision would have taken them.
func (r *recovery) judgeRuns() error {
	for _, ref := range r.namedRuns() {
		k := r.run(ref.ID)
		if k.err == nil && k.content.ref != ref.runRef {
			k.err = &runDamage{Path: r.runPath(ref.ID), What: "it is not the run that its frame names"}
		}
		if k.err == nil {
			continue
		}
		if newer, ok := errors.AsType[*NewerVersionError](k.err); ok {
			return newer
		}
		if key, ok := errors.AsType[*KeyError](k.err); ok {
			return key
		}
		if _, damaged := errors.AsType[*runDamage](k.err); !damaged && !errors.Is(k.err, fs.ErrNotExist) {
			return fmt.Errorf("read runs: %w", k.err)
		}
		k.gone = true
		r.damage = append(r.damage, Damage{File: r.runPath(ref.ID), What: k.err.Error(), Incarnation: ref.incarnation, First: ref.first, Next: ref.next})
	}
	return r.judgeUnknown()
}

// namedRun is a run that the ledger names, with the range that it took.
type namedRun struct {
	runRef
	incarnation uint32
	span
}

func (r *recovery) namedRuns() (list []namedRun) {
	r.l.eachRun(func(incarnation uint32, c *consumerState, ref runRef) {
		n := namedRun{runRef: ref, incarnation: incarnation}
		for i := range c.raw {
			if c.raw[i].ref == ref {
				n.span = span{c.raw[i].first, c.raw[i].next}
			}
		}
		for _, e := range c.epochs {
			for i := range e.runs {
				if e.runs[i].ref == ref {
					n.span = span{e.runs[i].first, e.runs[i].next}
				}
			}
		}
		list = append(list, n)
	})
	slices.SortFunc(list, func(a, b namedRun) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return slices.CompactFunc(list, func(a, b namedRun) bool { return a.ID == b.ID }) // several consumers may have one
}

// judgeUnknown decides about epochs of which damage has hidden what a manifest took. Where their runs are gone it was
// the last one; else nobody can tell what is still to be sent.
func (r *recovery) judgeUnknown() error {
	for _, s := range r.l.streams {
		for _, c := range s.consumers {
			for _, e := range slices.Clone(c.epochs) {
				if !e.unknown {
					continue
				}
				for i := range e.runs {
					if !errors.Is(r.run(e.runs[i].ref.ID).err, fs.ErrNotExist) {
						return r.fatal()
					}
				}
				r.l.endEpoch(s, c, e)
			}
		}
	}
	r.l.retiredRuns = nil
	return nil
}

// quarantineRuns copies damaged runs aside.
func (r *recovery) quarantineRuns() error {
	for _, ref := range r.namedRuns() {
		if k := r.run(ref.ID); !k.gone || errors.Is(k.err, fs.ErrNotExist) {
			continue
		}
		file, err := r.b.fs.OpenFile(r.runPath(ref.ID), fsys.ReadOnly)
		if err != nil {
			return fmt.Errorf("open damaged run: %w", err)
		}
		size, err := file.Size()
		if err == nil {
			err = r.keep(file, size, path.Join(quarantineDir, hex.EncodeToString(ref.ID[:])+runSuffix))
		}
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// registerRuns tells the store of the runs that frames name, and which of them are gone.
func (r *recovery) registerRuns() {
	b := r.b
	b.goneRuns = make(map[RunID]bool)
	b.ledger.eachRun(func(incarnation uint32, _ *consumerState, ref runRef) {
		k := r.run(ref.ID)
		if k.gone {
			b.goneRuns[ref.ID] = true
		}
		if !errors.Is(k.err, fs.ErrNotExist) {
			b.runs.register(incarnation, ref, k.key)
		}
	})
}

// restoreRuns tells the readers of a stream what runs its rows are in.
func (r *recovery) restoreRuns(incarnation uint32, s *streamState) {
	for _, c := range s.consumers {
		var tables []*rawRows
		for i := range c.raw {
			raw := &c.raw[i]
			table := r.run(raw.ref.ID).table
			if r.b.goneRuns[raw.ref.ID] {
				table = &rawRows{id: raw.ref.ID, gone: true, first: raw.first, next: raw.next}
				table.add(Chunk{First: raw.first, Count: int(raw.rows), Bytes: raw.bytes, Arrived: 1})
			}
			tables = append(tables, table)
		}
		r.b.Consumer(incarnation, c.id).restoreRuns(c.base, tables, c.openRuns())
	}
}
