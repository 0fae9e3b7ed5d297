package buffer

import "sort"

// rawRows is a raw run as a reader of its stream sees it: a table of what is in the file. Immutable.
type rawRows struct {
	id          RunID
	length      int64 // of the file
	gone        bool  // it is missing or damaged: what is known of its rows is how many they were
	first, next uint64
	chunks      []Chunk // without gaps inside, ascending
	rows, data  int64
}

// rawChunk is the most bytes of Data of a chunk in such a table: what a claim takes of one is known row by row, its
// bytes are estimated.
const rawChunk = 256 << 10

// add appends rows, joining neighbours of the same second.
func (r *rawRows) add(k Chunk) {
	r.rows += int64(k.Count)
	r.data += k.Bytes
	if n := len(r.chunks); n > 0 {
		last := &r.chunks[n-1]
		if last.First+uint64(last.Count) == k.First && last.Arrived/1e6 == k.Arrived/1e6 && last.Bytes+k.Bytes <= rawChunk && last.Count+k.Count < 1<<31 {
			last.Count += k.Count
			last.Bytes += k.Bytes
			return
		}
	}
	r.chunks = append(r.chunks, k)
}

// part returns the rows of chunk k in [first, next).
func part(k *Chunk, first, next uint64) Chunk {
	from, to := max(first, k.First), min(next, k.First+uint64(k.Count))
	if from >= to {
		return Chunk{}
	}
	// differences of one rounded function, so that parts add up to the whole
	below := func(seq uint64) int64 { return int64(uint64(k.Bytes) * (seq - k.First) / uint64(k.Count)) }
	return Chunk{First: from, Count: int(to - from), Bytes: below(to) - below(from), Arrived: k.Arrived}
}

// at is the index of the first chunk with a row at or above seq.
func (r *rawRows) at(seq uint64) int {
	return sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].First+uint64(r.chunks[i].Count) > seq })
}

// between sums up the rows in [first, next).
func (r *rawRows) between(first, next uint64) (s sum) {
	if first <= r.first && next >= r.next {
		return sum{r.rows, r.data}
	}
	for i := r.at(first); i < len(r.chunks) && r.chunks[i].First < next; i++ {
		k := part(&r.chunks[i], first, next)
		s.rows += int64(k.Count)
		s.data += k.Bytes
	}
	return s
}

// sum is rows and the bytes of their Data.
type sum struct{ rows, data int64 }

// rawBetween sums up the rows of raw runs in [first, next). The caller holds front.mu.
func (c *Consumer) rawBetween(first, next uint64) (s sum) {
	for _, r := range c.raw {
		if r.next <= first {
			continue
		}
		if r.first >= next {
			break
		}
		k := r.between(first, next)
		s.rows += k.rows
		s.data += k.data
	}
	return s
}

// measureRaw adds rows of raw runs to s, those of [first, limit) from first on, up to most bytes of Data, at least
// one row. It returns the sequence behind the last one and the runs. Where that is c.position it may go on in memory.
func (c *Consumer) measureRaw(s *sum, first, limit uint64, most int64) (next uint64, runs []*rawRows) {
	next = first
	for _, r := range c.raw {
		switch {
		case r.next <= next:
			continue
		case next >= limit || r.first > next: // in between is a hole
			return next, runs
		}
		runs = append(runs, r)
		for i := r.at(next); i < len(r.chunks) && r.chunks[i].First < limit; i++ {
			k := part(&r.chunks[i], next, limit)
			if k.Count == 0 {
				continue
			}
			if k.Bytes > most-s.data {
				n := int64(k.Count) * max(most-s.data, 0) / k.Bytes
				if n == 0 && s.rows == 0 {
					n = 1
				}
				if n < int64(k.Count) {
					k = part(&r.chunks[i], k.First, k.First+uint64(n))
					s.rows += int64(k.Count)
					s.data += k.Bytes
					if n > 0 {
						next = k.First + uint64(n)
					}
					return next, runs
				}
			}
			s.rows += int64(k.Count)
			s.data += k.Bytes
			next = k.First + uint64(k.Count)
		}
		next = min(limit, r.next)
	}
	return next, runs
}

// rawChunks fills found with what raw runs have of [from, position), and returns how many there are.
func (c *Consumer) rawChunks(from uint64, found []Chunk) (n int) {
	for _, r := range c.raw {
		for i := r.at(from); i < len(r.chunks) && n < len(found); i++ {
			found[n] = part(&r.chunks[i], from, c.position)
			n++
		}
	}
	return n
}

// rawOldest is the arrival of the first row at or above seq in raw runs, 0 where there is none.
func (c *Consumer) rawOldest(seq uint64) int64 {
	for _, r := range c.raw {
		if i := r.at(seq); i < len(r.chunks) {
			return r.chunks[i].Arrived
		}
	}
	return 0
}

// restoreRuns gives a consumer that was just added what recovery found of its runs.
func (c *Consumer) restoreRuns(base uint64, raw []*rawRows, openRuns int64) {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	c.base, c.taken, c.raw, c.openRuns = base, base, raw, openRuns
	c.stepHoles()
	c.recount()
}

// recount brings the sums over raw runs up to date. The caller holds front.mu.
func (c *Consumer) recount() {
	c.rawRows, c.rawUnclaimed = sum{}, sum{}
	if len(c.raw) == 0 {
		return
	}
	c.rawRows = c.rawBetween(c.base, c.position)
	if c.taken < c.position {
		c.rawUnclaimed = c.rawBetween(c.taken, c.position)
	}
}
