// Package set gives members of JSON records fixed values. Records flow in and out; nothing is kept.
package set

import (
	"errors"
	"fmt"

	"hydrant/transform"
)

const name = "Set"

// Pair is one member.
type Pair struct {
	Path string
	// Value: what is JSON is set as JSON (5, true, null, "5", [1], {"a":1}), any other text as a string.
	Value string
}

// Options of a Set.
type Options struct {
	Pairs []Pair // in order; at least one
}

// Set is the processor set.
type Set struct{ pairs []pair }

type pair struct {
	path transform.Path
	json []byte
}

var _ transform.Processor = (*Set)(nil)

// New parses paths and values.
func New(o Options) (*Set, error) {
	p := &Set{}
	for _, x := range o.Pairs {
		path, err := transform.ParsePath(x.Path)
		if err != nil {
			return nil, err
		}
		if path.Each() {
			return nil, fmt.Errorf("%s: members of many cannot be set with []; use jq", x.Path)
		}
		for _, y := range p.pairs {
			if path.Within(y.path) || y.path.Within(path) {
				return nil, fmt.Errorf("%s: %s is set as well, and one of them would undo the other", x.Path, y.path)
			}
		}
		p.pairs = append(p.pairs, pair{path, transform.JSONOrString(x.Value)})
	}
	if len(p.pairs) == 0 {
		return nil, errors.New("nothing to set")
	}
	return p, nil
}

// Process sets every member, in its place where it is there and at the end of its object where it is not. Objects on
// the way are made; anything else that is on the way fails the record.
func (p *Set) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	for i := range p.pairs {
		x := &p.pairs[i]
		old := d.Find(root, x.path)
		if old != 0 && d.Same(old, x.json) {
			continue
		}
		v, err := d.NewJSON(x.json)
		if err != nil {
			panic("bug: a value that New let pass: " + err.Error())
		}
		if old != 0 {
			d.Replace(old, v)
			continue
		}
		object, member, inTheWay := d.Place(root, x.path)
		if object == 0 {
			return 0, transform.Failf(name, "%s cannot be set: %s.", x.path, inTheWay)
		}
		d.Append(object, member, v)
	}
	return transform.Keep, nil
}
