// Package rename gives members of JSON records other names and places. Records flow in and out; nothing is kept.
package rename

import (
	"fmt"

	"hydrant/transform"
)

const name = "Rename"

// Pair is one renaming.
type Pair struct{ From, To string } // paths

// Options of a Rename.
type Options struct {
	Pairs []Pair // in order; at least one
}

// Rename is the processor rename.
type Rename struct{ pairs []pair }

type pair struct {
	from, to transform.Path
	inPlace  bool // only the last name differs
}

var _ transform.Processor = (*Rename)(nil)

// New parses the paths.
func New(o Options) (*Rename, error) {
	p := &Rename{}
	for _, x := range o.Pairs {
		from, err := transform.ParsePath(x.From)
		if err != nil {
			return nil, err
		}
		to, err := transform.ParsePath(x.To)
		if err != nil {
			return nil, err
		}
		switch {
		case from.Each() || to.Each():
			return nil, fmt.Errorf("%s: %s: a member of many cannot be renamed with []; use jq", x.From, x.To)
		case to.Within(from):
			return nil, fmt.Errorf("%s: %s: the new place is the old one or inside of it", x.From, x.To)
		}
		p.pairs = append(p.pairs, pair{from, to, from.SameParent(to)})
	}
	if len(p.pairs) == 0 {
		return nil, fmt.Errorf("nothing to rename")
	}
	return p, nil
}

// Process renames what is there. What is not there is left out; a name that is taken already fails the record, since
// one of the two values would be lost.
func (p *Rename) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	for i := range p.pairs {
		x := &p.pairs[i]
		v := d.Find(root, x.from)
		if v == 0 {
			continue
		}
		if d.Find(root, x.to) != 0 {
			return 0, transform.Failf(name, "%s cannot be renamed to %s: the record has that too.", x.from, x.to)
		}
		if x.inPlace {
			d.Rename(v, x.to.Last())
			continue
		}
		d.Remove(v)
		object, member, inTheWay := d.Place(root, x.to)
		if object == 0 {
			return 0, transform.Failf(name, "%s cannot be renamed to %s: %s.", x.from, x.to, inTheWay)
		}
		d.Append(object, member, v)
	}
	return transform.Keep, nil
}
