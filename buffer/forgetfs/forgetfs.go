// Package forgetfs is a file system in memory that forgets what was not synced.
//
// A test runs a program on it, stops the program at any operation, and forks images of the disk as a
// power cut could have left it: every block that was not synced, every size that was not synced and every
// change of a directory that was not synced is there or not, or torn at 512 bytes. The program is then
// started again on an image, which is a file system like the first.
//
// It is harsher than most disks: unsynced directory changes survive in any combination, syncing a file
// says nothing about its name, and a failed Datasync leaves the pages readable and clean, so that a second
// Datasync succeeds without having written anything.
//
// Operations are counted and can be made to fail, to stall, to write short, or to be the last one before
// the power goes. Everything is deterministic: the same calls and the same seed give the same image.
package forgetfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"

	"hydrant/buffer/fsys"
)

// Block is what is written or not as one; Sector is what a power cut may tear a block into.
const (
	Block  = 4096
	Sector = 512
)

// ErrCrashed is what every operation returns after the power is gone.
var ErrCrashed = errors.New("forgetfs: the power is gone")

// Kind of an operation.
type Kind uint8

// Kinds. Reads are not counted and change nothing, but can be made to fail.
const (
	OpCreate Kind = iota
	OpMkdir
	OpRename
	OpRemove
	OpSyncDir
	OpWrite
	OpDatasync
	OpAllocate
	OpTruncate
	OpRead
)

// String is the name of the kind in traces.
func (k Kind) String() string {
	return [...]string{"create", "mkdir", "rename", "remove", "syncdir", "write", "datasync", "allocate", "truncate", "read"}[k]
}

// Op is one operation, before it is done.
type Op struct {
	N    int64 // its number among those that change something, from 1; of a read, that of the last one
	Kind Kind
	Path string
	Off  int64
	Len  int64
	Data [][]byte // of a write, not to be kept
}

// String is one line of a trace.
func (o Op) String() string {
	s := fmt.Sprintf("%d %s %s", o.N, o.Kind, o.Path)
	if o.Kind == OpWrite || o.Kind == OpAllocate || o.Kind == OpTruncate {
		s += fmt.Sprintf(" [%d, +%d)", o.Off, o.Len)
	}
	return s
}

// Fault is what a hook makes of an operation.
type Fault struct {
	Err error // what the caller gets
	// Done: the operation takes place all the same and only its answer is lost; of a write, its first
	// Short bytes do.
	Done  bool
	Short int64
}

// FS is one disk. Safe for concurrent use.
type FS struct {
	hookMu sync.Mutex
	hook   func(Op) *Fault

	mu       sync.Mutex
	root     *node
	pending  []*change // of directories, oldest first
	locks    map[string]bool
	inodes   int64
	ops      int64
	crashAt  int64
	dead     bool
	capacity int64 // 0: no end
	other    int64 // bytes that somebody else has taken of it
	used     int64 // by files
	trace    []Op
}

// node is a file or a directory.
type node struct {
	id    int64
	dir   bool
	links int // names in current directories

	// of a directory
	cur, dur map[string]*node

	// of a file: blocks are never changed once written, nil is zeros
	blocks, synced  []*[Block]byte
	size, syncedLen int64
	dirty           map[int][]*[Block]byte // versions since the last sync, the newest last
	limbo           map[int][]*[Block]byte // of failed syncs: on disk or not, and no later sync writes them
	handles         int
}

// change is one atomic change of names.
type change struct{ to []entry }

type entry struct {
	dir  *node
	name string
	node *node // nil: no such name
}

// New makes an empty disk without an end.
func New() *FS {
	f := &FS{locks: map[string]bool{}}
	f.root = f.newDir()
	return f
}

func (f *FS) newDir() *node {
	f.inodes++
	return &node{id: f.inodes, dir: true, links: 1, cur: map[string]*node{}, dur: map[string]*node{}}
}

// SetCapacity gives the disk a size in bytes; 0 takes it away.
func (f *FS) SetCapacity(n int64) { f.mu.Lock(); f.capacity = n; f.mu.Unlock() }

// SetOther says how much of the capacity somebody else has taken.
func (f *FS) SetOther(n int64) { f.mu.Lock(); f.other = n; f.mu.Unlock() }

// Used is the bytes that files take, in whole blocks.
func (f *FS) Used() int64 { f.mu.Lock(); defer f.mu.Unlock(); return f.used }

// SetHook has fn called before every operation; nil takes it away. fn may block (a stalling disk) and may
// call the file system. A non-nil Fault fails the operation.
func (f *FS) SetHook(fn func(Op) *Fault) { f.hookMu.Lock(); f.hook = fn; f.hookMu.Unlock() }

// Ops is the number of operations so far that change something.
func (f *FS) Ops() int64 { f.mu.Lock(); defer f.mu.Unlock(); return f.ops }

// CrashAt makes operation n (counted as Ops does) not happen, nor any after it: they return ErrCrashed.
// 0 takes it back.
func (f *FS) CrashAt(n int64) { f.mu.Lock(); f.crashAt = n; f.mu.Unlock() }

// Kill ends the power now: whatever is still called returns ErrCrashed, and nothing changes any more.
func (f *FS) Kill() { f.mu.Lock(); f.dead = true; f.mu.Unlock() }

// Dead tells whether the power is gone.
func (f *FS) Dead() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.dead }

// Trace returns the operations so far, one a line.
func (f *FS) Trace() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, op := range f.trace {
		fmt.Fprintln(&b, op)
	}
	return b.String()
}

// begin counts an operation and asks the hook about it. On nil, nil the caller does it, holding f.mu; so
// it does with a fault that is Done. Otherwise f.mu is not held.
func (f *FS) begin(op Op) (fault *Fault, err error) {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return nil, ErrCrashed
	}
	if op.Kind != OpRead {
		if f.crashAt > 0 && f.ops+1 >= f.crashAt {
			f.dead = true
			f.mu.Unlock()
			return nil, ErrCrashed
		}
		f.ops++
	}
	op.N = f.ops
	if op.Kind != OpRead {
		kept := op
		kept.Data = nil
		f.trace = append(f.trace, kept)
	}
	f.mu.Unlock()
	f.hookMu.Lock()
	hook := f.hook
	f.hookMu.Unlock()
	if hook != nil {
		fault = hook(op)
	}
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return nil, ErrCrashed
	}
	if fault != nil && !fault.Done {
		f.mu.Unlock()
		return nil, fault.Err
	}
	return fault, nil
}

// end releases what begin took and turns a Done fault into its error.
func (f *FS) end(fault *Fault, err error) error {
	f.mu.Unlock()
	if err == nil && fault != nil {
		return fault.Err
	}
	return err
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// split takes a path apart; empty parts and dots do not count.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// find walks the current directories.
func (f *FS) find(path string) (*node, error) {
	n := f.root
	for _, name := range split(path) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.cur[name]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// parent finds the directory of a path and the last name.
func (f *FS) parent(path string) (*node, string, error) {
	parts := split(path)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	name := parts[len(parts)-1]
	dir, err := f.find(strings.Join(parts[:len(parts)-1], "/"))
	if err == nil && !dir.dir {
		err = syscall.ENOTDIR
	}
	return dir, name, err
}

// apply makes an atomic change of names.
func (f *FS) apply(entries ...entry) {
	for _, e := range entries {
		if old := e.dir.cur[e.name]; old != nil {
			old.links--
			f.reclaim(old)
		}
		if e.node == nil {
			delete(e.dir.cur, e.name)
		} else {
			e.node.links++
			e.dir.cur[e.name] = e.node
		}
	}
	f.pending = append(f.pending, &change{to: entries})
}

// reclaim gives back the space of a file that nothing names or holds open.
func (f *FS) reclaim(n *node) {
	if !n.dir && n.links == 0 && n.handles == 0 {
		f.used -= blocksOf(n.size) * Block
	}
}

func blocksOf(size int64) int64 { return (size + Block - 1) / Block }

// OpenFile implements fsys.FS.
func (f *FS) OpenFile(name string, flag fsys.Flag) (fsys.File, error) {
	kind := OpRead
	if flag == fsys.Create {
		kind = OpCreate
	}
	fault, err := f.begin(Op{Kind: kind, Path: name})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	var h *file
	err = func() error {
		if flag != fsys.Create {
			n, err := f.find(name)
			if err != nil {
				return err
			}
			if n.dir {
				return syscall.EISDIR
			}
			h = &file{fs: f, n: n, path: name, writable: flag == fsys.ReadWrite}
			n.handles++
			return nil
		}
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		if dir.cur[base] != nil {
			return fs.ErrExist
		}
		f.inodes++
		n := &node{id: f.inodes, dirty: map[int][]*[Block]byte{}, limbo: map[int][]*[Block]byte{}}
		f.apply(entry{dir, base, n})
		h = &file{fs: f, n: n, path: name, writable: true}
		n.handles++
		return nil
	}()
	if err = f.end(fault, err); err != nil {
		return nil, pathError("open", name, err)
	}
	return h, nil
}

// Mkdir implements fsys.FS.
func (f *FS) Mkdir(name string) error {
	fault, err := f.begin(Op{Kind: OpMkdir, Path: name})
	if err != nil {
		return pathError("mkdir", name, err)
	}
	err = func() error {
		n := f.root
		for _, part := range split(name) {
			next := n.cur[part]
			if next == nil {
				next = f.newDir()
				next.links = 0
				f.apply(entry{n, part, next})
			}
			if !next.dir {
				return syscall.ENOTDIR
			}
			n = next
		}
		return nil
	}()
	return pathError("mkdir", name, f.end(fault, err))
}

// ReadDir implements fsys.FS.
func (f *FS) ReadDir(name string) ([]fsys.Entry, error) {
	fault, err := f.begin(Op{Kind: OpRead, Path: name})
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	var entries []fsys.Entry
	n, err := f.find(name)
	switch {
	case err != nil:
	case !n.dir:
		err = syscall.ENOTDIR
	default:
		for base, e := range n.cur {
			entries = append(entries, fsys.Entry{Name: base, Size: e.size, Dir: e.dir})
		}
	}
	slices.SortFunc(entries, func(a, b fsys.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, pathError("readdir", name, f.end(fault, err))
}

// Rename implements fsys.FS.
func (f *FS) Rename(from, to string) error {
	fault, err := f.begin(Op{Kind: OpRename, Path: from + " " + to})
	if err != nil {
		return pathError("rename", from, err)
	}
	err = func() error {
		d1, n1, err := f.parent(from)
		if err != nil {
			return err
		}
		d2, n2, err := f.parent(to)
		if err != nil {
			return err
		}
		n := d1.cur[n1]
		if n == nil {
			return fs.ErrNotExist
		}
		if old := d2.cur[n2]; old == n {
			return nil
		} else if old != nil && (old.dir || n.dir) {
			return fs.ErrExist
		}
		f.apply(entry{d2, n2, n}, entry{d1, n1, nil})
		return nil
	}()
	return pathError("rename", from, f.end(fault, err))
}

// Remove implements fsys.FS.
func (f *FS) Remove(name string) error {
	fault, err := f.begin(Op{Kind: OpRemove, Path: name})
	if err != nil {
		return pathError("remove", name, err)
	}
	err = func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		n := dir.cur[base]
		if n == nil {
			return fs.ErrNotExist
		}
		if len(n.cur) > 0 {
			return syscall.ENOTEMPTY
		}
		f.apply(entry{dir, base, nil})
		return nil
	}()
	return pathError("remove", name, f.end(fault, err))
}

// SyncDir implements fsys.FS.
func (f *FS) SyncDir(name string) error {
	fault, err := f.begin(Op{Kind: OpSyncDir, Path: name})
	if err != nil {
		return pathError("syncdir", name, err)
	}
	n, err := f.find(name)
	switch {
	case err != nil:
	case !n.dir:
		err = syscall.ENOTDIR
	default:
		f.pending = slices.DeleteFunc(f.pending, func(c *change) bool {
			if !slices.ContainsFunc(c.to, func(e entry) bool { return e.dir == n }) {
				return false
			}
			c.into(func(d *node) map[string]*node { return d.dur })
			return true
		})
	}
	return pathError("syncdir", name, f.end(fault, err))
}

// into makes the change in one view of the directories.
func (c *change) into(view func(dir *node) map[string]*node) {
	for _, e := range c.to {
		if e.node == nil {
			delete(view(e.dir), e.name)
		} else {
			view(e.dir)[e.name] = e.node
		}
	}
}

// unlimited is the free space of a disk without an end.
const unlimited = 1 << 50

// Statfs implements fsys.FS.
func (f *FS) Statfs(name string) (fsys.Space, error) {
	fault, err := f.begin(Op{Kind: OpRead, Path: name})
	if err != nil {
		return fsys.Space{}, pathError("statfs", name, err)
	}
	s := fsys.Space{Free: f.free(), Total: f.capacity}
	if f.capacity == 0 {
		s.Total = unlimited
	}
	_, err = f.find(name)
	return s, pathError("statfs", name, f.end(fault, err))
}

func (f *FS) free() int64 {
	if f.capacity == 0 {
		return unlimited - f.used
	}
	return max(f.capacity-f.other-f.used, 0)
}

// Lock implements fsys.FS. An image has no locks: they ended with the machine.
func (f *FS) Lock(name string) (io.Closer, error) {
	h, err := f.OpenFile(name, fsys.ReadWrite)
	if errors.Is(err, fs.ErrNotExist) {
		h, err = f.OpenFile(name, fsys.Create)
	}
	if err != nil {
		return nil, err
	}
	h.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	key := strings.Join(split(name), "/")
	if f.locks[key] {
		return nil, pathError("lock", name, fsys.ErrLocked)
	}
	f.locks[key] = true
	return &lock{fs: f, key: key}, nil
}

type lock struct {
	fs  *FS
	key string
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.key)
	return nil
}
