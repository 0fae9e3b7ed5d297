package buffer

// The budget of the front: what calls may bring in, and which streams are asked to close their epoch.

// reserve promises room for a call. small and big are what unreserve gives back; consumers is the number
// of readers that the rows will have. ok is false, and nothing is promised, where the budget has no room
// or the stream is not known.
func (f *front) reserve(incarnation uint32, encoded []byte, adoptable bool) (small, big int64, consumers int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		return 0, 0, 0, false
	}
	n := int64(len(encoded))
	switch {
	case adoptable && worthAdopting(encoded):
		big = int64(cap(encoded))
	case n > maxSlab:
		big = n
	default:
		small = n
	}
	need := big
	var room int64
	if s.tail != nil {
		room = int64(len(s.tail.mem) - s.tail.used)
	}
	if small > 0 && s.promised+small > room+s.spare {
		need = max(slabSize(s), small)
	}
	if f.capacity+f.reserved+need > f.budget {
		if f.capacity+f.reserved > 0 { // one call always fits into an empty front
			f.short = true
			f.judge()
			return 0, 0, 0, false
		}
	}
	f.reserved += need
	if small > 0 {
		s.promised += small
		s.spare += need
	}
	return small, big, len(s.consumers), true
}

// unreserve ends a promise: the call is in the front, or will never be.
func (f *front) unreserve(incarnation uint32, small, big int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserved -= big
	if s := f.streams[incarnation]; s != nil && small > 0 {
		s.promised -= small
		if s.promised == 0 {
			f.reserved -= s.spare
			s.spare = 0
		}
	}
	f.grantAll()
}

// judge brings every consumer's pressure up to date, and lets feeders go on for whom there is room. It is called often;
// where nothing is short and nobody was pressed or waits it costs nothing.
func (f *front) judge() {
	f.grantAll()
	if f.capacity < f.budget/4*3 {
		f.short = false
		if f.pressed == 0 && (f.space == nil || !f.space.tight()) {
			return
		}
	}
	var total, n int64
	for _, s := range f.streams {
		for _, c := range s.consumers {
			if c.unclaimed.data > 0 {
				total += c.unclaimed.data
				n++
			}
		}
	}
	f.mean = total / max(n, 1)
	for _, s := range f.streams {
		for _, c := range s.consumers {
			f.judgeOne(c)
		}
	}
}

// judgeOne tells a consumer's reader where its pressure changed.
func (f *front) judgeOne(c *Consumer) {
	now := f.pressure(c)
	if now == c.pressed {
		return
	}
	if c.pressed == 0 {
		f.pressed++
	} else if now == 0 {
		f.pressed--
	}
	c.pressed = now
	c.notify()
}

// pressure tells what a consumer should relieve. Of memory and disk only rows that no claim has count: those that
// have one are on their way out already. The ring is different: a claim may have to wait for long, and its rows can
// leave the journal all the same.
func (f *front) pressure(c *Consumer) (p Pressure) {
	if c.ring && c.rows.rows > 0 {
		p |= PressureRing
	}
	if waiting := c.unclaimed.data; c.unclaimed.rows > 0 && f.capacity >= f.budget/4*3 {
		// Many streams of the same size pass the first test only when the front is all but full, and then
		// a large call is refused before. So from a refusal on whoever holds the mean or more is asked.
		if waiting > f.budget-f.capacity || f.short && waiting >= f.mean {
			p |= PressureMemory
		}
	}
	if s := c.stream; s.waiting > 0 && c.unclaimed.rows > 0 && c.unclaimed.data >= s.held/2 {
		p |= PressureMemory // its source waits, and most of what it holds waits as well
	}
	hold := c.openRuns + holdOf(c.unclaimed.rows, c.unclaimed.data)
	for _, r := range c.raw {
		hold += r.length
	}
	if f.space != nil && hold > 0 && f.space.pressure(c.stream.incarnation, hold) {
		p |= PressureDisk
	}
	return p
}
