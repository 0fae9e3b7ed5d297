package delivery

import (
	"context"
	"time"

	"hydrant/buffer"
)

// discardBytes is how much of what waits is dropped at a time.
const discardBytes = 64 << 20

// discard drops what waits in a stream that was deleted by force: rows under manifests without objects, counted
// as dropped. It returns when to look again if nothing happens. What is under manifests already is dropped by
// the uploader, object by object.
func (l *loop) discard(now time.Time) (wake time.Time) {
	s := l.s
	l.giveBack(l.jobs, "")
	l.jobs, l.tally = nil, nil
	if now.Before(l.retryAt) {
		return l.retryAt
	}
	if err := l.discardEpochs(); err != nil {
		return l.notDiscarded(now, err)
	}
	for {
		s.mu.Lock() // nobody may see these rows neither waiting nor in work
		taken := s.consumer.Take(0, discardBytes)
		if taken == nil {
			s.mu.Unlock()
			return time.Time{}
		}
		j := &job{store: s.store, name: s.name, use: l.ver, version: l.ver.number, reason: reasonDelete, discards: true, claim: taken, bytes: taken.Bytes()}
		j.first, j.next = taken.Range()
		s.took(j)
		s.mu.Unlock()
		j.head = buffer.ManifestHead{
			ID:          s.store.NewManifestID(),
			Incarnation: s.incarnation,
			Consumer:    s.reader,
			Version:     l.ver.number,
			Epoch:       s.consumer.NewEpoch(),
			First:       j.first,
			Next:        j.next,
		}
		for range taken.Rows() {
			j.head.Counts.Dropped++
		}
		m, err, current := l.cut(j)
		if err != nil || !current {
			s.mu.Lock()
			taken.Release()
			s.mu.Unlock()
			if err == nil { // the stream has another version, or is not to be discarded any more
				s.givenBack([]*job{j}, "")
				s.wake()
				return time.Time{}
			}
			s.givenBack([]*job{j}, err.Error())
			return l.notDiscarded(now, err)
		}
		l.failures = 0
		l.marks.prune(j.next)
		s.committed(j, m)
	}
}

// notDiscarded notes that the disk did not take the decision.
func (l *loop) notDiscarded(now time.Time, err error) (wake time.Time) {
	l.failures++
	l.retryAt = now.Add(backoff(l.failures, cutBase, cutCap))
	l.s.alarm("cut", "records of a deleted stream cannot be discarded now", "err", err)
	return l.retryAt
}

// discardObject gives up one object of a stream that was deleted by force. The destination is not asked: an
// object whose answer was lost may be there, and counts as dropped all the same. Only a Finisher is told, so that a load
// that is still on its way does not take the object, and asked once whether one has.
func (s *stream) discardObject(ctx context.Context, t *task) (outcome, time.Duration) {
	t.attempts++
	if taken, kind := s.discardLoad(ctx, t); taken {
		s.loaded(t, kind)
		return done, 0
	}
	if err := s.store.Discard(t.batch.manifest.ID, []int{t.object}, "stream deleted by force"); err != nil {
		s.alarm("cut", "object of a deleted stream cannot be discarded now", "key", t.info().Key, "err", err)
		return local, backoff(t.attempts, retryBase, retryCap)
	}
	s.mu.Lock()
	s.endObjectLocked(t)
	s.mu.Unlock()
	s.wake() // the stream may be empty now
	return done, 0
}
