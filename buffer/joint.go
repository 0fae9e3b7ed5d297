package buffer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// A stream with a backup of all records has two consumers, and each is to have every row of a lane once. Two frames, one
// after the other, would not do: of a crash between them the lane would begin again at a place where one consumer has the
// rows behind it and the other has not. So rows of lanes leave memory in one frame for both: a raw run that is taken by all
// consumers at once, from which each goes on by itself. Where there is one consumer rows are cut from memory as ever.

// allConsumers stands in the frame of a raw run that every consumer takes whose position is below its end.
const allConsumers uint8 = 0xFF

// live tells whether a consumer may still get rows. The caller holds front.mu, as in all of these.
func (c *Consumer) live() bool { return c.last == 0 || c.position < c.last }

// direct is the sequence below which rows of memory may be taken by this consumer alone: what is journaled, and what no
// other consumer waits for.
func (c *Consumer) direct() uint64 {
	s := c.stream
	if len(s.feeds) == 0 || sabotageCutAlone {
		return math.MaxUint64
	}
	least := uint64(math.MaxUint64)
	for _, o := range s.consumers {
		if o != c && o.live() {
			least = min(least, o.position)
		}
	}
	return max(s.feeds[0].first(), least, c.position)
}

// leader is the consumer for which rows are to be spilled where this one asks: that which is the furthest behind, as far
// as rows of lanes are concerned.
func (c *Consumer) leader() *Consumer {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	lead := c
	if len(c.stream.feeds) > 0 {
		for _, o := range c.stream.consumers {
			if o.live() && (!lead.live() || o.position < lead.position) {
				lead = o
			}
		}
		for _, o := range c.stream.consumers { // one of those that stand there, always the same
			if o.live() && o.position == lead.position {
				return o
			}
		}
	}
	return lead
}

// measureJoint is how far a spill of this consumer goes: not over a place where another one begins to need rows, unless
// there are none before it, and not over one where another ends. joint tells whether others take the run as well.
func (c *Consumer) measureJoint(k *Claim, limit uint64, most int64) (joint bool) {
	s := c.stream
	if len(s.feeds) == 0 {
		k.next, _ = c.measure(&k.whole, c.head, c.position, limit, most)
		return false
	}
	begins := limit
	for _, o := range s.consumers {
		if o == c || !o.live() {
			continue
		}
		if o.position > c.position {
			begins = min(begins, o.position)
		}
		if o.last > c.position {
			limit = min(limit, o.last)
		}
	}
	k.next, _ = c.measure(&k.whole, c.head, c.position, min(begins, limit), most)
	if k.whole.rows == 0 && begins < limit {
		k.next, _ = c.measure(&k.whole, c.head, c.position, limit, most)
	}
	for _, o := range s.consumers {
		joint = joint || o != c && o.live() && o.position < k.next
	}
	return joint
}

// mayJoin tells whether the ledger agrees that a run over [first, next) is taken by several consumers, or by one.
func (s *streamState) mayJoin(first, next uint64, joint bool) bool {
	others := 0
	for _, c := range s.consumers {
		if c.position < next {
			others++
		}
		if c.end != 0 && c.position < c.end && c.end < next {
			return false
		}
	}
	return joint == (others > 1)
}

// applyJoint takes note of a raw run that several consumers take.
func (l *ledger) applyJoint(s *streamState, e *runEvent) error {
	h := &e.Head
	takers := 0
	for _, c := range s.consumers {
		if c.position < h.Next {
			takers++
		}
	}
	if h.Kind != RunRaw || h.Next <= h.First || takers == 0 {
		return fmt.Errorf("%w: run %x over [%d, %d) of stream %q is for all consumers, of whom %d need it", errOrder, e.Ref.ID, h.First, h.Next, s.cur.Name, takers)
	}
	s.next = max(s.next, h.Next)
	s.draw = max(s.draw, s.next)
	l.finalRows(s, h.Next, &e.Lanes)
	for _, c := range s.consumers {
		if c.position >= h.Next {
			continue
		}
		c.raw = append(c.raw, rawRun{ref: e.Ref, first: max(c.position, h.First), next: h.Next, rows: e.Sum.Rows, bytes: e.Sum.Bytes})
		l.weighRuns(s, rawRunWeight)
		c.position = h.Next
		c.step()
	}
	if takers > 1 {
		l.shared[e.Ref.ID] = takers - 1
	}
	return nil
}

// retireRaw lets a consumer's raw run go: its file goes with the last one.
func (l *ledger) retireRaw(s *streamState, id RunID) {
	l.weighRuns(s, -rawRunWeight)
	if n := l.shared[id]; n > 1 {
		l.shared[id] = n - 1
		return
	} else if n == 1 {
		delete(l.shared, id)
		return
	}
	l.retiredRuns = append(l.retiredRuns, id)
}

// move has rows of lanes moved to raw runs up to a sequence, in the background, since a consumer wants to take them. The
// caller holds front.mu; all consumers are told when it is done, or has failed, which is tried again a while later.
func (c *Consumer) move(to uint64) {
	s := c.stream
	if s.moving || c.front.closed {
		return
	}
	s.moving = true
	c.b.background.Go(func() {
		var err error
		for n := int64(1); n > 0 && err == nil && c.below(to); {
			n, err = c.Spill(context.Background(), math.MaxInt64)
		}
		c.front.mu.Lock()
		defer c.front.mu.Unlock()
		s.moving, s.stuck = false, err != nil
		tell := func() {
			for _, o := range s.consumers {
				o.notify()
			}
		}
		if err == nil {
			tell()
			return
		}
		time.AfterFunc(pauseNote, func() {
			c.front.mu.Lock()
			defer c.front.mu.Unlock()
			tell()
		})
	})
}

func (c *Consumer) below(to uint64) bool {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	return c.position < to && !c.front.closed
}

// settleLanes moves rows of lanes out of memory where a definition changes who gets rows: where that begins or ends must be
// known after a crash, which takes rows in memory with it. Nothing is appended meanwhile.
func (b *Buffer) settleLanes(s *Stream) error {
	for {
		b.ledger.mu.RLock()
		old := b.ledger.names[s.Name]
		wait := old != nil && old.provisional > 0 && !slices.Equal(s.Consumers, old.cur.Consumers)
		var incarnation uint32
		if wait {
			incarnation = old.cur.Incarnation
		}
		b.ledger.mu.RUnlock()
		if !wait {
			return nil
		}
		c := b.Consumer(incarnation, Main)
		if n, err := c.Spill(context.Background(), math.MaxInt64); err != nil || n == 0 {
			return err // or somebody else has just moved them
		}
	}
}
