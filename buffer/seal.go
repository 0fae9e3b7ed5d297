package buffer

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

// Encryption at rest. What a process writes is sealed with AES-256-GCM under a data key that it draws when it
// starts and that never leaves its memory but wrapped: sealed itself under the Key that was given. Each slot's
// and each pack's header holds the wrapped key, in the same sector and under the same sync as what makes the
// file valid, so no byte that anything depends on can be durable without it.
//
// A sealed piece, which is a frame's payload or a block of a pack, is stored as
//
//	counter u64 · ciphertext, as long as the clear bytes · tag 16
//
// and its nonce is four zeros and the counter. Under one data key no nonce is used for two messages: the key
// is drawn anew by every process and a process that reads an older one's files only opens with its key (a
// dataKey cannot seal); there is one sealer to a process; and it takes each counter from one atomic addition,
// which wraps after 2^64 pieces. A group that is written a second time, after its slot has failed, is the same
// sealed bytes again and not another message. Copies of rows, and blocks of a pack that are written again
// because an object was dropped, are sealed anew.
//
// GCM stays far from its limits: a process that writes 1 GB/s for a year seals 2^51 blocks of 16 bytes.
const (
	sealCounter  = 8
	sealTag      = 16
	sealOverhead = sealCounter + sealTag

	gcmNonce = 12
)

// wrappedKey is a data key as headers hold it; zero where a file is in clear. Little endian.
//
//	0  scheme u32: 1           12  nonce 12
//	4  id of the Key, 8        24  the data key sealed under it, 32 and its tag 16
//
// The uuid of the data directory is its additional data.
type wrappedKey [wrappedSize]byte

const (
	wrappedSize   = 4 + 8 + gcmNonce + keySize + sealTag
	wrappedScheme = 1 // AES-256-GCM for both keys
)

func (w *wrappedKey) none() bool { return *w == wrappedKey{} }

func (w *wrappedKey) scheme() uint32 { return binary.LittleEndian.Uint32(w[:]) }

func (w *wrappedKey) keyID() keyID { return keyID(w[4:12]) }

var (
	errUnsealed = errors.New("sealed bytes do not match their tag")
	errWrapped  = errors.New("the wrapped data key does not match its tag")
)

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("bug: a key of the wrong length: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("bug: AES has another block size: " + err.Error())
	}
	return aead
}

// wrap seals a data key.
func (k *Key) wrap(data *[keySize]byte, directory [16]byte, random io.Reader) (w wrappedKey, err error) {
	binary.LittleEndian.PutUint32(w[:], wrappedScheme)
	id := k.id()
	copy(w[4:], id[:])
	nonce := w[12:24]
	if _, err := io.ReadFull(random, nonce); err != nil {
		return w, err
	}
	newGCM(k.secret[:]).Seal(w[24:24], nonce, data[:], directory[:])
	return w, nil
}

// dataKey opens what one process has sealed. Safe for concurrent use.
type dataKey struct {
	aead    cipher.AEAD
	wrapped wrappedKey
}

// keyID of the Key that it is wrapped under; "" of none.
func (k *dataKey) keyID() string {
	if k == nil {
		return ""
	}
	return k.wrapped.keyID().String()
}

// open appends the clear bytes of a sealed piece to dst, which is where the ciphertext begins or apart from it.
// Error: errUnsealed.
func (k *dataKey) open(dst, stored, additional []byte) ([]byte, error) {
	if len(stored) < sealOverhead {
		return nil, errUnsealed
	}
	var nonce [gcmNonce]byte
	copy(nonce[gcmNonce-sealCounter:], stored)
	clear, err := k.aead.Open(dst, nonce[:], stored[sealCounter:], additional)
	if err != nil {
		return nil, errUnsealed
	}
	return clear, nil
}

// sealer seals under the data key of this process. A nil one leaves everything in clear. Safe for concurrent
// use.
type sealer struct {
	dataKey
	counter atomic.Uint64
}

// key opens what the sealer has sealed.
func (s *sealer) key() *dataKey {
	if s == nil {
		return nil
	}
	return &s.dataKey
}

// header is what headers of new files say about their key.
func (s *sealer) header() wrappedKey {
	if s == nil || sabotageKeyLater {
		return wrappedKey{}
	}
	return s.wrapped
}

// overhead is what sealing adds to a piece.
func (s *sealer) overhead() int {
	if s == nil {
		return 0
	}
	return sealOverhead
}

// seal appends a sealed piece to dst, which may not overlap clear.
func (s *sealer) seal(dst, clear, additional []byte) []byte {
	n := s.counter.Add(1)
	if sabotageReuseNonce {
		n %= 4
	}
	var nonce [gcmNonce]byte
	binary.LittleEndian.PutUint64(nonce[gcmNonce-sealCounter:], n)
	dst = slices.Grow(dst, len(clear)+sealOverhead)
	dst = append(dst, nonce[gcmNonce-sealCounter:]...)
	return s.aead.Seal(dst, nonce[:], clear, additional)
}

// keyring is what a Buffer knows of keys. Safe for concurrent use.
type keyring struct {
	directory [16]byte
	keys      map[keyID]*Key
	given     []string
	seal      *sealer // nil: new files are written in clear

	mu     sync.Mutex
	opened map[wrappedKey]*dataKey
}

// newKeyring takes the key for new files, nil where these are to be in clear, and those that older ones may
// need.
func newKeyring(directory [16]byte, key *Key, previous []*Key, random io.Reader) (*keyring, error) {
	r := &keyring{directory: directory, keys: make(map[keyID]*Key), opened: make(map[wrappedKey]*dataKey)}
	for _, k := range append([]*Key{key}, previous...) {
		if k == nil {
			continue
		}
		id := k.id()
		if r.keys[id] == nil {
			r.given = append(r.given, id.String())
		}
		r.keys[id] = k
	}
	if key == nil {
		return r, nil
	}
	var data [keySize]byte
	_, err := io.ReadFull(random, data[:])
	var w wrappedKey
	if err == nil {
		w, err = key.wrap(&data, directory, random)
	}
	if err != nil {
		return nil, fmt.Errorf("draw a data key: %w", err)
	}
	r.seal = &sealer{dataKey: dataKey{aead: newGCM(data[:]), wrapped: w}}
	clear(data[:])
	r.opened[w] = &r.seal.dataKey
	return r, nil
}

// of is a keyring for a file that says itself which directory it belongs to: where no directory is open, to look
// at files, that is all there is to know.
func (r *keyring) of(directory [16]byte) *keyring {
	if r.directory == ([16]byte{}) {
		return &keyring{directory: directory, keys: r.keys, given: r.given, opened: make(map[wrappedKey]*dataKey)}
	}
	return r
}

// open unwraps the data key of a file; nil where the file is in clear. Errors: *KeyError, *NewerVersionError,
// errWrapped.
func (r *keyring) open(w wrappedKey, file string) (*dataKey, error) {
	if w.none() {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.opened[w]; k != nil {
		return k, nil
	}
	if w.scheme() != wrappedScheme {
		return nil, &NewerVersionError{Path: file, What: "encryption", Version: w.scheme(), Known: wrappedScheme}
	}
	key := r.keys[w.keyID()]
	if key == nil {
		return nil, &KeyError{File: file, KeyID: w.keyID().String(), Given: r.given}
	}
	data, err := newGCM(key.secret[:]).Open(nil, w[12:24], w[24:], r.directory[:])
	if err != nil {
		return nil, errWrapped
	}
	k := &dataKey{aead: newGCM(data), wrapped: w}
	clear(data)
	r.opened[w] = k
	return k, nil
}

// Frames.

// secret tells whether frames of this type are sealed. MARK and NEXT hold counters of the journal itself and
// PAD nothing.
func (t frameType) secret() bool { return t != frameMark && t != frameNext && t != framePad }

// additional is what of a header the seal of its payload covers: what is known before the frame has its place.
// A caller seals the rows of its call before it knows their sequences.
func (h *frameHead) additional() (b [24]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[:], frameMagic)
	b[4], b[5] = byte(h.Type), h.Consumer
	le.PutUint32(b[8:], h.Incarnation)
	le.PutUint32(b[12:], h.Count)
	if h.Type != frameData {
		le.PutUint64(b[16:], h.First)
	}
	return b
}

// store returns the payload of a frame as it is stored, and completes its header with what that says: length,
// checksum and flag. Sealed bytes are appended to dst; where nothing is sealed they are the payload itself.
func (s *sealer) store(h *frameHead, dst, payload []byte) []byte {
	h.Flags &^= flagSealed
	if s != nil && h.Type.secret() {
		h.Flags |= flagSealed
		additional := h.additional()
		payload = s.seal(dst, payload, additional[:])[len(dst):]
	}
	h.Length, h.PayloadCRC = uint32(len(payload)), payloadCRC(payload)
	return payload
}

// reveal returns the clear payload of a frame that matched its checksum. In dst, where it was sealed. A frame
// that is in clear although its segment is sealed did not come from us. Error: errBrokenSeal, which is an errPayload.
func (k *dataKey) reveal(h *frameHead, dst, stored []byte) ([]byte, error) {
	if h.Flags&flagSealed == 0 {
		if k != nil && h.Type.secret() {
			return nil, errBrokenSeal
		}
		return stored, nil
	}
	if k == nil || !h.Type.secret() {
		return nil, errBrokenSeal
	}
	additional := h.additional()
	clear, err := k.open(dst, stored, additional[:])
	if err != nil {
		return nil, errBrokenSeal
	}
	return clear, nil
}
