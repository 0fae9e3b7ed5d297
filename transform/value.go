package transform

import (
	"encoding/json"
	"iter"
)

// Value is v as encoding/json would decode it with numbers as json.Number. Strings share one copy of the text.
func (d *Document) Value(v Ref) any {
	if cap(d.vals) < len(d.nodes) {
		d.vals = make([]any, len(d.nodes)*5/4)
	}
	clear(d.vals)
	d.vals = d.vals[:len(d.nodes)]
	return d.value(v, string(d.text))
}

// Made is the object or array that the last call of Value made of v, or nil.
func (d *Document) Made(v Ref) any {
	if int(v) >= len(d.vals) {
		return nil
	}
	return d.vals[v]
}

// AllMade iterates over what the last call of Value made of arrays and objects, also of those that were removed since.
func (d *Document) AllMade() iter.Seq2[Ref, any] {
	return func(yield func(Ref, any) bool) {
		for i, v := range d.vals {
			if v != nil && !yield(Ref(i), v) {
				return
			}
		}
	}
}

func (d *Document) value(v Ref, text string) any {
	n := &d.nodes[v]
	switch n.kind {
	case False:
		return false
	case True:
		return true
	case Number:
		return json.Number(text[n.start:n.end])
	case String:
		if n.valEsc {
			return string(unescape(nil, d.text[n.start+1:n.end-1]))
		}
		return text[n.start+1 : n.end-1]
	case Array:
		count := 0
		for c := n.first; c != 0; c = d.nodes[c].next {
			count++
		}
		a := make([]any, 0, count)
		for c := n.first; c != 0; c = d.nodes[c].next {
			a = append(a, d.value(c, text))
		}
		d.vals[v] = a
		return a
	case Object:
		count := 0
		for c := n.first; c != 0; c = d.nodes[c].next {
			count++
		}
		m := make(map[string]any, count)
		for c := n.first; c != 0; {
			k := &d.nodes[c]
			name := text[k.key:k.keyEnd]
			if k.keyEsc {
				name = string(unescape(nil, d.text[k.key:k.keyEnd]))
			}
			m[name] = d.value(c, text)
			c = k.next
		}
		d.vals[v] = m
		return m
	}
	return nil
}
