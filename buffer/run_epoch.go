package buffer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
)

// EpochKey sums up the rows of one key of an epoch that no size cut has taken.
type EpochKey struct {
	Key     []byte // valid until the next step
	Rows    int64
	Records int64 // rows with Counts
	Bytes   int64 // of Data
}

// EpochReader reads the routed runs of an epoch as one: a merge by key. It holds two pages of 16 KiB and a buffer of 64
// for each run, however many keys there are. Not safe for concurrent use; several may be open at a time.
type EpochReader struct {
	b       *Buffer
	runs    []*epochRun // by ordinal
	cuts    map[[16]byte]uint32
	last    []byte // key that Rows was asked for last
	asked   bool
	scratch runScratch
	told    map[lossPlace]bool // damage that was reported
}

// epochRun is a run with the place where Rows stands in it.
type epochRun struct {
	*runReader
	at *tableCursor
}

// OpenEpoch opens the runs of an epoch up to ordinal upTo. They stay until Close. Errors: fs.ErrNotExist where they
// are gone, or the file system's.
func (b *Buffer) OpenEpoch(c *Consumer, number uint64, upTo uint32) (*EpochReader, error) {
	refs, cuts, err := b.epochRuns(c, number, upTo)
	if err != nil {
		return nil, fmt.Errorf("open epoch %d: %w", number, err)
	}
	e := &EpochReader{b: b, cuts: cuts}
	for _, ref := range refs {
		r, err := b.runs.open(ref.ID)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("open epoch %d: %w", number, err)
		}
		e.add(r)
	}
	return e, nil
}

// add takes the next run.
func (e *EpochReader) add(r *runReader) {
	run := &epochRun{runReader: r}
	run.at = e.cursor(run)
	e.runs = append(e.runs, run)
}

// cursor of a run's table, which passes over damaged pages: their rows are lost.
func (e *EpochReader) cursor(r *epochRun) *tableCursor {
	c := r.runReader.cursor()
	c.skip = func(page int64) {
		e.lost(r, &runLoss{ID: r.ref.ID, Path: r.path, Offset: r.offset + page*runPage, Length: runPage, What: errPage.Error()})
	}
	return c
}

// taken tells whether a size cut has taken the rows of a key in run n.
func (e *EpochReader) taken(cut uint32, n uint32) bool { return n <= cut && !sabotageIgnoreSizeCuts }

// cut is the ordinal of the last run of which a size cut took the rows of a key, 0: none.
func (e *EpochReader) cut(key []byte) uint32 {
	if len(e.cuts) == 0 {
		return 0
	}
	return e.cuts[KeyHash(key)]
}

// Keys iterates over the keys above after (nil: all), ascending, without rows that size cuts took. What damaged pages of
// a footer said is logged and left out, and the run is copied to quarantine/; an error is the last step.
func (e *EpochReader) Keys(after []byte) iter.Seq2[EpochKey, error] {
	return func(yield func(EpochKey, error) bool) {
		cursors := make([]*tableCursor, 0, len(e.runs))
		for i, r := range e.runs {
			c := e.cursor(r)
			c.order = i
			var err error
			if after == nil {
				err = c.next()
			} else if err = c.seek(after); err == nil {
				for c.some && bytes.Equal(c.cur.Key, after) && err == nil {
					err = c.next()
				}
			}
			if err != nil {
				yield(EpochKey{}, r.tableErr(err))
				return
			}
			cursors = append(cursors, c)
		}
		var key EpochKey
		var name []byte
		for m := newTableMerge(cursors); len(m) > 0; {
			name = append(name[:0], m[0].cur.Key...)
			key = EpochKey{Key: name}
			cut := e.cut(name)
			for len(m) > 0 && bytes.Equal(m[0].cur.Key, name) {
				c := m[0]
				if r := e.runs[c.order]; !e.taken(cut, r.head.N) {
					key.Rows += c.cur.Rows
					key.Records += c.cur.Records
					key.Bytes += c.cur.Bytes
				}
				if err := m.next(); err != nil {
					yield(EpochKey{}, e.runs[c.order].tableErr(err))
					return
				}
			}
			if key.Rows > 0 && !yield(key, nil) {
				return
			}
		}
	}
}

// Rows iterates over the rows of a key in the order of runs, which is that of sequences, without rows that size cuts
// took. What damage has taken is logged and left out, and their run is copied to quarantine/; an error is the last
// step. Asking for keys in ascending order is cheap. A row is valid until the next step.
func (e *EpochReader) Rows(key []byte) iter.Seq2[RunRow, error] {
	return func(yield func(RunRow, error) bool) {
		again := e.asked && bytes.Compare(key, e.last) <= 0
		e.last, e.asked = append(e.last[:0], key...), true
		if again {
			for _, r := range e.runs {
				r.at.reset()
			}
		}
		cut := e.cut(key)
		for _, r := range e.runs {
			if e.taken(cut, r.head.N) {
				continue
			}
			err := r.at.seek(key)
			for err == nil && r.at.some && bytes.Equal(r.at.cur.Key, key) {
				for row, err := range r.rows(&e.scratch, r.at.cur) {
					loss, lost := errors.AsType[*runLoss](err)
					if lost {
						e.lost(r, loss)
						continue
					}
					if !yield(row, err) || err != nil {
						return
					}
				}
				err = r.at.next()
			}
			if err != nil {
				yield(RunRow{}, r.tableErr(err))
				return
			}
		}
	}
}

// lost reports damage, once.
func (e *EpochReader) lost(r *epochRun, loss *runLoss) {
	place := lossPlace{loss.ID, loss.Offset}
	if e.told[place] {
		return
	}
	if e.told == nil {
		e.told = make(map[lossPlace]bool)
	}
	e.told[place] = true
	file, err := e.b.setRunAside(r.ref.ID)
	if err != nil {
		e.b.log.Error("a damaged run cannot be set aside", "run", hex.EncodeToString(r.ref.ID[:]), "err", err)
	}
	e.b.log.Error("rows of a run are lost", "incarnation", r.head.Incarnation, "epoch", r.head.Epoch, "run", r.head.N,
		"rows", loss.Rows, "records", loss.Records, "file", file, "err", loss)
}

// Close gives the runs free. Again it does nothing.
func (e *EpochReader) Close() {
	for _, r := range e.runs {
		r.Close() // what closing a file that was only read says does not matter
	}
	e.runs, e.scratch = nil, runScratch{}
}
