package sinktest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"io"
	"strconv"

	"hydrant/sinks"
)

// bytesOf is a ReaderAt of any size that needs no memory: byte i depends on the seed and on i alone.
type bytesOf struct {
	seed uint64
	size int64
}

func (b bytesOf) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.size {
		return 0, io.EOF
	}
	var err error
	if max := b.size - off; int64(len(p)) >= max {
		p, err = p[:max], io.EOF
	}
	var word [8]byte
	for n := 0; n < len(p); {
		at := off + int64(n)
		// SplitMix64 of the word's number.
		z := b.seed + (uint64(at/8)+1)*0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(word[:], z^z>>31)
		n += copy(p[n:], word[at%8:])
	}
	return len(p), err
}

// held is the largest object whose bytes are kept in memory, which is faster than making them at every reading.
const held = 40 << 20

// Object makes an object of size random bytes with everything that delivery gives one. Equal arguments give
// equal objects. The bytes of a large one are made while they are read and take no memory.
func Object(key string, size int64, seed uint64) sinks.Object {
	var b io.ReaderAt = bytesOf{seed: seed, size: size}
	if size <= held {
		all := make([]byte, size)
		if _, err := b.ReadAt(all, 0); err != nil && err != io.EOF {
			panic("bug: " + err.Error())
		}
		b = bytes.NewReader(all)
	}
	sha, crc := sha256.New(), crc64.New(crc64.MakeTable(sinks.CRC64NVME))
	if _, err := io.CopyBuffer(io.MultiWriter(sha, crc), io.NewSectionReader(b, 0, size), make([]byte, 64<<10)); err != nil {
		panic("bug: " + err.Error())
	}
	o := sinks.Object{
		Key: key, Size: size, CRC64NVME: crc.Sum64(), ContentType: "application/octet-stream", ContentEncoding: "gzip",
		RequestID: key, ReaderAt: b,
	}
	sha.Sum(o.SHA256[:0])
	o.Meta = map[string]string{
		sinks.MetaManifestID:    fmt.Sprintf("%016x%016x", seed, seed*0x9e3779b97f4a7c15),
		sinks.MetaSHA256:        hex.EncodeToString(o.SHA256[:]),
		sinks.MetaFirstSeq:      strconv.FormatUint(seed, 10),
		sinks.MetaCount:         "7",
		sinks.MetaStream:        "clicks",
		sinks.MetaSchemaVersion: "3f",
	}
	return o
}

// Key makes a key as delivery draws it: with the object's UUID at its end.
func Key(prefix string, seed uint64) string {
	return fmt.Sprintf("%sclicks-1-2026-11-24-10-%02d-00-%08x-0000-4000-8000-%012x.gz", prefix, seed%60, uint32(seed), seed)
}

// damaged reads as r does but for one bit at an offset.
type damaged struct {
	io.ReaderAt
	at int64
}

func (d damaged) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.ReaderAt.ReadAt(p, off)
	if off <= d.at && d.at < off+int64(n) {
		p[d.at-off] ^= 1
	}
	return n, err
}

// truncated ends before the object does.
type truncated struct {
	io.ReaderAt
	size int64
}

func (r truncated) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	if max := r.size - off; int64(len(p)) > max {
		n, err := r.ReaderAt.ReadAt(p[:max], off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// failing cannot be read from an offset on.
type failing struct {
	io.ReaderAt
	at  int64
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.at {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// Sum is the SHA-256 of what r holds.
func Sum(r io.Reader) (sum [32]byte, size int64, err error) {
	h := sha256.New()
	size, err = io.Copy(h, r)
	h.Sum(sum[:0])
	return sum, size, err
}
