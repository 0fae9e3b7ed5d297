package controlplane

import (
	"maps"
	"slices"

	"hydrant/firehose"
)

// Description is the answer to DescribeDeliveryStream.
type Description struct {
	Status string
	Type   string // DirectPut or KinesisStreamAsSource
	Body   []byte // in JSON
}

// Describe describes a stream that was made here, or is being made; ok is false for every other name.
func (p *Plane) Describe(name string) (d Description, ok bool, err error) {
	// The creation is looked at first: whoever sees none then sees the stream, if it came to be.
	if c := p.beingCreated(name); c != nil {
		return p.description(c.document, firehose.State{Name: name, Status: "CREATING", Version: 1, Created: c.began})
	}
	s, ok := p.o.Streams.Definition(name)
	if !ok || !Owns(s) {
		return Description{}, false, nil
	}
	stored, err := readSpec(s.Spec)
	if err != nil {
		return Description{}, true, err
	}
	state := firehose.State{Name: name, Status: status(s.State), Version: s.Version, Created: s.Created, Failure: failureOf(s, stored)}
	if s.Version > 1 {
		state.Updated = s.Changed
	}
	if k := keyOf(s.Tags); k != nil && p.o.Encrypted {
		state.Encryption = firehose.EncryptionState{Status: "ENABLED", Key: *k}
	}
	return p.description(stored.document, state)
}

func (p *Plane) description(d *firehose.Document, s firehose.State) (Description, bool, error) {
	body, err := d.Describe(p.settings(), s)
	return Description{Status: s.Status, Type: d.Type(), Body: body}, true, err
}

// Names of all streams, whoever made them, and of those that are being created, ascending.
func (p *Plane) Names() []string { return p.names() }

func (p *Plane) names() []string {
	names := map[string]bool{}
	for _, s := range p.o.Streams.Definitions() {
		names[s.Name] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.creating {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
