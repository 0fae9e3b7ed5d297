package buffer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"hydrant/buffer/forgetfs"
)

// testKey is a key that depends on n alone.
func testKey(n byte) *Key {
	k := &Key{}
	for i := range k.secret {
		k.secret[i] = n*31 + byte(i)
	}
	return k
}

// cryptModes are the ways in which a machine of the crash tests may be set up: in clear, or under one of two
// keys. Every start knows both for reading, so that the setting may change with each.
const cryptModes = 3

func (w *world) keys() (key *Key, previous []*Key) {
	previous = []*Key{testKey(1), testKey(2)}
	if w.mode > 0 {
		key = testKey(byte(w.mode))
	}
	return key, previous
}

// nonceWatch looks for a nonce that is used for two messages. One process has one data key.
type nonceWatch struct {
	seen   map[uint64][32]byte // counter → the sealed bytes
	packs  map[string]bool     // packs that are sealed
	faults []string
}

func newNonceWatch() *nonceWatch {
	return &nonceWatch{seen: map[uint64][32]byte{}, packs: map[string]bool{}}
}

func (n *nonceWatch) piece(where string, stored []byte) {
	if len(stored) < sealOverhead {
		n.faults = append(n.faults, fmt.Sprintf("%s: a sealed piece of %d bytes", where, len(stored)))
		return
	}
	counter, sum := binary.LittleEndian.Uint64(stored), sha256.Sum256(stored)
	if was, ok := n.seen[counter]; ok && was != sum {
		n.faults = append(n.faults, fmt.Sprintf("%s: nonce %d is used for two messages", where, counter))
	}
	n.seen[counter] = sum
}

// write looks at a write to a slot or a pack.
func (n *nonceWatch) write(op forgetfs.Op) {
	data := bytes.Join(op.Data, nil)
	le := binary.LittleEndian
	switch {
	case isSlot(op.Path):
		for off := 0; off+frameHeader <= len(data); off += frameAlign {
			if le.Uint32(data[off:]) != frameMagic || data[off+57]&flagSealed == 0 {
				continue
			}
			if end := off + frameHeader + int(le.Uint32(data[off+8:])); end <= len(data) {
				n.piece(op.String(), data[off+frameHeader:end])
			}
		}
	case strings.HasSuffix(op.Path, packSuffix) && !strings.Contains(op.Path, quarantineDir):
		if op.Off == 0 && len(data) >= packHeaderSize {
			n.packs[op.Path] = le.Uint32(data[4:]) == sealedVersion || !bytes.Equal(data[40:48], make([]byte, 8))
			data = data[packHeaderSize:]
		}
		for n.packs[op.Path] && len(data) > 0 {
			piece := data[:min(len(data), sealBlock+sealOverhead)]
			n.piece(op.String(), piece)
			data = data[len(piece):]
		}
	}
}

// TestNonceWatch: the watch itself notices.
func TestNonceWatch(t *testing.T) {
	n := newNonceWatch()
	n.piece("a", append(make([]byte, 8), strings.Repeat("a", 16)...))
	n.piece("b", append(make([]byte, 8), strings.Repeat("a", 16)...))
	if len(n.faults) != 0 {
		t.Errorf("the same message twice: %v", n.faults)
	}
	n.piece("c", append(make([]byte, 8), strings.Repeat("b", 16)...))
	if len(n.faults) != 1 {
		t.Errorf("another message under the nonce: %v", n.faults)
	}
}
