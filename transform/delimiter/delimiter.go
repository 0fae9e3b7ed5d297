// Package delimiter appends a text, a newline mostly, to each record. Records flow in and out; nothing is kept.
package delimiter

import (
	"bytes"
	"errors"

	"hydrant/transform"
)

// Options of a Delimiter.
type Options struct {
	Text string // required
}

// Delimiter is the processor append_delimiter.
type Delimiter struct{ text []byte }

var _ transform.Processor = (*Delimiter)(nil)

// New returns the processor.
func New(o Options) (*Delimiter, error) {
	if o.Text == "" {
		return nil, errors.New("the delimiter is empty")
	}
	return &Delimiter{text: []byte(o.Text)}, nil
}

// Process appends the delimiter to a record that does not end with it.
func (p *Delimiter) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	b := d.AppendData(d.Scratch())
	if !bytes.HasSuffix(b, p.text) {
		b = append(b, p.text...)
	}
	d.SetOwned(b)
	return transform.Keep, nil
}
