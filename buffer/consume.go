package buffer

import (
	"iter"

	"hydrant/record"
)

// Consumer is one reader of a stream's rows: main or backup. Safe for concurrent use.
type Consumer struct {
	b           *Buffer // for what the ledger knows: epochs and totals
	front       *front
	incarnation uint32
	id          uint8
}

// Consumer returns the reader of a stream that exists, the same one each time; nil where there is none.
func (b *Buffer) Consumer(incarnation uint32, consumer uint8) *Consumer {
	return b.front.consumer(incarnation, consumer)
}

// Chunk is a run of rows that arrived together (one call or a part of it).
type Chunk struct {
	First   uint64 // sequence of its first row
	Count   int
	Bytes   int64 // of Data
	Arrived int64 // µs since the Unix epoch
}

// Waiting sums up the durable rows that no claim has taken.
type Waiting struct {
	First, Next uint64 // sequences [First, Next)
	Bytes       int64
	Oldest      int64 // arrival of First in µs; 0 when nothing waits
}

func (c *Consumer) Waiting() Waiting { panic("bug: not built yet") }

// Chunks iterates over the durable chunks at and after sequence from that no claim has taken.
func (c *Consumer) Chunks(from uint64) iter.Seq[Chunk] { panic("bug: not built yet") }

// Changed yields a token when rows became durable or Pressure changed. Tokens merge. One reader.
func (c *Consumer) Changed() <-chan struct{} { panic("bug: not built yet") }

// Pressure asks the reader to close its epoch now: memory, ring or disk is short and this stream holds
// more than its share.
func (c *Consumer) Pressure() bool { panic("bug: not built yet") }

// Claim is a contiguous range of rows that its holder alone may cut. It pins the memory of its rows.
// Not safe for concurrent use.
type Claim struct {
	c           *Consumer
	first, next uint64
}

// Take claims the oldest rows that no claim has, up to sequence next (exclusive, 0 = all that is durable)
// and up to max bytes of Data (at least one row). It returns nil when nothing waits.
func (c *Consumer) Take(next uint64, max int64) *Claim { panic("bug: not built yet") }

// Range is [first, next).
func (c *Claim) Range() (first, next uint64) { panic("bug: not built yet") }

// Bytes of Data in the claim.
func (c *Claim) Bytes() int64 { panic("bug: not built yet") }

// Rows iterates in order. A Row is valid until Release, Trim before it, or the Cut that consumes the claim.
func (c *Claim) Rows() iter.Seq[record.Row] { panic("bug: not built yet") }

// Trim gives [next, end) back; they are taken again by the next Take. Only the newest claim of a
// consumer may be trimmed or released, so that what waits stays contiguous: otherwise it panics.
func (c *Claim) Trim(next uint64) { panic("bug: not built yet") }

// Release gives all rows back.
func (c *Claim) Release() { panic("bug: not built yet") }

// rows is how many rows the claim holds; fewer than its range is long where sequences were skipped.
func (c *Claim) rows() int64 { panic("bug: not built yet") }

// isOldest tells whether the claim begins where the last cut of its consumer ended: only then may Cut take it.
func (c *Claim) isOldest() bool { panic("bug: not built yet") }

// consumed ends the claim: a durable MANIFEST has taken its rows. It frees their memory and their hold on
// the disk, and moves the consumer's position. The oldest claim of its consumer only.
func (c *Claim) consumed() { panic("bug: not built yet") }

// Totals of one consumer since the stream was created. accepted = OK + Dropped + Failed + Lost + waiting
// + claimed; what is left over is unaccounted.
type Totals struct {
	Accepted int64 // records that Append stored, kept over restarts
	OK       int64 // rows in data objects of durable manifests
	Dropped  int64
	Failed   int64 // rows in error objects
	Lost     int64 // rows in holes: damage that was recorded
	Waiting  int64 // not yet under a manifest, claimed or not
}

func (c *Consumer) Totals() Totals { panic("bug: not built yet") }

// NewEpoch returns the number of the epoch that a consumer's next cut closes.
func (c *Consumer) NewEpoch() uint64 { panic("bug: not built yet") }
