package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hydrant/buffer/fsys"
	"hydrant/record"
)

const (
	// rowOverhead is what a row's next home needs besides its bytes.
	rowOverhead = 64
	// statfsEvery is how old the file system's own figure of free space may be. What this process has
	// written since is taken off it.
	statfsEvery = 250 * time.Millisecond
	// maxBallast bounds the ballast, which is 1/ballastPart of the disk.
	maxBallast  = 256 << 20
	ballastPart = 64
	ballastName = "ballast"
)

// holdOf is what rows hold of the disk until a manifest has taken them.
func holdOf(rows, data int64) int64 { return data + rowOverhead*rows }

// bodyShare is the part of limits.memory for request bodies that are being read.
func bodyShare(memory int64) int64 { return memory / 16 * 2 }

// space keeps the ledgers of memory and disk. All refusals come before a call is queued, and give
// everything back.
//
// Of limits.disk the ring and the ballast are set apart whole. The rest is held by rows, each for the
// file that it goes to next (its bytes and 64 more), from the call that brings it until a durable
// manifest has taken it, and by pack files, from their first byte until they are removed. A pack in the
// making comes out of what its rows hold; only what exceeds all rows' hold counts twice.
//
// Safe for concurrent use. front.mu may be held when space.mu is taken, never the other way round.
type space struct {
	o      spaceOptions
	limit  int64 // for rows and packs together
	bodies int64 // budget of request bodies

	mu       sync.Mutex
	streams  map[uint32]*spaceStream
	rows     int64 // held by rows, promised ones included
	packs    int64 // of packs that a frame names
	making   int64 // of packs in the making, and of sealed ones that no frame names yet
	reading  int64 // request bodies
	fsFree   int64 // by statfs, less what was written since; -1: not known
	fsAt     time.Time
	statting bool
	ballast  ballast

	wanted atomic.Bool // some stream may hold more than half its share
	full   int         // streams that hold more than half of their own limit
}

// spaceStream is what one stream holds of the disk, in bytes.
type spaceStream struct {
	limit int64 // of its own, 0: none
	rows  int64
	packs int64
	full  bool // counted in space.full
}

// spaceOptions of a space.
type spaceOptions struct {
	FS     fsys.FS
	Dir    string       // data directory; the ballast stands in it
	Disk   int64        // the smaller of limits.disk and the file system
	Ring   int64        // bytes that the journal may grow to: set apart first
	Grown  func() int64 // bytes of the ring that are allocated already; nil: all of it
	Memory int64        // limits.memory
	Front  *front       // made with frontShare(Memory)
	Sealed bool         // frames are sealed, so each body that is read leaves a second copy for a while
	Log    *slog.Logger // nil: discarded
}

// newSpace makes the ledgers and prepares the ballast file (its absence is no error: a full disk must be
// able to start).
func newSpace(o spaceOptions) *space {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &space{
		o: o, bodies: bodyShare(o.Memory), streams: make(map[uint32]*spaceStream), fsFree: -1,
		ballast: ballast{fs: o.FS, dir: o.Dir, size: min(o.Disk/ballastPart, maxBallast)},
	}
	s.limit = max(o.Disk-o.Ring-s.ballast.size, 0)
	if err := s.ballast.make(); err == nil {
		s.ballast.present = s.ballast.size > 0
	} else {
		o.Log.Warn("no ballast: a full disk may have to be freed by hand", "bytes", s.ballast.size, "err", err)
	}
	s.refresh(time.Now())
	if o.Front != nil {
		o.Front.space = s
	}
	return s
}

// addStream makes a stream known. limit is its own limits.disk, 0 for none. Again it changes the limit.
func (s *space) addStream(incarnation uint32, limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stream(incarnation)
	st.limit = limit
	s.weigh(st)
}

// removeStream forgets a stream that is gone.
func (s *space) removeStream(incarnation uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[incarnation]; st != nil {
		s.rows -= st.rows
		s.packs -= st.packs
		st.limit = 0
		s.weigh(st)
		delete(s.streams, incarnation)
	}
}

// stream returns the account of a stream, which it opens where there is none.
func (s *space) stream(incarnation uint32) *spaceStream {
	st := s.streams[incarnation]
	if st == nil {
		st = &spaceStream{}
		s.streams[incarnation] = st
	}
	return st
}

// hold is what one call has reserved. The zero hold holds nothing.
type hold struct {
	incarnation uint32
	disk        int64 // for all consumers
	small, big  int64 // of the front
	fed         int64 // of that, for rows of lanes
}

// reservePut reserves memory and disk for a call before it is queued: data bytes of Data in records
// records, encoded as it will be pushed. Its error is a *record.Refusal. The hold ends in exactly one of
// settle and release.
func (s *space) reservePut(incarnation uint32, records int, data int64, encoded []byte, adoptable bool) (hold, error) {
	small, big, consumers, ok := s.o.Front.reserve(incarnation, encoded, adoptable)
	if !ok {
		return hold{}, &record.Refusal{Reason: "memory", Message: "The memory for waiting records is full. Send the call again."}
	}
	h := hold{incarnation: incarnation, small: small, big: big}
	need := holdOf(int64(records), data) * int64(consumers)
	s.freshen()
	s.mu.Lock()
	err := s.fits(incarnation, need)
	if err == nil {
		h.disk = need
		st := s.stream(incarnation)
		st.rows += need
		s.rows += need
		s.weigh(st)
	}
	s.mu.Unlock()
	if err != nil {
		s.o.Front.unreserve(incarnation, small, big)
		return hold{}, err
	}
	return h, nil
}

// fits tells whether a stream may hold need more bytes.
func (s *space) fits(incarnation uint32, need int64) error {
	st := s.stream(incarnation)
	own := st.rows + st.packs + need
	if sabotageNoReserve {
		return nil
	}
	switch free := s.freeLocked() - need; {
	case st.limit > 0 && own > st.limit:
		return &record.Refusal{Reason: "disk", Message: "The stream's share of the disk is full. Send the call again."}
	case free < 0:
		return &record.Refusal{Reason: "disk", Message: "The disk for waiting records is full. Send the call again."}
	case own > free:
		return &record.Refusal{Reason: "disk", Message: "The stream holds its fair share of the disk. Send the call again."}
	}
	return nil
}

// freeLocked is what rows and packs may still take: by our limit, and by the file system.
func (s *space) freeLocked() int64 {
	free := s.limit - s.packs - max(s.rows, s.making)
	if s.fsFree >= 0 {
		// what is promised and does not stand on the disk yet
		promised := max(s.rows-s.making, 0)
		if s.o.Grown != nil {
			promised += max(s.o.Ring-s.o.Grown(), 0)
		}
		if !s.ballast.present && !s.ballast.lent {
			promised += s.ballast.size
		}
		free = min(free, s.fsFree-promised)
	}
	return free
}

// weigh notes whether any stream can hold more than half its share, after a change of st, which may be nil.
func (s *space) weigh(st *spaceStream) {
	if st != nil {
		if full := st.limit > 0 && st.rows+st.packs > st.limit/2; full != st.full {
			st.full = full
			if full {
				s.full++
			} else {
				s.full--
			}
		}
	}
	s.wanted.Store(s.full > 0 || 2*(s.rows+s.packs) > s.freeLocked())
}

// tight tells whether pressure may return true for any stream.
func (s *space) tight() bool { return s.wanted.Load() }

// pressure tells whether a stream should close its epoch for the disk's sake: it holds over half of its
// share, and the rows that wait, hold bytes of it, are enough of that to make a difference. Without the
// second condition a stream whose destination is down would be cut into crumbs.
func (s *space) pressure(incarnation uint32, hold int64) bool {
	if !s.tight() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stream(incarnation)
	own := st.rows + st.packs
	return (st.full || own > s.freeLocked()/2) && hold > own/8
}

// settle: the call is durable and published. What its rows hold is counted by then (rowsIn).
func (s *space) settle(h hold) { s.release(h) }

// release gives everything back: the call was not stored.
func (s *space) release(h hold) {
	if h == (hold{}) || sabotageKeepReserve {
		return
	}
	s.addRows(h.incarnation, -h.disk)
	if h.fed > 0 {
		s.o.Front.unfeed(h.incarnation, h.fed)
	}
	s.o.Front.unreserve(h.incarnation, h.small, h.big)
}

// take reserves disk for rows of a lane, where there is some. front.mu is held.
func (s *space) take(incarnation uint32, need int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fits(incarnation, need) != nil {
		return false
	}
	st := s.stream(incarnation)
	st.rows += need
	s.rows += need
	s.weigh(st)
	return true
}

// rowsIn counts rows of one consumer that are durable, admitted by reservePut or found by recovery.
func (s *space) rowsIn(incarnation uint32, rows, data int64) {
	s.addRows(incarnation, holdOf(rows, data))
}

// rowsGone takes rows off that a durable manifest has taken.
func (s *space) rowsGone(incarnation uint32, rows, data int64) {
	s.addRows(incarnation, -holdOf(rows, data))
}

func (s *space) addRows(incarnation uint32, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[incarnation]
	if st != nil { // else removeStream has taken it off
		st.rows += n
		s.rows += n
	}
	s.weigh(st)
}

// packGrows asks for n more bytes of a pack in the making. borrowed is what the pack has of the ballast
// and does not count.
func (s *space) packGrows(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packs+s.making+n > s.limit {
		return ErrNoSpace
	}
	s.making += n
	if s.fsFree >= 0 {
		s.fsFree = max(s.fsFree-n, 0)
	}
	s.weigh(nil)
	return nil
}

// packShrinks gives back n bytes of a pack in the making.
func (s *space) packShrinks(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making -= n
	s.weigh(nil)
}

// packNamed moves a pack in the making to the stream that its frame names; fresh is false in recovery,
// where it was never in the making.
func (s *space) packNamed(incarnation uint32, n int64, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fresh {
		s.making -= n
	}
	st := s.stream(incarnation)
	st.packs += n
	s.packs += n
	s.weigh(st)
}

// packGone takes a removed pack off.
func (s *space) packGone(incarnation uint32, n int64) {
	s.mu.Lock()
	st := s.streams[incarnation]
	if st != nil { // else removeStream has taken it off
		st.packs -= n
		s.packs -= n
	}
	s.weigh(st)
	s.mu.Unlock()
	s.o.Front.mu.Lock()
	s.o.Front.judge()
	s.o.Front.mu.Unlock()
}

// freshen asks the file system again where its figure is old. Only one caller waits for the answer.
func (s *space) freshen() {
	now := time.Now()
	s.mu.Lock()
	old := now.Sub(s.fsAt) >= statfsEvery && !s.statting
	s.statting = s.statting || old
	s.mu.Unlock()
	if old {
		s.refresh(now)
	}
}

func (s *space) refresh(now time.Time) {
	got, err := s.o.FS.Statfs(s.o.Dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statting = false
	s.fsAt = now
	if err != nil {
		s.fsFree = -1
		return
	}
	s.fsFree = got.Free
	s.weigh(nil)
}

// lend frees the ballast for one pack and returns how much it may write of it; 0 where another has it, or where
// it is just being made. The disk is asked without the lock: calls are admitted meanwhile.
func (s *space) lend() int64 {
	s.mu.Lock()
	b := &s.ballast
	if b.lent || b.busy || !b.present {
		s.mu.Unlock()
		return 0
	}
	b.lent, b.busy = true, true
	s.mu.Unlock()
	err := b.free()
	s.mu.Lock()
	defer s.mu.Unlock()
	b.busy = false
	if err != nil {
		b.lent = false
		s.o.Log.Warn("cannot free the ballast", "err", err)
		return 0
	}
	b.present = false
	s.o.Log.Info("the disk is full: the ballast is used for one pack", "bytes", b.size)
	return b.size
}

// unlend takes the ballast back from a pack that is gone.
func (s *space) unlend() {
	s.mu.Lock()
	s.ballast.lent = false
	s.mu.Unlock()
	s.restock()
}

// restock makes the ballast anew where it is missing and nobody has it. It may take a sync, during which calls are
// admitted; until it is there, its room is promised (freeLocked).
func (s *space) restock() {
	s.mu.Lock()
	b := &s.ballast
	if b.lent || b.busy || b.present {
		s.mu.Unlock()
		return
	}
	b.busy = true
	s.mu.Unlock()
	err := b.make()
	s.mu.Lock()
	defer s.mu.Unlock()
	b.busy = false
	if err != nil {
		s.o.Log.Debug("the ballast cannot be made yet", "err", err)
		return
	}
	b.present = b.size > 0
}

// giveUpBallast removes the ballast for good, for a start that needs its room; false where there is none.
func (s *space) giveUpBallast() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ballast.present || s.ballast.free() != nil { // nobody else runs yet
		return false
	}
	s.ballast.present = false
	return true
}

// admitBody is Buffer.AdmitBody.
func (s *space) admitBody(n int64) (release func(), err error) {
	if s.o.Sealed {
		n *= 2
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading > 0 && s.reading+n > s.bodies { // one body is always read, however small the limit
		return nil, &record.Refusal{Reason: "memory", Message: "The memory for request bodies is full. Send the call again."}
	}
	s.reading += n
	var once sync.Once
	return func() {
		once.Do(func() {
			s.mu.Lock()
			s.reading -= n
			s.mu.Unlock()
		})
	}, nil
}

// spaceStats is what metrics say about the disk and about request bodies, in bytes.
type spaceStats struct {
	Limit, Rows, Packs, Making, Free int64
	Ballast                          int64 // 0 while it is lent or missing
	Bodies, BodyBudget               int64
}

func (s *space) stats() spaceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := spaceStats{
		Limit: s.limit, Rows: s.rows, Packs: s.packs, Making: s.making, Free: s.freeLocked(),
		Bodies: s.reading, BodyBudget: s.bodies,
	}
	if s.ballast.present {
		st.Ballast = s.ballast.size
	}
	return st
}

// ballast is a file of nothing: space that is given to one pack at a time when there is none otherwise,
// since a full disk empties itself only by writing packs. Its flags are guarded by space.mu; who has set busy
// alone touches the file, without the lock.
type ballast struct {
	fs      fsys.FS
	dir     string
	size    int64
	present bool
	lent    bool
	busy    bool // it is being made or freed
}

func (b *ballast) path() string { return b.dir + "/" + ballastName }

// make creates the file, or finds it as an earlier process left it.
func (b *ballast) make() error {
	if b.size == 0 {
		return nil
	}
	switch f, err := b.fs.OpenFile(b.path(), fsys.ReadOnly); {
	case err == nil:
		size, err := f.Size()
		f.Close()
		if err == nil && size == b.size {
			return nil
		}
		// of another limit, or a crash came between creation and allocation
		if err := b.fs.Remove(b.path()); err != nil {
			return fmt.Errorf("remove ballast: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open ballast: %w", err)
	}
	f, err := b.fs.OpenFile(b.path(), fsys.Create)
	if err != nil {
		return fmt.Errorf("create ballast: %w", err)
	}
	err = fsys.Reserve(f, 0, b.size)
	if err == nil {
		err = f.Datasync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = b.fs.SyncDir(b.dir)
	}
	if err != nil {
		return fmt.Errorf("allocate %d bytes of ballast: %w", b.size, errors.Join(err, b.fs.Remove(b.path())))
	}
	return nil
}

// free removes the file, for a pack to take its place.
func (b *ballast) free() error { return b.fs.Remove(b.path()) }
