package buffer

import (
	"errors"
	"fmt"

	"hydrant/buffer/fsys"
)

// RunReport is what InspectRun finds in a run file.
type RunReport struct {
	RunHead
	Path      string
	ID        RunID
	Directory [16]byte // uuid of the data directory that wrote it
	Length    int64
	KeyID     string   // of the key that it is encrypted under; "": it is in clear
	Footer    [32]byte // SHA-256 of the footer: what the RUN frame has
	Keys      int64    // 0 in a raw run
	Rows      int64
	Records   int64 // rows with which their record counts
	Bytes     int64 // of Data
	Oldest    int64 // arrival in µs, 0 where there are no rows
	Damaged   []RunDamage
}

// RunDamage is a block that does not match its checksum.
type RunDamage struct {
	Key    []byte // of its rows
	Offset int64  // in clear bytes
	Length int64
	Rows   int64
	What   string
}

// InspectRun reads a run file, and with verify every block. It changes nothing and needs no lock: a sealed run is
// immutable. onKey, where it is not nil, is told of each key of a routed run, ascending; what it gets is valid until it
// returns. keys are those that the run may be encrypted under. Errors: *KeyError, *NewerVersionError, the file
// system's, or one that says what of the header, footer or trailer is damaged.
func InspectRun(fs fsys.FS, path string, verify bool, onKey func(EpochKey), keys ...*Key) (*RunReport, error) {
	f, err := fs.OpenFile(path, fsys.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	defer f.Close()
	ring, err := newKeyring([16]byte{}, nil, keys, nil)
	if err != nil {
		return nil, err
	}
	report := &RunReport{Path: path}
	var key EpochKey
	tell := func() {
		if onKey != nil && key.Rows > 0 {
			onKey(key)
		}
	}
	var reader *runReader
	var scratch runScratch
	c, e, err := readRun(f, path, ring, func(c *runContent, e *envelope, entry runEntry) error {
		if c.head.Kind == RunRouted && string(entry.Key) != string(key.Key) || key.Rows == 0 {
			tell()
			key = EpochKey{Key: append(key.Key[:0], entry.Key...)}
		}
		key.Rows += entry.Rows
		key.Records += entry.Records
		key.Bytes += entry.Bytes
		if !verify {
			return nil
		}
		if reader == nil {
			reader = &runReader{runContent: *c, path: path, blocks: e.clear}
		}
		for _, err := range reader.rows(&scratch, entry) {
			loss, damaged := errors.AsType[*runLoss](err)
			if damaged {
				report.Damaged = append(report.Damaged, RunDamage{Key: append([]byte(nil), entry.Key...), Offset: loss.Offset, Length: loss.Length, Rows: loss.Rows, What: loss.What})
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.head.Kind == RunRouted {
		tell()
	}
	report.RunHead, report.ID, report.Directory, report.Length = c.head, c.ref.ID, e.directory, c.ref.Length
	report.KeyID, report.Footer = c.key.keyID(), c.ref.Footer
	report.Keys, report.Rows, report.Records, report.Bytes, report.Oldest = c.sum.Keys, c.sum.Rows, c.sum.Records, c.sum.Bytes, c.sum.Oldest
	return report, nil
}
