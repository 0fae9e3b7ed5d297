package delivery

import "hydrant/buffer"

// Change makes a stream what f says, durably: f is given what is in force, nil where there is no such stream,
// and returns what is to be. Nothing else changes a stream meanwhile. What was cut under the version before
// finishes as it was; what waits is cut under the new one. State Deleting drains what was acknowledged,
// Discarding drops it; the stream is gone when nothing is left. It returns what is in force then. An error of f
// changes nothing and is returned as it is; others are the buffer's.
func (m *Manager) Change(name string, f func(now *buffer.Stream) (buffer.Stream, error)) (buffer.Stream, error) {
	m.defining.Lock()
	defer m.defining.Unlock()
	s := m.lookup(name)
	var now *buffer.Stream
	if s != nil {
		def := s.definition()
		now = &def
	}
	next, err := f(now)
	if err != nil {
		return buffer.Stream{}, err
	}
	next.Name = name
	return m.define(s, next)
}

// Definition returns what is in force of a stream, or false where there is none. It is not to be changed.
func (m *Manager) Definition(name string) (buffer.Stream, bool) {
	s := m.lookup(name)
	if s == nil {
		return buffer.Stream{}, false
	}
	return s.definition(), true
}

// Definitions returns what is in force of all streams, by name. They are not to be changed.
func (m *Manager) Definitions() []buffer.Stream {
	all := m.all()
	out := make([]buffer.Stream, len(all))
	for i, s := range all {
		out[i] = s.definition()
	}
	return out
}
