package s3

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"

	"hydrant/sinks"
)

// section is a range of an object's bytes.
type section struct{ off, size int64 }

var (
	errStopped = errors.New("the request is over")
	errDamaged = errors.New("the bytes are not those that were sealed")
)

// readError is a failure to read the object's bytes; nothing is wrong with the store.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// body reads a section of an object for a request. It computes the section's CRC64NVME on the way, and where
// that is known beforehand it ends with an error instead of the last bytes when it does not fit: a request with
// a body that ends early stores nothing.
//
// A transport may still read from it when the request has been answered; stop ends that.
type body struct {
	r    io.ReaderAt
	at   section
	want *uint64 // or nil

	mu      sync.Mutex // guards what follows
	pos     int64
	crc     uint64
	err     error // the first failure to read the object's bytes
	stopped bool
}

func newBody(o sinks.Object, at section, want *uint64) *body {
	return &body{r: o.ReaderAt, at: at, want: want}
}

// Read is an io.Reader's.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
		return 0, errStopped
	case b.err != nil:
		return 0, b.err
	case b.pos >= b.at.size:
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.at.size-b.pos)]
	n, err := b.r.ReadAt(p, b.at.off+b.pos)
	if n < len(p) {
		b.err = readFailure(b.at.off+b.pos+int64(n), err)
		return 0, b.err
	}
	crc := crc64nvme.Update(b.crc, p)
	if b.pos+int64(n) == b.at.size && b.want != nil && crc != *b.want {
		b.err = fmt.Errorf("%w: CRC64NVME is %016x, the manifest says %016x", errDamaged, crc, *b.want)
		return 0, b.err
	}
	b.pos, b.crc = b.pos+int64(n), crc
	return n, nil
}

func readFailure(at int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: they end at byte %d", errDamaged, at)
	}
	return &readError{fmt.Errorf("read the object's bytes at %d: %w", at, err)}
}

// Seek is an io.Seeker's, by which the SDK learns the length and begins anew. Reading always begins at 0.
func (b *body) Seek(off int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += b.pos
	case io.SeekEnd:
		off += b.at.size
	}
	switch off {
	case b.pos:
	case 0:
		b.pos, b.crc = 0, 0
	case b.at.size: // to learn the length
		b.pos = off
	default:
		return 0, fmt.Errorf("bug: seek to %d in a request body of %d bytes", off, b.at.size)
	}
	return off, nil
}

// stop ends the reading for good.
func (b *body) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
}

// explain returns the failure to read behind the failure of a request, or the latter.
func (b *body) explain(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return err
}

// sum is the CRC64NVME of the whole section; false where it was not read to its end.
func (b *body) sum() (uint64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crc, b.pos == b.at.size && b.err == nil
}

// checkEmpty is Read's check for an object without bytes, whose body is never read.
func (b *body) checkEmpty() error {
	if b.want != nil && *b.want != 0 {
		return fmt.Errorf("%w: no bytes, and the manifest's CRC64NVME is %016x", errDamaged, *b.want)
	}
	return nil
}

// sums are the checksums that go along with a section, as headers want them; nil where they do not.
type sums struct {
	crc32, crc32c, crc64nvme, sha256, md5 *string
	payload                               string // hex SHA-256 for the signature, or ""
}

// sumsOf computes what a checksum mode wants of a section, and what the signature wants of it. What the
// manifest knows is not computed again.
func sumsOf(ctx context.Context, mode string, o sinks.Object, at section, sign bool) (sums, error) {
	var s sums
	whole := at == section{0, o.Size}
	var hashes []io.Writer
	var finish []func()
	want := func(h hash.Hash, set func([]byte)) {
		hashes = append(hashes, h)
		finish = append(finish, func() { set(h.Sum(nil)) })
	}
	in := func(field **string) func([]byte) {
		return func(b []byte) { v := base64.StdEncoding.EncodeToString(b); *field = &v }
	}
	if sign {
		want(sha256.New(), func(b []byte) { s.payload = hex.EncodeToString(b) })
	}
	switch mode {
	case CRC32:
		want(crc32.NewIEEE(), in(&s.crc32))
	case CRC32C:
		want(crc32.New(crc32.MakeTable(crc32.Castagnoli)), in(&s.crc32c))
	case CRC64NVME:
		if whole {
			in(&s.crc64nvme)(binary.BigEndian.AppendUint64(nil, o.CRC64NVME))
		} else {
			want(crc64nvme.New(), in(&s.crc64nvme))
		}
	case SHA256:
		switch {
		case whole:
			in(&s.sha256)(o.SHA256[:])
		case sign:
			finish = append(finish, func() { b, _ := hex.DecodeString(s.payload); in(&s.sha256)(b) })
		default:
			want(sha256.New(), in(&s.sha256))
		}
	case MD5:
		want(md5.New(), in(&s.md5))
	}
	if len(hashes) > 0 {
		buf := make([]byte, 128<<10)
		for off := int64(0); off < at.size; {
			if err := ctx.Err(); err != nil {
				return s, err
			}
			p := buf[:min(int64(len(buf)), at.size-off)]
			n, err := o.ReadAt(p, at.off+off)
			if n < len(p) {
				return s, readFailure(at.off+off+int64(n), err)
			}
			for _, h := range hashes {
				_, _ = h.Write(p) // a hash never fails
			}
			off += int64(n)
		}
	}
	for _, f := range finish {
		f()
	}
	return s, nil
}

func (s sums) put(in *s3.PutObjectInput) {
	in.ChecksumCRC32, in.ChecksumCRC32C, in.ChecksumCRC64NVME, in.ChecksumSHA256, in.ContentMD5 = s.crc32, s.crc32c, s.crc64nvme, s.sha256, s.md5
}

func (s sums) part(in *s3.UploadPartInput) {
	in.ChecksumCRC32, in.ChecksumCRC32C, in.ChecksumCRC64NVME, in.ChecksumSHA256, in.ContentMD5 = s.crc32, s.crc32c, s.crc64nvme, s.sha256, s.md5
}

func (s sums) completed(p *types.CompletedPart) {
	p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA256 = s.crc32, s.crc32c, s.crc64nvme, s.sha256
}

// algorithm is the name of a checksum mode in a multipart upload, or "".
func algorithm(mode string) (types.ChecksumAlgorithm, types.ChecksumType) {
	switch mode {
	case CRC32:
		return types.ChecksumAlgorithmCrc32, ""
	case CRC32C:
		return types.ChecksumAlgorithmCrc32c, ""
	case CRC64NVME:
		return types.ChecksumAlgorithmCrc64nvme, types.ChecksumTypeFullObject
	case SHA256:
		return types.ChecksumAlgorithmSha256, ""
	}
	return "", ""
}

// combine returns the CRC64NVME of a followed by b from those of both and the length of b.
//
// The CRC of a followed by n zero bits is a linear function of a's CRC, a 64 x 64 matrix over GF(2); squaring
// it doubles n. So a is moved over the length of b in as many steps as the length has bits.
func combine(a, b uint64, length int64) uint64 {
	times := func(m *[64]uint64, v uint64) (sum uint64) {
		for i := 0; v != 0; i, v = i+1, v>>1 {
			if v&1 != 0 {
				sum ^= m[i]
			}
		}
		return sum
	}
	square := func(m *[64]uint64) (sq [64]uint64) {
		for i := range m {
			sq[i] = times(m, m[i])
		}
		return sq
	}
	var m [64]uint64 // for one zero bit
	m[0] = sinks.CRC64NVME
	for i := 1; i < 64; i++ {
		m[i] = 1 << (i - 1)
	}
	for range 3 { // for one zero byte
		m = square(&m)
	}
	for ; length > 0; length >>= 1 {
		if length&1 != 0 {
			a = times(&m, a)
		}
		m = square(&m)
	}
	return a ^ b
}
