package parquet

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"

	pq "github.com/parquet-go/parquet-go/format"
	asmutf8 "github.com/segmentio/asm/utf8"

	"hydrant/record"
)

// Codes of refused records, Firehose's.
const (
	codeParse     = "DataFormatConversion.ParseError"
	codeMalformed = "DataFormatConversion.MalformedData"
)

// fillShare of the memory limit bounds the entries that one record may make for values it leaves out: an
// element of three bytes ("{},") costs an entry in each column of its struct.
const fillShare = 8

// A shredder takes records apart: it walks the JSON once, along the schema, and writes values into columns.
// It owns nothing of the file. When a record fails, what it has written so far is cut off by its caller.
type shredder struct {
	plan *plan

	buf []byte // the record, then pad zeros
	b   []byte // the part of buf that may be indexed
	n   int    // length of the record
	row int    // number of the row being read, in its row group

	fault  fault
	stamp  uint64   // of the object being read, see node.seen
	filled int      // entries written for absent values, in this record
	fills  int      // what filled may reach
	nest   []uint64 // of skip
	tmp    []byte   // text without its escapes, then 16 bytes that may be read
	sorted []uint64 // keys of a map, to find one that is there twice
	texts  [][]byte // the same for text

	strict bool // Hive's deserializer: no numbers as strings, no objects as text
	joda   []jodaFormat
	unit   TimestampUnit
	clock  clock

	policy  UnknownPolicy
	capture bool   // the policy is CaptureUnknown
	rest    []byte // unknown members of this row, as JSON
	path    []step // where the walk is, kept only with CaptureUnknown
	open    int    // how many steps of path are open in rest
}

// step is one level of the way to an unknown member.
type step struct {
	lo, hi int // the member's name, quotes included
	index  int // of an element, when hi is 0
}

func newShredder(o *Options, p *plan) *shredder {
	s := &shredder{
		plan:    p,
		nest:    make([]uint64, maxDepth>>6+2),
		fills:   int(o.MemoryLimit / fillShare),
		strict:  o.Hive != nil,
		unit:    o.Timestamps,
		policy:  o.UnknownFields.Policy,
		capture: o.UnknownFields.Policy == CaptureUnknown,
	}
	if o.Hive != nil {
		for _, f := range o.Hive.TimestampFormats {
			j, err := compileJoda(f)
			if err != nil {
				panic("bug: a timestamp format that New let pass: " + err.Error())
			}
			s.joda = append(s.joda, j)
		}
	}
	return s
}

// held is the memory of the buffers, in bytes.
func (s *shredder) held() int64 {
	return int64(cap(s.buf) + cap(s.tmp) + 8*cap(s.sorted) + 24*cap(s.texts) + cap(s.rest))
}

// release gives up buffers between two records.
func (s *shredder) release() {
	s.buf, s.b, s.tmp, s.sorted, s.texts, s.rest = nil, nil, nil, nil, nil, nil
}

// record reads one record from row s.row on and returns the number of rows that it made. When it returns
// false, fault says why and columns hold rows that must be cut off.
func (s *shredder) record(r record.Row) (rows int, ok bool) {
	s.fault, s.filled = fault{}, 0
	n := len(r.Data)
	if n > MaxRecord {
		s.fail(codeMalformed, "Data does not match the schema. The record has %d bytes, at most %d are taken", n, MaxRecord)
		return 0, false
	}
	if cap(s.buf) < n+pad {
		s.buf = make([]byte, max(4096, (n+pad)*5/4))
	}
	s.buf = s.buf[:n+pad]
	copy(s.buf, r.Data)
	clear(s.buf[n:])
	s.b, s.n = s.buf[:n+pad-8], n
	if !asmutf8.Valid(r.Data) {
		s.invalidText()
		return 0, false
	}
	first := s.row
	for i := space(s.b, 0); ; {
		switch {
		case i >= n && s.row > first:
			return s.row - first, true
		case i >= n:
			s.fail(codeParse, "Encountered malformed JSON. The record is empty, a JSON object is expected")
			return 0, false
		case s.b[i] == '[':
			s.fail(codeParse, "Encountered malformed JSON. Found an array at byte %d where a JSON object is expected; a record is one or more objects", i)
			return 0, false
		case s.b[i] != '{':
			s.malformed(i, "a JSON object")
			return 0, false
		}
		if i = s.object(s.plan.root, i+1, 0, 1); i < 0 {
			s.judge()
			return 0, false
		}
		if len(s.rest) > 0 {
			s.rest = append(s.rest, '}')
			c := s.plan.rest
			c.present(s.row, 0)
			c.addText(s.rest)
			s.rest = s.rest[:0]
		}
		s.row++
		if (s.row-first)*len(s.plan.columns) > s.fills {
			s.fail(codeMalformed, "Data does not match the schema. The record holds more than %d rows", s.row-first-1)
			return 0, false
		}
		i = space(s.b, i)
	}
}

func (s *shredder) invalidText() {
	i := 0
	for i < s.n {
		r, w := utf8.DecodeRune(s.b[i:s.n])
		if r == utf8.RuneError && w == 1 {
			break
		}
		i += w
	}
	s.fail(codeParse, "Encountered malformed JSON. Byte 0x%02x at %d is not valid UTF-8", s.b[i], i)
}

// judge looks at a refused record as a whole: one that is not JSON is refused for that, whatever member
// came first.
func (s *shredder) judge() {
	s.rest, s.path, s.open = s.rest[:0], s.path[:0], 0
	if s.fault.code == codeParse {
		return
	}
	kept := s.fault
	s.fault = fault{}
	for i := space(s.b, 0); i < s.n; i = space(s.b, i) {
		if s.b[i] != '{' {
			s.malformed(i, "a JSON object")
			return
		}
		if i = s.skip(i, 0); i < 0 {
			return
		}
	}
	s.fault = kept
}

// object reads the members of an object whose first byte after the brace is at i, as a struct. rep is the
// repetition level of what it writes first, depth its own depth. The schema ends the recursion long before
// maxDepth; what it does not have is skipped without recursion.
func (s *shredder) object(n *node, i int, rep uint8, depth int) int {
	b := s.b
	t := &n.keys
	s.stamp++
	stamp := s.stamp
	absent := len(n.fields)
	prev := t.start
	if b[i] <= ' ' {
		i = space(b, i)
	}
	if b[i] == '}' {
		goto end
	}
	for {
		if b[i] != '"' {
			return s.malformed(i, "a member's name")
		}
		key := i
		i++
		q := prev.next
		hit := q.matches(b, i)
		if !hit {
			q = prev.alt
			hit = q.matches(b, i)
		}
		var field int32
		if hit {
			field = q.field
			i += q.n
			prev = q
		} else {
			if field, prev, i = s.lookUp(t, prev, i); i < 0 {
				return i
			}
		}
		if b[i] != ':' {
			if i = space(b, i); b[i] != ':' {
				return s.malformed(i, "a colon")
			}
		}
		i++
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if field >= 0 {
			if n.seen[field] == stamp {
				return s.fail(codeMalformed, "Data does not match the schema. Column %s is there twice", n.fields[field].path)
			}
			n.seen[field] = stamp
			absent--
			f := n.fields[field]
			switch { // the kinds that are met most, without a call more
			case f.kind == kindString:
				i = s.str(f, i, rep, depth)
			case f.kind <= kindBigInt:
				i = s.integer(f, i, rep)
			case f.kind == kindDouble:
				i = s.double(f, i, rep)
			case s.capture && f.kind >= kindStruct:
				s.path = append(s.path, step{lo: key, hi: s.keyEnd(key)})
				i = s.value(f, i, rep, depth)
				s.leave()
			default:
				i = s.value(f, i, rep, depth)
			}
		} else if s.policy == DropUnknown {
			i = s.skip(i, depth)
		} else {
			i = s.unknown(n, key, i, depth)
		}
		if i < 0 {
			return i
		}
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if b[i] != ',' {
			break
		}
		i++
		if b[i] <= ' ' {
			i = space(b, i)
		}
	}
	if b[i] != '}' {
		return s.malformed(i, "a comma or a closing brace")
	}
end:
	// Absent fields of the top level need nothing: columns fill in rows that they were not given.
	if absent > 0 && n.def > 0 {
		for j, f := range n.fields {
			if n.seen[j] != stamp {
				s.null(f, rep)
			}
		}
		if s.filled > s.fills {
			return s.tooWide(n)
		}
	}
	return i + 1
}

// lookUp resolves the key at i (after its quote) that no memory foretold, and returns the index after it.
func (s *shredder) lookUp(t *keyTable, prev *slot, i int) (field int32, at *slot, next int) {
	end := plainEnd(s.b, i)
	if s.b[end] != '"' {
		end, _ = s.stringEnd(end)
		if end < 0 {
			return 0, nil, end
		}
		s.unescape(i, end)
		return t.findText(s.tmp), t.start, end + 1
	}
	field = t.find(s.b, i, end)
	return field, t.learn(s.b, i, end, field, prev), end + 1
}

// unescape puts into tmp what the valid string text at [i, end) stands for, with room behind it.
func (s *shredder) unescape(i, end int) {
	s.tmp = unescape(s.tmp[:0], s.b, i, end)
	s.tmp = slices.Grow(s.tmp, 16)
}

// unknown deals with the member at key whose value is at i, which no column wants.
func (s *shredder) unknown(n *node, key, i, depth int) int {
	name := s.keyEnd(key)
	end := s.skip(i, depth)
	if end < 0 {
		return end
	}
	if s.policy == FailUnknown {
		where := "The record"
		if n.path != "" {
			where = "Column " + n.path
		}
		return s.fail(codeMalformed, "Data does not match the schema. %s has the member %s, for which there is no column", where, short(s.b[key:name]))
	}
	if s.policy == CaptureUnknown {
		s.enter()
		s.rest = append(s.rest, s.b[key:name]...)
		s.rest = append(s.rest, ':')
		s.rest = append(s.rest, s.b[i:end]...)
	}
	return end
}

// keyEnd is the index after the closing quote of the valid key at i.
func (s *shredder) keyEnd(i int) int {
	end, _ := s.stringEnd(i + 1)
	return end + 1
}

// enter opens in rest all objects on the way to where the walk is, ready for a member.
func (s *shredder) enter() {
	if len(s.rest) == 0 {
		s.rest = append(s.rest, '{')
	}
	for {
		if s.rest[len(s.rest)-1] != '{' {
			s.rest = append(s.rest, ',')
		}
		if s.open == len(s.path) {
			return
		}
		if p := s.path[s.open]; p.hi > 0 {
			s.rest = append(s.rest, s.b[p.lo:p.hi]...)
		} else {
			s.rest = append(s.rest, '"')
			s.rest = strconv.AppendInt(s.rest, int64(p.index), 10)
			s.rest = append(s.rest, '"')
		}
		s.rest = append(s.rest, ':', '{')
		s.open++
	}
}

// leave takes the last step back.
func (s *shredder) leave() {
	if s.open == len(s.path) && s.open > 0 {
		s.rest = append(s.rest, '}')
		s.open--
	}
	s.path = s.path[:len(s.path)-1]
}

// null records that n is absent or null.
func (s *shredder) null(n *node, rep uint8) {
	def := n.def - 1
	for _, c := range n.cols {
		if c.maxRep == 0 {
			if def > 0 {
				c.null(s.row, def)
				s.filled++
			}
			continue
		}
		if def > 0 || rep > 0 {
			c.level(s.row, rep, def)
			s.filled++
		}
	}
}

// empty records that n is an array or a map without elements.
func (s *shredder) empty(n *node, rep uint8) {
	for _, c := range n.cols {
		c.level(s.row, rep, n.def)
	}
	s.filled += len(n.cols)
}

func (s *shredder) tooWide(n *node) int {
	return s.fail(codeMalformed, "Data does not match the schema. In column %s the record leaves out more than %d values", n.path, s.fills)
}

// list reads the elements of an array whose first byte after the bracket is at i.
func (s *shredder) list(n *node, i int, rep uint8, depth int) int {
	b := s.b
	capture := s.capture && n.elem.kind >= kindStruct
	if b[i] <= ' ' {
		i = space(b, i)
	}
	if b[i] == ']' {
		s.empty(n, rep)
		return i + 1
	}
	for at := 0; ; at++ {
		if capture {
			s.path = append(s.path, step{index: at})
		}
		i = s.value(n.elem, i, rep, depth)
		if capture {
			s.leave()
		}
		if i < 0 {
			return i
		}
		if s.filled > s.fills {
			return s.tooWide(n)
		}
		rep = n.rep
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if b[i] != ',' {
			break
		}
		i++
		if b[i] <= ' ' {
			i = space(b, i)
		}
	}
	if b[i] != ']' {
		return s.malformed(i, "a comma or a closing bracket")
	}
	return i + 1
}

// mapping reads the members of an object whose first byte after the brace is at i, as a map.
func (s *shredder) mapping(n *node, i int, rep uint8, depth int) int {
	b := s.b
	opened := i - 1
	capture := s.capture && n.elem.kind >= kindStruct
	if b[i] <= ' ' {
		i = space(b, i)
	}
	if b[i] == '}' {
		s.empty(n, rep)
		return i + 1
	}
	for count := 1; ; count++ {
		if b[i] != '"' {
			return s.malformed(i, "a member's name")
		}
		key := i
		end, escaped := s.stringEnd(i + 1)
		if end < 0 {
			return end
		}
		text := b[i+1 : end]
		if escaped {
			s.unescape(i+1, end)
			text = s.tmp
		}
		if why := s.fromText(n.key, text, rep); why != "" {
			return s.mismatch(n.key, key, why)
		}
		i = end + 1
		if b[i] != ':' {
			if i = space(b, i); b[i] != ':' {
				return s.malformed(i, "a colon")
			}
		}
		i++
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if capture {
			s.path = append(s.path, step{lo: key, hi: end + 1})
		}
		i = s.value(n.elem, i, rep, depth)
		if capture {
			s.leave()
		}
		if i < 0 {
			return i
		}
		if s.filled > s.fills {
			return s.tooWide(n)
		}
		rep = n.rep
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if b[i] == '}' {
			if count > 1 && s.twice(n.key.col, count) {
				return s.mismatch(n, opened, "it has a key twice")
			}
			return i + 1
		}
		if b[i] != ',' {
			return s.malformed(i, "a comma or a closing brace")
		}
		i++
		if b[i] <= ' ' {
			i = space(b, i)
		}
	}
}

// twice reports whether the last n values of a column, the keys of a map, are not all different. It looks at
// them as they were written: "1" and "01" are the same key of a map from int.
func (s *shredder) twice(c *column, n int) bool {
	if c.physical == pq.ByteArray && !c.trying || c.width > 0 && !c.trying {
		s.texts = c.lastTexts(s.texts[:0], n)
		slices.SortFunc(s.texts, bytes.Compare)
		for i := 1; i < n; i++ {
			if bytes.Equal(s.texts[i-1], s.texts[i]) {
				return true
			}
		}
		return false
	}
	s.sorted = c.lastNumbers(s.sorted[:0], n)
	slices.Sort(s.sorted)
	for i := 1; i < n; i++ {
		if s.sorted[i-1] == s.sorted[i] {
			return true
		}
	}
	return false
}

// mismatch notes that the value at i does not fit n, and why where that is not plain.
func (s *shredder) mismatch(n *node, i int, why string) int {
	end := s.skip(i, 0)
	if end < 0 {
		return end
	}
	if why != "" {
		why = ": " + why
	}
	return s.fail(codeMalformed, "Data does not match the schema. Column %s of type %s cannot take %s%s", n.path, n.typ, short(s.b[i:end]), why)
}

// shown is how many bytes of a value a message holds at most.
const shown = 100

// short is text for a message, cut between characters where it is long.
func short(text []byte) string {
	if len(text) <= shown {
		return string(text)
	}
	cut := shown
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return string(text[:cut]) + "..."
}
