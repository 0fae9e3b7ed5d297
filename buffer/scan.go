package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"hydrant/buffer/fsys"
)

// frameScan reads the frames of a segment one after another. It checks that each header belongs where it
// stands and that each payload matches its checksum.
type frameScan struct {
	file  fsys.File
	name  string
	base  uint64 // LSN of the file's first byte
	salt  uint32
	key   *dataKey // of the segment; nil: it is in clear
	blind bool     // the key is not known: sealed payloads are left as they are
	off   int64    // of the next frame
	limit int64    // where frames end

	mended map[int64]frameHead // headers that mend has put right, by offset

	buf   []byte // bytes [at, at+len(buf)) of the file
	at    int64
	clear []byte // of the last payload that was sealed
}

// scanWindow is how much is read at once.
const scanWindow = 1 << 20

// window returns bytes [off, off+n) of the file; fewer where the limit comes before. Valid until the next
// call.
func (s *frameScan) window(off, n int64) ([]byte, error) {
	n = min(n, s.limit-off)
	if n <= 0 {
		return nil, nil
	}
	if off >= s.at && off+n <= s.at+int64(len(s.buf)) {
		return s.buf[off-s.at:][:n], nil
	}
	size := min(max(n, scanWindow), s.limit-off)
	if int64(cap(s.buf)) < size {
		s.buf = make([]byte, size)
	}
	s.buf, s.at = s.buf[:size], off
	got, err := s.file.ReadAt(s.buf, off)
	if int64(got) < size && err != nil && !errors.Is(err, io.EOF) {
		s.buf = s.buf[:0]
		return nil, fmt.Errorf("read %d bytes at %d of %q: %w", size, off, s.name, err)
	}
	clear(s.buf[got:]) // a file cut short reads as zeros, which are no frame
	return s.buf[:n], nil
}

// header reads the header at off, without moving.
func (s *frameScan) header(off int64) (frameHead, error) {
	b, err := s.window(off, frameHeader)
	if err != nil {
		return frameHead{}, err
	}
	h, err := parseFrameHead(b, s.salt)
	if err != nil {
		if h, ok := s.mended[off]; ok {
			return h, nil
		}
		return frameHead{}, err
	}
	if h.LSN != s.base+uint64(off) {
		return frameHead{}, errFramePlace
	}
	if off+h.size() > s.limit {
		return frameHead{}, errFrameLength
	}
	return h, nil
}

// next reads the frame at off, whose payload it opens where it is sealed. io.EOF at the limit. Where badFrame(err) holds there is no sound frame here;
// with errPayload its header is sound and is returned. It moves on only past a sound frame. The payload is
// valid until the next call.
func (s *frameScan) next() (h frameHead, payload []byte, err error) {
	if s.off >= s.limit {
		return frameHead{}, nil, io.EOF
	}
	if h, err = s.header(s.off); err != nil {
		return frameHead{}, nil, err
	}
	b, err := s.window(s.off, h.size())
	if err != nil {
		return frameHead{}, nil, err
	}
	if err := h.checkPayload(b[frameHeader:]); err != nil {
		return h, nil, err
	}
	payload = b[frameHeader : frameHeader+int(h.Length)]
	if h.Flags&flagSealed != 0 && !s.blind && int64(cap(s.clear)) < h.size() {
		s.clear = make([]byte, 0, max(h.size(), blockSize))
	}
	if !s.blind {
		if payload, err = s.key.reveal(&h, s.clear[:0], payload); err != nil {
			return h, nil, err
		}
	}
	s.off += h.size()
	return h, payload, nil
}

// mend tries to put right the header at off, of which one bit may have changed. It is believed only if the
// header then belongs here and the payload behind it matches.
func (s *frameScan) mend() (h frameHead, ok bool, err error) {
	stored, err := s.window(s.off, frameHeader)
	if err != nil || len(stored) < frameHeader {
		return h, false, err
	}
	b := [frameHeader]byte(stored)
	le := binary.LittleEndian
	sum := crc32.Update(s.salt, castagnoli, b[8:])
	switch {
	case bits.OnesCount32(le.Uint32(b[:])^frameMagic) == 1 && le.Uint32(b[4:]) == sum:
		le.PutUint32(b[:], frameMagic)
	case le.Uint32(b[:]) != frameMagic:
		return h, false, nil
	case bits.OnesCount32(le.Uint32(b[4:])^sum) == 1:
		le.PutUint32(b[4:], sum)
	default:
		bit := 8 * 8
		for ; bit < 8*frameHeader; bit++ {
			b[bit/8] ^= 1 << (bit % 8)
			if le.Uint32(b[4:]) == crc32.Update(s.salt, castagnoli, b[8:]) {
				break
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		if bit == 8*frameHeader {
			return h, false, nil
		}
	}
	h, err = parseFrameHead(b[:], s.salt)
	if err != nil || h.LSN != s.base+uint64(s.off) || s.off+h.size() > s.limit {
		return h, false, nil
	}
	frame, err := s.window(s.off, h.size())
	if err != nil {
		return h, false, err
	}
	return h, h.checkPayload(frame[frameHeader:]) == nil, nil
}

// badFrame tells damage and the end of what was written from errors of the disk.
func badFrame(err error) bool {
	return errors.Is(err, errNoFrame) || errors.Is(err, errFramePlace) || errors.Is(err, errFrameLength) || errors.Is(err, errPayload)
}

// resync finds the next sound header behind off, byte by byte in steps of the alignment. It returns the
// limit where there is none.
func (s *frameScan) resync(off int64) (int64, error) {
	for off += frameAlign; off < s.limit; {
		b, err := s.window(off, scanWindow/2)
		if err != nil {
			return 0, err
		}
		at := 0
		for ; at+frameHeader <= len(b); at += frameAlign {
			if binary.LittleEndian.Uint32(b[at:]) != frameMagic {
				continue
			}
			h, err := parseFrameHead(b[at:], s.salt)
			if err == nil && h.LSN == s.base+uint64(off)+uint64(at) && off+int64(at)+h.size() <= s.limit {
				return off + int64(at), nil
			}
		}
		if at == 0 {
			break
		}
		off += int64(at)
	}
	return s.limit, nil
}

// proven looks at the block boundaries behind off for a header that proves more than lsn to have been
// durable. It returns the greatest durable LSN found, 0 where none is greater.
func (s *frameScan) proven(off int64, lsn uint64) (uint64, error) {
	if sabotageIgnoreDurable {
		return 0, nil
	}
	var most uint64
	for off = (off + blockSize - 1) &^ (blockSize - 1); off < s.limit; off += blockSize {
		h, err := s.header(off)
		if badFrame(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if h.Durable > lsn {
			most = max(most, h.Durable)
		}
	}
	return most, nil
}
