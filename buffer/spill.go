package buffer

import (
	"context"
	"errors"
	"fmt"
)

// maxSpill is the most bytes of Data of a raw run.
const maxSpill = 64 << 20

// errOvertaken says that rows which were spilled are decided meanwhile.
var errOvertaken = errors.New("the rows are decided")

// Spill moves the oldest rows of the front, at most max bytes of Data and at least one row, into a raw run, and returns
// how many they were: their slots of the journal and their memory are free for this consumer. Rows that a claim holds
// are moved too: the claim stays valid and keeps their memory until it ends, and what it gives back is raw then. A cut
// that takes the rows first wins: then the run goes, and 0, nil is returned, as where nothing is in the front. One at a
// time for a consumer; others wait. Errors: ErrNoSpace, ErrCrowded, ErrFailing, ErrClosed, that of ctx, or the file
// system's.
func (c *Consumer) Spill(ctx context.Context, max int64) (rows int64, err error) {
	c = c.leader()
	c.spilling.Lock()
	defer c.spilling.Unlock()
	pin := c.pinOldest(min(max, maxSpill))
	if pin == nil {
		return 0, nil
	}
	defer pin.unpin()
	run, err := c.b.NewRun(RunRaw, 0)
	if err != nil {
		return 0, fmt.Errorf("spill rows [%d, %d): %w", pin.first, pin.next, err)
	}
	table, err := pin.write(ctx, run)
	if err == nil {
		CrashPoint("run-sealed")
		err = c.b.spill(pin, run, table)
	}
	if err != nil {
		run.Abort()
	}
	if errors.Is(err, errOvertaken) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("spill rows [%d, %d): %w", pin.first, pin.next, err)
	}
	CrashPoint("run-durable")
	return table.rows, nil
}

// pinOldest keeps the oldest rows of the front in memory while they are written; nil where there are none.
func (c *Consumer) pinOldest(most int64) *Claim {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	if c.rows.rows == 0 {
		return nil
	}
	k := &Claim{c: c, first: c.position, mid: c.position, start: c.head, meta: c.stream.meta}
	k.joint = c.measureJoint(k, min(c.durable, c.position+maxExtent), most)
	if k.whole.rows == 0 {
		return nil
	}
	c.spill = k
	if sabotageFreeBeforeRun {
		c.b.ledger.streams[c.stream.incarnation].consumer(c.id).early = k.next
	}
	return k
}

func (k *Claim) unpin() {
	k.c.front.mu.Lock()
	defer k.c.front.mu.Unlock()
	k.ended = true
	k.c.spill = nil
	k.unkeep(0)
	k.c.front.grantAll()
}

// write writes the rows of a pin into a run and seals it.
func (k *Claim) write(ctx context.Context, run *Run) (*rawRows, error) {
	table := &rawRows{id: run.ID(), first: k.first, next: k.next}
	run.block.meta = k.meta
	for row := range k.Rows() {
		if table.rows%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if k.overtaken() {
				return nil, errOvertaken
			}
		}
		if err := run.Append(nil, RunRow{Row: row, Counts: true}); err != nil {
			return nil, err
		}
		table.add(Chunk{First: row.Seq, Count: 1, Bytes: int64(len(row.Data)), Arrived: row.Arrived})
	}
	taker := k.c.id
	if k.joint {
		taker = allConsumers
	}
	if err := run.Seal(RunHead{Incarnation: k.c.stream.incarnation, Consumer: taker, Kind: RunRaw, First: k.first, Next: k.next, Meta: k.meta}); err != nil {
		return nil, err
	}
	table.length = run.ref.Length
	return table, nil
}

func (k *Claim) overtaken() bool {
	k.c.front.mu.Lock()
	defer k.c.front.mu.Unlock()
	return k.c.position != k.first
}

// spill makes the RUN of a pin durable.
func (b *Buffer) spill(pin *Claim, run *Run, table *rawRows) error {
	c := pin.c
	e := &runEvent{Head: run.h, Ref: run.ref, Sum: run.sum.ledger()}
	o := &op{keys: [2]any{consumerKey{c.stream.incarnation, c.id}}}
	if pin.joint {
		o.keys = [2]any{consumerKey{c.stream.incarnation, Main}, consumerKey{c.stream.incarnation, Backup}}
	}
	o.prepare = func() ([]*ledgerFrame, error) {
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		s := b.ledger.streams[c.stream.incarnation]
		if s == nil || s.consumer(c.id) == nil || s.consumer(c.id).position != pin.first {
			return nil, errOvertaken
		}
		if fed := b.front.fedBelow(c.stream.incarnation, pin.next); (fed || pin.joint) && !s.mayJoin(pin.first, pin.next, pin.joint) {
			return nil, errOvertaken
		}
		e.Lanes = b.laneMarks(s, c.stream.incarnation, pin.next)
		return b.runFrame(s, e)
	}
	o.applied = func() {
		b.runs.named([]*Run{run}, c.stream.incarnation)
		b.front.spilled(pin, table)
		b.front.final(c.stream.incarnation, pin.next)
	}
	return b.writeRun(o, run)
}

// spilled moves rows of the front that a durable RUN has taken to the raw runs of those who have taken it.
func (f *front) spilled(pin *Claim, table *rawRows) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pin.c.spilled(pin.whole, pin.next, table)
	for _, o := range pin.c.stream.consumers {
		if o != pin.c && pin.joint && o.live() && o.position < pin.next {
			var whole sum
			o.measure(&whole, o.head, o.position, pin.next, 1<<62)
			o.spilled(whole, pin.next, table)
		}
	}
	f.judge()
}

// spilled moves whole, the rows of the front below next, to the consumer's raw runs. The caller holds front.mu.
func (c *Consumer) spilled(whole sum, next uint64, table *rawRows) {
	if c.taken < next {
		var free sum
		if c.taken <= c.position {
			free = whole
		} else {
			c.measure(&free, c.take, c.taken, next, 1<<62)
		}
		c.unclaimed.sub(free)
	}
	c.raw = append(c.raw, table)
	if sabotageSpillTwice {
		return
	}
	c.leave(whole, next)
	c.stepHoles()
	c.recount()
	c.notify()
}

// Route makes one RUN frame over a claim, whose range must begin where the last cut or run of its consumer ended,
// and over a sealed routed run with what became of its rows (h.First and h.Next are the claim's). On return it is
// durable, the claim is consumed and its rows are dead in the journal and in raw runs (I4). On error the claim is as
// before. Errors: ErrCrowded, ErrEpochFull, ErrFailing, ErrClosed, or what does not fit together.
func (b *Buffer) Route(claim *Claim, run *Run, h RunHead) error {
	first, next := claim.Range()
	c := claim.c
	h.Incarnation, h.Consumer, h.Kind = c.stream.incarnation, c.id, RunRouted
	err := claim.fault
	switch {
	case err != nil:
	case !run.sealed:
		err = errors.New("the run is not sealed")
	case run.h != h:
		err = fmt.Errorf("the run was sealed for another head: %+v, not %+v", run.h, h)
	case h.First != first || h.Next != next:
		err = fmt.Errorf("the run takes [%d, %d), the claim has [%d, %d)", h.First, h.Next, first, next)
	case h.Lost != claim.Lost():
		err = fmt.Errorf("the run counts %d rows as lost, the claim has met %d", h.Lost, claim.Lost())
	}
	if err != nil {
		return fmt.Errorf("route into run %d of epoch %d: %w", h.N, h.Epoch, err)
	}
	CrashPoint("run-sealed")
	e := &runEvent{Head: h, Ref: run.ref, Sum: run.sum.ledger()}
	o := &op{keys: [2]any{consumerKey{h.Incarnation, h.Consumer}}}
	o.prepare = func() ([]*ledgerFrame, error) {
		if !claim.isOldest() {
			return nil, errors.New("the claim does not begin where the last cut ended")
		}
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		s := b.ledger.streams[h.Incarnation]
		if s == nil {
			return nil, errors.New("the stream is gone")
		}
		b.sameBase(s, claim)
		e.Lanes = b.laneMarks(s, h.Incarnation, next)
		return b.runFrame(s, e)
	}
	o.applied = func() {
		b.runs.named([]*Run{run}, h.Incarnation)
		claim.consumed()
		b.front.final(h.Incarnation, next)
		b.openRuns(c)
	}
	if err := b.writeRun(o, run); err != nil {
		return fmt.Errorf("route into run %d of epoch %d: %w", h.N, h.Epoch, err)
	}
	CrashPoint("run-durable")
	return nil
}

// sameBase panics where front and ledger disagree about what is decided. The caller holds ledger.mu.
func (b *Buffer) sameBase(s *streamState, claim *Claim) {
	if c := s.consumer(claim.c.id); c.base != claim.first {
		panic(fmt.Sprintf("bug: front and ledger disagree about consumer %d of stream %q: %d and %d", c.id, s.cur.Name, claim.first, c.base))
	}
}

// runFrame makes the frame of a run that follows from what the ledger has. The caller holds ledger.mu.
func (b *Buffer) runFrame(s *streamState, e *runEvent) ([]*ledgerFrame, error) {
	h := &e.Head
	if h.Consumer != allConsumers {
		if err := s.consumer(h.Consumer).checkRun(e); err != nil {
			return nil, err
		}
	}
	room := manifestRoom(b.journal.geo)
	if b.ledger.runWeight > room/4*3 || s.weight+s.runWeight > room-b.ledger.weight {
		return nil, ErrCrowded // the rest is for the manifests that end runs
	}
	return []*ledgerFrame{newLedgerFrame(e, h.Incarnation, h.Consumer, h.First, h.Next)}, nil
}

// writeRun makes an op durable whose frame names a run. Its file stays from now on, unless it is certain that no frame
// with it reached the disk.
func (b *Buffer) writeRun(o *op, run *Run) error {
	runs := []*Run{run}
	b.runs.keep(runs)
	err, built := b.do(o, func() { b.runs.doubt(runs) })
	if err != nil && !built {
		b.runs.unkeep(runs)
	}
	return err
}

// openRuns tells a consumer what its epochs that are not closed hold of the disk. The caller holds ledger.mu.
func (b *Buffer) openRuns(c *Consumer) {
	n := b.ledger.streams[c.stream.incarnation].consumer(c.id).openRuns()
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	c.openRuns = n
	c.front.judgeOne(c)
}
