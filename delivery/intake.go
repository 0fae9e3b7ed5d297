package delivery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/sources"
)

const (
	// readBase and readCap bound the wait before a Reader that gave up is started again.
	readBase = 5 * time.Second
	readCap  = time.Minute
)

// intake runs the Reader of a stream: while the stream has one, is not on its way out and is not being changed. The rows
// that it brought stay when it ends.
type intake struct {
	s    *stream
	both func() []*stream // the consumers of the stream that there are
	poke chan struct{}    // there is something new to look at
	gone chan struct{}    // closed when the stream is

	mu      sync.Mutex
	holds   int                // those who want nothing to be read
	cancel  context.CancelFunc // ends the Reader that runs
	idle    chan struct{}      // closed when it has ended; nil: none runs
	inlet   laneInlet          // of the Reader that runs
	began   time.Time          // when it began
	err     string             // why the last one ended, "" while one runs well
	lasting int                // failures in a row
}

func newIntake(s *stream, both func() []*stream) *intake {
	return &intake{s: s, both: both, poke: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (i *intake) wake() {
	select {
	case i.poke <- struct{}{}:
	default:
	}
}

// hold ends the Reader that runs and lets none begin until release. It waits for its end.
func (i *intake) hold() {
	i.mu.Lock()
	i.holds++
	idle := i.idle
	if idle != nil {
		i.cancel()
	}
	i.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

func (i *intake) release() {
	i.mu.Lock()
	i.holds--
	i.mu.Unlock()
	i.wake()
}

// readable is the version in force where it has a Reader that may run; its use is to be ended.
func (s *stream) readable() *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != buffer.Main || s.gone || s.def.State >= buffer.Deleting || s.cur.pipe == nil || s.cur.pipe.Reader == nil {
		return nil
	}
	s.useLocked(s.cur)
	return s.cur
}

// run runs Readers until ctx ends or the stream is gone.
func (i *intake) run(ctx context.Context) {
	for ctx.Err() == nil {
		var pause <-chan time.Time
		if v := i.s.readable(); v != nil {
			pause = i.read(ctx, v)
			i.s.mu.Lock()
			i.s.unuseLocked(v)
			i.s.mu.Unlock()
		}
		select {
		case <-pause:
		case <-i.poke:
		case <-i.gone:
			return
		case <-ctx.Done():
		}
	}
}

// read runs the Reader of a version until it ends. It returns when to try again; nil: when something changes.
func (i *intake) read(ctx context.Context, v *version) <-chan time.Time {
	i.mu.Lock()
	if i.holds > 0 {
		i.mu.Unlock()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	idle := make(chan struct{})
	i.cancel, i.idle = cancel, idle
	i.mu.Unlock()
	began := time.Now()
	err := i.bring(ctx, v)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.idle, i.inlet = nil, nil
	close(idle)
	if ctx.Err() != nil { // it was told to end
		i.err, i.lasting = "", 0
		return nil
	}
	cancel()
	if time.Since(began) > readCap {
		i.lasting = 0
	}
	i.lasting++
	i.err = err.Error()
	i.s.alarm("source", "the source of a stream cannot be read; it is tried again", "source", v.pipe.Source, "err", err)
	return time.After(backoff(i.lasting, readBase, readCap))
}

// bring opens the way to the buffer and runs the Reader.
func (i *intake) bring(ctx context.Context, v *version) error {
	in, err := i.s.store.Inlet(i.s.incarnation)
	if err != nil {
		return err
	}
	defer in.Close()
	i.mu.Lock()
	i.inlet, i.began = in, time.Now()
	i.mu.Unlock()
	err = v.pipe.Reader.Run(ctx, &inlet{s: i.s, both: i.both, in: in, works: i.works})
	if err == nil && ctx.Err() == nil {
		err = errors.New("bug: its reader ended by itself")
	}
	return err
}

// works says that the Reader brings something, so that why the last one ended is of the past.
func (i *intake) works() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.inlet != nil {
		i.err = ""
	}
}

// intakeStatus is what a stream's status says of its source.
type intakeStatus struct {
	lanes   int
	failing string
}

func (i *intake) status() (st intakeStatus) {
	i.mu.Lock()
	in := i.inlet
	if in == nil || time.Since(i.began) <= readCap { // one that has run for so long runs well, though nothing may come
		st.failing = i.err
	}
	i.mu.Unlock()
	if in == nil {
		return st
	}
	for _, name := range in.Lanes() {
		if name[0] != '@' {
			st.lanes++
		}
	}
	return st
}

// laneInlet is a *buffer.Inlet; its comments are the contract there.
type laneInlet interface {
	Position(lane string) []byte
	Delivered(lane string) []byte
	Lanes() []string
	Append(ctx context.Context, rows buffer.LaneRows) error
	Note(ctx context.Context, lane string, next []byte) error
	Changed() <-chan struct{}
	Settle(ctx context.Context, lanes []string, flush func(to uint64)) error
	Release(lane string)
	Forget(lane string) error
	Close()
}

var _ laneInlet = (*buffer.Inlet)(nil)

// inlet is a stream as its Reader sees it.
type inlet struct {
	s    *stream
	both func() []*stream
	in   laneInlet
	// works is called when something of the source came: rows, or a place in it.
	works func()
}

var _ sources.Inlet = (*inlet)(nil)

func (i *inlet) Position(lane string) sources.Position  { return i.in.Position(lane) }
func (i *inlet) Delivered(lane string) sources.Position { return i.in.Delivered(lane) }
func (i *inlet) Lanes() []string                        { return i.in.Lanes() }
func (i *inlet) Changed() <-chan struct{}               { return i.in.Changed() }
func (i *inlet) Release(lane string)                    { i.in.Release(lane) }

func (i *inlet) Append(ctx context.Context, rows sources.Rows) error {
	err := i.in.Append(ctx, buffer.LaneRows{Lane: rows.Lane, Arrived: rows.Arrived, Data: rows.Data, Meta: rows.Meta, Next: rows.Next})
	if err == nil {
		i.works()
	}
	return laneError(err)
}

func (i *inlet) Note(ctx context.Context, lane string, next sources.Position) error {
	err := i.in.Note(ctx, lane, next)
	if err == nil && !strings.HasPrefix(lane, "@") {
		i.works()
	}
	return laneError(err)
}

func (i *inlet) Settle(ctx context.Context, lanes ...string) error {
	return laneError(i.in.Settle(ctx, lanes, func(to uint64) {
		for _, s := range i.both() {
			s.mu.Lock()
			if to > s.flushTo {
				s.flushTo, s.flushWhy = to, reasonFlush
			}
			s.mu.Unlock()
			s.wake()
			s.hurry()
		}
	}))
}

func (i *inlet) Forget(lane string) {
	if err := i.in.Forget(lane); err != nil {
		i.s.notice("forget", "a lane that is not read again is not forgotten yet", "lane", lane, "err", err)
	}
}

// laneError says in the words of sources what the buffer says.
func laneError(err error) error {
	if errors.Is(err, buffer.ErrReleased) {
		return fmt.Errorf("%w: %w", sources.ErrReleased, err)
	}
	return err
}
