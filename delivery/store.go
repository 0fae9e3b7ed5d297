package delivery

import (
	"context"
	"io"
	"iter"

	"hydrant/buffer"
	"hydrant/record"
)

// store is what delivery needs of a *buffer.Buffer; its comments are the contract there. It is an
// interface so that tests can put a model behind it that checks how it is used.
type store interface {
	streams
	ledger
	Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error)
	Consumer(incarnation uint32) consumer
	NewPack() (pack, error)
	OpenObject(m *buffer.Manifest, object int) (objectReader, error)
}

// streams is the part that knows streams and their versions.
type streams interface {
	Streams() []buffer.Stream
	StreamVersion(incarnation uint32, version uint64) (buffer.Stream, bool)
	Define(s buffer.Stream) (buffer.Stream, error)
}

// ledger is the part that keeps decisions.
type ledger interface {
	NewManifestID() buffer.ManifestID
	Cut(c claim, packs []pack, h buffer.ManifestHead) (*buffer.Manifest, error)
	Pending(m buffer.ManifestID) []int
	Confirm(m buffer.ManifestID, objects ...int)
	Replace(m buffer.ManifestID, objects []int, packs []pack, h buffer.ManifestHead, reason string) (*buffer.Manifest, error)
	SetAside(m buffer.ManifestID, objects []int, reason string) (file string, err error)
	Discard(m buffer.ManifestID, objects []int, reason string) error
	Outstanding() []*buffer.Manifest
	Crowded() bool
}

// consumer is a *buffer.Consumer: the main reader of one stream.
type consumer interface {
	Waiting() buffer.Waiting
	Chunks(from uint64) iter.Seq[buffer.Chunk]
	Changed() <-chan struct{}
	Pressure() bool
	Take(next uint64, max int64) claim // nil when nothing waits
	Totals() buffer.Totals
	NewEpoch() uint64
}

// claim is a *buffer.Claim.
type claim interface {
	Range() (first, next uint64)
	Bytes() int64
	Rows() iter.Seq[record.Row]
	Trim(next uint64)
	Release()
}

// pack is a *buffer.Pack.
type pack interface {
	Begin(h buffer.ObjectHead) (io.Writer, error)
	End(records int64, firstSeq uint64, oldest int64) error
	Drop() error
	Seal(h buffer.ManifestHead) error
	Abort()
}

// objectReader reads the bytes of one object of a pack.
type objectReader interface {
	io.ReaderAt
	io.Closer
}

var (
	_ claim = (*buffer.Claim)(nil)
	_ pack  = (*buffer.Pack)(nil)
	_ store = bufferStore{}
)

// bufferStore makes a *buffer.Buffer a store: all it does is to pass interface values for pointers.
type bufferStore struct{ *buffer.Buffer }

// bufferConsumer is the same for a *buffer.Consumer.
type bufferConsumer struct{ *buffer.Consumer }

func (b bufferStore) Consumer(incarnation uint32) consumer {
	return bufferConsumer{b.Buffer.Consumer(incarnation, buffer.Main)}
}

// Pressure tells whether the epoch should be closed.
func (c bufferConsumer) Pressure() bool { return c.Consumer.Pressure() != 0 }

func (c bufferConsumer) Take(next uint64, max int64) claim {
	if taken := c.Consumer.Take(next, max); taken != nil {
		return taken
	}
	return nil
}

func (b bufferStore) NewPack() (pack, error) {
	p, err := b.Buffer.NewPack()
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (b bufferStore) Cut(c claim, packs []pack, h buffer.ManifestHead) (*buffer.Manifest, error) {
	return b.Buffer.Cut(c.(*buffer.Claim), bufferPacks(packs), h)
}

func (b bufferStore) Replace(m buffer.ManifestID, objects []int, packs []pack, h buffer.ManifestHead, reason string) (*buffer.Manifest, error) {
	return b.Buffer.Replace(m, objects, bufferPacks(packs), h, reason)
}

func (b bufferStore) OpenObject(m *buffer.Manifest, object int) (objectReader, error) {
	return b.Buffer.OpenObject(m, object)
}

func bufferPacks(packs []pack) []*buffer.Pack {
	out := make([]*buffer.Pack, len(packs))
	for i, p := range packs {
		out[i] = p.(*buffer.Pack)
	}
	return out
}
