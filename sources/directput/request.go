package directput

import (
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"hydrant/record"
	"hydrant/sources"
)

// operationOf reads from the headers which operation is called. The operation is also returned with an
// error, where it is one of the API.
func operationOf(r *http.Request) (op string, err error) {
	if r.URL.Path != "/" {
		return "", &apiError{status: http.StatusNotFound, code: "UnknownOperationException", message: "Calls go to POST /.", reason: "unknown_operation"}
	}
	if r.Method != http.MethodPost {
		return "", &apiError{status: http.StatusMethodNotAllowed, code: "UnknownOperationException", message: "Calls go to POST /.", reason: "unknown_operation"}
	}
	target := r.Header.Get("X-Amz-Target")
	if target == "" && r.URL.RawQuery != "" { // signers of presigned requests move the header there
		target = r.URL.Query().Get("X-Amz-Target")
	}
	op, ours := strings.CutPrefix(target, targetPrefix)
	switch {
	case target == "":
		return "", errUnknownOperation("The header X-Amz-Target, " + targetPrefix + "<operation>, is missing.")
	case !ours:
		return "", errUnknownOperation("The header X-Amz-Target must begin with " + targetPrefix)
	case slices.Contains([]string{opPutRecord, opPutRecordBatch, opDescribe, opList}, op):
	case slices.Contains(controlOperations[:], op):
	default:
		return "", errUnknownOperation("Firehose has no such operation.")
	}
	if err := checkContent(r.Header); err != nil {
		return op, err
	}
	return op, nil
}

// checkContent refuses bodies in another form than the protocol's.
func checkContent(header http.Header) error {
	given := header.Get("Content-Type")
	if given != contentType {
		media, params, err := mime.ParseMediaType(given)
		charset, has := params["charset"]
		if err != nil || media != contentType && media != "application/json" || has && !strings.EqualFold(charset, "utf-8") {
			return &apiError{status: http.StatusUnsupportedMediaType, code: "SerializationException",
				message: "The Content-Type must be " + contentType + ".", reason: "content_type"}
		}
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &apiError{status: http.StatusUnsupportedMediaType, code: "SerializationException",
			message: "A Content-Encoding of the request is not supported.", reason: "content_type"}
	}
	return nil
}

// body is a request body in memory.
type body struct {
	bytes   []byte
	h       *Handler
	release func() // gives its memory back to the admitter
	hash    [sha256.Size]byte
	hashed  bool
}

// sum is the body's SHA-256. Hashing takes half of a whole put's time, so it is computed when it is first asked
// for, and once.
func (b *body) sum() [sha256.Size]byte {
	if !b.hashed {
		b.hash, b.hashed = sha256.Sum256(b.bytes), true
	}
	return b.hash
}

// free gives the memory back. The bytes may not be used any more.
func (b *body) free() {
	if b.bytes != nil {
		b.h.bufs.Put(b.bytes)
		b.bytes = nil
	}
	if b.release != nil {
		b.release()
		b.release = nil
	}
}

// readBody reads a whole body of at most most bytes; the caller frees it. Memory is admitted before it is taken. A
// body without a Content-Length is read into buffers that double.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, most int) (b body, err error) {
	if r.ContentLength > int64(most) {
		return body{}, errTooLarge(most)
	}
	b.h = h
	defer func() {
		if err != nil {
			b.free()
		}
	}()
	from := h.pace(w, r)
	if n := r.ContentLength; n >= 0 {
		if b.release, err = h.admit(r, n); err != nil {
			return b, err
		}
		b.bytes = h.bufs.Get(int(n))[:n]
		if _, err := io.ReadFull(from, b.bytes); err != nil {
			return b, errBody(err)
		}
		return b, nil
	}
	for size := 64 << 10; ; size *= 2 {
		size := min(size, most+1) // one byte more tells that it is too long
		release, err := h.admit(r, int64(size))
		if err != nil {
			return b, err
		}
		grown := h.bufs.Get(size)
		have := copy(grown[:size], b.bytes)
		b.free()
		b.bytes, b.release = grown[:size], release
		n, err := fill(from, b.bytes[have:])
		switch {
		case have+n > most: // whether or not that is its end
			return b, errTooLarge(most)
		case err == io.EOF:
			b.bytes = b.bytes[:have+n]
			return b, nil
		case err != nil:
			return b, errBody(err)
		}
	}
}

// fill reads until p is full, or r says something: io.EOF is said only at the proper end of a body.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// admit reserves memory for a body.
func (h *Handler) admit(r *http.Request, n int64) (release func(), err error) {
	if h.o.Admitter == nil {
		return func() {}, nil
	}
	release, err = h.o.Admitter.AdmitBody(r.RemoteAddr, n)
	if refusal, ok := errors.AsType[*record.Refusal](err); ok {
		return nil, errRefused(refusal)
	}
	return release, err
}

// pace is the request's body, with the time that it may take.
func (h *Handler) pace(w http.ResponseWriter, r *http.Request) io.Reader {
	return sources.PaceBody(w, r.Body, h.o.BodyTimeout)
}

// identify fills in the identity of a call whose body has this SHA-256. The headers' names are in the form in
// which package http keeps them, which saves converting them.
func (c call) identify(to *record.Call, header http.Header, body [sha256.Size]byte) {
	to.Invocation = invocationOf(header.Get("Amz-Sdk-Invocation-Id"))
	to.Attempt = attemptOf(header.Get("Amz-Sdk-Request"))
	if c.who != nil && c.who.Tag() != [32]byte{} {
		tag := c.who.Tag()
		copy(to.KeyHash[:], tag[:])
	} else if key := accessKeyOf(header.Get("Authorization")); key != "" {
		sum := sha256.Sum256([]byte(key))
		copy(to.KeyHash[:], sum[:])
	}
	copy(to.BodyHash[:], body[:])
}

// invocationOf is a UUID as it is, and a hash of everything else; zero of nothing.
func invocationOf(s string) (id [16]byte) {
	if s == "" {
		return id
	}
	if len(s) == 36 {
		if u, err := uuid.Parse(s); err == nil && u != uuid.Nil {
			return u
		}
	}
	sum := sha256.Sum256([]byte(s))
	copy(id[:], sum[:])
	return id
}

// attemptOf reads "attempt=2; max=3"; 0 where there is none.
func attemptOf(s string) uint8 {
	for part := range strings.SplitSeq(s, ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), "attempt="); ok {
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return 0
			}
			return uint8(min(n, math.MaxUint8))
		}
	}
	return 0
}

// accessKeyOf reads the access key id of a SigV4 Authorization header, or "". It is for daemons that ask nobody
// for a key: there it tells callers apart and proves nothing.
func accessKeyOf(authorization string) string {
	_, rest, ok := strings.Cut(authorization, "Credential=")
	if !ok {
		return ""
	}
	key, _, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return key
}
