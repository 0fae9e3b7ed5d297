package delivery

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/sinks"
)

// DivertTo says where the objects of a batch go that its destination does not take.
type DivertTo struct {
	// Directory of the machine, absolute; "": the stream's error output.
	Directory string
	// Force diverts also what the destination may have stored, as an answer was lost, where it does not say so now.
	// Then its records may be in both places.
	Force bool
}

// Diverted is what became of a batch.
type Diverted struct {
	Objects  int      `json:"diverted_objects"`
	Records  int64    `json:"diverted_records"`
	Found    int      `json:"found_delivered"`    // objects that the destination turned out to have
	SetAside int      `json:"set_aside"`          // objects whose bytes are damaged
	Doubtful []string `json:"doubtful,omitempty"` // keys that stay: the destination may have them, and does not say
}

// Errors of Divert.
var (
	// ErrNoDirectory says that this process has no way to write into a directory.
	ErrNoDirectory = errors.New("no directory can be diverted to")
	// ErrErrorObject says that an object is of the error output, and cannot be diverted to it.
	ErrErrorObject = errors.New("it is of the error output already: divert it to a directory")
	// errOrdered says that somebody else has an object.
	errOrdered = errors.New("another order is at work on it, or it has just been made: try again")
)

const (
	// diverting is the number of objects of a batch that are diverted at a time.
	diverting = 16
	// divertedMark divides a stream's name from the directory in the destination of diverted objects.
	divertedMark = "/diverted/file:"
	// maxDirectory bounds the path that manifests keep.
	maxDirectory = 512
	// codeDiverted is the code of records that the operator sent to the error output.
	codeDiverted = "Hydrant.Diverted"
)

// diverted is a directory that objects were diverted to. Its queue goes on where the stream is paused, as it was
// ordered all the same.
type diverted struct {
	d    Destination // without a Sink where err is not nil
	err  error
	lane *lane
}

// directoryOf is the directory in a destination's ID.
func (s *stream) directoryOf(destination string) (path string, ok bool) {
	return strings.CutPrefix(destination, s.name+divertedMark)
}

// divertedLocked is the directory that a destination's ID names, or nil where it names none.
func (s *stream) divertedLocked(destination string) *diverted {
	path, ok := s.directoryOf(destination)
	if !ok {
		return nil
	}
	if v := s.diverts[path]; v != nil && v.err == nil {
		return v
	}
	v := s.diverts[path]
	if v == nil {
		v = &diverted{lane: s.up.newLane()}
		s.diverts[path] = v
	}
	if v.err = ErrNoDirectory; s.directory != nil {
		v.d = Destination{ID: destination, Kind: "file", Place: path}
		if v.d.Sink, v.err = s.directory(path); v.err == nil {
			s.metrics.destination(s.name, v.d.Kind)
		}
	}
	return v
}

// closeDivertedLocked ends what diverted objects went through.
func (s *stream) closeDivertedLocked() {
	for _, v := range s.diverts {
		s.up.dropLane(v.lane)
		if v.err == nil {
			v.d.Sink.Close() // it has nothing to say: every object was synced
		}
	}
	clear(s.diverts)
}

// Divert gives up what is left of a batch for its destination: it goes to the error output or to a directory, as
// whole objects with the keys and bytes that they had, or, where they are requests, as error records. When the
// decision is durable, which it is object by object on return, the old object is never sent again, whatever happens;
// the new one is written by the uploader, also after a crash. The records count as failed.
//
// An object whose answer was lost is looked for first: where the destination has it, it is delivered; where it does
// not say, the object stays as it was, unless to.Force. Errors: *record.NotFound, ErrNoBatch, ErrDeleting,
// ErrNoDirectory, and those of single objects, joined; what was diverted is told all the same.
func (m *Manager) Divert(ctx context.Context, stream, manifest string, to DivertTo) (out Diverted, err error) {
	s, b, err := m.batch(stream, manifest)
	if err != nil {
		return out, err
	}
	leave, ok := m.enterOrder()
	if !ok {
		return out, &record.Refusal{Reason: "stopping", Message: "the service is stopping"}
	}
	defer leave()
	into, err := s.divertInto(to)
	if err != nil {
		return out, err
	}
	s.mu.Lock()
	var tasks []*task
	for _, t := range b.tasks {
		if !t.ended && (into == nil || t.info().Destination != into.d.ID) {
			tasks = append(tasks, t)
		}
	}
	s.mu.Unlock()
	var (
		mu   sync.Mutex // guards out and errs
		errs []error
		wg   sync.WaitGroup
		free = make(chan struct{}, diverting)
	)
	for _, t := range tasks {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			what, err := m.divertOne(ctx, s, t, into, to.Force)
			mu.Lock()
			defer mu.Unlock()
			switch what {
			case wasDiverted:
				out.Objects++
				out.Records += t.info().Records
			case wasFound:
				out.Found++
			case wasDamaged:
				out.SetAside++
			case inDoubt:
				out.Doubtful = append(out.Doubtful, t.info().Key)
			}
			if err != nil && what != inDoubt {
				errs = append(errs, fmt.Errorf("divert %q: %w", t.info().Key, err))
			}
		})
	}
	wg.Wait()
	slices.Sort(out.Doubtful)
	return out, errors.Join(errs...)
}

// divertInto is the directory of an order; nil: the error output.
func (s *stream) divertInto(to DivertTo) (*diverted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.def.State == buffer.Discarding {
		return nil, ErrDeleting // what is left is dropped
	}
	if to.Directory == "" {
		return nil, nil
	}
	if len(to.Directory) > maxDirectory {
		return nil, fmt.Errorf("directory with %d bytes in its path; %d are the most", len(to.Directory), maxDirectory)
	}
	v := s.divertedLocked(s.name + divertedMark + to.Directory)
	return v, v.err
}

// enterOrder lets somebody work on tasks who is not the uploader; Run waits for his leave. It says false when the
// process ends.
func (m *Manager) enterOrder() (leave func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return nil, false
	}
	m.orders.Add(1)
	return m.orders.Done, true
}

// endOrders makes them end soon, and waits.
func (m *Manager) endOrders() {
	close(m.ending)
	m.orders.Wait()
}

// divertEnd is what became of an object that was to be diverted.
type divertEnd uint8

const (
	wasKept     divertEnd = iota // it is the uploader's again
	wasDiverted                  // others took its place
	wasFound                     // it is delivered
	wasDamaged                   // it was set aside, or what it was is known by now
	inDoubt                      // it is the uploader's again: the destination may have it
)

// divertOne has one object end elsewhere. It takes the task from the uploader and gives it back where it has not
// ended.
func (m *Manager) divertOne(ctx context.Context, s *stream, t *task, into *diverted, force bool) (what divertEnd, err error) {
	mine, ok := s.seize(t)
	if !ok {
		return wasKept, errOrdered
	}
	select {
	case <-mine:
	case <-m.ending:
		return wasKept, errStopped // for nobody: the uploader has stopped
	}
	if s.up.hasEnded(t) { // while we waited
		return wasFound, nil
	}
	ended := false
	defer func() { s.unseize(t, ended) }()
	// The caller may go away while the destination is asked, but not while the journal decides.
	asking, cancel := context.WithCancel(ctx)
	deciding, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer cancel()
	go func() {
		select {
		case <-m.ending:
			cancel()
			end()
		case <-deciding.Done():
		}
	}()
	info := t.info()
	if into == nil && info.Role == buffer.Error {
		return wasKept, ErrErrorObject
	}
	if t.doubtful() {
		found, kind, err := s.settle(asking, t)
		switch {
		case found:
			s.stored(t, kind, 0)
			ended = true
			return wasFound, nil
		case asking.Err() != nil:
			return wasKept, asking.Err()
		case err != nil && !force:
			return inDoubt, err
		}
	}
	o, err := s.divertObject(deciding, t, into)
	switch {
	case o == done && err == nil:
		ended = true
		return wasDiverted, nil
	case o == done:
		ended = true
		return wasDamaged, nil
	case err == nil:
		err = errors.New("the decision could not be made durable; the log says why")
	}
	return wasKept, err
}

// settle looks for an object that may be stored, and waits for requests that may still arrive.
func (s *stream) settle(ctx context.Context, t *task) (found bool, kind string, err error) {
	for {
		found, kind, err = s.lookFor(ctx, t)
		soon, ok := errors.AsType[*tooSoon](err)
		if !ok {
			return found, kind, err
		}
		timer := time.NewTimer(soon.left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, kind, ctx.Err()
		}
	}
}

// divertObject makes the decision. done with an error: the bytes are damaged, and it ended otherwise.
func (s *stream) divertObject(ctx context.Context, t *task, into *diverted) (outcome, error) {
	info, reason := t.info(), "diverted by the operator"
	pipe := t.batch.use.pipe
	if pipe == nil && into == nil {
		return again, fmt.Errorf("the stream's version %d cannot be opened, so its error output is not known: divert to a directory", t.batch.manifest.Version)
	}
	var head buffer.ManifestHead
	var p pack
	var err error
	var key string
	if t.requests() != nil {
		if into != nil { // the same lines, elsewhere
			moved := *pipe
			moved.Errors = into.d
			pipe = &moved
		}
		ended := time.Now()
		head = s.replacement(t, buffer.Error)
		p, key, err = s.errorObjects(t, pipe, head, func(b []byte, row record.Row) []byte {
			return appendEndpointFailed(b, row, t.attempts, codeDiverted, reason, ended)
		})
	} else {
		to := ""
		if into != nil {
			to = into.d.ID
			key = s.divertKey(t, into.d.Sink)
		} else {
			to = pipe.errors().ID
			if key, err = pipe.errorKey(deliveryFailed, s.name, t.batch.manifest.Version, info.Oldest, extensionOf(info.Key)); err != nil {
				return again, fmt.Errorf("make a key for the error output: %w", err)
			}
		}
		head, p, err = s.copyObject(t, key, buffer.Error, to)
	}
	if err != nil {
		o, _ := s.notReplaced(ctx, t, err)
		return o, err
	}
	o, _ := s.exchange(ctx, t, head, p, key, reason)
	if o == done && info.Role != buffer.Error {
		s.metrics.failures.WithLabelValues(s.name, deliveryFailed, codeDiverted).Add(float64(info.Records))
	}
	return o, nil
}

// divertKey is the object's own key, so that whoever copies the directory into the bucket later puts it where it
// belongs; where no file can have that name, one that it can.
func (s *stream) divertKey(t *task, sink sinks.Sink) string {
	key := t.info().Key
	if sink.ValidateKey(key) == nil {
		return key
	}
	return fmt.Sprintf("%x-%d%s", t.batch.manifest.ID, t.object, extensionOf(key))
}

// seize takes a task from the uploader, and says false where it cannot be had. It is the caller's when mine is
// closed; an attempt that is under way is cut off.
func (s *stream) seize(t *task) (mine <-chan struct{}, ok bool) {
	if mine, ok = s.up.seize(t); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.wanted = true
		if cancel := s.sends[t]; cancel != nil {
			cancel()
		}
	}
	return mine, ok
}

// unseize gives it back, or tells that it has ended.
func (s *stream) unseize(t *task, ended bool) {
	s.mu.Lock()
	t.wanted = false
	s.mu.Unlock()
	s.up.unseize(t, ended)
	s.wake()
}

func (u *uploader) seize(t *task) (mine <-chan struct{}, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := t.lane
	if l == nil || t.gone || t.seized != nil {
		return nil, false
	}
	t.seized = make(chan struct{})
	if i := slices.Index(l.ready, t); i >= 0 {
		l.ready = slices.Delete(l.ready, i, i+1)
		close(t.seized)
	} else if i := slices.Index(l.later, t); i >= 0 {
		heap.Remove(&l.later, i)
		close(t.seized)
	} else if l.loads.remove(t) {
		close(t.seized)
	} // else it is in flight, and finish hands it over
	return t.seized, true
}

// hand gives a task that comes back to whoever has seized it. The caller holds u.mu.
func (t *task) hand() bool {
	if t.seized != nil {
		close(t.seized)
		return true
	}
	return false
}

func (u *uploader) hasEnded(t *task) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return t.gone
}

func (u *uploader) unseize(t *task, ended bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.wake()
	t.seized = nil
	if ended {
		t.gone = true
		t.lane.end(t)
		return
	}
	t.next = time.Time{}
	if t.staged {
		t.lane.loads.ready = append(t.lane.loads.ready, t)
		return
	}
	heap.Push(&t.lane.later, t)
}
