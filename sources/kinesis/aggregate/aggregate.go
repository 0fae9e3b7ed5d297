// Package aggregate reads the format that the Kinesis Producer Library packs several records into one record with.
//
// The data of one record flows in, and views of the records that are packed in it flow out, in order. Nothing is copied but
// places in the data. What only looks like an aggregate is none.
package aggregate

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// An aggregate is these four bytes, a message in protocol buffers' wire format, and the MD5 of the message.
//
//	f3 89 9a c2 | message | MD5(message), 16 bytes
//
// The message has a table of partition keys (field 1), a table of explicit hash keys (2) and records (3), each of which has
// the index of its partition key (1), maybe that of its hash key (2), its data (3), and tags (4), which nothing uses.
var magic = [...]byte{0xf3, 0x89, 0x9a, 0xc2}

// MaxKey is the most bytes of a partition key: the service takes 256 characters. An aggregate that names a longer one did not
// come of records that could have been put one by one; since each of its records repeats its key, a small one could unpack to
// more than any memory holds.
const MaxKey = 4 * 256

// keepEntries is how many entries a table may have room for that an Aggregate keeps for the next one.
const keepEntries = 16 << 10

// Record is one that was packed. Its slices are views of the data.
type Record struct {
	PartitionKey    []byte
	ExplicitHashKey []byte // nil: none
	Data            []byte
}

// IndexError is of an aggregate whose records name keys that its tables do not have.
type IndexError struct {
	Record int    // of the records, from 0
	Table  string // "partition key" or "explicit hash key"
	Index  uint64
	Size   int // entries that the table has
}

func (e *IndexError) Error() string {
	return fmt.Sprintf("record %d of the aggregate has %s %d of a table of %d", e.Record, e.Table, e.Index, e.Size)
}

// KeyError is of an aggregate with a partition key that no record can have.
type KeyError struct {
	Key  int // of the table, from 0
	Size int // its bytes
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("partition key %d of the aggregate has %d bytes, and the most is %d", e.Key, e.Size, MaxKey)
}

// Aggregate is what Parse read. The zero value has no records and may be parsed into again and again.
type Aggregate struct {
	data         []byte
	keys, hashes []span
	records      []packed
}

type span struct{ from, to uint32 }

type packed struct {
	key, hash uint32 // indexes; hash is none where there is none
	data      span
}

const none = math.MaxUint32

// Len is how many records there are.
func (a *Aggregate) Len() int { return len(a.records) }

// At is record i.
func (a *Aggregate) At(i int) Record {
	p := a.records[i]
	r := Record{PartitionKey: a.view(a.keys[p.key]), Data: a.view(p.data)}
	if p.hash != none {
		r.ExplicitHashKey = a.view(a.hashes[p.hash])
	}
	return r
}

func (a *Aggregate) view(s span) []byte { return a.data[s.from:s.to:s.to] }

// Clear lets go of the data, and of tables that are larger than most.
func (a *Aggregate) Clear() {
	a.data = nil
	if cap(a.keys) > keepEntries || cap(a.hashes) > keepEntries || cap(a.records) > keepEntries {
		*a = Aggregate{}
		return
	}
	a.keys, a.hashes, a.records = a.keys[:0], a.hashes[:0], a.records[:0]
}

// Parse reads the data of a record into a, which keeps it, and says whether it is an aggregate. It is none where it is too
// short, begins otherwise, has another checksum or no message behind it: producers' own data may begin like one by chance.
// The error, an *IndexError or *KeyError, is of an aggregate whose records cannot be told apart from damage; a has no records
// then.
func (a *Aggregate) Parse(data []byte) (bool, error) {
	a.data, a.keys, a.hashes, a.records = nil, a.keys[:0], a.hashes[:0], a.records[:0]
	if len(data) <= len(magic)+md5.Size || len(data) > math.MaxUint32 || !bytes.Equal(data[:len(magic)], magic[:]) {
		return false, nil
	}
	end := len(data) - md5.Size
	if sum := md5.Sum(data[len(magic):end]); !bytes.Equal(sum[:], data[end:]) {
		return false, nil
	}
	a.data = data
	err := a.parse(len(magic), end)
	switch {
	case err == nil:
		return true, nil
	case err == errMessage:
		*a = Aggregate{keys: a.keys[:0], hashes: a.hashes[:0], records: a.records[:0]}
		return false, nil
	}
	a.records = a.records[:0]
	return true, err
}

var errMessage = errors.New("is no message")

// parse reads the message data[at:end].
func (a *Aggregate) parse(at, end int) error {
	for at < end {
		num, typ, n := protowire.ConsumeTag(a.data[at:end])
		if n < 0 {
			return errMessage
		}
		at += n
		if typ != protowire.BytesType || num > 3 {
			if n = protowire.ConsumeFieldValue(num, typ, a.data[at:end]); n < 0 {
				return errMessage
			}
			at += n
			continue
		}
		s, next, ok := a.bytes(at, end)
		if !ok {
			return errMessage
		}
		at = next
		switch num {
		case 1:
			a.keys = append(a.keys, s)
		case 2:
			a.hashes = append(a.hashes, s)
		case 3:
			p, err := a.record(int(s.from), int(s.to))
			if err != nil {
				return err
			}
			a.records = append(a.records, p)
		}
	}
	for i, k := range a.keys {
		if size := int(k.to - k.from); size > MaxKey {
			return &KeyError{i, size}
		}
	}
	// Tables may come after the records, so that indexes are looked at last.
	for i, p := range a.records {
		if int64(p.key) >= int64(len(a.keys)) {
			return &IndexError{i, "partition key", a.index(i, 1), len(a.keys)}
		}
		if p.hash != none && int64(p.hash) >= int64(len(a.hashes)) {
			return &IndexError{i, "explicit hash key", a.index(i, 2), len(a.hashes)}
		}
	}
	return nil
}

// bytes reads a length and so many bytes.
func (a *Aggregate) bytes(at, end int) (s span, next int, ok bool) {
	length, n := protowire.ConsumeVarint(a.data[at:end])
	if n < 0 || length > uint64(end-at-n) {
		return span{}, 0, false
	}
	from := at + n
	return span{uint32(from), uint32(from + int(length))}, from + int(length), true
}

// record reads the message of one record. Of fields that are there more than once the last counts.
func (a *Aggregate) record(at, end int) (packed, error) {
	p := packed{hash: none}
	var key, data bool
	for at < end {
		num, typ, n := protowire.ConsumeTag(a.data[at:end])
		if n < 0 {
			return p, errMessage
		}
		at += n
		switch {
		case num <= 2 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(a.data[at:end])
			if n < 0 {
				return p, errMessage
			}
			at += n
			// An index that does not fit is outside of every table; so is the one before none.
			i := uint32(min(v, none-1))
			if num == 1 {
				p.key, key = i, true
			} else {
				p.hash = i
			}
		case num == 3 && typ == protowire.BytesType:
			s, next, ok := a.bytes(at, end)
			if !ok {
				return p, errMessage
			}
			at, p.data, data = next, s, true
		default:
			if n = protowire.ConsumeFieldValue(num, typ, a.data[at:end]); n < 0 {
				return p, errMessage
			}
			at += n
		}
	}
	if !key || !data {
		return p, errMessage // fields that the format requires
	}
	return p, nil
}

// index is what record i names, for the error.
func (a *Aggregate) index(i int, field protowire.Number) uint64 {
	if field == 1 {
		return uint64(a.records[i].key)
	}
	return uint64(a.records[i].hash)
}

// Append appends an aggregate of records to dst. Keys are put into the tables once each.
func Append(dst []byte, records []Record) []byte {
	var tables, packed []byte
	keys, hashes := map[string]uint64{}, map[string]uint64{}
	index := func(table map[string]uint64, field protowire.Number, key []byte) uint64 {
		i, ok := table[string(key)]
		if !ok {
			i = uint64(len(table))
			table[string(key)] = i
			tables = protowire.AppendBytes(protowire.AppendTag(tables, field, protowire.BytesType), key)
		}
		return i
	}
	for _, r := range records {
		m := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), index(keys, 1, r.PartitionKey))
		if r.ExplicitHashKey != nil {
			m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), index(hashes, 2, r.ExplicitHashKey))
		}
		m = protowire.AppendBytes(protowire.AppendTag(m, 3, protowire.BytesType), r.Data)
		packed = protowire.AppendBytes(protowire.AppendTag(packed, 3, protowire.BytesType), m)
	}
	message := append(tables, packed...)
	sum := md5.Sum(message)
	return append(append(append(dst, magic[:]...), message...), sum[:]...)
}
