package buffer

import "io"

// ManifestID names a manifest for ever.
type ManifestID [16]byte

// PackID names a pack file.
type PackID [16]byte

// Role of an object in its manifest.
type Role uint8

const (
	Data  Role = iota // goes to the destination
	Error             // goes to the error output
)

// ObjectHead is what delivery decides about an object before its bytes are written.
type ObjectHead struct {
	Key             string
	Role            Role
	Destination     string // id of the place: stream, role and kind; never bucket or endpoint
	ContentType     string
	ContentEncoding string
	SchemaVersion   string
	RequestID       string // HTTP destinations; else ""
}

// ObjectInfo is an object of a sealed pack.
type ObjectInfo struct {
	ObjectHead
	Pack      PackID
	Offset    int64
	Size      int64
	SHA256    [32]byte
	CRC64NVME uint64
	Records   int64  // source records in it
	FirstSeq  uint64 // smallest sequence in it
	Oldest    int64  // arrival of its oldest record, µs
}

// Counts of a range, by what became of its rows.
type Counts struct{ OK, Dropped, Failed int64 }

// ManifestHead is what a MANIFEST frame and the footers of its packs both say.
type ManifestHead struct {
	ID          ManifestID
	Incarnation uint32
	Consumer    uint8
	Version     uint64 // config version that sealed it
	Epoch       uint64
	First, Next uint64     // range of sequences it takes
	Replaces    ManifestID // zero, or the manifest whose objects these replace
	Replaced    []int      // with Replaces: the numbers of those objects, ascending; Seal and Replace want the same
	Counts      Counts
}

// NewManifestID draws an id.
func (b *Buffer) NewManifestID() ManifestID { panic("bug: not built yet") }

// Manifest is a durable decision whose objects have not all ended. Immutable but for what Pending reports.
type Manifest struct {
	ManifestHead
	Objects []ObjectInfo // index in this slice is the object's number
}

// Cut makes one MANIFEST over a claim, whose range must begin where the last cut of its consumer ended,
// and over the sealed packs with what became of its rows (h.First and h.Next are the claim's). On return
// it is durable, the claim is consumed and its rows are dead (I4). On error the claim is as before.
// packs may be empty where everything was dropped: then the manifest has ended already.
func (b *Buffer) Cut(claim *Claim, packs []*Pack, h ManifestHead) (*Manifest, error) {
	panic("bug: not built yet")
}

// Pending returns the numbers of the objects of m that are neither confirmed nor replaced.
func (b *Buffer) Pending(m ManifestID) []int { panic("bug: not built yet") }

// Confirm notes that these objects are in their destination. It goes into a PROGRESS frame with the next
// group, at most 100 ms later; when it was the last, COMMIT follows and the packs are removed after it is
// durable. It does not wait.
func (b *Buffer) Confirm(m ManifestID, objects ...int) { panic("bug: not built yet") }

// Replace changes the mind about some objects of m, once and for ever: they are never sent again; the
// objects of packs, a manifest like any other under h (whose Replaces is m), take their place. Durable
// on return.
func (b *Buffer) Replace(m ManifestID, objects []int, packs []*Pack, h ManifestHead, reason string) (*Manifest, error) {
	panic("bug: not built yet")
}

// SetAside ends objects whose bytes no longer match their hash: what can be read goes to quarantine/,
// their records are counted as lost, and the REPLACE frame names the file. Durable on return.
func (b *Buffer) SetAside(m ManifestID, objects []int, reason string) (file string, err error) {
	panic("bug: not built yet")
}

// Outstanding returns the manifests that have not ended, oldest first: at start what recovery found, in
// steady state the same list.
func (b *Buffer) Outstanding() []*Manifest { panic("bug: not built yet") }

// OpenObject reads an object's bytes. Close it; the pack file stays until then.
func (b *Buffer) OpenObject(m *Manifest, object int) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	panic("bug: not built yet")
}
