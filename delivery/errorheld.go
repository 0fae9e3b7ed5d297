package delivery

import (
	"slices"

	"hydrant/record"
)

// maxHeldErrors is how many bytes of lines wait for an object of theirs; then those of which there are most get one. So faults
// that alternate make few objects.
const maxHeldErrors = 1 << 20

// routedType is what lines of the error output have in common that may lie in one object.
type routedType struct{ errorType, route string }

// heldLines wait until the object that is open has ended.
type heldLines struct {
	bytes []byte
	lines []heldLine // in the order of their rows
}

type heldLine struct {
	end     int // of the line in bytes
	seq     uint64
	arrived int64
	counts  bool
}

// hold keeps the line of a row whose object is not open.
func (e *errorOutput) hold(of routedType, row record.Row, counts bool) error {
	h := e.apart[of]
	if h == nil {
		h = &heldLines{}
		if e.apart == nil {
			e.apart = map[routedType]*heldLines{}
		}
		e.apart[of] = h
		e.order = append(e.order, of)
	}
	h.bytes = append(h.bytes, e.line...)
	h.lines = append(h.lines, heldLine{end: len(h.bytes), seq: row.Seq, arrived: row.Arrived, counts: counts})
	if e.held += len(e.line); e.held <= maxHeldErrors {
		return nil
	}
	return e.pour(slices.MaxFunc(e.order, func(a, b routedType) int { return len(e.apart[a].bytes) - len(e.apart[b].bytes) }))
}

// pour writes the lines of a type and route that wait, and leaves their object open.
func (e *errorOutput) pour(of routedType) error {
	h := e.apart[of]
	delete(e.apart, of)
	e.order = slices.DeleteFunc(e.order, func(o routedType) bool { return o == of })
	e.held -= len(h.bytes)
	from := 0
	for i, l := range h.lines {
		row := record.Row{Seq: l.seq, Arrived: l.arrived}
		if i == 0 || e.full() {
			if err := e.begin(of.errorType, of.route, row); err != nil {
				return err
			}
			e.from, e.until = 0, 0 // rows that come find their own
		}
		if err := e.write(row, h.bytes[from:l.end], l.counts); err != nil {
			return err
		}
		from = l.end
	}
	return nil
}
