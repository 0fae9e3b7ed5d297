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
	runs
	Directory() [16]byte
	Notes() notes
	Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error)
	Consumer(incarnation uint32, id uint8) consumer // nil where the stream has no such
	NewPack() (pack, error)
	Inlet(incarnation uint32) (laneInlet, error)
	OpenObject(m *buffer.Manifest, object int) (objectReader, error)
}

// streams is the part that knows streams and their versions.
type streams interface {
	Streams() []buffer.Stream
	StreamVersion(incarnation uint32, version uint64) (buffer.Stream, bool)
	Define(s buffer.Stream) (buffer.Stream, error)
	Ending(incarnation uint32, id uint8) (version uint64, ends bool)
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

// notes is a *buffer.Notes.
type notes interface {
	List(incarnation uint32) ([]string, error)
	Keep(incarnations []uint32) error
	Read(incarnation uint32, name string) ([]byte, error)
	Write(incarnation uint32, name string, content []byte) error
	Remove(incarnation uint32, names ...string) error
}

// runs is the part that keeps rows which have been routed, and those which have no room elsewhere.
type runs interface {
	NewRun(kind buffer.RunKind, memory int64) (run, error)
	Route(c claim, r run, h buffer.RunHead) error
	CutKeys(c consumer, packs []pack, h buffer.ManifestHead) (*buffer.Manifest, error)
	OpenEpoch(c consumer, number uint64, upTo uint32) (epochReader, error)
}

// consumer is a *buffer.Consumer: a reader of one stream.
type consumer interface {
	Waiting() buffer.Waiting
	Chunks(from uint64) iter.Seq[buffer.Chunk]
	Changed() <-chan struct{}
	Pressure() buffer.Pressure
	Spill(ctx context.Context, max int64) (rows int64, err error)
	Take(next uint64, max int64) claim // nil when nothing waits
	Epochs() []buffer.Epoch
	Totals() buffer.Totals
	Watermark() int64
	NewEpoch() uint64
}

// claim is a *buffer.Claim.
type claim interface {
	Range() (first, next uint64)
	Bytes() int64
	Rows() iter.Seq[record.Row]
	Lost() int64
	Trim(next uint64)
	Release()
}

// run is a *buffer.Run.
type run interface {
	Append(key []byte, row buffer.RunRow) error
	InMemory() bool
	Sorted() iter.Seq2[[]byte, buffer.RunRow]
	Rows() int64
	Seal(h buffer.RunHead) error
	Abort()
}

// epochReader is a *buffer.EpochReader.
type epochReader interface {
	Keys(after []byte) iter.Seq2[buffer.EpochKey, error]
	Rows(key []byte) iter.Seq2[buffer.RunRow, error]
	Close()
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
	_ claim       = (*buffer.Claim)(nil)
	_ pack        = (*buffer.Pack)(nil)
	_ run         = (*buffer.Run)(nil)
	_ epochReader = (*buffer.EpochReader)(nil)
	_ store       = bufferStore{}
)

// bufferStore makes a *buffer.Buffer a store: all it does is to pass interface values for pointers.
type bufferStore struct{ *buffer.Buffer }

// bufferConsumer is the same for a *buffer.Consumer.
type bufferConsumer struct{ *buffer.Consumer }

func (b bufferStore) Consumer(incarnation uint32, id uint8) consumer {
	if c := b.Buffer.Consumer(incarnation, id); c != nil {
		return bufferConsumer{c}
	}
	return nil
}

func (c bufferConsumer) Take(next uint64, max int64) claim {
	if taken := c.Consumer.Take(next, max); taken != nil {
		return taken
	}
	return nil
}

func (b bufferStore) Notes() notes { return b.Buffer.Notes() }

func (b bufferStore) Inlet(incarnation uint32) (laneInlet, error) {
	in, err := b.Buffer.Inlet(incarnation)
	if err != nil {
		return nil, err
	}
	return in, nil
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

func (b bufferStore) NewRun(kind buffer.RunKind, memory int64) (run, error) {
	r, err := b.Buffer.NewRun(kind, memory)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (b bufferStore) Route(c claim, r run, h buffer.RunHead) error {
	return b.Buffer.Route(c.(*buffer.Claim), r.(*buffer.Run), h)
}

func (b bufferStore) CutKeys(c consumer, packs []pack, h buffer.ManifestHead) (*buffer.Manifest, error) {
	return b.Buffer.CutKeys(c.(bufferConsumer).Consumer, bufferPacks(packs), h)
}

func (b bufferStore) OpenEpoch(c consumer, number uint64, upTo uint32) (epochReader, error) {
	r, err := b.Buffer.OpenEpoch(c.(bufferConsumer).Consumer, number, upTo)
	if err != nil {
		return nil, err
	}
	return r, nil
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
