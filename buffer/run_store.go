package buffer

import (
	"fmt"
	"sync"
)

// runStore knows the run files of a data directory. Safe for concurrent use.
type runStore struct {
	fileStore
	slabs *sync.Pool

	asideMu sync.Mutex
	aside   map[RunID]bool // copied to quarantine/ by this process
}

func newRunStore(o fileOptions) *runStore {
	s := &runStore{slabs: newSlabPool(), aside: make(map[RunID]bool)}
	s.init(runKind, o)
	return s
}

// create starts a run. Its file is made with the first write.
func (s *runStore) create(kind RunKind, memory int64) (*Run, error) {
	if kind > RunRouted {
		return nil, fmt.Errorf("new run of kind %d", kind)
	}
	r := &Run{store: s, kind: kind, memory: max(memory, minRunMemory)}
	r.about = byte(kind) + 1
	if err := s.draw(&r.draft); err != nil {
		return nil, err
	}
	r.gathered.pool = s.slabs
	r.table = tableWriter{id: r.draft.id, emit: func(page []byte) error {
		r.pages = append(r.pages, page...)
		return nil
	}}
	return r, nil
}

// keep, unkeep, doubt and named are those of fileStore.
func (s *runStore) keep(runs []*Run)   { s.fileStore.keep(drafts(runs)) }
func (s *runStore) unkeep(runs []*Run) { s.fileStore.unkeep(drafts(runs)) }
func (s *runStore) doubt(runs []*Run)  { s.fileStore.doubt(drafts(runs)) }

func (s *runStore) named(runs []*Run, incarnation uint32) {
	s.fileStore.named(drafts(runs), incarnation)
}

// register is fileStore.register.
func (s *runStore) register(incarnation uint32, ref runRef, key *dataKey) {
	s.fileStore.register(incarnation, ref.ID, ref.Length, key)
}
