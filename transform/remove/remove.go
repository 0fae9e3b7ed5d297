// Package remove takes members out of JSON records. Records flow in and out; nothing is kept.
package remove

import (
	"errors"

	"hydrant/transform"
)

const name = "Remove"

// Options of a Remove.
type Options struct {
	Paths []string // at least one
}

// Remove is the processor remove.
type Remove struct{ paths []transform.Path }

var _ transform.Processor = (*Remove)(nil)

// New parses the paths.
func New(o Options) (*Remove, error) {
	p := &Remove{}
	for _, text := range o.Paths {
		path, err := transform.ParsePath(text)
		if err != nil {
			return nil, err
		}
		p.paths = append(p.paths, path)
	}
	if len(p.paths) == 0 {
		return nil, errors.New("nothing to remove")
	}
	return p, nil
}

// Process removes what is there.
func (p *Remove) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	for _, path := range p.paths {
		d.FindEach(root, path, d.Remove)
	}
	return transform.Keep, nil
}
