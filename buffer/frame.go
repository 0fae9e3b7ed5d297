package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"hydrant/record"
)

// A frame is what the journal is made of: a header of 64 bytes, its payload, and zeros up to a multiple
// of 8. Little endian.
//
//	 0  magic u32                        32  first sequence u64
//	 4  CRC32C of bytes 8-63, salted     40  stream incarnation u32, 0: none
//	 8  payload length u32               44  count of sequences u32
//	12  CRC32C of payload and zeros      48  arrival, µs since the Unix epoch; of decisions a mark
//	16  LSN u64 of this frame            56  type u8, flags u8, consumer u8, 0
//	24  durable LSN u64                  60  group number u32
//
// Every frame says which sequences it speaks of, so that a payload that cannot be read any more has
// consequences that are known exactly. The LSN says where the frame belongs, so a frame that an earlier
// lap left in the slot is never taken for a new one. The durable LSN is what had been synced when the
// frame was built: a frame proves that all below it had been acknowledged.
//
// The mark of a MANIFEST, REPLACE or RUN is the first 8 bytes of the id of the new manifest or run, so that what its
// payload said is found in the footer of a file, or is known to be in none. The lowest bit of a run's mark is its kind.
// 0: written before there were marks.
//
// The header's checksum starts from a salt that is drawn once for the data directory. Recovery may have to
// look for the next header among bytes that producers chose, and nobody outside can make one.
const (
	frameMagic  = 0x4d524648 // "HFRM"
	frameHeader = 64
	frameAlign  = 8

	// blockSize is what groups are padded to: no block with acknowledged bytes is ever written again.
	blockSize = 4096

	// maxData is the most bytes of Data that one call may hold; maxPayload adds room for the identity and
	// the records' lengths.
	maxData    = 5 << 20
	maxPayload = maxData + 64<<10
	maxStream  = 64 << 10 // payload of a STREAM frame
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameType says what a frame's payload is. All but data and pad are ledger frames: their payload begins
// with an ordinal.
type frameType uint8

const (
	frameData       frameType = 1  // the records of one call
	frameStream     frameType = 2  // a version of a stream
	frameCheckpoint frameType = 3  // a part of the ledger's state at one LSN
	frameRun        frameType = 4  // rows that moved to a run file
	frameManifest   frameType = 5  // a cut
	frameProgress   frameType = 6  // objects that are in their destination
	frameCommit     frameType = 7  // all objects of a manifest that were not replaced are there
	frameReplace    frameType = 8  // objects that are given up for others, or set aside
	frameHole       frameType = 9  // sequences that damage has taken
	frameMark       frameType = 10 // nothing; it proves what is before it
	frameNext       frameType = 11 // the end of a segment
	framePad        frameType = 12 // zeros up to a block boundary
	frameLanes      frameType = 13 // positions of lanes without rows, and lanes that are forgotten

	lastFrame = frameLanes
)

// String is the name of the type in reports.
func (t frameType) String() string {
	switch t {
	case frameData:
		return "DATA"
	case frameStream:
		return "STREAM"
	case frameCheckpoint:
		return "CHECKPOINT"
	case frameRun:
		return "RUN"
	case frameManifest:
		return "MANIFEST"
	case frameProgress:
		return "PROGRESS"
	case frameCommit:
		return "COMMIT"
	case frameReplace:
		return "REPLACE"
	case frameHole:
		return "HOLE"
	case frameMark:
		return "MARK"
	case frameNext:
		return "NEXT"
	case framePad:
		return "PAD"
	case frameLanes:
		return "LANES"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// ledger tells whether frames of this type begin with an ordinal.
func (t frameType) ledger() bool { return t != frameData && t != framePad }

// counted tells whether frames of this type draw an ordinal of their own. MARK and NEXT change nothing in
// the ledger: they repeat the last one, and so prove how many there have been.
func (t frameType) counted() bool { return t.ledger() && t != frameMark && t != frameNext }

// Flags of a frame.
const (
	// flagOpening: written into a slot while it was prepared. Such a frame repeats something older (the
	// ledger's state, rows of another segment) and counts only once the slot has been opened.
	flagOpening = 1 << 0
	// flagSealed: the payload is sealed with the data key in the slot's header (seal.go); length and checksum
	// are those of the sealed bytes, so that damage can be found without the key.
	flagSealed = 1 << 1
)

// frameHead is a frame's header.
type frameHead struct {
	Length      uint32 // of the payload
	PayloadCRC  uint32
	LSN         uint64
	Durable     uint64
	First       uint64
	Incarnation uint32
	Count       uint32
	Arrived     int64
	Type        frameType
	Flags       uint8
	Consumer    uint8
	Group       uint32
}

var (
	errNoFrame     = errors.New("no frame header here")
	errFramePlace  = errors.New("frame header belongs to another place")
	errFrameLength = errors.New("frame is longer than a frame can be")
	errPayload     = errors.New("payload does not match its checksum")
	errBrokenSeal  = fmt.Errorf("%w, or its seal is broken", errPayload)
)

// put writes the header into b[:64].
func (h *frameHead) put(b []byte, salt uint32) {
	le := binary.LittleEndian
	_ = b[frameHeader-1]
	le.PutUint32(b, frameMagic)
	le.PutUint32(b[8:], h.Length)
	le.PutUint32(b[12:], h.PayloadCRC)
	le.PutUint64(b[16:], h.LSN)
	le.PutUint64(b[24:], h.Durable)
	le.PutUint64(b[32:], h.First)
	le.PutUint32(b[40:], h.Incarnation)
	le.PutUint32(b[44:], h.Count)
	le.PutUint64(b[48:], uint64(h.Arrived))
	b[56], b[57], b[58], b[59] = byte(h.Type), h.Flags, h.Consumer, 0
	le.PutUint32(b[60:], h.Group)
	le.PutUint32(b[4:], crc32.Update(salt, castagnoli, b[8:frameHeader]))
}

// parseFrameHead reads a header and checks its checksum. It does not know where the header belongs.
func parseFrameHead(b []byte, salt uint32) (frameHead, error) {
	le := binary.LittleEndian
	if len(b) < frameHeader || le.Uint32(b) != frameMagic || le.Uint32(b[4:]) != crc32.Update(salt, castagnoli, b[8:frameHeader]) {
		return frameHead{}, errNoFrame
	}
	h := frameHead{
		Length:      le.Uint32(b[8:]),
		PayloadCRC:  le.Uint32(b[12:]),
		LSN:         le.Uint64(b[16:]),
		Durable:     le.Uint64(b[24:]),
		First:       le.Uint64(b[32:]),
		Incarnation: le.Uint32(b[40:]),
		Count:       le.Uint32(b[44:]),
		Arrived:     int64(le.Uint64(b[48:])),
		Type:        frameType(b[56]),
		Flags:       b[57],
		Consumer:    b[58],
		Group:       le.Uint32(b[60:]),
	}
	if b[59] != 0 {
		return frameHead{}, errNoFrame
	}
	if h.Length > maxPayload+sealOverhead {
		return frameHead{}, errFrameLength
	}
	return h, nil
}

// next is the sequence behind the frame's extent.
func (h *frameHead) next() uint64 { return h.First + uint64(h.Count) }

// opening tells whether the frame was written while its slot was prepared.
func (h *frameHead) opening() bool { return h.Flags&flagOpening != 0 }

// size of the whole frame in the slot, in bytes.
func (h *frameHead) size() int64 { return frameSize(int(h.Length)) }

// frameSize is the room that a frame with n bytes of payload takes.
func frameSize(n int) int64 {
	return (int64(frameHeader) + int64(n) + frameAlign - 1) &^ (frameAlign - 1)
}

// zeroBlock is where padding comes from. Never written.
var zeroBlock [2 * blockSize]byte

// payloadCRC covers the payload and the zeros that align the next frame, so that no byte of a slot's used
// part can change unnoticed.
func payloadCRC(payload []byte) uint32 {
	crc := crc32.Update(0, castagnoli, payload)
	if gap := int(frameSize(len(payload))) - frameHeader - len(payload); gap > 0 {
		crc = crc32.Update(crc, castagnoli, zeroBlock[:gap])
	}
	return crc
}

// checkPayload verifies what follows a header in the slot: the payload and its alignment.
func (h *frameHead) checkPayload(stored []byte) error {
	n := h.size() - frameHeader
	if int64(len(stored)) < n || crc32.Checksum(stored[:n], castagnoli) != h.PayloadCRC {
		return errPayload
	}
	return nil
}

// padSize is the room that a PAD frame needs to take a group of n bytes to a block boundary: 0 where it
// ends at one. The space before the boundary may be too small for a header; then the pad crosses it.
func padSize(n int64) int64 {
	gap := (blockSize - n%blockSize) % blockSize
	if gap > 0 && gap < frameHeader {
		gap += blockSize
	}
	return gap
}

// The payload of a DATA frame begins with the call's identity:
//
//	0 invocation id 16 · 16 caller's key hash 8 · 24 body hash 16 · 40 attempt u8, 255 of a keyed call
//
// and goes on with the records as record.Batch has them.
const dataPrefix = 41

// dataStart is where in a batch's buffer the frame begins: header and identity end where its records do.
const dataStart = record.Headroom - dataPrefix - frameHeader

// putDataPrefix writes the identity of a call into b[:41].
func putDataPrefix(b []byte, c *record.Call) {
	_ = b[dataPrefix-1]
	copy(b, c.Invocation[:])
	copy(b[16:], c.KeyHash[:])
	copy(b[24:], c.BodyHash[:])
	b[40] = attemptOf(c)
}

// parseData splits the payload of a DATA frame and checks that it holds count records.
func parseData(payload []byte, count uint32) (id invocation, attempt uint8, records []byte, err error) {
	if len(payload) < dataPrefix {
		return id, 0, nil, fmt.Errorf("DATA payload of %d bytes is shorter than a call's identity", len(payload))
	}
	copy(id.ID[:], payload)
	copy(id.KeyHash[:], payload[16:])
	copy(id.BodyHash[:], payload[24:])
	attempt = payload[40]
	id.Keyed = attempt == keyedAttempt
	records = payload[dataPrefix:]
	n, err := record.Check(records)
	if err != nil {
		return id, 0, nil, fmt.Errorf("DATA payload: %w", err)
	}
	if uint32(n) != count {
		return id, 0, nil, fmt.Errorf("DATA payload holds %d records, its header says %d", n, count)
	}
	return id, attempt, records, nil
}
