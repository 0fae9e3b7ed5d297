// Package lookup enriches JSON records from a small table in a file.
//
// Records flow in and out. The table is read when the processor is made and again when its file has changed; it is
// replaced whole, and a file that cannot be read leaves the table before it in force. Nothing is kept on disk: after a
// crash the file is read anew.
package lookup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"hydrant/transform"
)

const name = "Lookup"

// Options of a Lookup.
type Options struct {
	File    string        // .csv, .ndjson or .jsonl, at most MaxFile bytes
	Key     string        // path of the value that is looked up
	Into    string        // path of the member that gets what is found
	Refresh time.Duration // how often the file is looked at; 0: never again
	Log     *slog.Logger  // for files that cannot be read any more; nil: none
}

// Lookup is the processor lookup.
type Lookup struct {
	o         Options
	key, into transform.Path
	table     atomic.Pointer[table]

	began     time.Time
	next      atomic.Int64 // when the file is looked at again, ns since began
	reloading sync.Mutex
	failed    os.FileInfo // of the file that could not be read last; owned by reloading
}

var _ transform.Processor = (*Lookup)(nil)

// New parses the paths and reads the file.
func New(o Options) (*Lookup, error) {
	key, err := transform.ParsePath(o.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	into, err := transform.ParsePath(o.Into)
	if err != nil {
		return nil, fmt.Errorf("into: %w", err)
	}
	switch {
	case key.Each():
		return nil, fmt.Errorf("key: path %q: [] is not possible here", o.Key)
	case into.Each():
		return nil, fmt.Errorf("into: path %q: [] is not possible here", o.Into)
	case o.File == "":
		return nil, errors.New("file: no file is named")
	}
	t, err := read(o.File)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Lookup{o: o, key: key, into: into, began: time.Now()}
	p.table.Store(t)
	p.next.Store(int64(o.Refresh))
	return p, nil
}

// Process sets into to what the table has for the key. A record whose key is missing, null, no scalar or not in the table
// stays as it is.
func (p *Lookup) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	t := p.current()
	v := d.Find(root, p.key)
	if v == 0 {
		return transform.Keep, nil
	}
	key, ok := keyText(d, v)
	if !ok {
		return transform.Keep, nil
	}
	value, ok := t.rows[string(key)]
	if !ok {
		return transform.Keep, nil
	}
	old := d.Find(root, p.into)
	if old != 0 && d.Same(old, value) {
		return transform.Keep, nil
	}
	found, err := d.NewJSON(value)
	if err != nil {
		return 0, transform.Failf(name, "What the table has for %s cannot be used: %v.", p.key, err)
	}
	if old != 0 {
		d.Replace(old, found)
		return transform.Keep, nil
	}
	object, member, inTheWay := d.Place(root, p.into)
	if object == 0 {
		return 0, transform.Failf(name, "%s cannot be set: %s.", p.into, inTheWay)
	}
	d.Append(object, member, found)
	return transform.Keep, nil
}

// current is the table, which is read again first when that is due and nobody else is at it.
func (p *Lookup) current() *table {
	if p.o.Refresh > 0 && int64(time.Since(p.began)) >= p.next.Load() && p.reloading.TryLock() {
		p.reload()
		p.next.Store(int64(time.Since(p.began) + p.o.Refresh))
		p.reloading.Unlock()
	}
	return p.table.Load()
}

func (p *Lookup) reload() {
	now := p.table.Load()
	info, err := os.Stat(p.o.File)
	if err == nil && (sameFile(info, now.info) || p.failed != nil && sameFile(info, p.failed)) {
		return
	}
	var t *table
	if err == nil {
		t, err = read(p.o.File)
	}
	if err != nil {
		p.failed = info
		p.o.Log.Warn("the table of a lookup cannot be read; the one before stays in force", "file", p.o.File, "rows", len(now.rows), "err", err)
		return
	}
	p.failed = nil
	p.table.Store(t)
	p.o.Log.Info("the table of a lookup was read again", "file", p.o.File, "rows", len(t.rows))
}

// sameFile tells whether a file was not written or replaced in between, as far as its directory entry shows.
func sameFile(a, b os.FileInfo) bool {
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}
