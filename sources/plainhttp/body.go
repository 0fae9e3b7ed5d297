package plainhttp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"hydrant/record"
	"hydrant/sources"
)

// form is how records stand in a body.
type form uint8

const (
	lines form = iota // one a line
	array             // elements of a JSON array
)

// coding is how a body is compressed.
type coding uint8

const (
	identity coding = iota
	gzipped
	zstandard
)

const (
	mediaNDJSON = "application/x-ndjson"
	mediaJSON   = "application/json"
)

// maxRaw is the longest body as it comes: one that does not get smaller by compression is let off a little.
const maxRaw = MaxBody + 64<<10

// contentOf reads from the headers what the body is.
func contentOf(h http.Header) (f form, c coding, err error) {
	given := h.Get("Content-Type")
	media, params, err := mime.ParseMediaType(given)
	charset, has := params["charset"]
	switch {
	case err != nil || has && !strings.EqualFold(charset, "utf-8"):
		return 0, 0, errUnsupported("The Content-Type %q is not supported. Send %s with a record a line, or %s with an array.", given, mediaNDJSON, mediaJSON)
	case media == mediaNDJSON, media == "application/ndjson", media == "application/jsonl", media == "application/jsonlines":
		f = lines
	case media == mediaJSON:
		f = array
	default:
		return 0, 0, errUnsupported("The Content-Type %q is not supported. Send %s with a record a line, or %s with an array.", given, mediaNDJSON, mediaJSON)
	}
	switch encoding := strings.Join(h.Values("Content-Encoding"), ", "); strings.ToLower(encoding) {
	case "", "identity":
		c = identity
	case "gzip", "x-gzip":
		c = gzipped
	case "zstd":
		c = zstandard
	default:
		return 0, 0, errUnsupported("The Content-Encoding %q is not supported. Use gzip, zstd or none.", encoding)
	}
	return f, c, nil
}

// keyOf reads the Idempotency-Key; "" where there is none.
func keyOf(h http.Header) (string, error) {
	switch keys := h.Values("Idempotency-Key"); {
	case len(keys) == 0:
		return "", nil
	case len(keys) > 1:
		return "", errInvalid("The header Idempotency-Key is there %d times. Send one.", len(keys))
	case keys[0] == "" || len(keys[0]) > MaxKeyBytes:
		return "", errInvalid("The Idempotency-Key has %d bytes. Send 1 to %d, for example a UUID.", len(keys[0]), MaxKeyBytes)
	default:
		return keys[0], nil
	}
}

// body is a request body in memory.
type body struct {
	bytes   []byte
	bufs    *record.Pool
	release func() // gives its memory back to the admitter
}

// free gives the memory back. The bytes may not be used any more. Again it does nothing.
func (b *body) free() {
	if b.bytes != nil {
		b.bufs.Put(b.bytes)
		b.bytes = nil
	}
	if b.release != nil {
		b.release()
		b.release = nil
	}
}

// get returns an empty body with room for n bytes, which are admitted first.
func (h *Handler) get(remote string, n int) (body, error) {
	b := body{bufs: h.bufs}
	if h.o.Admitter != nil {
		release, err := h.o.Admitter.AdmitBody(remote, int64(n))
		if refusal, ok := errors.AsType[*record.Refusal](err); ok {
			return b, errRefused(refusal)
		}
		if err != nil {
			return b, err
		}
		b.release = release
	}
	b.bytes = h.bufs.Get(n)[:0]
	return b, nil
}

// readBody reads a whole body as it comes; the caller frees it.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, c coding) (body, error) {
	most := maxRaw
	if c == identity {
		most = MaxBody
	}
	if r.ContentLength > int64(most) {
		return body{}, errBodyTooLarge(false)
	}
	from := h.pace(w, r)
	n := int(r.ContentLength)
	if n < 0 {
		return h.readAll(r.RemoteAddr, from, 64<<10, most, errBody, func() error { return errBodyTooLarge(true) })
	}
	b, err := h.get(r.RemoteAddr, n)
	if err != nil {
		return b, err
	}
	b.bytes = b.bytes[:n]
	if _, err := io.ReadFull(from, b.bytes); err != nil {
		b.free()
		return body{}, errBody(err)
	}
	return b, nil
}

// readAll reads r to its end into buffers that double, from one of first bytes on, and at most most bytes. failed
// makes the answer to an error of r, and tooLong that to more bytes.
func (h *Handler) readAll(remote string, r io.Reader, first, most int, failed func(error) error, tooLong func() error) (b body, err error) {
	for size := first; ; size *= 2 {
		size := min(size, most+1) // one byte more tells that it is too long
		grown, err := h.get(remote, size)
		if err != nil {
			b.free()
			return body{}, err
		}
		grown.bytes = append(grown.bytes, b.bytes...)
		b.free()
		b = grown
		for err == nil && len(b.bytes) < size {
			var n int
			n, err = r.Read(b.bytes[len(b.bytes):size])
			b.bytes = b.bytes[:len(b.bytes)+n]
		}
		switch {
		case len(b.bytes) > most:
			b.free()
			return body{}, tooLong()
		case err == io.EOF: // said only at the proper end of a body
			return b, nil
		case err != nil:
			b.free()
			return body{}, failed(err)
		}
	}
}

// pace is the request's body, with the time that it may take.
func (h *Handler) pace(w http.ResponseWriter, r *http.Request) io.Reader {
	return sources.PaceBody(w, r.Body, h.o.BodyTimeout)
}

// decoders are what decompresses. Safe for concurrent use.
type decoders struct {
	gzip sync.Pool // of *gzip.Reader
	zstd *zstd.Decoder
}

func newDecoders() (*decoders, error) {
	// DecodeAll writes into the buffer that it is given and nowhere else, so that a frame's window costs nothing.
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(1<<32))
	if err != nil {
		return nil, err
	}
	return &decoders{zstd: z}, nil
}

// deflateMost is the most bytes that a compressed byte may stand for, so that a header cannot ask for memory that nothing will fill.
const deflateMost = 1032

// decode returns what a compressed body holds. It takes no more memory than is admitted, and none beyond MaxBody.
func (h *Handler) decode(remote string, raw []byte, c coding) (body, error) {
	if len(raw) == 0 {
		return body{}, errMalformed("The body is empty, and its Content-Encoding says that it is compressed.")
	}
	if c == zstandard {
		return h.decodeZstd(remote, raw)
	}
	failed := func(err error) error {
		return errMalformed("The body is not what its Content-Encoding says: %v.", err)
	}
	src := bytes.NewReader(raw)
	z, _ := h.decoders.gzip.Get().(*gzip.Reader)
	var err error
	if z == nil {
		z, err = gzip.NewReader(src)
	} else {
		err = z.Reset(src)
	}
	if err != nil {
		return body{}, failed(early(err))
	}
	defer h.decoders.gzip.Put(z)
	// The last bytes say how long the last member is, which is mostly the only one.
	said := int64(binary.LittleEndian.Uint32(raw[max(len(raw)-4, 0):]))
	first := min(said+1, int64(len(raw))*deflateMost, MaxBody+1)
	return h.readAll(remote, z, int(max(first, 4<<10)), MaxBody, func(err error) error { return failed(early(err)) }, errDecodedTooLarge)
}

// early says in words of its own that something ended too soon.
func early(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends early")
	}
	return err
}

// maxBlock is the most that a block of zstd holds. With room for one more, what does not fit has written more than
// it may before it fails, which tells it from what is damaged.
const maxBlock = 128 << 10

// decodeZstd decodes into a buffer of the size that the body says it has, or of a guess, and then of the largest.
func (h *Handler) decodeZstd(remote string, raw []byte) (body, error) {
	size := min(8*len(raw)+4<<10, MaxBody)
	var header zstd.Header
	if err := header.Decode(raw); err == nil && header.HasFCS {
		if header.FrameContentSize > MaxBody {
			return body{}, errDecodedTooLarge()
		}
		size = int(header.FrameContentSize)
	}
	for {
		b, err := h.get(remote, size+maxBlock)
		if err != nil {
			return body{}, err
		}
		out, err := h.decoders.zstd.DecodeAll(raw, b.bytes[:0:size+maxBlock])
		if err == nil && len(out) <= size {
			b.bytes = b.bytes[:len(out)]
			return b, nil
		}
		b.free()
		switch over := len(out) > size || errors.Is(err, zstd.ErrDecoderSizeExceeded); {
		case !over:
			return body{}, errMalformed("The body is not what its Content-Encoding says: %v.", early(err))
		case size >= MaxBody:
			return body{}, errDecodedTooLarge()
		}
		size = MaxBody
	}
}
