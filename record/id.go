package record

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
)

const idDigits = "0123456789abcdefghijklmnopqrstuv"

// idEncoding is lower-case base32hex without padding: sorts as the bytes do and survives any case folding.
var idEncoding = base32.NewEncoding(idDigits).WithPadding(base32.NoPadding)

// idBytes is directory uuid 16, incarnation u32 and sequence u64, big endian.
const idBytes = 16 + 4 + 8

// IDLength is the number of characters of a printed ID.
const IDLength = (idBytes*8 + 4) / 5

// ID names one record for ever: the RecordId that a put returns.
type ID struct {
	Directory   [16]byte
	Incarnation uint32
	Seq         uint64
}

// ID of the i-th record of the call that got this receipt.
func (r Receipt) ID(i int) ID {
	return ID{Directory: r.Directory, Incarnation: r.Incarnation, Seq: r.First + uint64(i)}
}

// String is the RecordId as clients see it: IDLength characters of base32.
func (id ID) String() string { return string(id.Append(nil)) }

// Append adds the printed form to dst.
func (id ID) Append(dst []byte) []byte {
	var raw [idBytes - 8]byte
	copy(raw[:], id.Directory[:])
	binary.BigEndian.PutUint32(raw[16:], id.Incarnation)
	return AppendSeq(idEncoding.AppendEncode(dst, raw[:]), id.Seq)
}

// IDStem is the number of characters that the IDs of one stream have in common: those of its directory and
// incarnation, which are whole groups of base32. Those of the sequence follow.
const IDStem = (idBytes - 8) * 8 / 5

// AppendSeq adds the part of an ID's printed form that follows its stem, so that the IDs of a call need not
// all be printed from scratch.
func AppendSeq(dst []byte, seq uint64) []byte {
	const digits = idDigits
	return append(dst,
		digits[seq>>59], digits[seq>>54&31], digits[seq>>49&31], digits[seq>>44&31], digits[seq>>39&31], digits[seq>>34&31],
		digits[seq>>29&31], digits[seq>>24&31], digits[seq>>19&31], digits[seq>>14&31], digits[seq>>9&31], digits[seq>>4&31],
		digits[seq<<1&31]) // the 65th bit is 0
}

// ParseID reads what String printed.
func ParseID(s string) (ID, error) {
	raw, err := idEncoding.DecodeString(s)
	if err != nil || len(raw) != idBytes {
		return ID{}, fmt.Errorf("%q is not a record id of this program: want %d characters of 0-9 and a-v", s, IDLength)
	}
	var id ID
	copy(id.Directory[:], raw)
	id.Incarnation = binary.BigEndian.Uint32(raw[16:])
	id.Seq = binary.BigEndian.Uint64(raw[20:])
	if id.String() != s {
		return ID{}, fmt.Errorf("%q is not a record id of this program: its last character has unused bits set", s)
	}
	return id, nil
}
