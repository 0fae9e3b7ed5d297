package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

// copiedFrame is a DATA frame that was written while a slot was prepared: a copy of rows of an older
// segment, which may be there still or not.
type copiedFrame struct {
	incarnation uint32
	first, next uint64
	segment     *segment
	off         int64
}

// refill brings the rows that some consumer has not covered back to the front, each stream's in the order of
// its sequences and each row once. Frames lie in that order in the chain, but for copies: these are older
// than what is around them, and their original may be there too.
func (r *recovery) refill() error {
	f := &refiller{r: r, at: make(map[uint32]uint64), holes: make(map[consumerKey][]span), segments: make(map[uint32]int)}
	for incarnation, s := range r.l.streams {
		r.b.declare(incarnation) // only now: holes have moved positions
		r.restoreRuns(incarnation, s)
	}
	for _, s := range r.chain {
		if err := r.findCopies(s); err != nil {
			return err
		}
	}
	sort.SliceStable(r.copies, func(i, j int) bool {
		a, b := &r.copies[i], &r.copies[j]
		if a.incarnation != b.incarnation {
			return a.incarnation < b.incarnation
		}
		return a.first < b.first
	})
	for i, k := range r.copies {
		if _, ok := f.segments[k.incarnation]; !ok {
			f.segments[k.incarnation] = i
		}
	}
	for incarnation, s := range r.l.streams {
		f.at[incarnation] = s.covered()
		for _, c := range s.consumers {
			f.holes[consumerKey{incarnation, c.id}] = c.holes
		}
	}
	for _, s := range r.chain {
		if r.uncoveredBytes(s.segment) == 0 {
			continue // it need not be read again
		}
		if err := f.segment(s); err != nil {
			return err
		}
		r.b.front.publish()
	}
	for incarnation, s := range r.l.streams {
		if err := f.copiesBelow(incarnation, ^uint64(0)); err != nil {
			return err
		}
		for _, c := range s.consumers {
			f.holesBelow(consumerKey{incarnation, c.id}, ^uint64(0))
		}
	}
	r.b.front.publish()
	return nil
}

// findCopies lists the DATA frames among a segment's opening frames.
func (r *recovery) findCopies(s *oldSegment) error {
	return r.frames(s, s.openedEnd(), func(off int64, h *frameHead, _ []byte) error {
		if st := r.l.streams[h.Incarnation]; h.Type == frameData && h.opening() && st != nil && st.covered() < h.next() {
			r.copies = append(r.copies, copiedFrame{h.Incarnation, h.First, h.next(), s.segment, off})
		}
		return nil
	})
}

// openedEnd is where the opening frames of a segment end.
func (s *oldSegment) openedEnd() int64 {
	if s.head.Opened > 0 {
		return s.head.Opened
	}
	return s.end // the fresh one, which has no others yet
}

// frames calls fn for the sound frames of a segment below limit, stepping over damage.
func (r *recovery) frames(s *oldSegment, limit int64, fn func(off int64, h *frameHead, payload []byte) error) error {
	scan := r.scan(s.slot, s.base, limit)
	var h frameHead // one for all: fn gets its address
	for {
		off := scan.off
		var payload []byte
		var err error
		h, payload, err = scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if badFrame(err) {
			if err := scan.pass(h, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(off, &h, payload); err != nil {
			return err
		}
	}
}

// refiller is the state of refill.
type refiller struct {
	r        *recovery
	at       map[uint32]uint64 // rows below are in the front, or need not be
	segments map[uint32]int    // index of the stream's next copy in r.copies
	holes    map[consumerKey][]span
}

// segment pushes what is uncovered of a segment's own rows.
func (f *refiller) segment(s *oldSegment) error {
	return f.r.frames(s, s.end, func(_ int64, h *frameHead, payload []byte) error {
		if h.Type != frameData || h.opening() || f.r.l.streams[h.Incarnation] == nil || h.next() <= f.at[h.Incarnation] {
			return nil
		}
		if err := f.copiesBelow(h.Incarnation, h.First); err != nil {
			return err
		}
		return f.push(h, payload)
	})
}

// copiesBelow pushes the stream's copies that begin below a sequence.
func (f *refiller) copiesBelow(incarnation uint32, first uint64) error {
	i, ok := f.segments[incarnation]
	if !ok {
		return nil
	}
	for ; i < len(f.r.copies); i++ {
		k := &f.r.copies[i]
		if k.incarnation != incarnation || k.first >= first {
			break
		}
		if k.next <= f.at[incarnation] && !sabotageResidueTwice {
			continue
		}
		scan := f.r.scan(k.segment.slot, k.segment.base, k.segment.end)
		scan.off = k.off
		h, payload, err := scan.next()
		if err != nil {
			return fmt.Errorf("read rows of stream incarnation %d again: %w", incarnation, err)
		}
		if err := f.push(&h, payload); err != nil {
			return err
		}
	}
	f.segments[incarnation] = i
	return nil
}

// push brings the rows of a frame to the front.
func (f *refiller) push(h *frameHead, payload []byte) error {
	_, _, records, err := parseData(payload, h.Count)
	if err != nil {
		return fmt.Errorf("read rows of stream incarnation %d again: %w", h.Incarnation, err)
	}
	st := f.r.l.streams[h.Incarnation]
	for _, c := range st.consumers {
		f.holesBelow(consumerKey{h.Incarnation, c.id}, h.First)
	}
	data := int64(len(records)) - lengthBytes(records)
	f.r.b.front.push(h.Incarnation, h.First, int(h.Count), data, h.Arrived, records, nil)
	f.at[h.Incarnation] = max(f.at[h.Incarnation], h.next())
	return nil
}

// holesBelow tells the front of a consumer's holes that begin below a sequence.
func (f *refiller) holesBelow(k consumerKey, first uint64) {
	list := f.holes[k]
	for len(list) > 0 && list[0].first < first {
		f.r.b.front.hole(k.incarnation, k.consumer, list[0].first, list[0].next)
		list = list[1:]
	}
	f.holes[k] = list
}

// lengthBytes is what the lengths of encoded records take.
func lengthBytes(encoded []byte) (n int64) {
	for off := 0; off < len(encoded); {
		size, w := binary.Uvarint(encoded[off:])
		n += int64(w)
		off += w + int(size)
	}
	return n
}
