package controlplane

import (
	"maps"
	"slices"

	"hydrant/firehose"
)

// Describe is the answer to DescribeDeliveryStream for a stream that was made here, or is being made; ok is
// false for every other name.
func (p *Plane) Describe(name string) (answer []byte, ok bool, err error) {
	// The creation is looked at first: whoever sees none then sees the stream, if it came to be.
	if c := p.beingCreated(name); c != nil {
		answer, err = c.document.Describe(p.settings(), firehose.State{Name: name, Status: "CREATING", Version: 1, Created: c.began})
		return answer, true, err
	}
	s, ok := p.o.Streams.Definition(name)
	if !ok || !Owns(s) {
		return nil, false, nil
	}
	stored, err := readSpec(s.Spec)
	if err != nil {
		return nil, true, err
	}
	state := firehose.State{Name: name, Status: status(s.State), Version: s.Version, Created: s.Created}
	if s.Version > 1 {
		state.Updated = s.Changed
	}
	if k := keyOf(s.Tags); k != nil && p.o.Encrypted {
		state.Encryption = firehose.EncryptionState{Status: "ENABLED", Key: *k}
	}
	answer, err = stored.document.Describe(p.settings(), state)
	return answer, true, err
}

// Creating tells whether a stream is being created: it is listed and described, and takes no records yet.
func (p *Plane) Creating(name string) bool { return p.beingCreated(name) != nil }

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
