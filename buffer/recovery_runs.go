package buffer

import (
	"errors"
)

// knownRun is a run file that was read during recovery.
type knownRun struct {
	content *runContent
	key     *dataKey
	chunks  []Chunk // of a raw run
	err     error
}

// run reads the footer of a run, once.
func (r *recovery) run(id RunID) *knownRun {
	if k := r.runs[id]; k != nil {
		return k
	}
	k := &knownRun{err: errors.New("runs cannot be read yet")}
	r.runs[id] = k
	return k
}

// restoreRuns tells the readers of a stream what runs its rows are in.
func (r *recovery) restoreRuns(incarnation uint32, s *streamState) {
	for _, c := range s.consumers {
		var tables []*rawRows
		for i := range c.raw {
			raw := &c.raw[i]
			table := &rawRows{id: raw.ref.ID, length: raw.ref.Length, first: raw.first, next: raw.next}
			for _, k := range r.run(raw.ref.ID).chunks {
				table.add(k)
			}
			tables = append(tables, table)
		}
		r.b.Consumer(incarnation, c.id).restoreRuns(c.base, tables, c.openRuns())
	}
}
