package simulation

import (
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"hydrant/buffer/forgetfs"
)

// mood is what a disk does besides its work.
type mood uint8

const (
	well    mood = iota
	sick         // some writes and syncs fail, some of them after they took place
	full         // somebody else has taken all the space
	stalled      // a sync takes seconds
)

func (m mood) String() string { return [...]string{"well", "sick", "full", "stalled"}[m] }

// disk is one disk with the machine around it: operations take time, fail as its mood has it, and at one of
// them the power may go. Every process and every image has a disk of its own. Safe for concurrent use.
type disk struct {
	w  *world
	fs *forgetfs.FS

	mu      sync.Mutex
	rand    *rand.Rand
	mood    mood
	faults  int             // that a sick disk has left in it
	crashAt int64           // the power goes at this operation; 0: not at any
	died    func()          // called once, when it has gone
	failed  map[string]bool // files of which a write or a sync has failed: they are never synced again (I8)
}

// newDisk puts a machine around fs.
func newDisk(w *world, fs *forgetfs.FS, seed uint64) *disk {
	d := &disk{w: w, fs: fs, rand: rand.New(rand.NewPCG(seed, 0xd15c)), failed: map[string]bool{}}
	fs.SetHook(d.operation)
	return d
}

// anew is the machine that comes after d, around fs. What was wrong with the disk still is: if somebody else has taken
// the space, the new process does not have it.
func (d *disk) anew(fs *forgetfs.FS, seed uint64) *disk {
	n := newDisk(d.w, fs, seed)
	d.mu.Lock()
	defer d.mu.Unlock()
	n.mood, n.faults = d.mood, d.faults
	return n
}

// operation is the hook of the file system.
func (d *disk) operation(op forgetfs.Op) *forgetfs.Fault {
	if op.Kind == forgetfs.OpRead {
		return nil
	}
	d.w.trace.note("disk "+op.Kind.String(), op.Path, op.Off, int64(opSum(op)))
	d.mu.Lock()
	if op.Kind == forgetfs.OpDatasync && d.failed[op.Path] {
		d.w.violated("I8: %s is synced again after a failure", op.Path)
	}
	if d.crashAt > 0 && op.N >= d.crashAt {
		d.mu.Unlock()
		d.kill()
		return nil // the file system sees for itself
	}
	wait, fault := d.delay(op), d.fault(op)
	switch {
	case op.Kind == forgetfs.OpRemove || op.Kind == forgetfs.OpCreate:
		delete(d.failed, op.Path)
	case fault != nil && (op.Kind == forgetfs.OpWrite || op.Kind == forgetfs.OpDatasync):
		d.failed[op.Path] = true
	}
	d.mu.Unlock()
	// The ballast is made and freed under a lock that every call takes: waiting there would stop time, since
	// a bubble's clock stands while anybody waits for a mutex.
	if op.Path != dataDir && !strings.HasSuffix(op.Path, "/ballast") {
		time.Sleep(wait)
	}
	return fault
}

// opSum stands for an operation's length and data in the trace.
func opSum(op forgetfs.Op) uint64 {
	h := fnvInt(fnvBasis, op.Len)
	for _, b := range op.Data {
		for len(b) >= 8 {
			h = (h ^ (uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56)) * fnvPrime
			b = b[8:]
		}
	}
	return h
}

// delay is how long an operation takes. Nothing takes as long as anything else, so that two things seldom
// happen at one instant: their order would be the scheduler's.
func (d *disk) delay(op forgetfs.Op) time.Duration {
	span := func(least, most time.Duration) time.Duration {
		return least + time.Duration(d.rand.Int64N(int64(most-least)))
	}
	switch {
	case op.Kind == forgetfs.OpDatasync && d.mood == stalled && strings.Contains(op.Path, "/journal/"):
		return span(time.Second, 15*time.Second)
	case op.Kind == forgetfs.OpDatasync || op.Kind == forgetfs.OpSyncDir:
		return span(200*time.Microsecond, 4*time.Millisecond)
	}
	return span(3*time.Microsecond, 90*time.Microsecond)
}

// fault decides what goes wrong with an operation.
func (d *disk) fault(op forgetfs.Op) *forgetfs.Fault {
	if d.mood != sick {
		return nil
	}
	chance := map[forgetfs.Kind]float64{
		forgetfs.OpWrite: 0.1, forgetfs.OpDatasync: 0.2, forgetfs.OpSyncDir: 0.1,
		forgetfs.OpCreate: 0.1, forgetfs.OpAllocate: 0.1, forgetfs.OpRemove: 0.1, forgetfs.OpRename: 0.1,
	}[op.Kind]
	if d.rand.Float64() >= chance {
		return nil
	}
	if d.faults--; d.faults <= 0 {
		d.mood = well
	}
	f := &forgetfs.Fault{Err: syscall.EIO, Done: d.rand.IntN(2) == 0}
	if op.Kind == forgetfs.OpWrite && op.Len > 0 {
		f.Short = d.rand.Int64N(op.Len)
	}
	d.w.lastFault.Store(int64(time.Since(d.w.trace.began)))
	return f
}

// setMood changes what the disk does from now on.
func (d *disk) setMood(m mood) {
	d.mu.Lock()
	d.mood = m
	d.faults = 1 + d.rand.IntN(6)
	d.mu.Unlock()
	taken := int64(0)
	if m == full {
		taken = max(d.w.shape.capacity-d.fs.Used()-int64(d.rand.IntN(3))*forgetfs.Block, 0)
	}
	d.fs.SetOther(taken)
	d.w.lastFault.Store(int64(time.Since(d.w.trace.began)))
	d.w.trace.note("mood", m.String(), taken, 0)
}

// crashIn lets the power go at the n-th operation from now on.
func (d *disk) crashIn(n int64) {
	d.mu.Lock()
	d.crashAt = d.fs.Ops() + n
	d.mu.Unlock()
}

// kill ends the power now.
func (d *disk) kill() {
	d.mu.Lock()
	died := d.died
	d.died = nil
	d.mu.Unlock()
	d.fs.Kill()
	if died != nil {
		died()
	}
}

// begin makes the disk that of a new process, which knows nothing of earlier failures. died is called when the
// power goes.
func (d *disk) begin(died func()) {
	d.mu.Lock()
	d.died = died
	clear(d.failed)
	d.mu.Unlock()
}
