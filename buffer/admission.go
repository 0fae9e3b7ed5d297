package buffer

import (
	"log/slog"

	"hydrant/buffer/fsys"
)

// space keeps the ledgers of memory and disk: what calls, rows and packs hold of them. Safe for
// concurrent use.
type space struct{ o spaceOptions }

// spaceOptions of a space.
type spaceOptions struct {
	FS     fsys.FS
	Dir    string       // data directory; the ballast stands in it
	Disk   int64        // the smaller of limits.disk and the file system
	Ring   int64        // bytes that the journal may grow to: set apart first
	Grown  func() int64 // bytes of the ring that are allocated already; nil: all of it
	Memory int64        // limits.memory
	Front  *front       // made with frontShare(Memory)
	Log    *slog.Logger
}

// frontShare is the part of limits.memory that the front's slabs may take.
func frontShare(memory int64) int64 { return memory / 16 * 6 }

// newSpace makes the ledgers and prepares the ballast file (its absence is no error: a full disk must be
// able to start).
func newSpace(o spaceOptions) *space { return &space{o: o} }

// addStream makes a stream known. limit is its own limits.disk, 0 for none.
func (s *space) addStream(incarnation uint32, limit int64) { panic("bug: not built yet") }

// removeStream forgets a stream that is gone.
func (s *space) removeStream(incarnation uint32) { panic("bug: not built yet") }

// hold is what one call has reserved. The zero hold holds nothing.
type hold struct {
	incarnation uint32
	records     int64
	data        int64 // of Data
	small, big  int64 // of the front
}

// reservePut reserves memory and disk for a call before it is queued: data bytes of Data in records
// records, encoded as it will be pushed. Its error is a *record.Refusal. The hold ends in exactly one of
// settle and release.
func (s *space) reservePut(incarnation uint32, records int, data int64, encoded []byte, adoptable bool) (hold, error) {
	panic("bug: not built yet")
}

// settle: the call is durable and pushed; its rows keep the disk until they are consumed.
func (s *space) settle(h hold) { panic("bug: not built yet") }

// release gives everything back: the call was not stored.
func (s *space) release(h hold) { panic("bug: not built yet") }

// recovered takes rows that recovery pushes into the books, whatever the limits say.
func (s *space) recovered(incarnation uint32, records int, data int64) { panic("bug: not built yet") }

// admitBody is Buffer.AdmitBody.
func (s *space) admitBody(n int64) (release func(), err error) { panic("bug: not built yet") }

// close stops what the space has started.
func (s *space) close() {}
