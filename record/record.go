// Package record holds the plain data that every other package passes on: rows as views, batches of
// records in the layout in which the journal stores them and the pool of their buffers, positions and their
// printed form.
//
// Nothing here does I/O and nothing here survives a crash; what a field means on disk is said by the
// package that writes it.
package record

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// Row is one record, or what a processor made of it. It is known by (Seq, Sub).
//
// A Row is a view: Data, and Meta, is valid until the claim that produced it is released, and nobody keeps a Row.
type Row struct {
	Seq     uint64 // sequence of the record in its stream, from 1
	Sub     uint32 // 0, or the number of a sub-record made of it
	Arrived int64  // arrival, µs since the Unix epoch
	Data    []byte // the Data blob, as it came
	Meta    []byte // what a stream source knows of it besides (ParseMeta), nil: nothing; rows of routed runs have lost it
}

// Headroom is the free space at the front of every Batch buffer, in which the journal writes its frame
// header and the call's identity, so that the records are written from the buffer that received them.
const Headroom = 128

// MaxVarint is the most bytes that a record's length takes in a Batch.
const MaxVarint = binary.MaxVarintLen32

// Batch is the records of one call, laid out as the journal stores them: for each record its length as
// an unsigned varint, then its bytes. The zero Batch is empty and ready to use. A Batch is not safe for
// concurrent use.
type Batch struct {
	buf     []byte // Headroom unused bytes, then the records; nil when empty
	count   int
	payload int64 // bytes of Data, without lengths
}

// NewBatch returns an empty batch that appends into buf's capacity (buf may be nil).
func NewBatch(buf []byte) *Batch {
	b := &Batch{}
	b.Reset(buf)
	return b
}

// Reset empties b and makes it append into buf's capacity from now on (buf may be nil).
func (b *Batch) Reset(buf []byte) {
	if cap(buf) < Headroom {
		buf = make([]byte, Headroom, 4096)
	}
	b.buf, b.count, b.payload = buf[:Headroom], 0, 0
}

// Append adds one record; data is copied.
func (b *Batch) Append(data []byte) {
	if b.buf == nil {
		b.Reset(nil)
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(len(data)))
	b.buf = append(b.buf, data...)
	b.count++
	b.payload += int64(len(data))
}

// Extend adds one record of n bytes and returns its Data for the caller to fill before the next call of
// any method: for a decoder that knows the length beforehand and need not copy. What is not filled holds
// whatever the buffer held.
func (b *Batch) Extend(n int) []byte {
	if b.buf == nil {
		b.Reset(nil)
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(n))
	start := len(b.buf)
	b.buf = slices.Grow(b.buf, n)[:start+n]
	b.count++
	b.payload += int64(n)
	return b.buf[start : start+n : start+n]
}

// Retract takes back the last record, which has n bytes: for a decoder that finds, while it fills what Extend
// gave it, that it cannot.
func (b *Batch) Retract(n int) {
	width := (bits.Len64(uint64(n)|1) + 6) / 7 // of n as an unsigned varint
	b.buf = b.buf[:len(b.buf)-n-width]
	b.count--
	b.payload -= int64(n)
}

// Keep leaves the first n records and drops the others.
func (b *Batch) Keep(n int) {
	rest, payload := b.Encoded(), int64(0)
	for range min(n, b.count) {
		size, w := binary.Uvarint(rest)
		rest = rest[w+int(size):]
		payload += int64(size)
	}
	b.buf = b.buf[:len(b.buf)-len(rest)]
	b.count, b.payload = min(n, b.count), payload
}

// Count is the number of records.
func (b *Batch) Count() int { return b.count }

// Payload is the number of Data bytes, without lengths.
func (b *Batch) Payload() int64 { return b.payload }

// Encoded is the records as laid out, without the headroom. It is valid until the next Append or Reset.
func (b *Batch) Encoded() []byte {
	if b.buf == nil {
		return nil
	}
	return b.buf[Headroom:]
}

// Buffer is the whole buffer: Headroom bytes that the caller may write, then Encoded.
func (b *Batch) Buffer() []byte { return b.buf }

// Records iterates over the records of an encoded batch: what Encoded returns. It stops early at the
// first malformed length; Check tells whether there is one.
func Records(encoded []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(encoded) > 0 {
			n, w := binary.Uvarint(encoded)
			if w <= 0 || n > uint64(len(encoded)-w) {
				return
			}
			if !yield(encoded[w : w+int(n) : w+int(n)]) {
				return
			}
			encoded = encoded[w+int(n):]
		}
	}
}

// Check walks an encoded batch and returns the number of its records, or an error that gives the offset
// of the first malformed length.
func Check(encoded []byte) (count int, err error) {
	for off := 0; off < len(encoded); count++ {
		n, w := binary.Uvarint(encoded[off:])
		if w <= 0 || n > uint64(len(encoded)-off-w) {
			return count, fmt.Errorf("record %d at byte %d: length runs past the end of the batch", count, off)
		}
		off += w + int(n)
	}
	return count, nil
}

// Call is one acknowledged unit: the records of one PutRecord or PutRecordBatch with the identity by
// which an automatic retry of the same call is recognised.
type Call struct {
	Batch *Batch

	// Invocation is the caller's amz-sdk-invocation-id (or Idempotency-Key), hashed to 16 bytes where it
	// is not a UUID; zero when the caller sent none, and then no retry of it is recognised.
	Invocation [16]byte
	Attempt    uint8    // from amz-sdk-request (attempt=N), 0 when absent
	KeyHash    [8]byte  // hash of the access key that signed the call
	BodyHash   [16]byte // hash of the request body
	// Keyed: Invocation is a key of the caller's own making (Idempotency-Key) and stands for one body. Attempts
	// do not count, and the same key with another body is a *KeyReused.
	Keyed bool

	// Limiter, where not nil, says how many of the records are stored.
	Limiter Limiter
}

// Limiter is asked by who stores a call, once the call is known to be none that was stored before. It is safe for
// concurrent use.
type Limiter interface {
	// Take returns how many records of b may be stored, from the first on, and counts them.
	Take(b *Batch) (n int)
	// Return takes back what was counted, since the call is not stored after all.
	Return(records int, payload int64)
}

// Receipt tells where a call's records went: they are durable when it is returned. The call's Limiter may have kept
// records back: then the first Count are stored, and the others are not.
type Receipt struct {
	Directory   [16]byte // uuid of the data directory
	Incarnation uint32   // of the stream
	First       uint64   // sequence of the first record; the others follow without gaps
	Count       int      // of the records that are stored, by the first attempt where Repeated
	Repeated    bool     // the call was a retry of one that had been stored; nothing was stored again
}

// Refusal is the answer to a call that was not stored and may be sent again. Nothing of it was kept.
type Refusal struct {
	Reason  string // memory, disk, journal, rate, stopping, failing: a metric label, never free text
	Message string // for the caller
}

func (r *Refusal) Error() string { return r.Message }

// Sourced is the answer to a call to a stream that reads its records from a source.
type Sourced struct {
	Stream string
	Source string // its kind: kafka, kinesis
}

func (s *Sourced) Error() string {
	return fmt.Sprintf("stream %q takes its records from %s, and none that are put", s.Stream, s.Source)
}

// KeyReused is the answer to a keyed call (Call.Keyed) whose key has been used for another body.
type KeyReused struct{}

func (*KeyReused) Error() string { return "the key of this call was used for another body" }

// NotFound is the answer to a call that names a stream which does not exist or does not take puts.
type NotFound struct {
	Stream string
	// Inactive: the stream exists but takes no puts at present (it is being deleted or drained).
	Inactive bool
}

func (e *NotFound) Error() string {
	if e.Inactive {
		return fmt.Sprintf("stream %q takes no records", e.Stream)
	}
	return fmt.Sprintf("no stream %q", e.Stream)
}
