package buffer

import (
	"bytes"
	"fmt"
	"slices"
)

// What the ledger knows of run files: a consumer's raw runs, whose rows no decision has taken, and its epochs of
// routed runs, whose rows manifests take key by key.

// rawRun is rows [first, next) in a file, in the order of their sequences.
type rawRun struct {
	ref         runRef
	first, next uint64
	rows, bytes int64
}

// routedRun is a run of an epoch.
type routedRun struct {
	ref         runRef
	first, next uint64
	sum         runSum
}

// epochState is an epoch that has runs and has not ended.
type epochState struct {
	number, version uint64
	runs            []routedRun
	cuts            map[[16]byte]uint32 // the last run that size cuts took rows of, by the key's hash
	closedAt        uint32              // N of its sweeps, 0: none yet
	bound           []byte              // of the last sweep
	left            int64               // records that no manifest has taken
	unknown         bool                // damage has hidden what a manifest took, all of which is delivered; of a start
}

const (
	maxKeyCuts = 4096      // of one epoch
	maxExtent  = 1<<32 - 1 // sequences of one frame

	// What runs weigh in a checkpoint, bytes.
	rawRunWeight    = 90
	routedRunWeight = 110
	keyCutWeight    = 20
	epochWeight     = 40
)

func (e *epochState) first() uint64 { return e.runs[0].first }

// end is the sequence behind run n.
func (e *epochState) end(n uint32) uint64 { return e.runs[n-1].next }

// sum adds up all runs of the epoch.
func (e *epochState) sum() (s runSum) {
	for i := range e.runs {
		r := &e.runs[i].sum
		s.Rows += r.Rows
		s.Records += r.Records
		s.Bytes += r.Bytes
		if s.Oldest == 0 || r.Oldest != 0 && r.Oldest < s.Oldest {
			s.Oldest = r.Oldest
		}
	}
	return s
}

func (e *epochState) weight() int64 {
	return epochWeight + int64(len(e.runs))*routedRunWeight + int64(len(e.cuts))*keyCutWeight
}

// epoch returns an epoch that has not ended, or nil.
func (c *consumerState) epoch(number uint64) *epochState {
	for _, e := range c.epochs {
		if e.number == number {
			return e
		}
	}
	return nil
}

// routed is how many records are in routed runs and under no manifest.
func (c *consumerState) routed() (n int64) {
	for _, e := range c.epochs {
		n += e.left
	}
	return n
}

// checkRun tells why a RUN does not follow from what the ledger has, or nil.
func (c *consumerState) checkRun(e *runEvent) error {
	h := &e.Head
	if h.Next <= h.First || h.Next-h.First > maxExtent {
		return fmt.Errorf("run %x takes [%d, %d)", e.Ref.ID, h.First, h.Next)
	}
	if h.Kind == RunRaw {
		if h.First != c.position {
			return fmt.Errorf("raw run %x takes [%d, %d), the journal is taken up to %d", e.Ref.ID, h.First, h.Next, c.position)
		}
		return nil
	}
	if h.First != c.base {
		return fmt.Errorf("routed run %x takes [%d, %d), all is decided up to %d", e.Ref.ID, h.First, h.Next, c.base)
	}
	if h.Counts.OK+h.Counts.Failed != e.Sum.Records {
		return fmt.Errorf("routed run %x has %d records in its rows, its head counts %+v", e.Ref.ID, e.Sum.Records, h.Counts)
	}
	open := c.epoch(h.Epoch)
	switch {
	case open == nil && (h.Epoch <= c.newest || h.N != 1):
		return fmt.Errorf("run %d of epoch %d is its first, epochs are used up to %d", h.N, h.Epoch, c.newest)
	case open == nil:
		return nil
	case open != c.epochs[len(c.epochs)-1]:
		return fmt.Errorf("run %d of epoch %d comes after a run of epoch %d", h.N, h.Epoch, c.epochs[len(c.epochs)-1].number)
	case open.closedAt != 0:
		return fmt.Errorf("run %d of epoch %d comes after its close at run %d", h.N, h.Epoch, open.closedAt)
	case int(h.N) != len(open.runs)+1:
		return fmt.Errorf("run %d of epoch %d follows run %d", h.N, h.Epoch, len(open.runs))
	case h.Version != open.version:
		return fmt.Errorf("run %d of epoch %d has version %d, those before it %d", h.N, h.Epoch, h.Version, open.version)
	case h.Next-open.first() > maxExtent:
		return ErrEpochFull
	}
	return nil
}

// applyRun takes note of rows that have moved to a run.
func (l *ledger) applyRun(e *runEvent) error {
	h := &e.Head
	s := l.streams[h.Incarnation]
	if s == nil {
		return fmt.Errorf("%w: run %x of stream incarnation %d, which is not there", errOrder, e.Ref.ID, h.Incarnation)
	}
	if h.Consumer == allConsumers {
		return l.applyJoint(s, e)
	}
	c := s.consumer(h.Consumer)
	if c == nil {
		return fmt.Errorf("%w: run %x of consumer %d of stream %q, which it does not have", errOrder, e.Ref.ID, h.Consumer, s.cur.Name)
	}
	if err := c.checkRun(e); err != nil {
		return fmt.Errorf("%w: stream %q: %w", errOrder, s.cur.Name, err)
	}
	s.next = max(s.next, h.Next)
	s.draw = max(s.draw, s.next)
	l.finalRows(s, h.Next, &e.Lanes)
	if h.Kind == RunRaw {
		c.raw = append(c.raw, rawRun{ref: e.Ref, first: h.First, next: h.Next, rows: e.Sum.Rows, bytes: e.Sum.Bytes})
		l.weighRuns(s, rawRunWeight)
		c.position = h.Next
		c.step()
		return nil
	}
	open := c.epoch(h.Epoch)
	if open == nil {
		open = &epochState{number: h.Epoch, version: h.Version, cuts: make(map[[16]byte]uint32)}
		c.epochs = append(c.epochs, open)
		c.used(h.Epoch)
		s.users[h.Version]++
		l.weighRuns(s, epochWeight)
	}
	open.runs = append(open.runs, routedRun{ref: e.Ref, first: h.First, next: h.Next, sum: e.Sum})
	open.left += h.Counts.OK + h.Counts.Failed
	l.weighRuns(s, routedRunWeight)
	c.counts.Dropped += h.Counts.Dropped
	c.lost += h.Lost
	c.reach(h.Watermark)
	l.decide(s, c, h.Next)
	return nil
}

// reach takes over the watermark of what was decided.
func (c *consumerState) reach(watermark int64) {
	if watermark != 0 {
		c.mark = watermark
	}
}

// decide: everything below next is in a manifest or a routed run, so raw runs below it are dead.
func (l *ledger) decide(s *streamState, c *consumerState, next uint64) {
	c.base = next
	c.position = max(c.position, next)
	for len(c.raw) > 0 && c.raw[0].next <= next {
		l.retireRaw(s, c.raw[0].ref.ID)
		c.raw = c.raw[1:]
	}
	c.step()
	l.touch(s)
}

func (l *ledger) weighRuns(s *streamState, n int64) {
	l.weight += n
	l.runWeight += n
	s.runWeight += n
}

// used takes note of an epoch's number.
func (c *consumerState) used(epoch uint64) {
	c.newest = max(c.newest, epoch)
	c.drawn = max(c.drawn, epoch)
}

// checkKeys tells why a manifest over rows of routed runs does not follow from what the ledger has, or nil.
func (c *consumerState) checkKeys(h *ManifestHead) error {
	e := c.epoch(h.Epoch)
	if e == nil {
		return fmt.Errorf("epoch %d has no runs, or has ended", h.Epoch)
	}
	src := &h.Source
	taken := h.Counts.OK + h.Counts.Dropped + h.Counts.Failed
	switch {
	case int(src.Run) > len(e.runs):
		return fmt.Errorf("epoch %d has %d runs, not %d", h.Epoch, len(e.runs), src.Run)
	case h.Version != e.version:
		return fmt.Errorf("epoch %d has version %d, not %d", h.Epoch, e.version, h.Version)
	case h.First != e.first() || h.Next != e.end(src.Run):
		return fmt.Errorf("runs 1 to %d of epoch %d took [%d, %d), not [%d, %d)", src.Run, h.Epoch, e.first(), e.end(src.Run), h.First, h.Next)
	case taken > e.left:
		return fmt.Errorf("epoch %d has %d records left, the manifest takes %d", h.Epoch, e.left, taken)
	case src.Kind == SourceKey && e.closedAt != 0:
		return fmt.Errorf("epoch %d is closed: its keys are swept, in their order", h.Epoch)
	case src.Kind == SourceKey && e.cuts[src.Key] >= src.Run:
		return fmt.Errorf("key %x of epoch %d was taken up to run %d, not to %d", src.Key, h.Epoch, e.cuts[src.Key], src.Run)
	case src.Kind == SourceKey && e.cuts[src.Key] == 0 && len(e.cuts) >= maxKeyCuts:
		return ErrEpochFull
	case src.Kind == SourceSweep && int(src.Run) != len(e.runs):
		return fmt.Errorf("epoch %d has %d runs, a sweep takes them all, not %d", h.Epoch, len(e.runs), src.Run)
	case src.Kind == SourceSweep && !src.All && bytes.Compare(src.Bound, e.bound) <= 0:
		return fmt.Errorf("epoch %d is swept up to key %q, the next bound is %q", h.Epoch, e.bound, src.Bound)
	}
	return nil
}

// applyKeys takes note of what a manifest takes of routed runs. It was checked.
func (l *ledger) applyKeys(s *streamState, c *consumerState, h *ManifestHead) {
	e := c.epoch(h.Epoch)
	e.left -= h.Counts.OK + h.Counts.Dropped + h.Counts.Failed
	if h.Source.Kind == SourceKey {
		if e.cuts[h.Source.Key] == 0 {
			l.weighRuns(s, keyCutWeight)
		}
		e.cuts[h.Source.Key] = h.Source.Run
		return
	}
	e.closedAt, e.bound = h.Source.Run, bytes.Clone(h.Source.Bound)
	if h.Source.All {
		l.endEpoch(s, c, e)
	} else if sabotageUnlinkAtFirstSweep {
		for i := range e.runs {
			l.retiredRuns = append(l.retiredRuns, e.runs[i].ref.ID)
		}
	}
}

// endEpoch: all keys are swept. What is left of the records was in blocks that cannot be read.
func (l *ledger) endEpoch(s *streamState, c *consumerState, e *epochState) {
	if e.unknown {
		c.counts.OK += e.left
	} else {
		c.lost += e.left
	}
	c.epochs = slices.DeleteFunc(c.epochs, func(other *epochState) bool { return other == e })
	for i := range e.runs {
		l.retiredRuns = append(l.retiredRuns, e.runs[i].ref.ID)
	}
	l.weighRuns(s, -e.weight())
	l.unuse(s, e.version)
	l.touch(s)
}

// unuse takes back one use of a version.
func (l *ledger) unuse(s *streamState, version uint64) {
	if s.users[version]--; s.users[version] == 0 {
		delete(s.users, version)
		l.prune(s)
	}
}

// eachRun calls fn for every run that the ledger names.
func (l *ledger) eachRun(fn func(incarnation uint32, c *consumerState, ref runRef)) {
	for incarnation, s := range l.streams {
		for _, c := range s.consumers {
			for i := range c.raw {
				fn(incarnation, c, c.raw[i].ref)
			}
			for _, e := range c.epochs {
				for i := range e.runs {
					fn(incarnation, c, e.runs[i].ref)
				}
			}
		}
	}
}

// openRuns is the bytes of the routed runs of epochs that are not closed.
func (c *consumerState) openRuns() (n int64) {
	for _, e := range c.epochs {
		if e.closedAt == 0 {
			for i := range e.runs {
				n += e.runs[i].ref.Length
			}
		}
	}
	return n
}
