package sources

import (
	"net/netip"
	"sync"

	"hydrant/access"
	"hydrant/record"
)

// reserve is the part of the memory for bodies that no address gets alone: one of so many.
const reserve = 8

// Memory is what request bodies are read into. It must be safe for concurrent use.
type Memory interface {
	// AdmitBody reserves memory for n bytes before they are read, or says *record.Refusal.
	AdmitBody(n int64) (release func(), err error)
	// BodyBudget is how many bytes may be reserved at a time.
	BodyBudget() int64
}

// Shares is a BodyAdmitter that gives no address more than seven eighths of a Memory at a time, so that who announces
// bodies and is slow to send them does not keep all others from theirs: that takes no proof of who he is. What counts as
// one address is access.Network's to say. Safe for concurrent use.
type Shares struct {
	memory Memory

	mu   sync.Mutex           // guards what follows
	held map[netip.Addr]int64 // bytes by address
}

var _ BodyAdmitter = (*Shares)(nil)

// NewShares returns the shares of a Memory, of which there is to be one for all that read bodies.
func NewShares(m Memory) *Shares { return &Shares{memory: m, held: map[netip.Addr]int64{}} }

// AdmitBody implements BodyAdmitter. One body of an address is never too large for its share; what it has more than that is
// not taken from the others' part, so that where memory is small the limit is passed by the rest of one body.
func (s *Shares) AdmitBody(remote string, n int64) (release func(), err error) {
	from, budget := access.Network(remote), s.memory.BodyBudget()
	share := budget - budget/reserve
	s.mu.Lock()
	if before := s.held[from]; before > 0 && before+n > share {
		s.mu.Unlock()
		return nil, &record.Refusal{Reason: "memory", Message: "The memory for request bodies that one address may have is full. Send the call again."}
	}
	s.held[from] += n
	s.mu.Unlock()
	back := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[from] -= n; s.held[from] <= 0 {
			delete(s.held, from)
		}
	}
	inner, err := s.memory.AdmitBody(min(n, share))
	if err != nil {
		back()
		return nil, err
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			inner()
			back()
		})
	}, nil
}
