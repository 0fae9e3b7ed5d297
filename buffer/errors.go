package buffer

import (
	"errors"
	"fmt"
	"strings"
)

// ErrLocked says that another process has the data directory open.
var ErrLocked = errors.New("data directory is in use by another process")

// ErrTooLarge says that a call's records do not fit into one frame: more than 5 MiB of Data.
var ErrTooLarge = errors.New("call is larger than 5 MiB")

// ErrClosed is returned by everything that comes after Close.
var ErrClosed = errors.New("buffer is closed")

// ErrFailing says that the disk does not take the journal's writes at present. What was asked for did not
// happen; it may be asked for again. The buffer tries another slot every 5 seconds.
var ErrFailing = errors.New("journal cannot be written")

// ErrUnknownManifest says that a manifest has ended or never was.
var ErrUnknownManifest = errors.New("no such manifest, or it has ended")

// NewerVersionError says that a file was written by a later version of the program. Nothing is wrong with
// the file.
type NewerVersionError struct {
	Path    string
	What    string // kind of file
	Version uint32 // that it has
	Known   uint32 // newest that this program reads
}

func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("%s %q has format version %d, this program reads up to %d: use the version that wrote it or a later one",
		e.What, e.Path, e.Version, e.Known)
}

// Damage is one place where acknowledged bytes cannot be read.
type Damage struct {
	File        string
	Offset      int64
	Length      int64 // of the damaged part, as far as it is known
	What        string
	Incarnation uint32 // of the stream whose sequences it held, 0: not known
	First, Next uint64 // these sequences
}

// String is one line for a person.
func (d Damage) String() string {
	s := fmt.Sprintf("%s at byte %d (%d bytes): %s", d.File, d.Offset, d.Length, d.What)
	if d.Incarnation != 0 {
		s += fmt.Sprintf("; stream incarnation %d, sequences [%d, %d)", d.Incarnation, d.First, d.Next)
	}
	return s
}

// DamageError stops a start: acknowledged bytes are damaged, and either the policy is to stop or what the
// damage means cannot be known. Nothing was changed.
type DamageError struct{ Items []Damage }

func (e *DamageError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "acknowledged bytes are damaged in %d places", len(e.Items))
	for _, d := range e.Items {
		b.WriteString("; ")
		b.WriteString(d.String())
	}
	return b.String()
}
