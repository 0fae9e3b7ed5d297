package buffer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
)

// keySize is the length of a Key in bytes: AES-256.
const keySize = 32

// Key wraps the data keys under which a data directory is written. It prints as its id, never as itself.
type Key struct{ secret [keySize]byte }

// keyID is how files name the Key that they need. It is a hash, so it gives nothing away.
type keyID [8]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }

func (k Key) id() keyID {
	sum := sha256.Sum256(append([]byte("hydrant key id\x00"), k.secret[:]...))
	return keyID(sum[:])
}

// ID names the key in logs, errors and metrics: 16 hexadecimal digits of a hash.
func (k Key) ID() string { return k.id().String() }

// Format implements fmt.Formatter, so that no verb prints the key itself.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key %s", k.ID()) }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID()) }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.ID()), nil }

// ParseKey reads what a key file holds: 32 random bytes as they are, as 64 hexadecimal digits, or in base64
// (either alphabet, with padding or without); white space around digits does not matter. Errors never quote
// what was read.
func ParseKey(content []byte) (*Key, error) {
	if len(content) == keySize {
		if isText(content) {
			return nil, errors.New("it has 32 characters of text, which are not 32 random bytes (make a key with: head -c 32 /dev/urandom)")
		}
		return newKey(content)
	}
	text := strings.TrimSpace(string(content))
	if len(text) == hex.EncodedLen(keySize) {
		if b, err := hex.DecodeString(text); err == nil {
			return newKey(b)
		}
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := e.Strict().DecodeString(strings.TrimRight(text, "=")); err == nil && len(b) == keySize {
			return newKey(b)
		}
	}
	return nil, fmt.Errorf("it has %d bytes that are no key: wanted are 32 random bytes, as they are, as 64 hexadecimal digits or in base64 (make one with: head -c 32 /dev/urandom)", len(content))
}

func newKey(b []byte) (*Key, error) {
	if bytes.Count(b, b[:1]) == len(b) {
		return nil, errors.New("its 32 bytes are all the same, so they are not random (make a key with: head -c 32 /dev/urandom)")
	}
	return &Key{secret: [keySize]byte(b)}, nil
}

// isText tells whether every byte is printable ASCII, which random bytes are once in 10^13 times.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// maxKeyFile is more than any form of a key takes.
const maxKeyFile = 1 << 10

// ReadKeyFile reads a key. exposed says that others than the file's owner may read it, which is worth a
// warning and nothing more: what mounts secrets into containers often makes them so.
func ReadKeyFile(name string) (key *Key, exposed bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, false, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("read key: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, false, fmt.Errorf("read key: %w", err)
	}
	if len(content) > maxKeyFile {
		return nil, false, fmt.Errorf("read key from %q: it has more than %d bytes, so it is no key file", name, maxKeyFile)
	}
	if key, err = ParseKey(content); err != nil {
		return nil, false, fmt.Errorf("read key from %q: %w", name, err)
	}
	return key, runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0, nil
}

// KeyError says that a file of the data directory is encrypted under a key that was not given.
type KeyError struct {
	File  string
	KeyID string   // of the key that is needed
	Given []string // ids of those that were given
}

func (e *KeyError) Error() string {
	given := "none was given"
	if len(e.Given) > 0 {
		given = "given were " + strings.Join(e.Given, ", ")
	}
	return fmt.Sprintf("%q is encrypted under key %s, %s: name the file of that key in encryption.previous_key_files, or as encryption.key_file", e.File, e.KeyID, given)
}
