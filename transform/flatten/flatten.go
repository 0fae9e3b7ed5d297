// Package flatten lifts the members of nested objects to the top of JSON records. Records flow in and out; nothing is
// kept.
package flatten

import (
	"errors"

	"hydrant/transform"
)

const name = "Flatten"

// Options of a Flatten.
type Options struct {
	Separator string // between the names on the way; required
}

// Flatten is the processor flatten.
type Flatten struct{ separator string }

var _ transform.Processor = (*Flatten)(nil)

// New returns the processor.
func New(o Options) (*Flatten, error) {
	if o.Separator == "" {
		return nil, errors.New("the separator is empty")
	}
	return &Flatten{separator: o.Separator}, nil
}

// maxName bounds the bytes of a lifted member's name, and with it what a record that nests deeply can grow to.
const maxName = 4096

// Process replaces every object inside by its members, under names that tell where they were. Arrays stay, and so do
// objects without members. Two members that come to the same name fail the record.
func (p *Flatten) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	lifted, names := false, 0
	for c := d.First(root); c != 0; {
		next := d.Next(c)
		if d.Kind(c) == transform.Object && d.First(c) != 0 {
			lifted = true
			// Its members take its place. Those that are objects are met next.
			prefix := string(d.Name(c)) + p.separator
			next = d.First(c)
			if len(prefix) > maxName {
				return 0, transform.Failf(name, "A member would have a name of more than %d bytes.", maxName)
			}
			for m := next; m != 0; {
				after := d.Next(m)
				full := prefix + string(d.Name(m))
				if names += len(full); names > transform.MaxData {
					return 0, transform.Failf(name, "The names would have more than %d bytes.", transform.MaxData)
				}
				d.Remove(m)
				d.InsertBefore(c, full, m)
				m = after
			}
			d.Remove(c)
		}
		c = next
	}
	if lifted {
		if twice := d.Twice(root); twice != 0 {
			return 0, transform.Failf(name, "Two members come to the name %q.", d.Name(twice))
		}
	}
	return transform.Keep, nil
}
