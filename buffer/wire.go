package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// writer appends the fields of a payload. Every number has a fixed width and every list its length before
// it, so that each value has exactly one encoding.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)    { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)  { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)  { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) i64(v int64)   { w.u64(uint64(v)) }
func (w *writer) raw(v []byte)  { w.b = append(w.b, v...) }
func (w *writer) str(v string)  { w.u16(uint16(len(v))); w.b = append(w.b, v...) }
func (w *writer) blob(v []byte) { w.u32(uint32(len(v))); w.b = append(w.b, v...) }

func (w *writer) flag(v bool) {
	if v {
		w.u8(1)
		return
	}
	w.u8(0)
}

var errShort = errors.New("payload ends early")

// reader takes the fields of a payload off again. After the first fault it returns zeros and keeps the
// fault in err. It never allocates more than the payload is long.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) u8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *reader) i64() int64   { return int64(r.u64()) }
func (r *reader) str() string  { return string(r.take(int(r.u16()))) }
func (r *reader) blob() []byte { return append([]byte(nil), r.take(int(r.u32()))...) }
func (r *reader) id() (v [16]byte) {
	copy(v[:], r.take(16))
	return v
}

var errFlag = errors.New("a flag is neither 0 nor 1")

func (r *reader) flag() bool {
	v := r.u8()
	if v > 1 {
		r.fail(errFlag)
	}
	return v == 1
}

// key reads what str reads, as bytes; nil where it is empty.
func (r *reader) key() []byte {
	b := r.take(int(r.u16()))
	return append([]byte(nil), b...)
}

// list reads the length of a list whose elements take at least least bytes each, so that a wrong length
// cannot ask for more memory than the payload could fill.
func (r *reader) list(n, least int) int {
	if r.err == nil && n*least > len(r.b) {
		r.fail(errShort)
	}
	if r.err != nil {
		return 0
	}
	return n
}

// done ends the reading: what is left over is a fault too.
func (r *reader) done(what string) error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("%s: %w", what, r.err)
	}
	return nil
}
