// Package sourcetest stands in for the buffer and delivery behind a Reader in tests: an Inlet in memory that keeps the
// contract of sources.Inlet, checks that the Reader keeps its side, and can be slow, full, killed and started again.
//
// Rows flow in from Readers, over any number of Disks, and out to one Destination. A crash of an Inlet loses what it has in
// memory; a Disk keeps what was made durable, with its positions, in one step; the Destination keeps what was delivered,
// and counts each record however many times it came.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/record"
	"hydrant/sources"
)

// Row is a record that was delivered.
type Row struct {
	Lane    string
	Data    string
	Meta    record.Meta
	Arrived time.Time
}

// Destination is where all Disks deliver to. Safe for concurrent use.
type Destination struct {
	mu    sync.Mutex
	rows  []Row
	times map[string]int // by Data
}

// Rows returns what was delivered, in the order of delivery.
func (d *Destination) Rows() []Row {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.rows)
}

// Len is how many records were delivered, each time counted.
func (d *Destination) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.rows)
}

// Times returns how many times each Data was delivered.
func (d *Destination) Times() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.times)
}

func (d *Destination) deliver(rows []Row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times == nil {
		d.times = map[string]int{}
	}
	for _, r := range rows {
		d.rows = append(d.rows, r)
		d.times[r.Data]++
	}
}

// Disk is the data directory of one replica: it outlives the Inlets that are opened on it, one at a time.
type Disk struct {
	t  testing.TB
	to *Destination

	mu        sync.Mutex
	durable   map[string]sources.Position // after the rows that a run or manifest holds
	runs      []Row                       // durable, not delivered
	delivered map[string]sources.Position
	now       *Inlet
}

// NewDisk returns an empty one that delivers to d.
func NewDisk(t testing.TB, d *Destination) *Disk {
	return &Disk{t: t, to: d, durable: map[string]sources.Position{}, delivered: map[string]sources.Position{}}
}

// Options of an Inlet.
type Options struct {
	// Room is how many bytes of Data and Meta may wait in memory; 0 is 1 MiB. Rows that are larger fit alone.
	Room int
	// Every is how often what waits is delivered. 0: only by Deliver and Settle.
	Every time.Duration
	// Delay is how long a delivery takes, from what waits being made durable to its arrival at the destination.
	Delay time.Duration
}

// Open starts a process on the disk. The one before must have crashed or been closed.
func (d *Disk) Open(o Options) *Inlet {
	if o.Room == 0 {
		o.Room = 1 << 20
	}
	i := &Inlet{disk: d, o: o, lanes: map[string]*lane{}, room: make(chan struct{}), changed: make(chan struct{}, 1), dead: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now != nil {
		d.t.Error("a second Inlet is opened on a disk that is in use")
	}
	d.now = i
	if o.Every > 0 {
		i.done.Go(i.deliverEvery)
	}
	return i
}

// Inlet is one process. It is safe for concurrent use.
type Inlet struct {
	disk    *Disk
	o       Options
	changed chan struct{}
	dead    chan struct{}
	done    sync.WaitGroup
	cutting sync.Mutex // one delivery at a time

	// guarded by disk.mu
	lanes  map[string]*lane
	bytes  int
	room   chan struct{} // closed and made anew when there may be room, a delivery, or a release
	full   bool          // nothing is taken
	closed bool
}

var _ sources.Inlet = (*Inlet)(nil)

// lane is what a process knows of one.
type lane struct {
	position  sources.Position // after the last rows that were appended
	rows      []waiting        // in memory only
	appending bool
	released  int // how many times
}

type waiting struct {
	Row
	bytes int
	next  sources.Position // of the Rows it is the last of
}

func (i *Inlet) lane(name string) *lane {
	l := i.lanes[name]
	if l == nil {
		l = &lane{position: i.disk.durable[name]}
		i.lanes[name] = l
	}
	return l
}

// Position implements sources.Inlet.
func (i *Inlet) Position(name string) sources.Position {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	return bytes.Clone(i.lane(name).position)
}

// Lanes implements sources.Inlet.
func (i *Inlet) Lanes() []string {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	names := map[string]bool{}
	for name := range i.disk.durable {
		names[name] = true
	}
	for name, l := range i.lanes {
		if l.position != nil {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// check says what is wrong with rows.
func check(r sources.Rows) error {
	switch {
	case checkLane(r.Lane) != nil:
		return checkLane(r.Lane)
	case strings.HasPrefix(r.Lane, "@"):
		return fmt.Errorf("rows of %q, which is a note", r.Lane)
	case len(r.Data) == 0:
		return errors.New("no rows")
	case len(r.Meta) != 0 && len(r.Meta) != len(r.Data):
		return fmt.Errorf("%d rows with %d metas", len(r.Data), len(r.Meta))
	case len(r.Next) == 0 || len(r.Next) > sources.MaxPosition:
		return fmt.Errorf("a position of %d bytes", len(r.Next))
	case r.Arrived.IsZero():
		return errors.New("no time of arrival")
	}
	return nil
}

func checkLane(name string) error {
	if name == "" || len(name) > sources.MaxLane {
		return fmt.Errorf("a lane's name of %d bytes", len(name))
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '/' {
			return fmt.Errorf("lane %q is not printable ASCII without slashes and spaces", name)
		}
	}
	return nil
}

// Append implements sources.Inlet.
func (i *Inlet) Append(ctx context.Context, r sources.Rows) error {
	d := i.disk
	if err := check(r); err != nil {
		d.t.Errorf("Append: %v", err)
		return err
	}
	size := 0
	for k := range r.Data {
		size += len(r.Data[k])
		if len(r.Meta) > 0 {
			size += len(r.Meta[k])
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l := i.lane(r.Lane)
	if l.appending {
		d.t.Errorf("Append: two calls for lane %s at a time", r.Lane)
	}
	l.appending = true
	defer func() { l.appending = false }()
	for released := l.released; ; {
		switch {
		case i.closed:
			return i.ended(ctx)
		case l.released != released:
			return sources.ErrReleased
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if !i.full && (i.bytes == 0 || i.bytes+size <= i.o.Room) {
			break
		}
		if err := i.wait(ctx); err != nil {
			return err
		}
	}
	for k := range r.Data {
		w := waiting{Row: Row{Lane: r.Lane, Data: string(r.Data[k]), Arrived: r.Arrived}, bytes: len(r.Data[k])}
		if len(r.Meta) > 0 && len(r.Meta[k]) > 0 {
			m, err := record.ParseMeta(bytes.Clone(r.Meta[k]))
			if err != nil {
				d.t.Errorf("Append: %v", err)
			}
			w.Meta, w.bytes = m, w.bytes+len(r.Meta[k])
		}
		if k == len(r.Data)-1 {
			w.next = bytes.Clone(r.Next)
		}
		l.rows = append(l.rows, w)
	}
	i.bytes += size
	l.position = bytes.Clone(r.Next)
	return nil
}

// wait lets go of the disk until something may have changed.
func (i *Inlet) wait(ctx context.Context) error {
	room := i.room
	i.disk.mu.Unlock()
	defer i.disk.mu.Lock()
	select {
	case <-room:
		return nil
	case <-i.dead:
		<-ctx.Done() // a dead process answers nobody
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended is what a call of a dead process returns, once its caller is gone too.
func (i *Inlet) ended(ctx context.Context) error {
	i.disk.mu.Unlock()
	defer i.disk.mu.Lock()
	<-ctx.Done()
	return ctx.Err()
}

func (i *Inlet) wake() {
	close(i.room)
	i.room = make(chan struct{})
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// Note implements sources.Inlet.
func (i *Inlet) Note(ctx context.Context, name string, next sources.Position) error {
	d := i.disk
	if err := checkLane(name); err != nil || len(next) == 0 || len(next) > sources.MaxPosition {
		d.t.Errorf("Note of lane %q with %d bytes: %v", name, len(next), err)
	}
	i.Persist(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if i.closed {
		return i.ended(ctx)
	}
	i.lane(name).position = bytes.Clone(next)
	d.durable[name] = bytes.Clone(next)
	if !slices.ContainsFunc(d.runs, func(r Row) bool { return r.Lane == name }) {
		d.delivered[name] = bytes.Clone(next)
		i.wake()
	}
	return nil
}

// Delivered implements sources.Inlet.
func (i *Inlet) Delivered(name string) sources.Position {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	return bytes.Clone(i.disk.delivered[name])
}

// Changed implements sources.Inlet.
func (i *Inlet) Changed() <-chan struct{} { return i.changed }

// Settle implements sources.Inlet.
func (i *Inlet) Settle(ctx context.Context, _ ...string) error {
	settled := make(chan struct{})
	i.done.Go(func() {
		defer close(settled)
		i.Deliver()
	})
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release implements sources.Inlet.
func (i *Inlet) Release(name string) {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	l := i.lane(name)
	for _, w := range l.rows {
		i.bytes -= w.bytes
	}
	l.rows, l.position = nil, bytes.Clone(i.disk.durable[name])
	l.released++
	i.wake()
}

// Forget implements sources.Inlet.
func (i *Inlet) Forget(name string) {
	d := i.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := i.lanes[name]; l != nil && len(l.rows) > 0 || slices.ContainsFunc(d.runs, func(r Row) bool { return r.Lane == name }) {
		return
	}
	delete(i.lanes, name)
	delete(d.durable, name)
	delete(d.delivered, name)
}

// Full makes the Inlet take nothing, as when memory is used up by others, or take again.
func (i *Inlet) Full(full bool) {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	i.full = full
	i.wake()
}

// Waiting is how many rows wait in memory.
func (i *Inlet) Waiting() (n int) {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	for _, l := range i.lanes {
		n += len(l.rows)
	}
	return n
}

// Persist makes rows that wait durable, with their positions: of all lanes, or of those that are named.
func (i *Inlet) Persist(lanes ...string) {
	d := i.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if i.closed {
		return
	}
	i.persist(lanes)
	i.wake()
}

func (i *Inlet) persist(only []string) {
	for _, name := range slices.Sorted(maps.Keys(i.lanes)) {
		l := i.lanes[name]
		if len(l.rows) == 0 || len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		for _, w := range l.rows {
			i.disk.runs = append(i.disk.runs, w.Row)
			i.bytes -= w.bytes
		}
		l.rows = nil
		i.disk.durable[name] = bytes.Clone(l.position)
	}
}

// Deliver makes what waits durable and delivers it. Where the process is killed meanwhile, the next one delivers it.
func (i *Inlet) Deliver() {
	i.cutting.Lock()
	defer i.cutting.Unlock()
	d := i.disk
	d.mu.Lock()
	if i.closed {
		d.mu.Unlock()
		return
	}
	i.persist(nil)
	rows, positions := slices.Clone(d.runs), maps.Clone(d.durable)
	i.wake()
	d.mu.Unlock()
	if i.o.Delay > 0 {
		select {
		case <-time.After(i.o.Delay):
		case <-i.dead:
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i.closed {
		return
	}
	d.to.deliver(rows)
	d.runs = d.runs[len(rows):]
	for name, p := range positions {
		d.delivered[name] = p
	}
	i.wake()
}

func (i *Inlet) deliverEvery() {
	tick := time.NewTicker(i.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			i.Deliver()
		case <-i.dead:
			return
		}
	}
}

// Crash kills the process: what was not durable is lost, and its calls return only once their callers' ctx ends. What had
// been made durable waits for the next Inlet.
func (i *Inlet) Crash() {
	d := i.disk
	d.mu.Lock()
	if !i.closed {
		i.closed = true
		close(i.dead)
		d.now = nil
	}
	d.mu.Unlock()
	i.done.Wait()
}

// Close ends the process in order: what waits is delivered.
func (i *Inlet) Close() {
	i.Deliver()
	i.Crash()
}
