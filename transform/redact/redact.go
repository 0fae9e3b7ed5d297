// Package redact hides values of JSON records. Records flow in and out; nothing is kept. What fails, here or later, goes to
// the error output as it came, values and all.
package redact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"hydrant/transform"
)

const name = "Redact"

// Ways of hiding.
const (
	SHA256 = "sha256" // lower-case hex of the hash: of a string's characters in UTF-8, of any other value's JSON text
	Mask   = "mask"   // the string ***, whatever it stands for
	Remove = "remove" // the member or element is taken out
)

// Options of a Redact.
type Options struct {
	Fields []string // paths; at least one
	With   string   // SHA256, Mask or Remove
}

// Redact is the processor redact.
type Redact struct {
	fields []transform.Path
	with   string
}

var _ transform.Processor = (*Redact)(nil)

// New parses the paths.
func New(o Options) (*Redact, error) {
	p := &Redact{with: o.With}
	switch o.With {
	case SHA256, Mask, Remove:
	default:
		return nil, fmt.Errorf("with %q: %s, %s or %s is wanted", o.With, SHA256, Mask, Remove)
	}
	for _, text := range o.Fields {
		path, err := transform.ParsePath(text)
		if err != nil {
			return nil, err
		}
		p.fields = append(p.fields, path)
	}
	if len(p.fields) == 0 {
		return nil, errors.New("no fields to redact")
	}
	return p, nil
}

// Process hides what is there. A null hides nothing and stays, except with Remove.
func (p *Redact) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	for _, path := range p.fields {
		d.FindEach(root, path, func(v transform.Ref) { p.hide(d, v) })
	}
	return transform.Keep, nil
}

func (p *Redact) hide(d *transform.Document, v transform.Ref) {
	kind := d.Kind(v)
	switch {
	case p.with == Remove:
		d.Remove(v)
		return
	case kind == transform.Null:
		return
	case p.with == Mask:
		d.Replace(v, d.NewString("***"))
		return
	}
	var sum [sha256.Size]byte
	switch kind {
	case transform.String:
		sum = sha256.Sum256(d.StringValue(v))
	case transform.Array, transform.Object:
		sum = sha256.Sum256(d.JSON(nil, v))
	default:
		sum = sha256.Sum256(d.Text(v))
	}
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	d.Replace(v, d.NewString(string(text[:])))
}
