package access

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// valueLife is how long a secret that was read is taken for the present one.
const valueLife = time.Second

// value is a secret that may change in its file while the process runs.
type value struct {
	what string // for messages; not the secret
	get  func() (string, error)
	log  *slog.Logger

	last    atomic.Pointer[reading]
	reading sync.Mutex // held by who reads it again; guards failed
	failed  string     // what the last attempt failed with
}

type reading struct {
	text string
	sum  [32]byte // SHA-256 of text
	at   time.Time
}

func newValue(what string, get func() (string, error), log *slog.Logger) (*value, error) {
	if get == nil {
		return nil, fmt.Errorf("access: the %s is missing", what)
	}
	text, err := get()
	if err != nil {
		return nil, fmt.Errorf("access: the %s: %w", what, err)
	}
	if text == "" {
		return nil, fmt.Errorf("access: the %s is empty", what)
	}
	v := &value{what: what, get: get, log: log}
	v.last.Store(&reading{text, sha256.Sum256([]byte(text)), time.Now()})
	return v, nil
}

// now returns the secret, which is at most valueLife old. Where it cannot be read the last one holds on: a file
// that is being replaced must not turn producers away, and an operator who wants a key to end takes it out of
// the configuration.
func (v *value) now() *reading {
	last := v.last.Load()
	if time.Since(last.at) < valueLife || !v.reading.TryLock() {
		return last
	}
	defer v.reading.Unlock()
	text, err := v.get()
	next := &reading{last.text, last.sum, time.Now()}
	switch {
	case err == nil && text != "" && text != last.text:
		next.text, next.sum = text, sha256.Sum256([]byte(text))
		v.log.Info("a secret has changed and is used from now on", "secret", v.what)
	case err == nil && text == "":
		err = fmt.Errorf("it is empty")
	}
	if err != nil && err.Error() != v.failed {
		v.log.Error("a secret cannot be read again; the one that was read before stays in use", "secret", v.what, "err", err)
	}
	v.failed = ""
	if err != nil {
		v.failed = err.Error()
	}
	v.last.Store(next)
	return next
}
