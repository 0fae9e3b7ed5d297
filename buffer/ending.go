package buffer

import (
	"errors"
	"fmt"
	"slices"
)

// ends lists the consumers of a stream that end with s, or have an end, and tells whether one is left out that has nothing
// any more. The caller holds ledger.mu.
func (b *Buffer) ends(old *streamState, s *Stream) (ends []consumerEnd, left bool, err error) {
	if s.State == Gone {
		return nil, false, nil
	}
	for _, c := range old.consumers {
		switch listed := slices.Contains(s.Consumers, c.id); {
		case listed && c.end != 0:
			return nil, false, fmt.Errorf("consumer %d ends at %d and has not yet: it can begin again after that", c.id, c.end)
		case listed:
		case c.id == Main:
			return nil, false, errors.New("the main consumer cannot be taken away while the stream is there")
		case c.end == 0:
			ends = append(ends, consumerEnd{c.id, old.draw})
		case b.ledger.idle(old, c) && b.Consumer(s.Incarnation, c.id).undecided() == 0:
			left = true
		default:
			ends = append(ends, consumerEnd{c.id, c.end})
		}
	}
	return ends, left, nil
}

// Ending tells whether a consumer of a stream has an end and is still there, and the newest version that has it.
func (b *Buffer) Ending(incarnation uint32, consumer uint8) (version uint64, ends bool) {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	s := b.ledger.streams[incarnation]
	if s == nil {
		return 0, false
	}
	c := s.consumer(consumer)
	if c == nil || c.end == 0 {
		return 0, false
	}
	return s.lastWith(consumer), true
}

// idle tells whether all that a consumer with an end got has been cut and has ended.
func (l *ledger) idle(s *streamState, c *consumerState) bool {
	if c.base < c.end || len(c.raw) > 0 || len(c.epochs) > 0 {
		return false
	}
	for _, m := range l.manifests {
		if h := &m.event.Head; h.Incarnation == s.cur.Incarnation && h.Consumer == c.id {
			return false
		}
	}
	return true
}
