package transform

import (
	"bytes"
	"slices"
)

// Kind of a JSON value.
type Kind uint8

const (
	Null Kind = iota
	False
	True
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// Ref is a value of a Document: of the record's own text or made by New…. The zero Ref is none.
type Ref uint32

// node is a value of the tree. Positions are in Document.text.
type node struct {
	kind    Kind
	keyEsc  bool // the name has escapes
	valEsc  bool // the string has escapes
	dirty   bool // text [start, end) is not, or no longer, this value's
	rekeyed bool // the name is not the text's own, or there is none
	added   bool // by AppendSorted

	key, keyEnd uint32 // name of a member, without its quotes
	start, end  uint32 // text of the value
	up          Ref
	prev, next  Ref // of the same parent
	first, last Ref // children
}

// Document is one record on its way through a chain: its bytes and, when somebody has asked for it, a tree of JSON
// values that is edited in place. The zero Document is empty and ready to use. Not safe for concurrent use.
type Document struct {
	data    []byte // as the record is, unless changed
	meta    []byte // what its source knows of it besides
	parsed  bool   // the tree is that of the record
	changed bool   // the tree is ahead of data
	root    Ref
	head    span // white space before and after the root
	tail    span

	text  []byte // what nodes point into: the record, zeros, and texts that were made since
	nodes []node // [0] is unused
	parts []part

	out   [2][]byte // texts as wholes; data may lie in out[which]
	which int
	owned bool // data lies in out[which]

	keys keySet
	vals []any // of Values, by node
}

type span struct{ lo, hi uint32 }

// part is a record that was made from another: a value, or bytes.
type part struct {
	ref  Ref
	data []byte
}

// kept bounds in bytes what a Document keeps from record to record.
const kept = 1 << 20

// Reset makes d the record of these bytes, of which it keeps a view.
func (d *Document) Reset(data []byte) {
	d.data, d.meta, d.parsed, d.changed, d.owned = data, nil, false, false, false
	d.root, d.head, d.tail = 0, span{}, span{}
	d.text, d.parts = d.text[:0], d.parts[:0]
	d.nodes = append(d.nodes[:0], node{})
}

// SetMeta gives d the metadata of the record that it is, which Reset takes away. Meta returns it for the record and all its
// parts; nil: there is none.
func (d *Document) SetMeta(meta []byte) { d.meta = meta }

// Meta is what SetMeta was given.
func (d *Document) Meta() []byte { return d.meta }

// release gives up buffers that a large record has left, and the view of the record.
func (d *Document) release() {
	d.data, d.meta = nil, nil
	d.parts = emptied(d.parts)
	if cap(d.text) > kept {
		d.text = nil
	}
	if cap(d.nodes) > kept/64 {
		d.nodes = nil
	}
	for i := range d.out {
		if cap(d.out[i]) > kept {
			d.out[i] = nil
		}
	}
	clear(d.vals)
	d.vals = d.vals[:0]
	if cap(d.vals) > kept/64 {
		d.vals = nil
	}
}

// tooLarge tells whether the record has grown beyond MaxData, as far as is known without writing it.
func (d *Document) tooLarge() bool {
	return len(d.data) > MaxData || len(d.text) > 3*MaxData
}

// Data is the record's bytes as they are now. They are valid until d is changed again.
func (d *Document) Data() []byte {
	if d.changed {
		d.SetOwned(d.AppendData(d.Scratch()))
		d.parsed = true
	}
	return d.data
}

// AppendData appends the record's bytes as they are now to b.
func (d *Document) AppendData(b []byte) []byte {
	if !d.changed {
		return append(b, d.data...)
	}
	b = append(b, d.text[d.head.lo:d.head.hi]...)
	b = d.write(b, d.root)
	return append(b, d.text[d.tail.lo:d.tail.hi]...)
}

// Scratch returns an empty buffer that d owns and that the present data does not lie in, for SetOwned.
func (d *Document) Scratch() []byte { return d.out[d.which^1][:0] }

// SetOwned makes b, which was appended to Scratch, the record's bytes. What was known of them before is forgotten.
func (d *Document) SetOwned(b []byte) {
	d.which ^= 1
	d.out[d.which] = b
	d.data, d.owned, d.parsed, d.changed = b, true, false, false
}

// SetData makes b, which must live as long as the record, the record's bytes.
func (d *Document) SetData(b []byte) {
	d.data, d.owned, d.parsed, d.changed = b, false, false, false
}

// AddPart adds a value that Values returned to what Split passes on, as a record of its own.
func (d *Document) AddPart(v Ref) { d.parts = append(d.parts, part{ref: v}) }

// AddPartData adds a piece of Data to what Split passes on, as a record of its own.
func (d *Document) AddPartData(b []byte) { d.parts = append(d.parts, part{data: b}) }

// pinned is the state of d under which its parts are processed.
type pinned struct {
	text, nodes int
	head, tail  span
	buffer      []byte // that data lay in, or nil
	which       int
}

// pin makes d leave alone what it holds, until unpin.
func (d *Document) pin() pinned {
	p := pinned{nodes: len(d.nodes), head: d.head, tail: d.tail, which: d.which}
	if d.owned {
		p.buffer, d.out[d.which] = d.out[d.which], nil
	}
	p.text = len(d.text)
	return p
}

func (d *Document) unwind(p pinned) {
	d.text, d.nodes, d.parts = d.text[:p.text], d.nodes[:p.nodes], d.parts[:0]
	d.head, d.tail = p.head, p.tail
}

func (d *Document) unpin(p pinned) {
	if p.buffer != nil {
		d.out[p.which] = p.buffer
	}
}

// take makes d the record of a part.
func (d *Document) take(p part) {
	if p.ref == 0 {
		d.SetData(p.data)
		return
	}
	d.root = p.ref
	n := &d.nodes[p.ref]
	d.SetData(d.text[n.start:n.end:n.end])
	d.parsed = true
}

// Kind of v; Null where v is none.
func (d *Document) Kind(v Ref) Kind { return d.nodes[v].kind }

// First child of an array or object, and Next of the same parent; 0 for none.
func (d *Document) First(v Ref) Ref { return d.nodes[v].first }

// Next value of the same parent, or 0.
func (d *Document) Next(v Ref) Ref { return d.nodes[v].next }

// Up is the parent of v, or 0.
func (d *Document) Up(v Ref) Ref { return d.nodes[v].up }

// Name of a member, without escapes. It is valid until d is changed.
func (d *Document) Name(v Ref) []byte {
	n := &d.nodes[v]
	name := d.text[n.key:n.keyEnd]
	if n.keyEsc {
		return unescape(nil, name)
	}
	return name
}

// Text of a scalar as it was written, or of an array or object that was not changed.
func (d *Document) Text(v Ref) []byte {
	n := &d.nodes[v]
	return d.text[n.start:n.end]
}

// JSON appends the text of any value as it is now.
func (d *Document) JSON(b []byte, v Ref) []byte { return d.write(b, v) }

// StringValue of a string, without quotes and escapes. It is valid until d is changed.
func (d *Document) StringValue(v Ref) []byte {
	n := &d.nodes[v]
	text := d.text[n.start+1 : n.end-1]
	if n.valEsc {
		return unescape(nil, text)
	}
	return text
}

// Member of an object by its name, or 0.
func (d *Document) Member(object Ref, name string) Ref {
	nodes, text := d.nodes, d.text
	for c := nodes[object].first; c != 0; {
		n := &nodes[c]
		if !n.keyEsc {
			if int(n.keyEnd-n.key) == len(name) && string(text[n.key:n.keyEnd]) == name {
				return c
			}
		} else if string(unescape(nil, text[n.key:n.keyEnd])) == name {
			return c
		}
		c = n.next
	}
	return 0
}

// touch notes that v is no longer what its text says.
func (d *Document) touch(v Ref) {
	d.changed = true
	for v != 0 && !d.nodes[v].dirty {
		d.nodes[v].dirty = true
		v = d.nodes[v].up
	}
}

// detach takes v out of its parent's list, if it is in one.
func (d *Document) detach(v Ref) {
	n := &d.nodes[v]
	if n.up == 0 {
		return
	}
	d.join(n.up, n.prev, n.next)
	n.up, n.prev, n.next = 0, 0, 0
}

// join makes two children of up neighbours, either of which may be none.
func (d *Document) join(up, left, right Ref) {
	if left == 0 {
		d.nodes[up].first = right
	} else {
		d.nodes[left].next = right
	}
	if right == 0 {
		d.nodes[up].last = left
	} else {
		d.nodes[right].prev = left
	}
}

// Remove takes a member or an element out.
func (d *Document) Remove(v Ref) {
	d.touch(d.nodes[v].up)
	d.detach(v)
}

// Rename gives a member another name, in its place.
func (d *Document) Rename(v Ref, name string) {
	d.setKey(v, name)
	d.touch(d.nodes[v].up)
}

func (d *Document) setKey(v Ref, name string) {
	lo := len(d.text)
	d.text = AppendString(d.text, name)
	n := &d.nodes[v]
	n.key, n.keyEnd, n.rekeyed = uint32(lo+1), uint32(len(d.text)-1), true
	n.keyEsc = bytes.IndexByte(d.text[n.key:n.keyEnd], '\\') >= 0
}

// Append adds v, which is new or was removed, as the last member of an object.
func (d *Document) Append(object Ref, name string, v Ref) {
	d.setKey(v, name)
	d.link(object, v)
}

// Push adds v, which is new or was removed, as the last element of an array.
func (d *Document) Push(array Ref, v Ref) { d.link(array, v) }

func (d *Document) link(parent, v Ref) {
	d.put(parent, d.nodes[parent].last, v, 0)
	d.touch(parent)
}

// put makes v a child of up, between two neighbours either of which may be none.
func (d *Document) put(up, left, v, right Ref) {
	d.nodes[v].up = up
	d.join(up, left, v)
	d.join(up, v, right)
	if left == 0 {
		d.nodes[v].prev = 0
	}
	if right == 0 {
		d.nodes[v].next = 0
	}
}

// InsertBefore adds v, which is new or was removed, as a member before the member at.
func (d *Document) InsertBefore(at Ref, name string, v Ref) {
	d.setKey(v, name)
	up := d.nodes[at].up
	d.put(up, d.nodes[at].prev, v, at)
	d.touch(up)
}

// Replace puts v, which is new or was removed, where old is; old is then removed. A member keeps its name.
func (d *Document) Replace(old, v Ref) {
	o, n := &d.nodes[old], &d.nodes[v]
	n.key, n.keyEnd, n.keyEsc, n.rekeyed = o.key, o.keyEnd, o.keyEsc, true
	up, left, right := o.up, o.prev, o.next
	o.up, o.prev, o.next = 0, 0, 0
	if up != 0 {
		d.put(up, left, v, right)
	}
	if d.root == old {
		d.root = v
	}
	d.changed = true
	d.touch(up)
}

// SetRoot makes v, a value of this record or a new one, the whole record. White space around the root stays.
func (d *Document) SetRoot(v Ref) {
	if d.root == v {
		return
	}
	d.root = v
	d.changed = true
}

func (d *Document) add(n node) Ref {
	d.nodes = append(d.nodes, n)
	return Ref(len(d.nodes) - 1)
}

// NewString makes a string.
func (d *Document) NewString(s string) Ref {
	lo := len(d.text)
	d.text = AppendString(d.text, s)
	hi := len(d.text)
	return d.add(node{kind: String, start: uint32(lo), end: uint32(hi), valEsc: bytes.IndexByte(d.text[lo:hi], '\\') >= 0})
}

// NewScalar makes a null, boolean or number of its JSON text.
func (d *Document) NewScalar(kind Kind, text string) Ref {
	lo := len(d.text)
	d.text = append(d.text, text...)
	return d.add(node{kind: kind, start: uint32(lo), end: uint32(len(d.text))})
}

// NewContainer makes an empty array or object.
func (d *Document) NewContainer(kind Kind) Ref {
	return d.add(node{kind: kind, dirty: true})
}

// NewJSON makes a value of its text, or says why that is not JSON.
func (d *Document) NewJSON(text []byte) (Ref, error) {
	v, _, err := d.parseOne(text)
	return v, err
}

// Copy makes a new value that is equal to v as it is now.
func (d *Document) Copy(v Ref) Ref {
	n := d.nodes[v]
	lo := len(d.text)
	d.text = slices.Grow(d.text, int(n.end-n.start))
	d.text = d.write(d.text, v)
	c := node{kind: n.kind, valEsc: n.valEsc, start: uint32(lo), end: uint32(len(d.text))}
	if n.kind == Array || n.kind == Object {
		text := slices.Clone(d.text[lo:])
		r, _, err := d.parseOne(text)
		if err != nil {
			panic("bug: a value that was written is not JSON: " + err.Error())
		}
		return r
	}
	return d.add(c)
}

// write appends the text of v as it is now: what has not been changed as it was, the rest without white space. It
// does not recurse into what is not dirty; how deep dirty values nest is bounded by the parser.
func (d *Document) write(b []byte, v Ref) []byte {
	n := &d.nodes[v]
	if !n.dirty {
		return append(b, d.text[n.start:n.end]...)
	}
	object := n.kind == Object
	if object {
		b = append(b, '{')
	} else {
		b = append(b, '[')
	}
	for c := n.first; c != 0; {
		m := &d.nodes[c]
		switch {
		case !object:
			b = d.write(b, c)
		case !m.dirty && !m.rekeyed:
			b = append(b, d.text[m.key-1:m.end]...)
		default:
			b = append(b, d.text[m.key-1:m.keyEnd+1]...)
			b = append(b, ':')
			b = d.write(b, c)
		}
		if c = m.next; c != 0 {
			b = append(b, ',')
		}
	}
	if object {
		return append(b, '}')
	}
	return append(b, ']')
}

// Same tells whether v was not changed and has exactly this text.
func (d *Document) Same(v Ref, text []byte) bool {
	n := &d.nodes[v]
	return !n.dirty && bytes.Equal(d.text[n.start:n.end], text)
}

// JSONOrString is text as it is where that is JSON that a Document takes, and as a JSON string elsewhere.
func JSONOrString(text string) []byte {
	var d Document
	d.Reset([]byte(text))
	if root, err := d.Root(); err == nil {
		return slices.Clone(d.Text(root))
	}
	return AppendString(nil, text)
}

// Twice returns a member that has the name of one before it, or 0.
func (d *Document) Twice(object Ref) Ref {
	d.text = append(d.text, make([]byte, pad)...) // the last name may be read 8 bytes at a time
	return d.keys.twice(d, object)
}

// AppendSorted adds v, which is new, as a member of an object: after those that the record came with, and among those that
// this and Append added last by the order of names.
func (d *Document) AppendSorted(object Ref, name string, v Ref) {
	at := Ref(0)
	for c := d.nodes[object].last; c != 0 && d.nodes[c].added && string(d.Name(c)) > name; c = d.nodes[c].prev {
		at = c
	}
	if at != 0 {
		d.InsertBefore(at, name, v)
	} else {
		d.Append(object, name, v)
	}
	d.nodes[v].added = true
}
