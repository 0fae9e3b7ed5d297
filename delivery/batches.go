package delivery

import (
	"cmp"
	"container/heap"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hydrant/buffer"
	"hydrant/record"
)

// ErrNoBatch says that a stream has no such manifest which has not ended: it was never there, or all of it is
// delivered, or was diverted.
var ErrNoBatch = errors.New("no such batch is waiting")

// BatchDetail is a manifest that has not ended, with what is left of it.
type BatchDetail struct {
	Manifest string          `json:"manifest_id"`
	Version  uint64          `json:"version"` // of the stream, that it was made under
	Records  int64           `json:"records"` // in pending objects, as are the bytes
	Bytes    int64           `json:"bytes"`
	Objects  int             `json:"objects"`
	Pending  int             `json:"pending_objects"`
	Oldest   *time.Time      `json:"oldest_record,omitempty"` // arrival
	Attempts int             `json:"attempts"`                // of the object that had most, by this process
	Error    string          `json:"last_error,omitempty"`
	Next     *time.Time      `json:"next_attempt,omitempty"` // of the first object that waits for its time
	Left     []PendingObject `json:"pending"`                // at most 100
}

// PendingObject is an object that is neither stored nor replaced.
type PendingObject struct {
	Key     string `json:"key"`
	Role    string `json:"role"` // data | error | backup
	Place   string `json:"place"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
	// State is staged or loading for an object that is in the bucket that a database loads from; else "".
	State string `json:"state,omitempty"`
}

// maxPending is the most objects that a BatchDetail lists.
const maxPending = 100

// Batches lists the manifests of a stream that have not ended, oldest first, and after them those of its backup. *record.NotFound where there is no stream.
func (m *Manager) Batches(stream string) ([]BatchDetail, error) {
	s := m.lookup(stream)
	if s == nil {
		return nil, &record.NotFound{Stream: stream}
	}
	out := s.details()
	if k := m.backupOf(stream); k != nil {
		out = append(out, k.details()...)
	}
	return out, nil
}

func (s *stream) details() []BatchDetail {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*batch, 0, len(s.batches))
	for _, b := range s.batches {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b *batch) int { return cmp.Compare(a.number, b.number) })
	out := make([]BatchDetail, len(list))
	for i, b := range list {
		out[i] = s.detailLocked(b)
	}
	return out
}

func (s *stream) detailLocked(b *batch) BatchDetail {
	d := BatchDetail{
		Manifest: hex.EncodeToString(b.manifest.ID[:]), Version: b.manifest.Version,
		Records: b.records, Bytes: b.bytes, Objects: len(b.manifest.Objects), Pending: b.pending,
		Attempts: b.attempts, Error: b.err, Left: []PendingObject{},
	}
	if b.oldest != 0 {
		at := time.UnixMicro(b.oldest).UTC()
		d.Oldest = &at
	}
	if next := s.up.nextOf(b.tasks); !next.IsZero() {
		next = next.UTC()
		d.Next = &next
	}
	for _, t := range b.tasks {
		if t.ended {
			continue
		}
		if len(d.Left) == maxPending {
			break
		}
		info := t.info()
		o := PendingObject{Key: info.Key, Role: s.roleOf(info.Role), Place: s.placeNameLocked(t), Records: info.Records, Bytes: info.Size, State: s.up.stateOf(t)}
		d.Left = append(d.Left, o)
	}
	return d
}

// placeNameLocked says where an object is meant to go: kind and place, without what may be secret in a URL.
func (s *stream) placeNameLocked(t *task) string {
	if path, ok := s.directoryOf(t.info().Destination); ok {
		return "file " + path
	}
	for _, v := range []*version{s.cur, t.batch.use} {
		if v.pipe == nil {
			continue
		}
		if d := v.pipe.destination(t.info().Destination); d != nil {
			place, _, _ := strings.Cut(d.Place, "?")
			return strings.TrimSpace(d.Kind + " " + strings.TrimSpace(place))
		}
	}
	return t.info().Destination
}

// nextOf is when the first of those tasks is due that wait for their time; zero: none does.
func (u *uploader) nextOf(tasks []*task) (next time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range tasks {
		var at time.Time
		switch l := t.lane; {
		case l == nil || t.gone:
		case t.staged:
			at = l.loads.nextOf(t)
		case slices.Contains(l.later, t):
			at = t.next
		case l.streak > 0 && slices.Contains(l.ready, t):
			at = l.retryAt
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// RetryBatch makes everything that is left of a batch due now. It does not wait for the attempt. Errors:
// *record.NotFound, ErrNoBatch, ErrPaused.
func (m *Manager) RetryBatch(stream, manifest string) error {
	s, b, err := m.batch(stream, manifest)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.def.State == buffer.Paused {
		return ErrPaused
	}
	s.up.dueNow(b.tasks)
	return nil
}

// batch finds one of a stream.
func (m *Manager) batch(stream, manifest string) (*stream, *batch, error) {
	s := m.lookup(stream)
	if s == nil {
		return nil, nil, &record.NotFound{Stream: stream}
	}
	var id buffer.ManifestID
	raw, err := hex.DecodeString(manifest)
	if copy(id[:], raw); err != nil || len(raw) != len(id) {
		return nil, nil, fmt.Errorf("%w: %q is not a manifest id, which has 32 hexadecimal digits", ErrNoBatch, manifest)
	}
	for _, s := range m.consumersOf(s) {
		s.mu.Lock()
		b := s.batches[id]
		s.mu.Unlock()
		if b != nil {
			return s, b, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %s", ErrNoBatch, manifest)
}

// dueNow makes tasks due that wait for their time, and their destinations worth a try.
func (u *uploader) dueNow(tasks []*task) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.wake()
	for _, t := range tasks {
		l := t.lane
		if l == nil || t.gone {
			continue
		}
		l.retryAt = time.Time{}
		if t.staged {
			l.loads.retryAt = time.Time{}
			if i := slices.Index(l.loads.later, t); i >= 0 {
				t.next = time.Time{}
				heap.Fix(&l.loads.later, i)
			}
			continue
		}
		if i := slices.Index(l.later, t); i >= 0 {
			t.next = time.Time{}
			heap.Fix(&l.later, i)
		}
	}
}
