package forgetfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"

	"hydrant/buffer/fsys"
)

// file is an open file.
type file struct {
	fs       *FS
	n        *node
	path     string
	writable bool
	closed   bool
}

var _ fsys.File = (*file)(nil)

// begin is FS.begin for operations on a file.
func (h *file) begin(name string, op Op) (*Fault, error) {
	op.Path = h.path
	fault, err := h.fs.begin(op)
	if err != nil {
		return nil, pathError(name, h.path, err)
	}
	switch {
	case h.closed:
		err = fs.ErrClosed
	case !h.writable && (op.Kind == OpWrite || op.Kind == OpAllocate || op.Kind == OpTruncate):
		err = syscall.EBADF
	default:
		return fault, nil
	}
	h.fs.mu.Unlock()
	return nil, pathError(name, h.path, err)
}

// ReadAt implements fsys.File.
func (h *file) ReadAt(b []byte, off int64) (int, error) {
	fault, err := h.begin("read", Op{Kind: OpRead, Off: off, Len: int64(len(b))})
	if err != nil {
		return 0, err
	}
	n, want := 0, len(b)
	if off < h.n.size {
		b = b[:min(int64(len(b)), h.n.size-off)]
		for n < len(b) {
			at := off + int64(n)
			i, in := int(at/Block), int(at%Block)
			w := min(Block-in, len(b)-n)
			if blk := h.n.blocks[i]; blk != nil {
				copy(b[n:n+w], blk[in:])
			} else {
				clear(b[n : n+w])
			}
			n += w
		}
	}
	if n < want {
		err = io.EOF
	}
	if err = h.fs.end(fault, err); err != nil && err != io.EOF {
		err = pathError("read", h.path, err)
	}
	return n, err
}

// WriteAt implements fsys.File.
func (h *file) WriteAt(b []byte, off int64) (int, error) {
	n, err := h.WritevAt([][]byte{b}, off)
	return int(n), err
}

// WritevAt implements fsys.File.
func (h *file) WritevAt(bufs [][]byte, off int64) (int64, error) {
	var total int64
	for _, b := range bufs {
		total += int64(len(b))
	}
	fault, err := h.begin("write", Op{Kind: OpWrite, Off: off, Len: total, Data: bufs})
	if err != nil {
		return 0, err
	}
	want := total
	if fault != nil {
		want = min(fault.Short, total)
	}
	var n int64
	if want > 0 {
		// what fits: blocks behind the end need space
		if end, room := off+want, h.fs.free()/Block*Block+blocksOf(h.n.size)*Block; end > room {
			want = max(room-off, 0)
			err = syscall.ENOSPC
		}
		if want > 0 {
			if off+want > h.n.size {
				h.resize(off + want)
			}
			n = h.write(bufs, off, want)
		}
	}
	return n, pathError("write", h.path, h.fs.end(fault, err))
}

// write copies the first want bytes into new versions of their blocks.
func (h *file) write(bufs [][]byte, off, want int64) (n int64) {
	var blk *[Block]byte
	at := int64(-1)
	for _, b := range bufs {
		for len(b) > 0 && n < want {
			i, in := (off+n)/Block, int((off+n)%Block)
			if i != at {
				blk = new([Block]byte)
				if old := h.n.blocks[i]; old != nil {
					*blk = *old
				}
				h.n.blocks[i] = blk
				h.n.dirty[int(i)] = append(h.n.dirty[int(i)], blk)
				at = i
			}
			w := copy(blk[in:], b[:min(int64(len(b)), want-n)])
			b = b[w:]
			n += int64(w)
		}
	}
	return n
}

// resize changes the current size. What is cut off reads as zeros if it ever comes back.
func (h *file) resize(size int64) {
	n := h.n
	h.fs.used += (blocksOf(size) - blocksOf(n.size)) * Block
	for int64(len(n.blocks)) < blocksOf(size) {
		n.blocks = append(n.blocks, nil)
	}
	if size < n.size {
		for i := blocksOf(size); i < int64(len(n.blocks)); i++ {
			delete(n.dirty, int(i))
		}
		n.blocks = n.blocks[:blocksOf(size)]
		if last := int(size / Block); size%Block != 0 && n.blocks[last] != nil {
			cut := *n.blocks[last]
			clear(cut[size%Block:])
			n.blocks[last] = &cut
			n.dirty[last] = append(n.dirty[last], &cut)
		}
	}
	n.size = size
}

// Datasync implements fsys.File.
func (h *file) Datasync() error {
	f, n := h.fs, h.n
	fault, err := f.begin(Op{Kind: OpDatasync, Path: h.path})
	if err != nil {
		if err != ErrCrashed {
			f.mu.Lock()
			n.forget()
			f.mu.Unlock()
		}
		return pathError("datasync", h.path, err)
	}
	if h.closed {
		err = fs.ErrClosed
	} else {
		n.sync()
	}
	return pathError("datasync", h.path, f.end(fault, err))
}

// sync makes the file durable, but for what an earlier failed sync has let go.
func (n *node) sync() {
	size := int(blocksOf(n.size))
	for len(n.synced) < size {
		n.synced = append(n.synced, nil)
	}
	n.synced = n.synced[:size]
	for i, versions := range n.dirty {
		n.synced[i] = versions[len(versions)-1]
		delete(n.limbo, i)
	}
	for i := range n.limbo {
		if i >= size {
			delete(n.limbo, i)
		}
	}
	n.syncedLen = n.size
	clear(n.dirty)
}

// forget is what a failed sync does: the pages are clean and stay readable, and whether they are on the
// disk nobody knows.
func (n *node) forget() {
	for i, versions := range n.dirty {
		n.limbo[i] = append(n.limbo[i], versions...)
	}
	clear(n.dirty)
}

// Allocate implements fsys.File.
func (h *file) Allocate(off, n int64) error {
	fault, err := h.begin("allocate", Op{Kind: OpAllocate, Off: off, Len: n})
	if err != nil {
		return err
	}
	if end := off + n; end > h.n.size {
		if (blocksOf(end)-blocksOf(h.n.size))*Block > h.fs.free() {
			err = syscall.ENOSPC
		} else {
			h.resize(end)
		}
	}
	return pathError("allocate", h.path, h.fs.end(fault, err))
}

// Truncate implements fsys.File.
func (h *file) Truncate(size int64) error {
	fault, err := h.begin("truncate", Op{Kind: OpTruncate, Off: size})
	if err != nil {
		return err
	}
	h.resize(size)
	return pathError("truncate", h.path, h.fs.end(fault, nil))
}

// Size implements fsys.File.
func (h *file) Size() (int64, error) {
	fault, err := h.begin("size", Op{Kind: OpRead})
	if err != nil {
		return 0, err
	}
	return h.n.size, h.fs.end(fault, nil)
}

// Close implements fsys.File.
func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return pathError("close", h.path, fs.ErrClosed)
	}
	h.closed = true
	h.n.handles--
	h.fs.reclaim(h.n)
	return nil
}

// clone copies a file's state; blocks are shared, since nobody changes them.
func (n *node) clone() *node {
	c := *n
	c.blocks = slices.Clone(n.blocks)
	c.synced = slices.Clone(n.synced)
	c.dirty, c.limbo = map[int][]*[Block]byte{}, map[int][]*[Block]byte{}
	for i, versions := range n.dirty {
		c.dirty[i] = slices.Clone(versions)
	}
	for i, versions := range n.limbo {
		c.limbo[i] = slices.Clone(versions)
	}
	return &c
}
