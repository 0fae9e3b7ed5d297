package buffer

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"hydrant/buffer/fsys"
)

// A pack file is a header of 256 bytes, objects back to back, a footer, and a trailer of 64 bytes. Where it has a
// data key, all but the header is sealed (sealed_file.go).
//
//	header                                    trailer
//	  0  magic "HPAK"                           0  magic "HPKT"
//	  4  version u32: 1, sealed 2               4  version u32: the same
//	  8  directory uuid 16                      8  footer offset u64
//	 24  pack id 16                            16  footer length u64
//	 40  wrapped data key 72, zero: none       24  SHA-256 of the footer
//	252  CRC32C of the bytes before it         56  zero
//	                                           60  CRC32C of the bytes before it
//
//	footer   pack id 16 · manifests · objects, each list a count and entries with their length before them
//	manifest id 16 · incarnation · consumer · config version · epoch · source · first · next · ok · dropped · failed · manifest it replaces 16 · objects it replaces: count, then steps
//	         · first object · objects
//	object   offset · length · SHA-256 32 · CRC64NVME 8 · role · records · first sequence · oldest arrival ·
//	         key · destination id · content type · content encoding · schema version · request id ·
//	         refusal: 0, none, or 1, code, message, attempts
//
//	source   0, range of sequences, or 1, key hash 16, run, or 2, run, all 0 or 1, bound where it is 0, or 3, range
//	         of which damage has taken some rows, how many
//
// Numbers in the footer are varints (arrivals signed), texts a length and bytes. The frame that names the
// pack has the SHA-256 of the footer, and the footer that of each object: so one frame fixes every byte.
const (
	packMagic        = 0x4b415048 // "HPAK"
	packTrailerMagic = 0x544b5048 // "HPKT"
	packVersion      = 1
	packHeaderSize   = 256
	packTrailerSize  = 64

	maxPackFooter  = 64 << 20
	maxPackObjects = 1 << 18
	maxPackKey     = 4 << 10
	maxPackText    = 1 << 10
)

// packRef is how a frame names a pack.
type packRef struct {
	ID     PackID
	Length int64
	Footer [32]byte // SHA-256 of the footer
}

// packFooter is the table at the end of a pack.
type packFooter struct {
	ID        PackID
	Manifests []packManifest
	Objects   []ObjectInfo
}

// packManifest is one manifest's part of a pack: Objects[FirstObject : FirstObject+Count].
type packManifest struct {
	ManifestHead
	FirstObject, Count int
}

// packDamage says that a pack file is not what was sealed.
type packDamage struct {
	Path string
	What string
}

func (e *packDamage) Error() string { return fmt.Sprintf("pack %q is damaged: %s", e.Path, e.What) }

// packHeader is the first 256 bytes.
func packHeader(directory [16]byte, id PackID, key wrappedKey) []byte {
	return fileHeader(packMagic, directory, id, key, 0)
}

// packFormat is the version of a pack or a run with such a key.
func packFormat(key wrappedKey) uint32 {
	if key.none() {
		return packVersion
	}
	return sealedVersion
}

// packTrailer is the last 64 bytes of a pack, or of a run.
type packTrailer struct {
	Magic          uint32 // of the kind of file; 0: a pack
	Version        uint32
	Offset, Length int64
	Footer         [32]byte
}

func (t *packTrailer) encode() []byte {
	b := make([]byte, packTrailerSize)
	le := binary.LittleEndian
	le.PutUint32(b, cmp.Or(t.Magic, packTrailerMagic))
	le.PutUint32(b[4:], t.Version)
	le.PutUint64(b[8:], uint64(t.Offset))
	le.PutUint64(b[16:], uint64(t.Length))
	copy(b[24:], t.Footer[:])
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// encode makes the footer's bytes.
func (f *packFooter) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, 256+256*len(f.Objects))
	b = append(b, f.ID[:]...)
	b = binary.AppendUvarint(b, uint64(len(f.Manifests)))
	var e []byte
	for i := range f.Manifests {
		m := &f.Manifests[i]
		e = append(e[:0], m.ID[:]...)
		for _, v := range []uint64{uint64(m.Incarnation), uint64(m.Consumer), m.Version, m.Epoch} {
			e = binary.AppendUvarint(e, v)
		}
		e = appendSource(e, &m.ManifestHead)
		for _, v := range []uint64{m.First, m.Next, uint64(m.Counts.OK), uint64(m.Counts.Dropped), uint64(m.Counts.Failed)} {
			e = binary.AppendUvarint(e, v)
		}
		e = append(e, m.Replaces[:]...)
		e = binary.AppendUvarint(e, uint64(len(m.Replaced)))
		last := 0
		for _, n := range m.Replaced {
			e = binary.AppendUvarint(e, uint64(n-last))
			last = n
		}
		e = binary.AppendUvarint(e, uint64(m.FirstObject))
		e = binary.AppendUvarint(e, uint64(m.Count))
		b = appendText(b, e)
	}
	b = binary.AppendUvarint(b, uint64(len(f.Objects)))
	for i := range f.Objects {
		o := &f.Objects[i]
		e = binary.AppendUvarint(e[:0], uint64(o.Offset))
		e = binary.AppendUvarint(e, uint64(o.Size))
		e = append(e, o.SHA256[:]...)
		e = le.AppendUint64(e, o.CRC64NVME)
		e = binary.AppendUvarint(e, uint64(o.Role))
		e = binary.AppendUvarint(e, uint64(o.Records))
		e = binary.AppendUvarint(e, o.FirstSeq)
		e = binary.AppendVarint(e, o.Oldest)
		for _, s := range []string{o.Key, o.Destination, o.ContentType, o.ContentEncoding, o.SchemaVersion, o.RequestID} {
			e = appendText(e, s)
		}
		e = appendRefusal(e, o.Refusal)
		b = appendText(b, e)
	}
	return b
}

func appendRefusal(b []byte, r Refusal) []byte {
	if r == (Refusal{}) {
		return append(b, 0)
	}
	b = appendText(append(b, 1), r.Code)
	b = appendText(b, r.Message)
	return binary.AppendUvarint(b, uint64(r.Attempts))
}

// refusal reads what appendRefusal writes.
func (r *footerReader) refusal() (f Refusal) {
	if r.number(1) == 0 {
		return f
	}
	f.Code, f.Message, f.Attempts = r.text(), r.text(), int64(r.number(1<<63-1))
	if f == (Refusal{}) {
		r.fail("a refusal that says nothing")
	}
	return f
}

// appendSource writes where the rows of a manifest were: its code, and what belongs to it.
func appendSource(b []byte, h *ManifestHead) []byte {
	switch s := &h.Source; {
	case s.Kind == SourceKey:
		b = binary.AppendUvarint(b, sourceKey)
		b = append(b, s.Key[:]...)
		return binary.AppendUvarint(b, uint64(s.Run))
	case s.Kind == SourceSweep:
		b = binary.AppendUvarint(b, sourceSweep)
		b = binary.AppendUvarint(b, uint64(s.Run))
		if s.All {
			return append(b, 1)
		}
		return appendText(append(b, 0), s.Bound)
	case h.Lost > 0:
		return binary.AppendUvarint(binary.AppendUvarint(b, sourceLossy), uint64(h.Lost))
	default:
		return binary.AppendUvarint(b, sourceRange)
	}
}

// source reads what appendSource writes.
func (r *footerReader) source(h *ManifestHead) {
	switch r.number(sourceLossy) {
	case sourceKey:
		h.Source.Kind = SourceKey
		r.array(h.Source.Key[:])
		h.Source.Run = uint32(r.number(1<<32 - 1))
	case sourceSweep:
		h.Source.Kind = SourceSweep
		h.Source.Run = uint32(r.number(1<<32 - 1))
		if h.Source.All = r.number(1) == 1; !h.Source.All {
			h.Source.Bound = r.bytes()
		}
	case sourceLossy:
		if h.Lost = int64(r.number(1<<63 - 1)); h.Lost == 0 {
			r.fail("a range that has lost nothing")
		}
	}
}

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parsePackFooter reads a footer whose body ends at offset end in the file. It accepts exactly what encode
// makes.
func parsePackFooter(b []byte, end int64) (*packFooter, error) {
	r := &footerReader{b: b}
	f := &packFooter{}
	r.array(f.ID[:])
	for range r.count(1) {
		e := r.entry()
		var m packManifest
		e.array(m.ID[:])
		m.Incarnation = uint32(e.number(1<<32 - 1))
		m.Consumer = uint8(e.number(1<<8 - 1))
		m.Version = e.number(1<<64 - 1)
		m.Epoch = e.number(1<<64 - 1)
		e.source(&m.ManifestHead)
		m.First = e.number(1<<64 - 1)
		m.Next = e.number(1<<64 - 1)
		m.Counts.OK = int64(e.number(1<<63 - 1))
		m.Counts.Dropped = int64(e.number(1<<63 - 1))
		m.Counts.Failed = int64(e.number(1<<63 - 1))
		e.array(m.Replaces[:])
		last := uint64(0)
		for range e.count(1) {
			last += e.number(maxPackObjects)
			m.Replaced = append(m.Replaced, int(min(last, maxPackObjects)))
		}
		m.FirstObject = int(e.number(maxPackObjects))
		m.Count = int(e.number(maxPackObjects))
		e.end()
		if r.err == nil {
			r.err = e.err
		}
		if r.err == nil {
			r.err = checkManifestHead(m.ManifestHead)
		}
		f.Manifests = append(f.Manifests, m)
		if r.err != nil {
			break
		}
	}
	at := int64(packHeaderSize)
	for range r.count(1) {
		e := r.entry()
		o := ObjectInfo{Pack: f.ID}
		o.Offset = int64(e.number(1<<63 - 1))
		o.Size = int64(e.number(1<<63 - 1))
		e.array(o.SHA256[:])
		var crc [8]byte
		e.array(crc[:])
		o.CRC64NVME = binary.LittleEndian.Uint64(crc[:])
		o.Role = Role(e.number(uint64(Error)))
		o.Records = int64(e.number(1<<63 - 1))
		o.FirstSeq = e.number(1<<64 - 1)
		o.Oldest = e.signed()
		for _, s := range []*string{&o.Key, &o.Destination, &o.ContentType, &o.ContentEncoding, &o.SchemaVersion, &o.RequestID} {
			*s = e.text()
		}
		o.Refusal = e.refusal()
		e.end()
		if r.err == nil {
			r.err = e.err
		}
		if r.err == nil {
			r.err = checkHead(o.ObjectHead)
		}
		if r.err == nil && (o.Offset != at || o.Size > end-at) {
			r.err = fmt.Errorf("object %d at [%d, +%d) does not follow the one before", len(f.Objects), o.Offset, o.Size)
		}
		at += o.Size
		f.Objects = append(f.Objects, o)
		if r.err != nil {
			break
		}
	}
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	if at != end {
		return nil, fmt.Errorf("objects end at %d, the footer begins at %d", at, end)
	}
	next := 0
	for i := range f.Manifests {
		m := &f.Manifests[i]
		if m.FirstObject != next || m.Count > len(f.Objects)-next {
			return nil, fmt.Errorf("objects of manifest %d are not those after the one before", i)
		}
		next += m.Count
	}
	if next != len(f.Objects) {
		return nil, fmt.Errorf("%d of %d objects belong to a manifest", next, len(f.Objects))
	}
	return f, nil
}

// footerReader takes a footer apart. After the first fault everything reads as zero.
type footerReader struct {
	b   []byte
	err error
}

func (r *footerReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("footer: %s", what)
	}
	r.b = nil
}

func (r *footerReader) array(dst []byte) {
	if len(r.b) < len(dst) {
		r.fail("too short")
		return
	}
	r.b = r.b[copy(dst, r.b):]
}

// number reads a varint of at most most, in its shortest form: there is one way to write a footer.
func (r *footerReader) number(most uint64) uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 || w > 1 && r.b[w-1] == 0 {
		r.fail("malformed number")
		return 0
	}
	if n > most {
		r.fail(fmt.Sprintf("number %d is larger than %d", n, most))
		return 0
	}
	r.b = r.b[w:]
	return n
}

func (r *footerReader) signed() int64 {
	n := r.number(1<<64 - 1)
	return int64(n>>1) ^ -int64(n&1)
}

// count reads the length of a list whose entries take at least size bytes.
func (r *footerReader) count(size int) int {
	n := r.number(maxPackObjects)
	if n > uint64(len(r.b)/size) {
		r.fail(fmt.Sprintf("%d entries do not fit", n))
		return 0
	}
	return int(n)
}

func (r *footerReader) bytes() []byte {
	n := r.number(maxPackFooter)
	if n > uint64(len(r.b)) {
		r.fail("length runs past the end")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *footerReader) text() string { return string(r.bytes()) }

// entry is a reader of the next entry of a list.
func (r *footerReader) entry() *footerReader {
	return &footerReader{b: r.bytes(), err: r.err}
}

func (r *footerReader) end() {
	if r.err == nil && len(r.b) > 0 {
		r.fail(fmt.Sprintf("%d bytes too many", len(r.b)))
	}
}

// packContent is everything of a pack but its objects' bytes.
type packContent struct {
	foot      *packFooter
	ref       packRef
	directory [16]byte
	key       *dataKey    // nil: it is in clear
	clear     io.ReaderAt // bytes at offsets as the footer has them
}

// openPack reads and checks the footer of a pack file. Errors: *NewerVersionError, *KeyError, *packDamage, or the
// file system's (fs.ErrNotExist where it is missing).
func openPack(fs fsys.FS, path string, keys *keyring) (*packContent, error) {
	f, err := fs.OpenFile(path, fsys.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	defer f.Close()
	return readPack(f, path, keys)
}

// readPack reads everything of a pack but its objects. keys nil: those of InspectPack are made of given.
func readPack(f fsys.File, path string, keys *keyring) (*packContent, error) {
	damage := func(format string, args ...any) error {
		return &packDamage{Path: path, What: fmt.Sprintf(format, args...)}
	}
	e, err := readEnvelope(f, packKind, path, keys, damage)
	if err != nil {
		return nil, err
	}
	if e.footLen > maxPackFooter {
		return nil, damage("footer of %d bytes", e.footLen)
	}
	if e.about != 0 {
		return nil, damage("no valid header")
	}
	c := &packContent{directory: e.directory, key: e.key, clear: e.clear}
	c.ref.ID, c.ref.Length = e.id, e.length
	body := make([]byte, e.footLen)
	if err := readPart(c.clear, body, e.offset, "footer", packKind, path, damage); err != nil {
		return nil, err
	}
	if c.ref.Footer = sha256.Sum256(body); e.footer != c.ref.Footer {
		return nil, damage("footer does not match its hash")
	}
	c.foot, err = parsePackFooter(body, e.offset)
	if err != nil {
		return nil, damage("%v", err)
	}
	if c.foot.ID != c.ref.ID {
		return nil, damage("header and footer have different ids")
	}
	return c, nil
}

// readFull reads all of b.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// verifyObject reads an object's bytes and compares them with its hashes. A *packDamage says that they
// are others.
func verifyObject(f io.ReaderAt, path string, o *ObjectInfo) error {
	sha, crc := newHashes()
	n, err := io.CopyBuffer(io.MultiWriter(sha, crc), io.NewSectionReader(f, o.Offset, o.Size), make([]byte, min(o.Size+1, packBuffer)))
	if err != nil && !errors.Is(err, errUnsealed) {
		return fmt.Errorf("read object %q of pack %q: %w", o.Key, path, err)
	}
	if n != o.Size || [32]byte(sha.Sum(nil)) != o.SHA256 || crc.Sum64() != o.CRC64NVME {
		return &packDamage{Path: path, What: fmt.Sprintf("object %q at byte %d does not match its hashes", o.Key, o.Offset)}
	}
	return nil
}

// PackReport is what InspectPack finds in a pack file.
type PackReport struct {
	Path      string
	ID        PackID
	Directory [16]byte // uuid of the data directory that wrote it
	Length    int64
	KeyID     string   // of the key that it is encrypted under; "": it is in clear
	Footer    [32]byte // SHA-256 of the footer: what the MANIFEST or REPLACE frame has
	Manifests []PackManifest
	Damaged   []string // keys of the objects whose bytes do not match their hashes, where they were verified
}

// PackManifest is one manifest's part of a pack.
type PackManifest struct {
	ManifestHead
	Objects []ObjectInfo
}

// InspectPack reads a pack file, and with verify the bytes of every object. It changes nothing and needs
// no lock: a sealed pack is immutable. keys are those that the pack may be encrypted under. Errors: *KeyError,
// *NewerVersionError, the file system's, or one that says what of the header, footer or trailer is damaged.
func InspectPack(fs fsys.FS, path string, verify bool, keys ...*Key) (*PackReport, error) {
	f, err := fs.OpenFile(path, fsys.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	defer f.Close()
	ring, err := newKeyring([16]byte{}, nil, keys, nil)
	if err != nil {
		return nil, err
	}
	c, err := readPack(f, path, ring)
	if err != nil {
		return nil, err
	}
	foot := c.foot
	r := &PackReport{Path: path, ID: c.ref.ID, Directory: c.directory, Length: c.ref.Length, KeyID: c.key.keyID(), Footer: c.ref.Footer}
	for _, m := range foot.Manifests {
		r.Manifests = append(r.Manifests, PackManifest{ManifestHead: m.ManifestHead, Objects: foot.Objects[m.FirstObject : m.FirstObject+m.Count]})
	}
	if !verify {
		return r, nil
	}
	for i := range foot.Objects {
		err := verifyObject(c.clear, path, &foot.Objects[i])
		if _, damaged := err.(*packDamage); damaged {
			r.Damaged = append(r.Damaged, foot.Objects[i].Key)
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}
