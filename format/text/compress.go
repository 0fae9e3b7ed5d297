package text

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Compression of the whole object.
type Compression string

// The compressions. Snappy has two framings, neither of which is that of snappy's own authors: readers take
// one or the other.
const (
	CompressionNone         Compression = "none"
	CompressionGzip         Compression = "gzip"          // one member
	CompressionZip          Compression = "zip"           // an archive of one deflated entry, named with a UUID
	CompressionSnappy       Compression = "snappy"        // as the Java library snappy-java frames it
	CompressionHadoopSnappy Compression = "hadoop_snappy" // as Hadoop's SnappyCodec frames it
	CompressionZstd         Compression = "zstd"          // one frame; not one of Firehose's
)

// compressions in the order in which messages list them, with what objects show of them.
var compressions = []struct {
	name                Compression
	extension, encoding string
	overhead            int64 // bytes beside the compressed records
}{
	{CompressionNone, "", "", 0},
	// A gzip member: header 10, checksum and length 8, and the deflate block that ends it.
	{CompressionGzip, ".gz", "gzip", 10 + 8 + 5},
	// An archive: local header 30, data descriptor 16, central header 46, end 22, name and time twice, and deflate's
	// end.
	{CompressionZip, ".zip", "zip", 30 + 16 + 46 + 22 + 2*(entryName+9) + 5},
	{CompressionSnappy, ".snappy", "snappy-java", int64(len(xerialHeader))},
	{CompressionHadoopSnappy, ".snappy", "hadoop-snappy", 0},
	// A frame: header 6, the block that ends it 3, checksum 4.
	{CompressionZstd, ".zst", "zstd", 6 + 3 + 4},
}

// deflateLevel makes objects within 3 % of the size at level 6, 10 to 40 % faster; levels 1 to 3 are half as fast
// again and a tenth larger, and these objects are kept for years.
const deflateLevel = 5

// zstdWindow bounds the memory of an encoder to a few MiB; records that are alike stand close together, so that
// a larger window gains 1 to 2 %.
const zstdWindow = 1 << 20

// compressor writes one compressed object after the other.
type compressor interface {
	io.Writer
	// Reset drops what was not finished and begins an object on w.
	Reset(w io.Writer)
	// Close finishes the object.
	Close() error
}

// firstRow is what the entry of an archive takes from the object's first record.
type firstRow struct {
	seq     uint64
	arrived int64 // µs since 1970
}

// newCompressor makes one; nil for none. first is where the encoder keeps what it knows of the first record.
func newCompressor(c Compression, first *firstRow) compressor {
	switch c {
	case CompressionGzip:
		w, err := gzip.NewWriterLevel(io.Discard, deflateLevel)
		if err != nil {
			panic(fmt.Sprintf("bug: gzip level %d: %v", deflateLevel, err))
		}
		return w
	case CompressionZip:
		return &archive{first: first}
	case CompressionSnappy:
		return &snappy{xerial: true, size: xerialBlock}
	case CompressionHadoopSnappy:
		return &snappy{size: hadoopBlock}
	case CompressionZstd:
		// One thread: the encoder is one of several workers already.
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderLevel(zstd.SpeedDefault))
		if err != nil {
			panic(fmt.Sprintf("bug: zstd with a window of %d: %v", zstdWindow, err))
		}
		return w
	}
	return nil
}

// archive writes zip archives of one entry.
type archive struct {
	first   *firstRow
	out     io.Writer
	zip     *zip.Writer // nil until something is written
	entry   io.Writer
	deflate *flate.Writer // made at the first object, kept for the next ones
}

// entryName is the length of an entry's name, a UUID.
const entryName = 36

func (a *archive) Reset(w io.Writer) { a.out, a.zip, a.entry = w, nil, nil }

// open begins the archive and its entry. The entry's name is drawn from the sequence of the first record and
// from the first bytes: equal objects are equal archives, and others do not overwrite each other where they
// are unpacked. Its time is the arrival of that record.
func (a *archive) open(head []byte) error {
	a.zip = zip.NewWriter(a.out)
	a.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		if a.deflate == nil {
			var err error
			a.deflate, err = flate.NewWriter(w, deflateLevel)
			return a.deflate, err
		}
		a.deflate.Reset(w)
		return a.deflate, nil
	})
	seed := binary.BigEndian.AppendUint64(nil, a.first.seq)
	name := uuid.NewHash(sha256.New(), uuid.Nil, append(seed, head...), 8)
	var err error
	a.entry, err = a.zip.CreateHeader(&zip.FileHeader{Name: name.String(), Method: zip.Deflate, Modified: modified(a.first.arrived)})
	return err
}

// modified is an arrival as the time of an entry, which archives know from 1980 on.
func modified(arrived int64) time.Time {
	t := time.UnixMicro(arrived).UTC()
	if first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); t.Before(first) {
		return first
	}
	return t
}

func (a *archive) Write(p []byte) (int, error) {
	if a.zip == nil {
		if err := a.open(p); err != nil {
			return 0, err
		}
	}
	n, err := a.entry.Write(p)
	if err == nil {
		// What deflate has finished goes on its way, so that it counts in the estimate of the object's size.
		err = a.zip.Flush()
	}
	return n, err
}

func (a *archive) Close() error {
	if a.zip == nil {
		if err := a.open(nil); err != nil {
			return err
		}
	}
	return a.zip.Close()
}

// snappy writes blocks of snappy, each behind its length in 32 bits, big endian:
//
//	xerial:  header  ( compressed length, block )*
//	Hadoop:          ( uncompressed length, compressed length, block )*
type snappy struct {
	xerial bool
	size   int // most bytes of a block before compression
	out    io.Writer
	begun  bool
	held   []byte // less than size
	buf    []byte
}

// xerialHeader is the magic of snappy-java's streams, its version and the oldest one that reads it.
var xerialHeader = [16]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}

const (
	xerialBlock = 32 << 10 // what snappy-java writes; readers take any
	// hadoopBlock is well below the 256 KiB of buffer that Hadoop's decompressor has for a block, compressed or
	// not.
	hadoopBlock = 64 << 10
)

func (s *snappy) Reset(w io.Writer) { s.out, s.begun, s.held = w, false, s.held[:0] }

func (s *snappy) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(s.held) == 0 && len(p) >= s.size {
			if err := s.block(p[:s.size]); err != nil {
				return n, err
			}
			n, p = n+s.size, p[s.size:]
			continue
		}
		took := min(s.size-len(s.held), len(p))
		s.held = append(s.held, p[:took]...)
		n, p = n+took, p[took:]
		if len(s.held) == s.size {
			if err := s.block(s.held); err != nil {
				return n, err
			}
			s.held = s.held[:0]
		}
	}
	return n, nil
}

// block writes one block, and what stands before it.
func (s *snappy) block(p []byte) error {
	if most := s2.MaxEncodedLen(s.size); s.buf == nil {
		s.buf = make([]byte, 8+most)
	}
	coded := s2.EncodeSnappy(s.buf[8:], p)
	if len(coded) > math.MaxInt32 {
		panic("bug: a block of snappy that is longer than its length can say")
	}
	binary.BigEndian.PutUint32(s.buf[:4], uint32(len(p)))
	binary.BigEndian.PutUint32(s.buf[4:8], uint32(len(coded)))
	frame := s.buf[:8+len(coded)]
	if s.xerial {
		frame = frame[4:]
	}
	if err := s.begin(); err != nil {
		return err
	}
	_, err := s.out.Write(frame)
	return err
}

// begin writes the header of an object that has none yet.
func (s *snappy) begin() error {
	if s.begun || !s.xerial {
		return nil
	}
	s.begun = true
	_, err := s.out.Write(xerialHeader[:])
	return err
}

func (s *snappy) Close() error {
	if len(s.held) > 0 {
		return s.block(s.held)
	}
	return s.begin()
}
