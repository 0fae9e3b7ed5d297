package parquet

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	pq "github.com/parquet-go/parquet-go/format"
)

// A compressor appends the compressed form of src to dst. It keeps tables between calls and is not safe for
// concurrent use; what it appends depends on src alone.
type compressor interface {
	compress(dst, src []byte) []byte
}

func (c Compression) codec() pq.CompressionCodec {
	switch c {
	case Snappy:
		return pq.Snappy
	case Zstd:
		return pq.Zstd
	case Gzip:
		return pq.Gzip
	}
	return pq.Uncompressed
}

func newCompressor(c Compression) compressor {
	switch c {
	case Snappy:
		return snappyCompressor{}
	case Zstd:
		return newZstd()
	case Gzip:
		return &gzipCompressor{}
	}
	return nil
}

type snappyCompressor struct{}

func (snappyCompressor) compress(dst, src []byte) []byte {
	n := len(dst)
	dst = grow(dst, s2.MaxEncodedLen(len(src)))
	return dst[:n+len(s2.EncodeSnappy(dst[n:], src))]
}

type zstdCompressor struct{ enc *zstd.Encoder }

func newZstd() *zstdCompressor {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), // pages have a checksum of their own
		zstd.WithSingleSegment(true),
		// Without it text that has few repeats, such as hexadecimal digits, is left as it is.
		zstd.WithAllLitEntropyCompression(true),
	)
	if err != nil {
		panic("bug: options of the zstd encoder: " + err.Error())
	}
	return &zstdCompressor{enc}
}

func (z *zstdCompressor) compress(dst, src []byte) []byte {
	return z.enc.EncodeAll(src, dst)
}

type gzipCompressor struct {
	buf bytes.Buffer
	w   *gzip.Writer
}

const gzipLevel = 6

func (g *gzipCompressor) compress(dst, src []byte) []byte {
	g.buf.Reset()
	if g.w == nil {
		w, err := gzip.NewWriterLevel(&g.buf, gzipLevel)
		if err != nil {
			panic("bug: level of the gzip encoder: " + err.Error())
		}
		g.w = w
	} else {
		g.w.Reset(&g.buf)
	}
	// A bytes.Buffer does not fail.
	g.w.Write(src)
	g.w.Close()
	return append(dst, g.buf.Bytes()...)
}
