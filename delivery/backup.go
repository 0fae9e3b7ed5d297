package delivery

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hydrant/buffer"
)

// A stream that keeps a backup has a second consumer of its rows, and that is a stream of its own to this package: with a
// loop, lanes, batches, epochs and counts that nothing of the main one touches, so that neither waits for the other. Only
// what concerns the stream as a whole brings the two together: its definition, its pause, its end, and who waits for all of
// it. Both are known by the stream's name.

// consumerKey names one consumer of a stream.
type consumerKey struct {
	incarnation uint32
	consumer    uint8
}

// Consumers of a stream, as its definition lists them.
func Consumers(backup bool) []uint8 {
	if backup {
		return []uint8{buffer.Main, buffer.Backup}
	}
	return []uint8{buffer.Main}
}

// Roles of objects, as their metadata and the admin API name them.
const (
	roleOfData   = "data"
	roleOfErrors = "error"
	roleOfCopies = "backup"
)

// roleOf names what an object of this consumer is for.
func (s *stream) roleOf(r buffer.Role) string {
	switch {
	case r == buffer.Error:
		return roleOfErrors
	case s.reader == buffer.Backup:
		return roleOfCopies
	}
	return roleOfData
}

// directoryID prints the id of a data directory.
func directoryID(s store) string {
	id := s.Directory()
	return hex.EncodeToString(id[:])
}

// errNoBackup says that a version of a stream has no backup that could be written.
var errNoBackup = errors.New("it keeps no backup of source records")

// backupOpener makes an Open that fails where there is no backup of one that returns nil.
func backupOpener(open Open) Open {
	return func(v buffer.Stream) (*Pipeline, error) {
		if open == nil {
			return nil, errNoBackup
		}
		p, err := open(v)
		if p == nil && err == nil {
			err = errNoBackup
		}
		return p, err
	}
}

// backupOf is the consumer of a stream's backup, or nil.
func (m *Manager) backupOf(name string) *stream {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.backups[name]
}

// both are the main consumers of all streams and those of their backups.
func (m *Manager) both() []*stream {
	out := m.all()
	for _, s := range out[:len(out):len(out)] {
		out = append(out, m.consumersOf(s)[1:]...)
	}
	return out
}

// consumersOf are the main consumer of a stream and that of its backup, where it has one.
func (m *Manager) consumersOf(s *stream) []*stream {
	if k := m.backupOf(s.name); k != nil {
		return []*stream{s, k}
	}
	return []*stream{s}
}

// addBackup makes the consumer of a stream's backup known where it has one, or had one that has not ended, and hands its
// loop to Run.
func (m *Manager) addBackup(def buffer.Stream, outstanding []*buffer.Manifest) {
	ending := false
	if !slices.Contains(def.Consumers, buffer.Backup) {
		version, ends := m.store.Ending(def.Incarnation, buffer.Backup)
		if !ends {
			return
		}
		ending = true
		if last, known := m.store.StreamVersion(def.Incarnation, version); known {
			last.State, last.Tags = def.State, def.Tags
			def = last
		}
	}
	s := newStream(m, def, buffer.Backup, outstanding)
	s.ending = ending
	m.mu.Lock()
	m.backups[s.name] = s
	m.loops = append(m.loops, newLoop(s, m, func() bool { return m.retireBackup(s) }))
	m.mu.Unlock()
	select {
	case m.begin <- struct{}{}:
	default:
	}
}

// mayKeep is what a stream's definition may list of consumers while this one, of its backup, is there: one that ends does
// so first, and the next begins after it.
func (s *stream) mayKeep(consumers []uint8) []uint8 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending || !slices.Contains(consumers, buffer.Backup) {
		return consumers
	}
	s.notice("backup again", "backup is to be kept again before the one that was turned off has been delivered; it begins then")
	return slices.DeleteFunc(slices.Clone(consumers), func(id uint8) bool { return id == buffer.Backup })
}

// follow has the consumer of a stream's backup go over to what is in force of the stream. Where that has no backup, what
// came before is delivered under the last version that had one, and nothing that comes from now on; where all of it has
// been, the buffer has let the consumer go, and ended is true.
func (m *Manager) follow(s *stream, now buffer.Stream) (ended bool) {
	if !slices.Contains(now.Consumers, buffer.Backup) {
		if _, ends := m.store.Ending(now.Incarnation, buffer.Backup); !ends {
			m.mu.Lock()
			delete(m.backups, s.name)
			m.mu.Unlock()
			s.end()
			s.wake() // its loop ends
			s.log.Info("backup of source records has ended")
			return true
		}
		s.mu.Lock()
		s.ending = true
		last := s.def
		s.mu.Unlock()
		last.State, last.Tags = now.State, now.Tags
		now = last
	}
	s.adopt(now)
	return false
}

// retireBackup ends the consumer of a backup that was turned off when all of it is delivered, and tells the main one of a
// stream that was deleted when nothing is left here. It is called by the consumer's loop.
func (m *Manager) retireBackup(s *stream) bool {
	s.mu.Lock()
	gone, ending, deleted := s.gone, s.ending, s.def.State >= buffer.Deleting
	s.mu.Unlock()
	if gone {
		return true
	}
	if !s.empty() {
		return false
	}
	if deleted {
		if main := m.lookup(s.name); main != nil {
			main.wake()
		}
		return false
	}
	if !ending {
		return false
	}
	m.defining.Lock()
	defer m.defining.Unlock()
	main := m.lookup(s.name)
	if main == nil || s.isGone() || !s.empty() || main.state() >= buffer.Deleting {
		return false
	}
	for _, man := range m.store.Outstanding() {
		if man.Incarnation == s.incarnation && man.Consumer == buffer.Backup {
			time.AfterFunc(minInterval, s.wake) // its end is not durable yet, and nothing tells when it is
			return false
		}
	}
	def := main.definition()
	def.Consumers = Consumers(m.keepsBackup(def)) // it may have been turned on again meanwhile
	if _, err := m.define(main, def); err != nil {
		s.alarm("cut", "backup that was turned off cannot be ended now", "err", err)
		time.AfterFunc(cutBase, s.wake)
		return false
	}
	return s.isGone()
}

func (s *stream) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// keepsBackup tells whether a version of a stream says so.
func (m *Manager) keepsBackup(def buffer.Stream) bool {
	p, err := m.openBackup(def)
	if err != nil {
		return !errors.Is(err, errNoBackup)
	}
	p.each(func(d *Destination) { d.Sink.Close() })
	return true
}

// promises tells whether a version of a stream that has no consumer for a backup says that it keeps one. One that cannot be
// opened promises nothing.
func (m *Manager) promises(def buffer.Stream) bool {
	if def.State >= buffer.Deleting || slices.Contains(def.Consumers, buffer.Backup) {
		return false
	}
	p, err := m.openBackup(def)
	if err != nil {
		return false
	}
	p.each(func(d *Destination) { d.Sink.Close() })
	return true
}

// beginPromised begins the backups that were turned on again before the former ones had ended, where a process ended between
// the end of the one and the beginning of the other.
func (m *Manager) beginPromised() {
	m.defining.Lock()
	defer m.defining.Unlock()
	for _, s := range m.all() {
		def := s.definition()
		if m.backupOf(s.name) != nil || !m.promises(def) {
			continue
		}
		def.Consumers = Consumers(true)
		if _, err := m.define(s, def); err != nil {
			s.alarm("cut", "backup of source records cannot begin now; it does with the next start or change of the stream", "err", err)
		}
	}
}

// backupSnapshots are those of the consumers of backups.
func (m *Manager) backupSnapshots() []snapshot {
	var list []*stream
	for _, s := range m.all() {
		if k := m.backupOf(s.name); k != nil {
			list = append(list, k)
		}
	}
	return snapshotsOf(list)
}

// statusOf is a stream's status with that of its backup.
func (m *Manager) statusOf(s *stream) Status {
	st := s.status()
	if k := m.backupOf(s.name); k != nil {
		backup := k.status()
		backup.Tags = nil
		st.Backup = &backup
	}
	return st
}

// either runs f on the main consumer of a stream and, at the same time, on that of its backup, and joins what they left.
func (m *Manager) either(s *stream, f func(*stream) (Remaining, error)) (Remaining, error) {
	k := m.backupOf(s.name)
	if k == nil {
		return f(s)
	}
	var wg sync.WaitGroup
	var copies Remaining
	var copyErr error
	wg.Go(func() { copies, copyErr = f(k) })
	left, err := f(s)
	wg.Wait()
	left.BackupRecords, left.BackupBytes = copies.Records, copies.Bytes
	if left.Error == "" && copies.Error != "" {
		left.Error = "backup: " + copies.Error
	}
	if err == nil && copyErr != nil {
		err = fmt.Errorf("backup: %w", copyErr)
	}
	return left, err
}
