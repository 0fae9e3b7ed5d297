package delivery

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// modelNotes are notes of the model: what has returned is there.
type modelNotes struct{ s *modelStore }

func (s *modelStore) Notes() notes { return modelNotes{s} }

func modelNote(incarnation uint32, name string) string {
	return fmt.Sprintf("%08x-%s", incarnation, name)
}

func (n modelNotes) List(incarnation uint32) (out []string, err error) {
	n.s.disk.mu.Lock()
	defer n.s.disk.mu.Unlock()
	for name := range n.s.disk.notes {
		if name, ok := strings.CutPrefix(name, modelNote(incarnation, "")); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (n modelNotes) Keep(incarnations []uint32) error {
	n.s.disk.mu.Lock()
	defer n.s.disk.mu.Unlock()
	maps.DeleteFunc(n.s.disk.notes, func(name string, _ []byte) bool {
		return !slices.ContainsFunc(incarnations, func(i uint32) bool { return strings.HasPrefix(name, modelNote(i, "")) })
	})
	return nil
}

func (n modelNotes) Read(incarnation uint32, name string) ([]byte, error) {
	n.s.disk.mu.Lock()
	defer n.s.disk.mu.Unlock()
	content, ok := n.s.disk.notes[modelNote(incarnation, name)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(content), nil
}

func (n modelNotes) Write(incarnation uint32, name string, content []byte) error {
	n.s.disk.mu.Lock()
	defer n.s.disk.mu.Unlock()
	if n.s.dead {
		return errDead
	}
	n.s.disk.notes[modelNote(incarnation, name)] = bytes.Clone(content)
	return nil
}

func (n modelNotes) Remove(incarnation uint32, names ...string) error {
	n.s.disk.mu.Lock()
	defer n.s.disk.mu.Unlock()
	if n.s.dead {
		return errDead
	}
	for _, name := range names {
		delete(n.s.disk.notes, modelNote(incarnation, name))
	}
	return nil
}
