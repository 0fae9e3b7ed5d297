// Package sinks is the contract between delivery and the stores that finished objects go to. An object
// flows in with its key, length and checksum already fixed in a durable manifest; the sink makes it exist
// once, under that key, with those bytes. A sink keeps no state that a crash could lose: putting the same
// object again, in this process or in the next, is always safe and adds nothing.
package sinks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Object is finished bytes with the name they get.
type Object struct {
	Key             string
	Size            int64
	SHA256          [32]byte
	CRC64NVME       uint64 // of all bytes, with the polynomial CRC64NVME
	ContentType     string
	ContentEncoding string
	// RequestID is the id under which a request's body is sent, the same with every attempt; "" of other objects.
	RequestID string
	// Meta is the object's user metadata. It always has manifest-id and sha256, by which a sink tells an
	// object of its own from a foreign one that has taken the key.
	Meta map[string]string
	// ReaderAt reads the bytes; it may be read several times and concurrently.
	io.ReaderAt
}

// CRC64NVME is the polynomial of Object.CRC64NVME, in the form that hash/crc64.MakeTable takes. It is S3's
// checksum of that name.
const CRC64NVME = 0x9a6c9329ac4bc9b5

// Metadata keys that every object carries.
const (
	MetaManifestID    = "manifest-id"
	MetaSHA256        = "sha256"
	MetaFirstSeq      = "first-seq"
	MetaCount         = "count"
	MetaStream        = "stream"
	MetaSchemaVersion = "schema-version"
)

// Metadata keys that say which records of which stream the object may have: those of the positions [range-first, range-next)
// that its manifest took. Objects of a destination and of a backup with ranges that overlap have records in common.
const (
	MetaRole        = "role"        // data, error or backup
	MetaDirectory   = "directory"   // of the data directory, 32 hexadecimal digits
	MetaIncarnation = "incarnation" // of the stream in it
	MetaRangeFirst  = "range-first"
	MetaRangeNext   = "range-next"
)

// Metadata keys of an object that stands in the place of one which its destination would not take: why it did not.
const (
	MetaErrorCode    = "error-code"    // as failed records have it
	MetaErrorMessage = "error-message" // what the destination said, at most MaxErrorMessage bytes of printable ASCII
	MetaAttempts     = "attempts"      // that were refused, by the process that gave up
)

// MaxErrorCode and MaxErrorMessage bound these texts, in bytes: with all other metadata they stay below the 2 KiB of S3.
const (
	MaxErrorCode    = 128
	MaxErrorMessage = 1 << 10
)

// Sink puts objects. Safe for concurrent use.
type Sink interface {
	// Put returns nil when the object is durably in the store under its key with its bytes: because this
	// call stored it, or because an earlier one had. It makes one attempt (a multipart upload is one, and so
	// is a look at what stands in the way) and never retries by itself. An error has a Class. When ctx ends
	// it returns soon, with Unknown.
	Put(ctx context.Context, o Object) error
	// Verify asks whether the object is there without writing anything: nil when it is, with these bytes;
	// NotStored when it certainly is not (also when somebody else's has its key); Unknown when the store did
	// not say. The sink of a destination that cannot be asked always says Unknown: then its objects arrive at least
	// once, and each time with the same RequestID and bytes.
	Verify(ctx context.Context, o Object) error
	// ValidateKey tells whether the store can take this key (its length, its path components); the
	// message is for the error output. It does no I/O.
	ValidateKey(key string) error
	// Close ends idle connections. Puts in flight end first.
	Close() error
}

// Class of an error decides what delivery does next.
type Class uint8

const (
	// Unknown: the object may or may not be stored (a time-out, a reset, a 5xx). The same put is repeated
	// with back-off, for ever. This is the class of every error that says nothing else.
	Unknown Class = iota
	// NotStored: certainly not stored, and worth another try (throttled, connection refused).
	NotStored
	// RefusedDestination: the destination as a whole refuses (no such bucket, denied, bad credentials).
	// Repeated slowly with an alarm; nothing is dropped.
	RefusedDestination
	// RefusedObject: this object will never be taken as it is (its key, its size). Delivery replaces it.
	RefusedObject
	// TooLarge: this object will never be taken in one piece, and its parts may be. Delivery halves it where it can,
	// and replaces it otherwise.
	TooLarge
	// Foreign: somebody else's object stands under this key. Delivery replaces it under a new key.
	Foreign
	// Damaged: the bytes read from the pack are not those of the manifest. Nothing was left in the store.
	Damaged
)

func (c Class) String() string {
	switch c {
	case Unknown:
		return "unknown"
	case NotStored:
		return "not_stored"
	case RefusedDestination:
		return "refused_destination"
	case RefusedObject:
		return "refused_object"
	case TooLarge:
		return "too_large"
	case Foreign:
		return "foreign"
	case Damaged:
		return "damaged"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Error is a classified failure of Put or Verify.
type Error struct {
	Class Class
	Code  string        // the store's own code (NoSuchBucket, SlowDown), or the one that Firehose has for it, or ""
	After time.Duration // the store asked to wait this long, or 0
	// Full says that the place has no room. Smaller objects may be taken meanwhile, so a refusal of some objects
	// alone says nothing about them: they are never given up for it.
	Full bool
	// Message is what the error output tells its readers; "": Err's.
	Message string
	Err     error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of err: that of the *Error in its chain, else Unknown.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return Unknown
}
