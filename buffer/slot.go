package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"

	"hydrant/buffer/fsys"
)

// formatVersion is that of IDENT, slots and side files. A reader accepts its own and the one before.
const (
	formatVersion    = 1
	formatVersionMin = 1

	// sealedVersion is that of slots and packs whose content is sealed. What is in clear is written as before,
	// so that an older program can go on with it.
	sealedVersion = 2
)

// A slot is a file of fixed size that holds one segment of the journal at a time:
//
//	[0, 4096)          header
//	[4096, size-4096)  frames
//	[size-4096, size)  the same header again
//
// The header's fields fill one sector of 512 bytes, which no power cut tears; the rest of its block is
// zero. Little endian.
//
//	 0  magic u64                       48  base LSN u64: LSN of a byte = base + offset
//	 8  version u32                     56  previous segment u64, 0: none
//	12  salt u32                        64  its end LSN u64
//	16  directory uuid                  72  slot size u64
//	32  start number of the process u64 80  end of the opening frames u64
//	40  segment number u64              88  wrapped data key 72; zero, and version 1: frames are in clear
//	                                   508  CRC32C of bytes 0-507
const (
	slotMagic      = 0x31544f4c53445948 // "HYDSLOT1"
	slotHeaderSize = 512
)

// slotHead is a slot's header.
type slotHead struct {
	Salt      uint32
	Directory [16]byte
	Start     uint64
	Segment   uint64
	Base      uint64
	Prev      uint64
	PrevEnd   uint64
	Size      int64
	Opened    int64 // offset behind the opening frames, which were durable before the header was written
	Key       wrappedKey
}

var errNoSlotHead = errors.New("no slot header here")

// encode returns the header's block.
func (h *slotHead) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, blockSize)
	le.PutUint64(b, slotMagic)
	le.PutUint32(b[8:], formatVersion)
	if !h.Key.none() {
		le.PutUint32(b[8:], sealedVersion)
		copy(b[88:], h.Key[:])
	}
	le.PutUint32(b[12:], h.Salt)
	copy(b[16:], h.Directory[:])
	le.PutUint64(b[32:], h.Start)
	le.PutUint64(b[40:], h.Segment)
	le.PutUint64(b[48:], h.Base)
	le.PutUint64(b[56:], h.Prev)
	le.PutUint64(b[64:], h.PrevEnd)
	le.PutUint64(b[72:], uint64(h.Size))
	le.PutUint64(b[80:], uint64(h.Opened))
	le.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
	return b
}

// parseSlotHead reads a header's block. Errors: errNoSlotHead, *NewerVersionError.
func parseSlotHead(b []byte) (slotHead, error) {
	le := binary.LittleEndian
	if len(b) < slotHeaderSize || le.Uint64(b) != slotMagic || le.Uint32(b[508:]) != crc32.Checksum(b[:508], castagnoli) {
		return slotHead{}, errNoSlotHead
	}
	version := le.Uint32(b[8:])
	if version > sealedVersion {
		return slotHead{}, &NewerVersionError{What: "slot", Version: version, Known: sealedVersion}
	} else if version < formatVersionMin {
		return slotHead{}, errNoSlotHead
	}
	h := slotHead{
		Salt:    le.Uint32(b[12:]),
		Start:   le.Uint64(b[32:]),
		Segment: le.Uint64(b[40:]),
		Base:    le.Uint64(b[48:]),
		Prev:    le.Uint64(b[56:]),
		PrevEnd: le.Uint64(b[64:]),
		Size:    int64(le.Uint64(b[72:])),
		Opened:  int64(le.Uint64(b[80:])),
	}
	copy(h.Directory[:], b[16:])
	copy(h.Key[:], b[88:])
	if h.Size < minSlotSize || h.Size > maxSlotSize || h.Size%blockSize != 0 || h.Segment == 0 || h.Base%blockSize != 0 ||
		h.Prev >= h.Segment || h.PrevEnd > h.Base || h.Base > 1<<62 ||
		h.Opened < blockSize || h.Opened > h.Size-blockSize || h.Opened%blockSize != 0 {
		return slotHead{}, errNoSlotHead
	}
	if h.Key.none() != (version < sealedVersion) || !allZero(b[88+wrappedSize:508]) || !allZero(b[slotHeaderSize:]) {
		return slotHead{}, errNoSlotHead
	}
	return h, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// IDENT names the data directory and fixes what its journal cannot change. 64 bytes, little endian.
//
//	 0  magic u64          16  directory uuid     40  salt u32     60  CRC32C of bytes 0-59
//	 8  version u32        32  slot size u64      44  zero
//	12  zero u32
const (
	identMagic = 0x31544e4449445948 // "HYDIDNT1"
	identSize  = 64
	identName  = "IDENT"
)

// ident is the content of IDENT.
type ident struct {
	Directory [16]byte
	Slot      int64
	Salt      uint32
}

func (id *ident) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, identSize)
	le.PutUint64(b, identMagic)
	le.PutUint32(b[8:], formatVersion)
	copy(b[16:], id.Directory[:])
	le.PutUint64(b[32:], uint64(id.Slot))
	le.PutUint32(b[40:], id.Salt)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// parseIdent reads the content of IDENT. Errors: *NewerVersionError, or what is wrong.
func parseIdent(b []byte) (ident, error) {
	le := binary.LittleEndian
	if len(b) != identSize || le.Uint64(b) != identMagic {
		return ident{}, errors.New("not an IDENT file of this program")
	}
	if le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return ident{}, errors.New("IDENT does not match its checksum")
	}
	if v := le.Uint32(b[8:]); v > formatVersion {
		return ident{}, &NewerVersionError{What: identName, Version: v, Known: formatVersion}
	} else if v < formatVersionMin {
		return ident{}, fmt.Errorf("IDENT has version %d, which is no longer read", v)
	}
	id := ident{Slot: int64(le.Uint64(b[32:])), Salt: le.Uint32(b[40:])}
	copy(id.Directory[:], b[16:])
	if id.Slot < minSlotSize || id.Slot > maxSlotSize || id.Slot%blockSize != 0 || !allZero(b[12:16]) || !allZero(b[44:60]) {
		return ident{}, errors.New("IDENT has values out of range")
	}
	return id, nil
}

// readIdent reads IDENT from a data directory. fs.ErrNotExist where there is none.
func readIdent(f fsys.FS, dir string) (ident, error) {
	b, err := readFile(f, path.Join(dir, identName), identSize)
	if err != nil {
		return ident{}, err
	}
	id, err := parseIdent(b)
	if n, ok := errors.AsType[*NewerVersionError](err); ok {
		n.Path = path.Join(dir, identName)
		return ident{}, n
	}
	if err != nil {
		return ident{}, &DamageError{Items: []Damage{{File: path.Join(dir, identName), Length: int64(len(b)), What: err.Error()}}}
	}
	return id, nil
}

// readFile reads a small file whole. It fails where the file is larger than limit bytes.
func readFile(f fsys.FS, name string, limit int64) ([]byte, error) {
	file, err := f.OpenFile(name, fsys.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	n, err := file.Size()
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("read %q: it has %d bytes, at most %d were expected", name, n, limit)
	}
	b := make([]byte, n)
	if got, err := file.ReadAt(b, 0); int64(got) < n && err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return b, nil
}

// writeFile makes a file with these bytes appear under its name, durably, or not at all. An older file of
// that name is replaced.
func writeFile(f fsys.FS, name string, parts ...[]byte) error {
	return makeFile(f, name, func(file fsys.File) error {
		var off int64
		for _, b := range parts {
			if _, err := file.WriteAt(b, off); err != nil {
				return err
			}
			off += int64(len(b))
		}
		return nil
	})
}

// makeFile is writeFile for content that fill writes.
func makeFile(f fsys.FS, name string, fill func(fsys.File) error) (err error) {
	tmp := name + tmpSuffix
	if err := f.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %q, left by a crash: %w", tmp, err)
	}
	file, err := f.OpenFile(tmp, fsys.Create)
	if err != nil {
		return fmt.Errorf("create %q: %w", tmp, err)
	}
	defer func() {
		if file != nil {
			file.Close()
		}
		if err != nil {
			f.Remove(tmp)
		}
	}()
	if err := fill(file); err != nil {
		return fmt.Errorf("write %q: %w", tmp, err)
	}
	if err := file.Datasync(); err != nil {
		return fmt.Errorf("sync %q: %w", tmp, err)
	}
	err = file.Close()
	file = nil
	if err != nil {
		return fmt.Errorf("close %q: %w", tmp, err)
	}
	if err := f.Rename(tmp, name); err != nil {
		return fmt.Errorf("rename %q: %w", tmp, err)
	}
	if sabotageSkipDirSync {
		return nil
	}
	if err := f.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("sync directory of %q: %w", name, err)
	}
	return nil
}

// tmpSuffix marks files that a crash left unfinished.
const tmpSuffix = ".tmp"

// copyBytes copies what can be read of [0, n) of r into a file from off on, and returns how much that was.
func copyBytes(file fsys.File, off int64, r io.ReaderAt, n int64) (done int64, err error) {
	buf := make([]byte, min(n, 1<<20))
	for done < n {
		got, rerr := r.ReadAt(buf[:min(int64(len(buf)), n-done)], done)
		if _, err := file.WriteAt(buf[:got], off+done); err != nil {
			return done, err
		}
		done += int64(got)
		if got == 0 || rerr != nil {
			return done, nil
		}
	}
	return done, nil
}
