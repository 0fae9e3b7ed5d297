package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// A sealed pack or run has its header in clear; all behind it is cut into blocks of sealBlock clear bytes, the last one
// shorter, each sealed for itself and stored back to back. Offsets in footers and trailers count clear bytes, as
// if nothing were sealed, so what reads a pack needs to know nothing of this but where its bytes come from.
//
// Blocks are small beside what is written at once: to read an object of a few kilobytes, or to go back into the
// middle of a block because an object is dropped, one whole block has to be opened.
const sealBlock = 64 << 10

// fileName says which file a block belongs to: the magic of its kind and its id.
type fileName struct {
	magic uint32
	id    [16]byte
}

// blockSeal is the additional data of a file's block: which file, which block. Blocks cannot change places, and
// the trailer, which is in the last one, says where the file ends.
func blockSeal(name fileName, block int64) (b [28]byte) {
	binary.LittleEndian.PutUint32(b[:], name.magic)
	copy(b[4:], name.id[:])
	binary.LittleEndian.PutUint64(b[20:], uint64(block))
	return b
}

// sealedLength is the length of a sealed file whose header and clear bytes are n together: the place of clear
// byte n, where that begins a block.
func sealedLength(n int64) int64 {
	return n + (n-packHeaderSize+sealBlock-1)/sealBlock*sealOverhead
}

// clearLength is the inverse; false for lengths that no sealed file has.
func clearLength(size int64) (n int64, ok bool) {
	const stored = sealBlock + sealOverhead
	body := size - packHeaderSize
	rest := body % stored
	if body < 0 || rest > 0 && rest <= sealOverhead {
		return 0, false
	}
	return packHeaderSize + body/stored*sealBlock + max(rest-sealOverhead, 0), true
}

// sealBlocks appends clear bytes, of which the first is byte off of the file and begins a block, to dst.
func (s *sealer) sealBlocks(dst, clear []byte, name fileName, off int64) []byte {
	for block := (off - packHeaderSize) / sealBlock; len(clear) > 0; block++ {
		n := min(len(clear), sealBlock)
		additional := blockSeal(name, block)
		dst = s.seal(dst, clear[:n], additional[:])
		clear = clear[n:]
	}
	return dst
}

// openBlock reads block number block of a sealed file into buf, whose capacity is that of a stored block. Clear
// is the number of clear bytes before the file's end. Errors: errUnsealed, or the file's.
func (k *dataKey) openBlock(f io.ReaderAt, name fileName, block, clear int64, buf []byte) ([]byte, error) {
	n := min(sealBlock, clear-packHeaderSize-block*sealBlock)
	stored := buf[:n+sealOverhead]
	if err := readFull(f, stored, packHeaderSize+block*(sealBlock+sealOverhead)); err != nil {
		return nil, err
	}
	additional := blockSeal(name, block)
	return k.open(stored[sealCounter:sealCounter], stored, additional[:]) // in place
}

// clearReader reads the clear bytes of a sealed file. It keeps the block that it read last. Safe for concurrent
// use until Close.
type clearReader struct {
	f    io.ReaderAt
	key  *dataKey
	name fileName
	size int64 // clear bytes, header included
	pool *sync.Pool

	mu     sync.Mutex
	buf    *[]byte // of a stored block; nil: not needed yet
	block  int64   // that opened holds
	opened []byte
	closed bool
}

// newBlockPool recycles the buffers of readers.
func newBlockPool() *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, sealBlock+sealOverhead)
		return &b
	}}
}

// ReadAt implements io.ReaderAt. Bytes whose seal is broken end the reading with errUnsealed.
func (r *clearReader) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off < packHeaderSize {
		return 0, fmt.Errorf("bug: byte %d of a sealed file is in its header", off)
	}
	if r.closed {
		return 0, os.ErrClosed
	}
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		block := (off - packHeaderSize) / sealBlock
		if r.buf == nil {
			r.buf = r.pool.Get().(*[]byte)
		}
		if r.opened == nil || r.block != block {
			r.opened = nil
			opened, err := r.key.openBlock(r.f, r.name, block, r.size, *r.buf)
			if err != nil {
				return n, err
			}
			r.block, r.opened = block, opened
		}
		w := copy(p[n:], r.opened[off-packHeaderSize-block*sealBlock:])
		n += w
		off += int64(w)
	}
	return n, nil
}

// forget gives the buffer back until it is needed again.
func (r *clearReader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf != nil {
		r.pool.Put(r.buf)
	}
	r.buf, r.opened = nil, nil
}

// Close gives the buffer back. Again it does nothing.
func (r *clearReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf != nil {
		r.pool.Put(r.buf)
	}
	r.buf, r.opened, r.closed = nil, nil, true
	return nil
}

// brokenEnds makes bytes whose seal is broken the end of an object: whoever sends it finds it short, which is
// damage, as it would find bytes that do not match their hash.
type brokenEnds struct {
	io.ReaderAt
	broken func()
}

func (r *brokenEnds) ReadAt(p []byte, off int64) (n int, err error) {
	n, err = r.ReaderAt.ReadAt(p, off)
	if errors.Is(err, errUnsealed) {
		r.broken()
		return n, io.EOF
	}
	return n, err
}
