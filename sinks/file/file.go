// Package file is the sink that writes objects as files under a directory.
//
// A finished object flows in; a file of that name with exactly these bytes is there when Put returns nil, and
// survives a power cut from then on: the bytes, the name and every directory above it have been synced. A
// reader sees a file whole or not at all. It is written under a temporary name in TempDir and linked to its
// own name, which fails where something stands there already; so nothing is ever overwritten.
//
// After a crash the same put is made again. It finds the file, compares it, makes sure that it is durable and
// is done; or it does not, and writes it. A file has no metadata: its identity is its name and its content.
// A file with the content of the manifest is ours, and any other is foreign. What a crash left in TempDir is
// removed by a later process.
package file

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"hydrant/sinks"
)

const (
	// TempDir is the folder of unfinished files, in the sink's directory. No key may begin with it.
	TempDir = ".hydrant-tmp"
	// tempSuffix keeps unfinished files out of readers' patterns (*.parquet).
	tempSuffix = ".tmp"
	// abandoned is the age at which an unfinished file has no writer any more: a writer touches its file at
	// every write. Other processes may be writing to the same directory.
	abandoned = time.Hour
	// chunk is how much is read and written at a time.
	chunk = 256 << 10
	// maxRemembered bounds the memory for directories that are known to be durable.
	maxRemembered = 10_000
)

// Options of a Sink.
type Options struct {
	Path string       // directory, created with its parents at the first put; required
	Log  *slog.Logger // nil: discarded
}

// Sink writes files. Safe for concurrent use.
type Sink struct {
	path string
	log  *slog.Logger
	keys sinks.KeyLock
	bufs sync.Pool
	fail func(step string) error // tests make a step fail; nil otherwise

	mu      sync.Mutex
	durable map[string]bool // directories whose names are known to be synced; guarded by mu
	doubted map[string]bool // files whose directory could not be synced after they got their name; guarded by mu
	swept   time.Time       // when TempDir was last cleaned; guarded by mu
}

var _ sinks.Sink = (*Sink)(nil)

// New returns a sink. It does no I/O.
func New(o Options) (*Sink, error) {
	if o.Path == "" {
		return nil, errors.New("path is missing: the directory to write files to")
	}
	p, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("make path %q absolute: %w", o.Path, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Sink{
		path: p, log: o.Log, durable: make(map[string]bool), doubted: make(map[string]bool),
		bufs: sync.Pool{New: func() any { return new([chunk]byte) }},
	}, nil
}

// Close does nothing: no file stays open between puts.
func (s *Sink) Close() error { return nil }

// step is a place at which tests make the sink fail.
func (s *Sink) step(name string) error {
	if s.fail == nil {
		return nil
	}
	return s.fail(name)
}

// Put is the contract's.
func (s *Sink) Put(ctx context.Context, o sinks.Object) error {
	if err := s.ValidateKey(o.Key); err != nil {
		return &sinks.Error{Class: sinks.RefusedObject, Code: "InvalidKey", Err: err}
	}
	name := fileName(o.Key)
	unlock, err := s.keys.Lock(ctx, name)
	if err != nil {
		return s.classified("store", name, err)
	}
	defer unlock()
	if err := s.put(ctx, name, o); err != nil {
		return s.classified("store", name, err)
	}
	return nil
}

func (s *Sink) put(ctx context.Context, name string, o sinks.Object) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	defer root.Close()
	s.sweep(root)

	found, err := s.look(ctx, root, name, o)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	if found && !s.isDoubted(name) {
		// An earlier put stored it, and may have died before it was durable.
		if err := s.makeDirs(root, dir); err != nil {
			return err
		}
		if err := syncPath(root, name, false); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		return syncPath(root, dir, true)
	}

	if err := s.makeDirs(root, dir); err != nil {
		return err
	}
	temp, err := s.write(ctx, root, o)
	if err != nil {
		return err
	}
	// A name whose directory could not be synced is given anew: the kernel may have forgotten that the old
	// entry never reached the disk, and another sync would prove nothing. The content is equal.
	if err := s.publish(root, temp, name, found); err != nil {
		s.remove(root, temp)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Somebody was faster. If it is our content, the next put finds it.
		if _, err := s.look(ctx, root, name, o); err != nil {
			return err
		}
		return syncPath(root, dir, true)
	}
	if err := s.syncDir(root, dir); err != nil {
		s.doubt(name, true)
		s.remove(root, temp)
		return err
	}
	s.doubt(name, false)
	s.remove(root, temp)
	return nil
}

// Verify is the contract's.
func (s *Sink) Verify(ctx context.Context, o sinks.Object) error {
	if err := s.ValidateKey(o.Key); err != nil {
		return &sinks.Error{Class: sinks.NotStored, Code: "InvalidKey", Err: err}
	}
	name := fileName(o.Key)
	err := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		root, err := os.OpenRoot(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			return &sinks.Error{Class: sinks.NotStored, Err: err}
		}
		if err != nil {
			return err
		}
		defer root.Close()
		found, err := s.look(ctx, root, name, o)
		if err == nil && !found {
			err = &sinks.Error{Class: sinks.NotStored, Err: fs.ErrNotExist}
		}
		return err
	}()
	if err == nil {
		return nil
	}
	switch e := s.classified("look for", name, err); e.Class {
	case sinks.NotStored:
		return e
	case sinks.Foreign, sinks.RefusedObject: // another thing has the name, or nothing can have it
		e.Class = sinks.NotStored
		return e
	default:
		e.Class = sinks.Unknown
		return e
	}
}

// open opens the sink's directory, making it durably where it is missing.
func (s *Sink) open() (*os.Root, error) {
	if err := s.step("open"); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(s.path)
	if err == nil {
		return root, nil
	}
	refused := func(err error) error {
		return &sinks.Error{Class: sinks.RefusedDestination, Err: fmt.Errorf("%w: the destination's path must be a directory that can be written to", err)}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, refused(err)
	}
	var missing []string
	for dir := s.path; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			break
		}
		missing = append(missing, dir)
	}
	if err := os.MkdirAll(s.path, 0o755); err != nil {
		return nil, refused(err)
	}
	for _, dir := range missing {
		if err := syncOSDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("sync directory %q: %w", filepath.Dir(dir), err)
		}
	}
	if root, err = os.OpenRoot(s.path); err != nil {
		return nil, refused(err)
	}
	return root, nil
}

// look tells whether the object is there. A thing of another content under its name is an error of class
// Foreign.
func (s *Sink) look(ctx context.Context, root *os.Root, name string, o sinks.Object) (bool, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	foreign := func(what string) error {
		return &sinks.Error{Class: sinks.Foreign, Code: "Foreign", Err: fmt.Errorf("somebody else's %s has this name", what)}
	}
	switch {
	case info.IsDir():
		return false, foreign("directory")
	case !info.Mode().IsRegular():
		return false, foreign("special file or link")
	case info.Size() != o.Size:
		return false, foreign(fmt.Sprintf("file of %d bytes (ours has %d)", info.Size(), o.Size))
	}
	f, err := root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	buf := s.bufs.Get().(*[chunk]byte)
	defer s.bufs.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := f.Read(buf[:])
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	if [32]byte(h.Sum(nil)) != o.SHA256 {
		return false, foreign("file of the same size and other content")
	}
	return true, nil
}

// write makes an unfinished file with the object's bytes, synced, and returns its name.
func (s *Sink) write(ctx context.Context, root *os.Root, o sinks.Object) (temp string, err error) {
	if err := s.step("create"); err != nil {
		return "", err
	}
	temp = path.Join(TempDir, rand.Text()+tempSuffix)
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrNotExist) { // the first one, or somebody has tidied up
		if err := s.step("tempdir"); err != nil {
			return "", err
		}
		if err := root.Mkdir(TempDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		f, err = root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return "", err
	}
	if err = s.fill(ctx, f, o); err == nil {
		keepMeta(f, o.Meta)
		if err = s.step("sync"); err == nil {
			err = f.Sync()
		}
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		// A file whose sync failed is never synced again: the next put writes another one.
		s.remove(root, temp)
		return "", err
	}
	return temp, nil
}

// fill copies the object's bytes to f and checks them against its SHA-256.
func (s *Sink) fill(ctx context.Context, f *os.File, o sinks.Object) error {
	h := sha256.New()
	buf := s.bufs.Get().(*[chunk]byte)
	defer s.bufs.Put(buf)
	for off := int64(0); off < o.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		want := int(min(chunk, o.Size-off))
		n, err := o.ReadAt(buf[:want], off)
		if n < want {
			if err == nil || err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				return damaged(fmt.Errorf("they end at byte %d of %d", off+int64(n), o.Size))
			}
			return &sinks.Error{Class: sinks.NotStored, Err: fmt.Errorf("read the object's bytes at %d: %w", off, err)}
		}
		h.Write(buf[:n])
		if err := s.step("write"); err != nil {
			return err
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	if got := [32]byte(h.Sum(nil)); got != o.SHA256 {
		return damaged(fmt.Errorf("SHA-256 is %x, the manifest says %x", got, o.SHA256))
	}
	return nil
}

func damaged(err error) error {
	return &sinks.Error{Class: sinks.Damaged, Code: "Damaged", Err: fmt.Errorf("the bytes are not those that were sealed: %w", err)}
}

// publish gives an unfinished file its name; fs.ErrExist when the name is taken, unless replace.
func (s *Sink) publish(root *os.Root, temp, name string, replace bool) error {
	if err := s.step("publish"); err != nil {
		return err
	}
	if replace {
		return root.Rename(temp, name)
	}
	err := root.Link(temp, name)
	if err == nil || !noLinks(err) {
		return err
	}
	// A file system without hard links. Between these two calls somebody else could take the name and lose
	// it to us; nobody draws our names.
	if _, err := root.Lstat(name); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.Rename(temp, name)
}

// remove takes an unfinished file's name away. What cannot be removed is swept later.
func (s *Sink) remove(root *os.Root, temp string) {
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("cannot remove a temporary file", "path", filepath.Join(s.path, temp), "err", err)
	}
}

// makeDirs makes a directory with its parents, durably: also those that somebody else has made, and not
// synced so far as we know.
func (s *Sink) makeDirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := s.makeDirs(root, path.Dir(dir)); err != nil {
		return err
	}
	if err := s.step("mkdir"); err != nil {
		return err
	}
	err := root.Mkdir(dir, 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	s.mu.Lock()
	if err == nil {
		delete(s.durable, dir)
	}
	known := s.durable[dir]
	s.mu.Unlock()
	if known {
		return nil
	}
	if err := s.syncDir(root, path.Dir(dir)); err != nil {
		return err
	}
	s.mu.Lock()
	if len(s.durable) >= maxRemembered {
		clear(s.durable)
	}
	s.durable[dir] = true
	s.mu.Unlock()
	return nil
}

func (s *Sink) syncDir(root *os.Root, dir string) error {
	err := s.step("syncdir")
	if err == nil {
		err = syncPath(root, dir, true)
	}
	if err != nil {
		return fmt.Errorf("sync directory %q: %w", dir, err)
	}
	return nil
}

func (s *Sink) isDoubted(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doubted[name]
}

func (s *Sink) doubt(name string, doubted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if doubted {
		s.doubted[name] = true
	} else {
		delete(s.doubted, name)
	}
}

// sweep removes what dead processes have left unfinished, once in a while.
func (s *Sink) sweep(root *os.Root) {
	now := time.Now()
	s.mu.Lock()
	due := now.Sub(s.swept) >= abandoned
	if due {
		s.swept = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	dir, err := root.Open(TempDir)
	if err != nil {
		return // not there yet, or the put will say what is wrong
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		s.log.Warn("cannot list temporary files", "path", filepath.Join(s.path, TempDir), "err", err)
		return
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != tempSuffix || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) >= abandoned {
			s.remove(root, path.Join(TempDir, e.Name()))
		}
	}
}
