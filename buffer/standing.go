package buffer

import "hydrant/record"

// Stand says whether the consumer's reader takes nothing for the time being, not even under pressure: a stream whose
// pipeline cannot be made. Its rows then stay in the front and in the ring. The ring goes on all the same as long as
// they can be copied from its oldest slot into the newest one, which has a quarter of itself to spare for that. So all
// such rows together are bounded by what that takes, and calls beyond it are refused; the other streams do not notice.
// What is there already stays. It is not kept over restarts.
func (c *Consumer) Stand(on bool) {
	if s := c.front.space; s != nil {
		s.setStand(c.stream.incarnation, on)
	}
}

// standShare is what rows of streams that nobody reads may hold: of the quarter of a slot half, since a frame of a
// single small record takes up to twice what is held for it.
func standShare(slot int64) int64 { return slot / 8 }

func (s *space) setStand(incarnation uint32, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[incarnation]
	if st == nil || st.stand == on {
		return
	}
	st.stand = on
	if on {
		s.stood += st.rows
	} else {
		s.stood -= st.rows
	}
}

// holdRows changes what a stream's rows hold. The caller holds mu.
func (s *space) holdRows(st *spaceStream, n int64) {
	st.rows += n
	s.rows += n
	if st.stand {
		s.stood += n
	}
}

// mayStand is fits for a stream that nobody reads. One that holds something may not hold more than it leaves to others
// of its kind.
func (s *space) mayStand(st *spaceStream, need int64) error {
	free := min(s.stand-s.stood, s.freeLocked()) - need
	own := st.rows + need
	if free < 0 || st.rows > 0 && own > free || st.limit > 0 && own+st.packs > st.limit {
		return &record.Refusal{Reason: "disk", Message: "The stream cannot be delivered at present, and as many of its records wait for that as may. Send the call again."}
	}
	return nil
}
