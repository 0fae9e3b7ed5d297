package buffer

import "hydrant/record"

// group is what one write and one sync make durable.
type group struct {
	done     chan struct{} // closed when it has been answered
	requests []*request
	ops      []*op
	noted    []*ledgerFrame // confirmations
	frames   []placed
	bufs     [][]byte
	scratch  []byte
	size     int64 // bytes that bufs hold
	ordinal  uint64
	mark     bool // nothing but a MARK
	alone    bool // takes no calls
}

// placed is a frame in a group.
type placed struct {
	head frameHead
	at   []byte // where its header goes
	off  int64  // within the group
}

// scratchSize is the room for small frames and padding of a group.
const scratchSize = 1 << 20

// copyBelow is the size below which a frame is copied into the group's scratch instead of being a buffer
// of its own: the system call takes at most 1024 of those.
const copyBelow = 16 << 10

// newGroup starts an empty group over the committer's scratch.
func (c *committer) newGroup() *group {
	return &group{done: make(chan struct{}), scratch: c.scratch[:0], ordinal: c.l.ordinal}
}

// add puts a frame into the group: its header and payload from one buffer whose first 64 bytes are the
// header's.
func (g *group) add(h frameHead, frame []byte) {
	size := frameSize(len(frame) - frameHeader)
	p := placed{head: h, off: g.size}
	if size <= copyBelow && int64(cap(g.scratch)-len(g.scratch)) >= size+3*blockSize {
		from := len(g.scratch)
		g.scratch = append(g.scratch, frame...)
		g.scratch = append(g.scratch, zeroBlock[:size-int64(len(frame))]...)
		b := g.scratch[from:]
		p.at = b[:frameHeader]
		g.extend(b)
	} else {
		p.at = frame[:frameHeader]
		g.bufs = append(g.bufs, frame)
		if gap := size - int64(len(frame)); gap > 0 {
			g.bufs = append(g.bufs, zeroBlock[:gap])
		}
	}
	g.size += size
	g.frames = append(g.frames, p)
}

// extend appends bytes of the scratch to the buffers, joining neighbours.
func (g *group) extend(b []byte) {
	if n := len(g.bufs); n > 0 {
		last := g.bufs[n-1]
		// neighbours in the scratch: the last buffer ends where b begins
		if len(last) > 0 && cap(last) > len(last) && &last[:len(last)+1][len(last)] == &b[0] {
			g.bufs[n-1] = last[:len(last)+len(b)]
			return
		}
	}
	g.bufs = append(g.bufs, b)
}

// build takes what is queued into a group; nil where there is nothing that can be written now.
func (c *committer) build() *group {
	g := c.newGroup()
	c.buildOps(g)
	if !g.alone {
		c.buildPuts(g)
	}
	if len(g.frames) == 0 {
		return nil
	}
	c.finish(g)
	return g
}

// buildOps takes confirmations and ops. Of two that depend on each other the later one waits.
func (c *committer) buildOps(g *group) {
	c.mu.Lock()
	ops := c.ops
	c.ops = nil
	c.due = false
	c.mu.Unlock()

	taken := make(map[any]bool, 2*len(ops))
	var later []*op
	full := false
	for _, o := range ops {
		if full || o.keys[0] != nil && taken[o.keys[0]] || o.keys[1] != nil && taken[o.keys[1]] {
			later = append(later, o)
		}
		for _, k := range o.keys {
			if k != nil {
				taken[k] = true // also for ops behind one that waits: order is kept
			}
		}
		if len(later) > 0 && later[len(later)-1] == o {
			continue
		}
		frames, err := o.prepare()
		if err != nil || len(frames) == 0 {
			o.err = err
			close(o.done)
			continue
		}
		var need int64
		for _, f := range frames {
			need += c.ledgerSize(f)
		}
		if !c.ledgerRoom(g, need) {
			full = true
			later = append(later, o)
			continue
		}
		o.frames = frames
		for _, f := range frames {
			g.addLedger(f, c.j.seal)
		}
		g.ops = append(g.ops, o)
		g.alone = g.alone || o.alone
	}
	if !full {
		g.noted = c.l.takeNoted(func(id ManifestID) bool { return taken[id] })
		if sabotageUnlinkBeforeCommit {
			c.unlinkEarly(g.noted)
		}
		for i, f := range g.noted {
			if !c.ledgerRoom(g, c.ledgerSize(f)) {
				for _, f := range g.noted[i:] {
					c.l.dropNoted(f.event)
				}
				g.noted = g.noted[:i]
				full = true
				break
			}
			g.addLedger(f, c.j.seal)
		}
	}
	if len(later) > 0 {
		c.mu.Lock()
		c.ops = append(later, c.ops...)
		c.mu.Unlock()
	}
	if full {
		c.setDue() // for confirmations that found no room
	}
	if full && len(g.frames) == 0 {
		// the active segment is full for the ledger too
		c.openNext()
	}
}

// unlinkEarly removes packs whose COMMIT is not durable yet, which must never be done.
func (c *committer) unlinkEarly(noted []*ledgerFrame) {
	for _, f := range noted {
		if e, ok := f.event.(*commitEvent); ok {
			for _, p := range c.l.manifests[e.Manifest].event.Packs {
				c.b.packs.remove(p.ID)
			}
		}
	}
}

// ledgerRoom tells whether n more bytes of ledger frames fit into the group and the active segment.
func (c *committer) ledgerRoom(g *group, n int64) bool {
	return g.size+n+3*blockSize <= c.j.geo.maxGroup() && c.j.active().end+g.size+n+2*blockSize <= c.j.geo.ledgerEnd()
}

// ledgerSize is the room that a ledger frame takes.
func (c *committer) ledgerSize(f *ledgerFrame) int64 {
	return frameSize(len(f.payload) + c.j.seal.overhead())
}

// addLedger gives a ledger frame its ordinal and puts it into the group, sealed. There are few of them and they
// are small, and what they say of ordinals is not known before.
func (g *group) addLedger(f *ledgerFrame, seal *sealer) {
	g.ordinal++
	setOrdinal(f.payload, g.ordinal)
	b := make([]byte, frameHeader, frameHeader+len(f.payload)+seal.overhead())
	h := f.head
	b = append(b, seal.store(&h, nil, f.payload)...)
	g.add(h, b)
}

// buildPuts takes calls, gives them sequences and brings their rows to the front.
func (c *committer) buildPuts(g *group) {
	if !c.putsPossible() {
		return
	}
	limit := min(c.j.geo.maxGroup()-3*blockSize, c.j.geo.dataEnd()-c.j.active().end-2*blockSize)
	c.mu.Lock()
	n, size := 0, g.size
	for n < len(c.queue) && size+c.queue[n].size <= limit {
		size += c.queue[n].size
		c.queued -= c.queue[n].size
		n++
	}
	g.requests = append(c.spareQ[:0], c.queue[:n]...)
	rest := copy(c.queue, c.queue[n:])
	clear(c.queue[rest:])
	c.queue = c.queue[:rest]
	c.mu.Unlock()
	if n == 0 {
		return
	}
	c.callers = n

	arrived := c.b.stamp()
	accepted := g.requests[:0]
	var refused []*request
	c.l.mu.Lock()
	for _, r := range g.requests {
		s := c.l.names[r.stream]
		// A stream that was made again under the name since is another one, for which the call was not admitted.
		if s == nil || s.cur.State >= Deleting || s.cur.Incarnation != r.head.Incarnation {
			r.err = &record.NotFound{Stream: r.stream, Inactive: s != nil}
			refused = append(refused, r)
			continue
		}
		if s.inlet != nil {
			r.err = &record.Refusal{Reason: "source", Message: "The stream takes its records from a source."}
			refused = append(refused, r)
			continue
		}
		r.arrived = arrived
		r.receipt = record.Receipt{Directory: c.j.id.Directory, Incarnation: s.cur.Incarnation, First: s.draw, Count: r.call.Batch.Count()}
		s.draw += uint64(r.call.Batch.Count())
		accepted = append(accepted, r)
	}
	c.l.mu.Unlock()
	g.requests = accepted
	if len(refused) > 0 {
		c.answer(&group{done: make(chan struct{}), requests: refused})
	}
	for _, r := range g.requests {
		batch := r.call.Batch
		h := r.head
		h.First, h.Arrived = r.receipt.First, arrived
		g.add(h, r.frame)
		r.adopted = c.b.front.push(r.receipt.Incarnation, h.First, batch.Count(), batch.Payload(), arrived, batch.Encoded(), batch.Buffer())
	}
}

// finish fills the group up to a block boundary. The room is used for a MARK where it is large enough: what
// is read back later then always has an ordinal near it.
func (c *committer) finish(g *group) {
	room := padSize(g.size)
	if room == 0 && g.mark {
		room = blockSize
	}
	if n := frameSize(ordinalSize); room >= n+frameHeader || room == n {
		payload := make([]byte, ordinalSize)
		setOrdinal(payload, g.ordinal)
		b := make([]byte, frameHeader+ordinalSize)
		copy(b[frameHeader:], payload)
		g.add(frameHead{Type: frameMark, Length: ordinalSize, PayloadCRC: payloadCRC(payload)}, b)
		room -= n
	}
	if room > 0 {
		payload := zeroBlock[:room-frameHeader]
		b := make([]byte, room)
		g.add(frameHead{Type: framePad, Length: uint32(len(payload)), PayloadCRC: payloadCRC(payload)}, b)
	}
}
