package buffer

import (
	"encoding/hex"
	"fmt"
	"path"

	"hydrant/buffer/fsys"
)

// knownRun is a run file that was read during recovery.
type knownRun struct {
	content *runContent
	key     *dataKey
	table   *rawRows // of a raw run
	err     error
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

// checkRun reads a run that the ledger names and compares it with what the frame says. Errors: *runDamage,
// *NewerVersionError, *KeyError, or the file system's.
func (r *recovery) checkRun(ref runRef) error {
	k := r.run(ref.ID)
	if k.err != nil {
		return k.err
	}
	if k.content.ref != ref {
		return &runDamage{Path: r.runPath(ref.ID), What: "it is not the run that its frame names"}
	}
	return nil
}

// judgeRuns reads the footers of all runs that the ledger names.
func (r *recovery) judgeRuns() error {
	var err error
	r.l.eachRun(func(_ uint32, _ *consumerState, ref runRef) {
		if e := r.checkRun(ref); err == nil && e != nil {
			err = fmt.Errorf("read runs: %w", e)
		}
	})
	return err
}

// restoreRuns tells the readers of a stream what runs its rows are in.
func (r *recovery) restoreRuns(incarnation uint32, s *streamState) {
	for _, c := range s.consumers {
		var tables []*rawRows
		for i := range c.raw {
			tables = append(tables, r.run(c.raw[i].ref.ID).table)
		}
		r.b.Consumer(incarnation, c.id).restoreRuns(c.base, tables, c.openRuns())
	}
}
