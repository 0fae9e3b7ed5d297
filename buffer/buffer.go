// Package buffer keeps acknowledged records until delivery has taken them over, and keeps what delivery
// has decided until every destination has it.
//
// In flow calls (batches of records of a stream), packs of finished object bytes, and the decisions
// about them: cut, progress, commit, replace. Out flow rows in order, and the manifests that have not
// ended. All of it is one journal of frames in preallocated segments, plus the pack files that its
// manifests name.
//
// After a crash: every record whose Append had returned is either waiting again, under the same
// sequence, or belongs to a durable manifest whose objects have the same keys and bytes as before. What
// was not acknowledged may be there too, once. DESIGN.md beside this file has the invariants (I1-I10),
// the byte layouts and the trade-offs.
package buffer

import (
	"context"
	"io"
	"log/slog"
	"time"

	"hydrant/buffer/fsys"
	"hydrant/record"
)

// DamagePolicy says what to do about damage in bytes that had been acknowledged.
type DamagePolicy uint8

const (
	Quarantine DamagePolicy = iota // copy the bytes aside, record a hole, count it, go on
	Stop                           // refuse to start, with a report
)

// Options of a Buffer. Checked once by Open, never changed afterwards.
type Options struct {
	Dir      string           // data directory; created where it is missing
	FS       fsys.FS          // nil: the operating system's
	Now      func() time.Time // arrival stamps only; nil: time.Now
	Rand     io.Reader        // ids; nil: crypto/rand
	Log      *slog.Logger     // nil: discarded
	Disk     int64            // bytes for ring, runs and packs together (limits.disk); 0: 20 GiB; at least 128 MiB
	Memory   int64            // limits.memory, of which the buffer uses its shares; 0: 512 MiB
	OnDamage DamagePolicy
}

// Buffer is an open data directory. Safe for concurrent use.
type Buffer struct {
	front *front     // rows that wait
	space *space     // memory and disk budgets
	packs *packStore // pack files
}

// Open locks the directory, recovers it and makes it ready for Append. It waits for no destination.
// Its errors: ErrLocked, *NewerVersionError, *DamageError, or the file system's.
func Open(o Options) (*Buffer, error) { panic("bug: not built yet") }

// Close refuses further calls, ends the group in the making, syncs and closes. What waits stays on disk.
func (b *Buffer) Close() error { panic("bug: not built yet") }

// Directory is the uuid of the data directory.
func (b *Buffer) Directory() [16]byte { panic("bug: not built yet") }

// State of a stream.
type State uint8

const (
	Active State = iota
	Paused
	Deleting // takes no records, what waits is delivered
	Gone     // nothing of it is left
)

// Stream is one version of a delivery stream as STREAM frames hold it.
type Stream struct {
	Incarnation uint32 // drawn at creation, never reused; a stream created again under its name gets another
	Name        string
	State       State
	Version     uint64 // goes up by one with each effective change of Spec
	Tags        map[string]string
	Consumers   []uint8   // Main, and Backup where there is one
	Spec        []byte    // what delivery needs to work this version off; opaque here, holds no secrets; ≤ 60 KiB
	Created     time.Time // of the stream
	Changed     time.Time // of this version
}

// Consumers of a stream.
const (
	Main   uint8 = 0
	Backup uint8 = 1
)

// Streams returns the current version of every stream that is not gone, by name.
func (b *Buffer) Streams() []Stream { panic("bug: not built yet") }

// StreamVersion returns an old version that something still names, or the current one.
func (b *Buffer) StreamVersion(incarnation uint32, version uint64) (Stream, bool) {
	panic("bug: not built yet")
}

// Define creates the stream s.Name, or changes it where it exists. Version goes up where Spec or
// Consumers differ; State and Tags change without a new version. It returns what is in force, durable.
// Incarnation, Version, Created and Changed of s are ignored.
func (b *Buffer) Define(s Stream) (Stream, error) { panic("bug: not built yet") }

// Append stores the records of a call in a stream and returns when they are durable (I1). All or none
// are stored. The batch's buffer belongs to the Buffer until Append returns, and for ever where adopted
// is true. Errors: *record.NotFound, *record.Refusal (nothing kept, may be sent again), ErrTooLarge.
// When ctx ends early the records may be stored all the same.
func (b *Buffer) Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error) {
	panic("bug: not built yet")
}

// AdmitBody reserves memory for a request body of n bytes before it is read, or says *record.Refusal.
func (b *Buffer) AdmitBody(n int64) (release func(), err error) { panic("bug: not built yet") }
