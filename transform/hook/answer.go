package hook

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/segmentio/asm/base64"
	asmutf8 "github.com/segmentio/asm/utf8"
)

// The parser takes RFC 8259 in valid UTF-8, nested at most maxDepth deep, as encoding/json does; of members that are there
// twice the last one counts. It works in place: escapes are undone and base64 is decoded where they stand.
//
//	{"records":[{"recordId":"...","result":"Ok"|"Dropped"|"ProcessingFailed","data":"<base64>"|null,
//	  "metadata":{"partitionKeys":{"<name>":"<value>", ...}}}, ...]}
//
// It reads 8 bytes at a time from an answer that goes on with zeros, which are allowed nowhere in JSON, so that every loop
// stops at the end by itself.
const (
	padding  = 16
	maxDepth = 10_000
)

// state is what an answer says of a row.
type state uint8

const (
	stateMissing state = iota
	stateOk
	stateDropped
	stateFailed     // ProcessingFailed
	stateDuplicated // its id is there twice
	stateNoData     // Ok without data
	stateNoKey      // Ok without a partition key that is needed
)

// entry is what an answer says of one row.
type entry struct {
	state state
	data  []byte            // with stateOk, in the answer's buffer
	keys  map[string]string // likewise; shared
}

// partitionKeys holds those of the record that is being read.
type partitionKeys struct {
	values [][]byte // in the order of Options.PartitionKeys, nil for none
	last   map[string]string
}

// parse reads b.answer, which is for n rows, into b.entries. Its error is an *Error and final.
func (b *batch) parse(n int) error {
	if cap(b.entries) < n {
		b.entries = make([]entry, n)
	}
	b.entries = b.entries[:n]
	clear(b.entries)
	b.expected, b.keys.last = 0, nil
	if b.keys.values == nil {
		b.keys.values = make([][]byte, len(b.v.o.PartitionKeys))
	}

	size := len(b.answer)
	if !asmutf8.Valid(b.answer) {
		return wrong(CodeJSONProcessing, "the answer is not valid UTF-8")
	}
	b.answer = append(b.answer, make([]byte, padding)...)
	p := parser{b: b.answer, end: size}
	i := p.space(0)
	if p.b[i] != '{' {
		if _, err := p.skip(i, 0); err != nil {
			return err
		}
		return wrong(CodeJSONMapping, "the answer is not an object with records")
	}
	i, err := p.object(i, 1, func(name []byte, i int) (int, error) {
		if string(name) != "records" {
			return p.skip(i, 1)
		}
		clear(b.entries) // of an earlier member of the name
		b.expected = 0
		switch p.b[i] {
		case 'n':
			return p.skip(i, 1)
		case '[':
			return p.array(i, 2, func(i int) (int, error) { return b.record(&p, i) })
		}
		return 0, p.mapping(i, 1, "records", "an array")
	})
	if err != nil {
		return err
	}
	if i = p.space(i); i < size {
		return p.malformed(i, "the end")
	}
	b.answer = b.answer[:size]
	return nil
}

// record reads one element of records.
func (b *batch) record(p *parser, i int) (int, error) {
	if p.b[i] != '{' {
		return 0, p.mapping(i, 2, "an element of records", "an object")
	}
	var id, result, data []byte // nil for none
	clear(b.keys.values)
	i, err := p.object(i, 3, func(name []byte, i int) (int, error) {
		var to *[]byte
		switch string(name) {
		case "recordId":
			to = &id
		case "result":
			to = &result
		case "data":
			to = &data
		case "metadata":
			if len(b.keys.values) > 0 {
				return b.metadata(p, i)
			}
			return p.skip(i, 3)
		default:
			return p.skip(i, 3)
		}
		*to = nil
		if p.b[i] == '"' {
			s, i, err := p.str(i + 1)
			*to = s
			return i, err
		}
		if p.b[i] != 'n' {
			return 0, p.mapping(i, 3, string(name), "a string")
		}
		return p.skip(i, 3)
	})
	if err != nil {
		return 0, err
	}
	row, ok := b.find(id)
	if !ok {
		return i, nil
	}
	e := &b.entries[row]
	if e.state != stateMissing {
		*e = entry{state: stateDuplicated}
		return i, nil
	}
	switch string(result) {
	case "Ok":
		if data == nil {
			e.state = stateNoData
			break
		}
		n, ok := decode(data)
		if !ok {
			return 0, wrong(CodeFunctionError, "the data of the record %s is not base64", id)
		}
		e.state, e.data = stateOk, data[:n:n]
		if e.keys, ok = b.partition(); !ok {
			*e = entry{state: stateNoKey}
		}
	case "Dropped":
		e.state = stateDropped
	case "ProcessingFailed":
		e.state = stateFailed
	default:
		return 0, wrong(CodeFunctionError, "the result of the record %s is %.40q, and not Ok, Dropped or ProcessingFailed", id, result)
	}
	return i, nil
}

// find is the row with that id. Nearly always it is the one after the last.
func (b *batch) find(id []byte) (row int, ok bool) {
	if id == nil {
		return 0, false
	}
	if b.expected < len(b.idEnds) && b.same(b.expected, id) {
		b.expected++
		return b.expected - 1, true
	}
	if b.byID == nil {
		b.byID = make(map[string]int, len(b.idEnds))
		from := 0
		for i, to := range b.idEnds {
			b.byID[string(b.ids[from:to])] = i
			from = to
		}
	}
	if row, ok = b.byID[string(id)]; ok {
		b.expected = row + 1
	}
	return row, ok
}

// metadata reads the partition keys that are wanted.
func (b *batch) metadata(p *parser, i int) (int, error) {
	clear(b.keys.values)
	if p.b[i] == 'n' {
		return p.skip(i, 3)
	}
	if p.b[i] != '{' {
		return 0, p.mapping(i, 3, "metadata", "an object")
	}
	return p.object(i, 4, func(name []byte, i int) (int, error) {
		if string(name) != "partitionKeys" {
			return p.skip(i, 4)
		}
		clear(b.keys.values)
		if p.b[i] == 'n' {
			return p.skip(i, 4)
		}
		if p.b[i] != '{' {
			return 0, p.mapping(i, 4, "partitionKeys", "an object")
		}
		return p.object(i, 5, func(name []byte, i int) (int, error) {
			k := b.wanted(name)
			if k < 0 {
				return p.skip(i, 5)
			}
			b.keys.values[k] = nil
			var value []byte
			var err error
			switch from := i; p.b[i] {
			case '"':
				value, i, err = p.str(i + 1)
			case '{', '[':
				return 0, p.mapping(i, 5, "a value of partitionKeys", "a string")
			case 'n':
				return p.skip(i, 5)
			default: // numbers and booleans count as their text
				i, err = p.skip(i, 5)
				value = p.b[from:max(i, from)]
			}
			b.keys.values[k] = value
			return i, err
		})
	})
}

// wanted is the number of a partition key in the options, or -1.
func (b *batch) wanted(name []byte) int {
	for k, want := range b.v.o.PartitionKeys {
		if want == string(name) {
			return k
		}
	}
	return -1
}

// partition makes a map of the keys that were read. Neighbours often have the same ones, and then share it.
func (b *batch) partition() (map[string]string, bool) {
	if len(b.keys.values) == 0 {
		return nil, true
	}
	like := b.keys.last != nil
	for k, value := range b.keys.values {
		if len(value) == 0 {
			return nil, false
		}
		like = like && b.keys.last[b.v.o.PartitionKeys[k]] == string(value)
	}
	if !like {
		b.keys.last = make(map[string]string, len(b.keys.values))
		for k, value := range b.keys.values {
			b.keys.last[b.v.o.PartitionKeys[k]] = string(value)
		}
	}
	return b.keys.last, true
}

// decode decodes base64 in place and returns the length of what it stands for.
func decode(text []byte) (n int, ok bool) {
	if len(text)%4 != 0 {
		return 0, false
	}
	want := len(text)/4*3 - bytes.Count(text[max(0, len(text)-2):], []byte("="))
	// Line breaks, which the library passes over, leave it with fewer bytes.
	n, err := base64.StdEncoding.Decode(text, text)
	return n, err == nil && n == want
}

// parser reads b[:end]; what follows is zero. The depths that its methods are given are those of the value itself.
type parser struct {
	b   []byte
	end int
}

func (p *parser) malformed(i int, want string) *Error {
	if i >= p.end {
		return wrong(CodeJSONProcessing, "the answer ends at byte %d where %s is expected", p.end, want)
	}
	r, _ := utf8.DecodeRune(p.b[i:p.end])
	return wrong(CodeJSONProcessing, "the answer has %q at byte %d where %s is expected", r, i, want)
}

// mapping is the error for a value of the wrong type at i, unless it is not JSON at all.
func (p *parser) mapping(i, depth int, what, want string) error {
	if _, err := p.skip(i, depth); err != nil {
		return err
	}
	return wrong(CodeJSONMapping, "%s at byte %d is not %s", what, i, want)
}

func (p *parser) space(i int) int {
	for b := p.b; b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r'; {
		i++
	}
	return i
}

func (p *parser) deep(i, depth int) error {
	if depth > maxDepth {
		return wrong(CodeJSONProcessing, "the answer is nested deeper than %d levels at byte %d", maxDepth, i)
	}
	return nil
}

// object reads the object at i, whose depth is given. member reads a value and returns the index after it; its name is
// valid until then.
func (p *parser) object(i, depth int, member func(name []byte, i int) (int, error)) (int, error) {
	if err := p.deep(i, depth); err != nil {
		return 0, err
	}
	if i = p.space(i + 1); p.b[i] == '}' {
		return i + 1, nil
	}
	for {
		if p.b[i] != '"' {
			return 0, p.malformed(i, "a member's name")
		}
		name, next, err := p.str(i + 1)
		if err != nil {
			return 0, err
		}
		if i = p.space(next); p.b[i] != ':' {
			return 0, p.malformed(i, "a colon")
		}
		if i, err = member(name, p.space(i+1)); err != nil {
			return 0, err
		}
		switch i = p.space(i); p.b[i] {
		case ',':
			i = p.space(i + 1)
		case '}':
			return i + 1, nil
		default:
			return 0, p.malformed(i, "a comma or a closing brace")
		}
	}
}

// array reads the array at i, whose depth is given.
func (p *parser) array(i, depth int, element func(i int) (int, error)) (int, error) {
	if err := p.deep(i, depth); err != nil {
		return 0, err
	}
	if i = p.space(i + 1); p.b[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = element(i); err != nil {
			return 0, err
		}
		switch i = p.space(i); p.b[i] {
		case ',':
			i = p.space(i + 1)
		case ']':
			return i + 1, nil
		default:
			return 0, p.malformed(i, "a comma or a closing bracket")
		}
	}
}

// skip checks the value at i, which lies in one of that depth.
func (p *parser) skip(i, depth int) (int, error) {
	b := p.b
	switch c := b[i]; {
	case c == '"':
		_, i, err := p.str(i + 1)
		return i, err
	case c == '{':
		return p.object(i, depth+1, func(_ []byte, i int) (int, error) { return p.skip(i, depth+1) })
	case c == '[':
		return p.array(i, depth+1, func(i int) (int, error) { return p.skip(i, depth+1) })
	case c == '-' || c-'0' <= 9:
		return p.number(i)
	case c == 'n' && string(b[i:i+4]) == "null", c == 't' && string(b[i:i+4]) == "true":
		return i + 4, nil
	case c == 'f' && string(b[i:i+5]) == "false":
		return i + 5, nil
	}
	return 0, p.malformed(i, "a value")
}

func (p *parser) number(i int) (int, error) {
	b := p.b
	if b[i] == '-' {
		i++
	}
	switch c := b[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		i = digits(b, i)
	default:
		return 0, p.malformed(i, "a digit")
	}
	if b[i] == '.' {
		if i++; b[i]-'0' > 9 {
			return 0, p.malformed(i, "a digit")
		}
		i = digits(b, i)
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return 0, p.malformed(i, "a digit")
		}
		i = digits(b, i)
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for b[i]-'0' <= 9 {
		i++
	}
	return i
}

// str reads the string whose first byte is at i: its text, without escapes, and the index after the closing quote.
func (p *parser) str(i int) (text []byte, next int, err error) {
	from := i
	// Blocks without a quote, a backslash or a control character, then the bytes of the last.
	for b := p.b; i+8 <= len(b) && !special(b[i:i+8:i+8]); {
		i += 8
	}
	for p.b[i] >= ' ' && p.b[i] != '"' && p.b[i] != '\\' {
		i++
	}
	switch {
	case p.b[i] == '"':
		return p.b[from:i:i], i + 1, nil
	case p.b[i] == '\\':
		return p.escaped(from, i)
	case i >= p.end:
		return nil, 0, p.malformed(i, "the end of a string")
	}
	return nil, 0, wrong(CodeJSONProcessing, "the answer has the control character 0x%02x in a string at byte %d", p.b[i], i)
}

func special(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	q := w ^ ones*'"'
	e := w ^ ones*'\\'
	return ((q-ones)&^q|(e-ones)&^e|(w-ones*' ')&^w)&highs != 0
}

// escaped goes on with a string whose first escape is at i, and undoes escapes in place.
func (p *parser) escaped(from, i int) (text []byte, next int, err error) {
	b, to := p.b, i
	for {
		c := b[i]
		switch {
		case c == '"':
			return b[from:to:to], i + 1, nil
		case c < ' ':
			if i >= p.end {
				return nil, 0, p.malformed(i, "the end of a string")
			}
			return nil, 0, wrong(CodeJSONProcessing, "the answer has the control character 0x%02x in a string at byte %d", c, i)
		case c != '\\':
			b[to] = c
			i, to = i+1, to+1
			continue
		}
		switch c = b[i+1]; c {
		case '"', '\\', '/':
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, ok := p.unit(i)
			if !ok {
				return nil, 0, p.malformed(i+2, "four hexadecimal digits")
			}
			i += 6
			if utf16.IsSurrogate(r) {
				low, ok := p.unit(i)
				if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
					r, i = pair, i+6
				} else {
					r = utf8.RuneError
				}
			}
			to += utf8.EncodeRune(b[to:to+utf8.UTFMax], r)
			continue
		default:
			return nil, 0, p.malformed(i+1, "an escape character")
		}
		b[to] = c
		i, to = i+2, to+1
	}
}

// unit is the UTF-16 unit that is escaped at i.
func (p *parser) unit(i int) (r rune, ok bool) {
	if p.b[i] != '\\' || p.b[i+1] != 'u' {
		return 0, false
	}
	for _, c := range p.b[i+2 : i+6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case (c|0x20)-'a' < 6:
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
