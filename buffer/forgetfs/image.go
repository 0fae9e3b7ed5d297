package forgetfs

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
)

// Unit is one thing that a power cut keeps or loses.
type Unit struct {
	Path  string // of a file, by one of its names; of a change of names, what it does
	Block int    // number of the block, -1: the file's size, -2: a change of names

	node     *node
	versions []*[Block]byte
	change   *change
}

// String names the unit in a failure.
func (u Unit) String() string {
	switch u.Block {
	case -1:
		return u.Path + " size"
	case -2:
		return u.Path
	}
	return fmt.Sprintf("%s block %d", u.Path, u.Block)
}

// Fate of a unit.
type Fate struct {
	Kept bool
	// Version of a block that is kept: 0 is the newest, 1 the one before, and so on; the oldest where there
	// are fewer.
	Version int
	// Sectors of a kept block that are lost all the same, one bit each.
	Torn uint8
}

// Units lists what is not certain at this moment, in an order that only depends on the history. Sizes
// and changes of names come first, then blocks by file.
func (f *FS) Units() []Unit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.units()
}

func (f *FS) units() (units []Unit) {
	paths := map[*node]string{}
	var files []*node
	var walk func(dir *node, at string)
	seen := map[*node]bool{}
	note := func(n *node, path string) {
		if n.dir {
			walk(n, path)
			return
		}
		if paths[n] == "" {
			paths[n] = path
			files = append(files, n)
		}
	}
	walk = func(dir *node, at string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		for _, view := range []map[string]*node{dir.cur, dir.dur} {
			for _, name := range sortedKeys(view) {
				note(view[name], at+"/"+name)
			}
		}
	}
	walk(f.root, "")
	for _, c := range f.pending {
		for _, e := range c.to {
			if e.node != nil {
				note(e.node, "("+e.name+")")
			}
		}
	}
	for _, c := range f.pending {
		var what []string
		for _, e := range c.to {
			if e.node == nil {
				what = append(what, "no "+e.name)
			} else {
				what = append(what, fmt.Sprintf("%s = inode %d", e.name, e.node.id))
			}
		}
		units = append(units, Unit{Path: strings.Join(what, ", "), Block: -2, change: c})
	}
	slices.SortFunc(files, func(a, b *node) int { return int(a.id - b.id) })
	for _, n := range files {
		if n.size != n.syncedLen {
			units = append(units, Unit{Path: paths[n], Block: -1, node: n})
		}
	}
	for _, n := range files {
		var at []int
		for i := range n.dirty {
			at = append(at, i)
		}
		for i := range n.limbo {
			if n.dirty[i] == nil {
				at = append(at, i)
			}
		}
		sort.Ints(at)
		for _, i := range at {
			versions := slices.Concat(n.limbo[i], n.dirty[i])
			units = append(units, Unit{Path: paths[n], Block: i, node: n, versions: versions})
		}
	}
	return units
}

func sortedKeys(m map[string]*node) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Image is the disk as the machine finds it after a power cut at this moment. fate is asked once about
// each unit, in the order of Units. Everything on the image is durable; it has no locks, faults or hooks,
// and the capacity of f.
func (f *FS) Image(fate func(i int, u Unit) Fate) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	img := &FS{locks: map[string]bool{}, capacity: f.capacity, other: f.other, inodes: f.inodes}
	type lost struct {
		block int
		fate  Fate
		unit  Unit
	}
	keptSize := map[*node]bool{}
	blocks := map[*node][]lost{}
	kept := map[*change]bool{}
	for i, u := range f.units() {
		switch d := fate(i, u); u.Block {
		case -1:
			keptSize[u.node] = d.Kept
		case -2:
			kept[u.change] = d.Kept
		default:
			blocks[u.node] = append(blocks[u.node], lost{u.Block, d, u})
		}
	}
	// the names, starting from what is durable
	views := map[*node]map[string]*node{}
	view := func(d *node) map[string]*node {
		if views[d] == nil {
			views[d] = map[string]*node{}
			for name, n := range d.dur {
				views[d][name] = n
			}
		}
		return views[d]
	}
	for _, c := range f.pending {
		if kept[c] {
			c.into(view)
		}
	}
	made := map[*node]*node{}
	var build func(n *node) *node
	build = func(n *node) *node {
		if c := made[n]; c != nil {
			c.links++
			return c
		}
		c := &node{id: n.id, dir: n.dir, links: 1}
		made[n] = c
		if n.dir {
			c.cur, c.dur = map[string]*node{}, map[string]*node{}
			for name, child := range view(n) {
				m := build(child)
				c.cur[name], c.dur[name] = m, m
			}
			return c
		}
		c.dirty, c.limbo = map[int][]*[Block]byte{}, map[int][]*[Block]byte{}
		c.size = n.syncedLen
		if n.size != n.syncedLen && keptSize[n] {
			c.size = n.size
		}
		c.blocks = make([]*[Block]byte, blocksOf(c.size))
		copy(c.blocks, n.synced)
		for _, l := range blocks[n] {
			if l.fate.Kept && l.block < len(c.blocks) {
				c.blocks[l.block] = mix(c.blocks[l.block], l.unit.versions, l.fate)
			}
		}
		if tail := c.size % Block; tail != 0 && c.blocks[len(c.blocks)-1] != nil {
			last := *c.blocks[len(c.blocks)-1]
			clear(last[tail:])
			c.blocks[len(c.blocks)-1] = &last
		}
		c.synced, c.syncedLen = slices.Clone(c.blocks), c.size
		img.used += blocksOf(c.size) * Block
		return c
	}
	img.root = build(f.root)
	return img
}

// mix is a block of which some sectors are new.
func mix(old *[Block]byte, versions []*[Block]byte, d Fate) *[Block]byte {
	blk := versions[max(len(versions)-1-d.Version, 0)]
	if d.Torn == 0 {
		return blk
	}
	var torn [Block]byte
	if old != nil {
		torn = *old
	}
	for s := range Block / Sector {
		if d.Torn&(1<<s) == 0 {
			copy(torn[s*Sector:(s+1)*Sector], blk[s*Sector:])
		}
	}
	return &torn
}

// All keeps everything: the process was killed, the machine was not.
func All(int, Unit) Fate { return Fate{Kept: true} }

// None keeps nothing that was not synced.
func None(int, Unit) Fate { return Fate{} }

// Subset keeps the units whose bit is set.
func Subset(mask uint64) func(int, Unit) Fate {
	return func(i int, _ Unit) Fate { return Fate{Kept: i < 64 && mask&(1<<i) != 0} }
}

// Random keeps each unit or not, and tears some blocks, as the seed has it.
func Random(seed uint64) func(int, Unit) Fate {
	r := rand.New(rand.NewPCG(seed, 0x666f72676574))
	p := [...]float64{0.5, 0.5, 0.9, 0.1}[r.IntN(4)]
	return func(int, Unit) Fate {
		d := Fate{Kept: r.Float64() < p}
		// draw always, so that one unit's fate does not depend on another's
		version, torn, roll := r.IntN(3), uint8(r.Uint32()), r.IntN(4)
		if roll == 0 {
			d.Torn = torn
		}
		if roll == 1 {
			d.Version = version
		}
		return d
	}
}

// Crash is a power cut now: f is dead, and the image is what a seed leaves of it.
func (f *FS) Crash(seed uint64) *FS {
	f.Kill()
	return f.Image(Random(seed))
}

// Fork copies the disk with everything that is not synced, as it is. The copy has no locks, hooks or open
// files, and is alive.
func (f *FS) Fork() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &FS{locks: map[string]bool{}, capacity: f.capacity, other: f.other, inodes: f.inodes}
	made := map[*node]*node{}
	var build func(n *node) *node
	build = func(n *node) *node {
		if n == nil || made[n] != nil {
			return made[n]
		}
		m := n.clone()
		made[n] = m
		m.handles = 0
		if n.dir {
			m.cur, m.dur = map[string]*node{}, map[string]*node{}
			for name, child := range n.cur {
				m.cur[name] = build(child)
			}
			for name, child := range n.dur {
				m.dur[name] = build(child)
			}
		} else if n.links > 0 {
			c.used += blocksOf(n.size) * Block
		}
		return m
	}
	c.root = build(f.root)
	for _, p := range f.pending {
		q := &change{}
		for _, e := range p.to {
			q.to = append(q.to, entry{build(e.dir), e.name, build(e.node)})
		}
		c.pending = append(c.pending, q)
	}
	return c
}

// Durable says why a file could be missing or different after a power cut now, or nil: its bytes, its
// size and its name, and those of the directories above it, are certain.
func (f *FS) Durable(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(path)
	if err != nil {
		return pathError("durable", path, err)
	}
	at := f.root
	for _, name := range split(path) {
		if at.dur[name] != at.cur[name] {
			return fmt.Errorf("%s: the name %q is not durable", path, name)
		}
		for _, c := range f.pending {
			for _, e := range c.to {
				if e.dir == at && e.name == name {
					return fmt.Errorf("%s: a change of the name %q is not durable", path, name)
				}
			}
		}
		at = at.cur[name]
	}
	switch {
	case n.dir:
	case len(n.dirty) > 0:
		return fmt.Errorf("%s: %d blocks are not synced", path, len(n.dirty))
	case len(n.limbo) > 0:
		return fmt.Errorf("%s: %d blocks were lost by a failed sync", path, len(n.limbo))
	case n.size != n.syncedLen:
		return fmt.Errorf("%s: size %d is not synced", path, n.size)
	}
	return nil
}

// Flip inverts the bits of mask in the byte at off of a file: rot of synced bytes.
func (f *FS) Flip(path string, off int64, mask byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(path)
	if err == nil && (n.dir || off < 0 || off >= n.size) {
		err = fs.ErrInvalid
	}
	if err != nil {
		return pathError("flip", path, err)
	}
	i := int(off / Block)
	flip := func(b *[Block]byte) *[Block]byte {
		var c [Block]byte
		if b != nil {
			c = *b
		}
		c[off%Block] ^= mask
		return &c
	}
	n.blocks[i] = flip(n.blocks[i])
	if i < len(n.synced) {
		n.synced[i] = flip(n.synced[i])
	}
	return nil
}

// ReadFile returns the current bytes of a file, whether or not the power is gone.
func (f *FS) ReadFile(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(path)
	if err == nil && n.dir {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, pathError("read", path, err)
	}
	b := make([]byte, 0, len(n.blocks)*Block)
	var zero [Block]byte
	for _, blk := range n.blocks {
		if blk == nil {
			blk = &zero
		}
		b = append(b, blk[:]...)
	}
	return b[:n.size], nil
}

// Files lists the current files under a directory, by path.
func (f *FS) Files(dir string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(dir)
	if err != nil {
		return nil
	}
	var out []string
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		if !n.dir {
			out = append(out, at)
			return
		}
		for _, name := range sortedKeys(n.cur) {
			walk(n.cur[name], at+"/"+name)
		}
	}
	walk(n, strings.TrimSuffix(dir, "/"))
	return out
}
