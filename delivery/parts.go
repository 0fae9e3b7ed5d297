package delivery

// parts counts the source records of a route job once each, however their parts end: a processor takes a record
// apart, a function has some of its parts for a while, and others have failed by then. Not safe for concurrent use.
type parts struct {
	now     uint64 // the record that the first processors have, 0 for none
	current openRecord
	open    map[uint64]openRecord // the records before it that have parts under way
	dropped int64                 // records of which nothing is left
}

// openRecord is a record with parts under way.
type openRecord struct {
	parts   int  // that have not ended
	counted bool // one that was not dropped has ended, and the record counts there
}

// begin notes the next record, of one part.
func (p *parts) begin(seq uint64) { p.now, p.current = seq, openRecord{parts: 1} }

// add notes one more part of a record.
func (p *parts) add(seq uint64) {
	if seq == p.now {
		p.current.parts++
		return
	}
	r := p.open[seq]
	r.parts++
	p.open[seq] = r
}

// count tells whether a record counts with a part that ends now and was not dropped: the first one does.
func (p *parts) count(seq uint64) bool {
	if seq == p.now {
		first := !p.current.counted
		p.current.counted = true
		return first
	}
	r := p.open[seq]
	first := !r.counted
	r.counted = true
	p.open[seq] = r
	return first
}

// end notes that a part is no more: it has ended, or was taken apart.
func (p *parts) end(seq uint64) {
	if seq == p.now {
		p.current.parts--
		return
	}
	r := p.open[seq]
	if r.parts--; r.parts > 0 {
		p.open[seq] = r
		return
	}
	delete(p.open, seq)
	p.over(r)
}

// leave notes that the first processors are done with the record of the last begin.
func (p *parts) leave() {
	seq, r := p.now, p.current
	p.now = 0
	if r.parts--; r.parts > 0 {
		if p.open == nil {
			p.open = map[uint64]openRecord{}
		}
		p.open[seq] = r
		return
	}
	p.over(r)
}

func (p *parts) over(r openRecord) {
	if !r.counted {
		p.dropped++
	}
}
