package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hydrant/buffer"
	"hydrant/record"
)

// Remaining is what a Flush that ran out of time left behind.
type Remaining struct {
	Records int64  `json:"remaining_records"`
	Bytes   int64  `json:"remaining_bytes"`
	Error   string `json:"last_error,omitempty"`
	// Of the backup of source records, where the stream keeps one.
	BackupRecords int64 `json:"remaining_backup_records,omitempty"`
	BackupBytes   int64 `json:"remaining_backup_bytes,omitempty"`
}

// errStopped says that nothing is delivered any more.
var errStopped = errors.New("delivery has stopped")

// errFailed says that a stream cannot be delivered as it is configured.
var errFailed = errors.New("stream cannot be opened")

// Flush closes the stream's epochs and returns when all that was accepted before the call is delivered or
// in the error output, and in the backup where the stream keeps one of all records. When ctx ends first it returns what remains with ctx's error. Other errors:
// *record.NotFound, ErrPaused.
func (m *Manager) Flush(ctx context.Context, stream string) (Remaining, error) {
	s := m.lookup(stream)
	if s == nil {
		return Remaining{}, &record.NotFound{Stream: stream}
	}
	return m.either(s, flushing(ctx, reasonFlush, m.stopped))
}

// Drain closes all epochs and returns when nothing is left that can be delivered, or with ctx's error and
// what is left. A stream that is paused or failed is not waited for; where it has a backlog, Drain says
// what that is and fails. Nothing is read from sources any more.
func (m *Manager) Drain(ctx context.Context) (Remaining, error) {
	m.StopReading()
	all := m.all()
	left := make([]Remaining, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			if left[i], errs[i] = m.either(s, flushing(ctx, reasonStop, m.stopped)); errs[i] != nil {
				errs[i] = fmt.Errorf("stream %q: %w", s.name, errs[i])
			}
		})
	}
	wg.Wait()
	var sum Remaining
	for i, r := range left {
		if r.Records == 0 && r.BackupRecords == 0 && !errors.Is(errs[i], context.Canceled) && !errors.Is(errs[i], context.DeadlineExceeded) {
			errs[i] = nil // paused or failed, but with nothing to deliver
		}
		sum.Records += r.Records
		sum.Bytes += r.Bytes
		sum.BackupRecords += r.BackupRecords
		sum.BackupBytes += r.BackupBytes
		if sum.Error == "" {
			sum.Error = r.Error
		}
	}
	return sum, errors.Join(errs...)
}

// flushing is flush as a function of the consumer.
func flushing(ctx context.Context, why string, stopped <-chan struct{}) func(*stream) (Remaining, error) {
	return func(s *stream) (Remaining, error) { return s.flush(ctx, why, stopped) }
}

// flush is Flush and, for reasonStop, one stream's part of Drain.
func (s *stream) flush(ctx context.Context, why string, stopped <-chan struct{}) (Remaining, error) {
	s.mu.Lock()
	target := s.acceptedLocked()
	if s.def.State != buffer.Paused && target > s.flushTo {
		s.flushTo, s.flushWhy = target, why
	}
	s.mu.Unlock()
	s.wake()
	s.hurry()
	for {
		s.mu.Lock()
		var err error
		switch {
		case s.def.State == buffer.Paused:
			err = ErrPaused
		case s.endedLocked(target):
			s.mu.Unlock()
			return Remaining{}, nil
		case why == reasonStop && s.cur.err != nil:
			err = errFailed
		}
		changed := s.changed
		s.mu.Unlock()
		if err == nil {
			select {
			case <-changed:
				continue
			case <-stopped:
				err = errStopped
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.remainingLocked(target), err
	}
}

// acceptedLocked is the sequence below which everything has been accepted and is durable.
func (s *stream) acceptedLocked() uint64 { return s.consumer.Waiting().Next }

// endedLocked tells whether every record below a sequence is delivered or in the error output.
func (s *stream) endedLocked(target uint64) bool {
	if s.gone {
		return true
	}
	if len(s.inWork) > 0 && s.inWork[0].first < target {
		return false
	}
	if w := s.consumer.Waiting(); w.First != w.Next && w.First < target {
		return false
	}
	for _, e := range s.epochs {
		if e.First < target {
			return false
		}
	}
	for _, b := range s.batches {
		if b.manifest.First < target {
			return false
		}
	}
	return true
}

// remainingLocked is what endedLocked waits for. Rows below the target and above share the bytes that wait
// by their number.
func (s *stream) remainingLocked(target uint64) (r Remaining) {
	w := s.consumer.Waiting()
	if n := min(w.Next, target); n > w.First {
		r.Records += int64(n - w.First)
		r.Bytes += int64(float64(w.Bytes) * float64(n-w.First) / float64(w.Next-w.First))
	}
	for _, j := range s.inWork {
		if j.first < target {
			r.Records += int64(j.next - j.first)
			r.Bytes += j.bytes
		}
	}
	for _, e := range s.epochs {
		if e.First < target {
			r.Records += e.Records
			r.Bytes += e.Bytes
		}
	}
	for _, b := range s.batches {
		if b.manifest.First < target {
			r.Records += b.records
			r.Bytes += b.bytes
		}
	}
	if r.Records > 0 {
		r.Error = s.errLocked()
	}
	return r
}
