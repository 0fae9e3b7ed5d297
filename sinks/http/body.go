package http

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"hydrant/sinks"
)

var (
	errStopped = errors.New("the request is over")
	errDamaged = errors.New("the bytes are not those that were sealed")
)

// readError is a failure to read the object's bytes; nothing is wrong with the endpoint.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// body reads an object for a request. It hashes on the way, and where the object is not what its manifest says it ends
// with an error instead of the last bytes: an endpoint takes no request that ends early.
//
// A transport may still read from it when the request has been answered; stop ends that.
type body struct {
	o sinks.Object

	mu      sync.Mutex // guards what follows
	pos     int64
	sum     hash.Hash
	err     error // the first failure to read the object's bytes
	stopped bool
}

func newBody(o sinks.Object) *body { return &body{o: o, sum: sha256.New()} }

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
		return 0, errStopped
	case b.err != nil:
		return 0, b.err
	case b.pos >= b.o.Size:
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.o.Size-b.pos)]
	n, err := b.o.ReadAt(p, b.pos)
	if n < len(p) {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			b.err = fmt.Errorf("%w: they end at byte %d", errDamaged, b.pos+int64(n))
		} else {
			b.err = &readError{fmt.Errorf("read the request's bytes at %d: %w", b.pos+int64(n), err)}
		}
		return 0, b.err
	}
	b.sum.Write(p)
	b.pos += int64(n)
	if b.pos == b.o.Size {
		if got := [32]byte(b.sum.Sum(nil)); got != b.o.SHA256 {
			b.err = fmt.Errorf("%w: SHA-256 is %x, the manifest says %x", errDamaged, got, b.o.SHA256)
			return 0, b.err
		}
	}
	return n, nil
}

// Close is an io.Closer's.
func (b *body) Close() error { return nil }

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
