// Package sinktest is the one suite that every sink passes, on every store that it can write to.
//
// A sink and a view of its store that bypasses the sink flow in; failures of the contract in package sinks
// flow out. Each case begins with an empty store, and ends by looking at the whole of it: what is there, what
// is not, and what was left lying about.
package sinktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hydrant/sinks"
)

// Stored is an object as the store has it.
type Stored struct {
	Size            int64
	SHA256          [32]byte
	ContentType     string
	ContentEncoding string
	Meta            map[string]string
}

// Store is a view of a store that does not go through the sink. Its methods end the test where they fail.
type Store interface {
	Keys() []string         // of all objects that a reader sees, sorted
	Get(key string) Stored  // one of them
	Plant(key, body string) // makes somebody else's object, without metadata
	Leftovers() []string    // what readers do not see and nobody will ever clean: files, uploads
}

// Fixture is a sink with an empty store of its own.
type Fixture struct {
	Sink  sinks.Sink
	Store Store
	// Reopen makes another sink on the same store, as the next process does.
	Reopen func() sinks.Sink
	// LoseAnswer makes the next write to the store go without an answer: committed or before it was. nil
	// where answers cannot be lost.
	LoseAnswer func(committed bool)
	// Refuse makes the store answer the next write in a way of its own: it stores nothing. nil where it never does.
	Refuse func(Refusal)
}

// Refusal is an answer of a store that takes nothing.
type Refusal string

// The refusals, with the class that a sink must see in each.
const (
	Busy     Refusal = "busy"      // come back later, after two seconds where the store can say that: NotStored
	Broken   Refusal = "broken"    // an error of the store's own: NotStored or Unknown
	Denied   Refusal = "denied"    // the credentials are not good enough: RefusedDestination
	TooLarge Refusal = "too large" // the object is larger than the store takes: RefusedObject or TooLarge
)

var refusals = []struct {
	is      Refusal
	classes []sinks.Class
	after   time.Duration
}{
	{Busy, []sinks.Class{sinks.NotStored}, 2 * time.Second},
	{Broken, []sinks.Class{sinks.NotStored, sinks.Unknown}, 0},
	{Denied, []sinks.Class{sinks.RefusedDestination}, 0},
	{TooLarge, []sinks.Class{sinks.RefusedObject, sinks.TooLarge}, 0},
}

// Target says how to make fixtures and what the store cannot do.
type Target struct {
	Open func(t *testing.T) Fixture
	// Large is a size at which the sink works differently (a multipart upload); 0: 8 MiB.
	Large int64
	// NoHeaders: the store keeps bytes only. NoMeta: it keeps no metadata.
	NoHeaders, NoMeta bool
	// Overwrites: the store lets a large object replace what is there, whatever the sink says.
	Overwrites bool
	// AtLeastOnce: the sink cannot ask the store. It knows no names, so that there are no foreign objects and no keys to
	// refuse, and what is put again arrives again: the view of the store has it once, as it came under one RequestID.
	AtLeastOnce bool
	// InProcess: the store's memory is this process's.
	InProcess bool
	// OddKeys are more keys that the store is to take, and RefusedKeys those that ValidateKey refuses.
	OddKeys, RefusedKeys []string
}

// patience is how long any single put may take.
const patience = time.Minute

// Run runs the suite.
func Run(t *testing.T, target Target) {
	if target.Large == 0 {
		target.Large = 8 << 20
	}
	s := &suite{Target: target}
	sizes := []int64{0, 1, 4096, 1<<20 + 1, target.Large, target.Large*2 + 13}
	for _, c := range []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"stores bytes and headers", func(t *testing.T, f Fixture) { s.exact(t, f, sizes) }},
		{"put twice is once", s.twice},
		{"put after a restart is once", s.restart},
		{"concurrent puts of one object", s.concurrent},
		{"concurrent puts of many objects", s.many},
		{"foreign object", s.foreign},
		{"verify", s.verify},
		{"verify writes nothing", s.verifyForeign},
		{"lost answers", s.lost},
		{"refusals", s.refusals},
		{"cancelled context", s.cancelled},
		{"cancelled half-way", s.cancelledHalfway},
		{"damaged bytes", s.damaged},
		{"unreadable bytes", s.unreadable},
		{"keys", s.keys},
		{"bounded memory", s.memory},
	} {
		before := goleak.IgnoreCurrent()
		t.Run(c.name, func(t *testing.T) {
			if target.AtLeastOnce && slices.Contains(namesOnly, c.name) {
				t.Skip("the store has no names")
			}
			f := target.Open(t)
			c.run(t, f)
			if left := f.Store.Leftovers(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if err := f.Sink.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// namesOnly are cases about stores that know objects by their names.
var namesOnly = []string{"foreign object", "keys"}

type suite struct{ Target }

// verifyStored checks what Verify says of an object that is there.
func (s *suite) verifyStored(t *testing.T, sink sinks.Sink, o sinks.Object) {
	t.Helper()
	err := sink.Verify(t.Context(), o)
	if s.AtLeastOnce {
		wantClass(t, "verify", err, sinks.Unknown)
	} else if err != nil {
		t.Errorf("verify of %q, which is stored: %v", o.Key, err)
	}
}

// absent is the class of a Verify of an object that is not there.
func (s *suite) absent() sinks.Class {
	if s.AtLeastOnce {
		return sinks.Unknown
	}
	return sinks.NotStored
}

func put(t *testing.T, s sinks.Sink, o sinks.Object) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return s.Put(ctx, o)
}

func mustPut(t *testing.T, s sinks.Sink, o sinks.Object) {
	t.Helper()
	if err := put(t, s, o); err != nil {
		t.Fatalf("put %q (%d bytes): %v (%v)", o.Key, o.Size, err, sinks.ClassOf(err))
	}
}

func wantClass(t *testing.T, what string, err error, want ...sinks.Class) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want one of class %v", what, want)
	} else if got := sinks.ClassOf(err); !slices.Contains(want, got) {
		t.Errorf("%s: error of class %v, want %v: %v", what, got, want, err)
	}
}

// holds checks that the store has exactly these objects.
func (s *suite) holds(t *testing.T, f Fixture, objects ...sinks.Object) {
	t.Helper()
	want := []string{}
	for _, o := range objects {
		want = append(want, o.Key)
	}
	slices.Sort(want)
	if got := f.Store.Keys(); !slices.Equal(got, want) {
		t.Errorf("keys in the store:\n %q, want\n %q", got, want)
		return
	}
	for _, o := range objects {
		got := f.Store.Get(o.Key)
		if got.Size != o.Size || got.SHA256 != o.SHA256 {
			t.Errorf("%q: %d bytes with SHA-256 %x, want %d with %x", o.Key, got.Size, got.SHA256, o.Size, o.SHA256)
		}
		if s.NoHeaders {
			continue
		}
		if got.ContentType != o.ContentType || got.ContentEncoding != o.ContentEncoding {
			t.Errorf("%q: content type %q and encoding %q, want %q and %q", o.Key, got.ContentType, got.ContentEncoding, o.ContentType, o.ContentEncoding)
		}
		if !s.NoMeta && !maps.Equal(got.Meta, o.Meta) {
			t.Errorf("%q: metadata %v, want %v", o.Key, got.Meta, o.Meta)
		}
	}
}

func (s *suite) exact(t *testing.T, f Fixture, sizes []int64) {
	var all []sinks.Object
	for i, size := range sizes {
		o := Object(Key("clicks/dt=2026-11-24/hour=10/", uint64(i)), size, uint64(i))
		if i%2 == 1 {
			o.ContentEncoding = ""
		}
		mustPut(t, f.Sink, o)
		if all = append(all, o); i < 3 {
			s.holds(t, f, all...)
		}
	}
	s.holds(t, f, all...)
}

func (s *suite) pair() []sinks.Object {
	return []sinks.Object{Object(Key("a/", 1), 1000, 1), Object(Key("a/b/", 2), s.Large, 2)}
}

func (s *suite) twice(t *testing.T, f Fixture) {
	all := s.pair()
	for range 3 {
		for _, o := range all {
			mustPut(t, f.Sink, o)
		}
		s.holds(t, f, all...)
	}
}

func (s *suite) restart(t *testing.T, f Fixture) {
	all := s.pair()
	for _, o := range all {
		mustPut(t, f.Sink, o)
	}
	next := f.Reopen()
	for _, o := range all {
		s.verifyStored(t, next, o)
		mustPut(t, next, o)
	}
	if err := next.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	s.holds(t, f, all...)
}

func (s *suite) concurrent(t *testing.T, f Fixture) {
	all := s.pair()
	for _, o := range all {
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() { errs[i] = put(t, f.Sink, o) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				t.Errorf("%q: one of %d puts at a time: %v", o.Key, len(errs), err)
			}
		}
	}
	s.holds(t, f, all...)
}

func (s *suite) many(t *testing.T, f Fixture) {
	all := make([]sinks.Object, 64)
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	turn := make(chan struct{}, 16)
	for i := range all {
		all[i] = Object(Key(fmt.Sprintf("many/p=%d/", i%7), uint64(i)), int64(i*777), uint64(i))
		wg.Go(func() {
			turn <- struct{}{}
			errs[i] = put(t, f.Sink, all[i])
			<-turn
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	s.holds(t, f, all...)
}

func (s *suite) foreign(t *testing.T, f Fixture) {
	const body = "somebody else's"
	sum, size, _ := Sum(strings.NewReader(body))
	for _, o := range s.pair() {
		if s.Overwrites && o.Size >= s.Large {
			continue
		}
		f.Store.Plant(o.Key, body)
		for range 2 {
			wantClass(t, "put over a foreign object", put(t, f.Sink, o), sinks.Foreign)
		}
		wantClass(t, "verify of a foreign object", f.Sink.Verify(t.Context(), o), sinks.NotStored)
		if got := f.Store.Get(o.Key); got.Size != size || got.SHA256 != sum {
			t.Errorf("the foreign object %q has changed to %d bytes", o.Key, got.Size)
		}
	}
}

func (s *suite) verify(t *testing.T, f Fixture) {
	all := s.pair()
	for _, o := range all {
		wantClass(t, "verify before put", f.Sink.Verify(t.Context(), o), s.absent())
		mustPut(t, f.Sink, o)
		s.verifyStored(t, f.Sink, o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantClass(t, "verify with a cancelled context", f.Sink.Verify(ctx, all[0]), sinks.Unknown)
	s.holds(t, f, all...)
}

func (s *suite) verifyForeign(t *testing.T, f Fixture) {
	for _, o := range s.pair() {
		wantClass(t, "verify", f.Sink.Verify(t.Context(), o), s.absent())
	}
	s.holds(t, f)
}

func (s *suite) lost(t *testing.T, f Fixture) {
	if f.LoseAnswer == nil {
		t.Skip("answers of this store cannot be lost")
	}
	seed := uint64(10)
	var all []sinks.Object
	for _, committed := range []bool{false, true} {
		for _, size := range []int64{100, s.Large} {
			seed++
			o := Object(Key("lost/", seed), size, seed)
			f.LoseAnswer(committed)
			if err := put(t, f.Sink, o); err != nil {
				wantClass(t, "put without an answer", err, sinks.Unknown)
			}
			mustPut(t, f.Sink, o)
			s.verifyStored(t, f.Sink, o)
			all = append(all, o)
			s.holds(t, f, all...)
		}
	}
}

// refusals are told by their class; nothing is stored, and the next put of the same object is.
func (s *suite) refusals(t *testing.T, f Fixture) {
	if f.Refuse == nil {
		t.Skip("this store cannot be made to refuse")
	}
	var all []sinks.Object
	for i, r := range refusals {
		for k, size := range []int64{100, s.Large} {
			seed := uint64(20 + 2*i + k)
			o := Object(Key("refused/", seed), size, seed)
			f.Refuse(r.is)
			err := put(t, f.Sink, o)
			wantClass(t, fmt.Sprintf("put into a store that is %s", r.is), err, r.classes...)
			if e, ok := errors.AsType[*sinks.Error](err); ok && e.After != 0 && e.After != r.after {
				t.Errorf("%s: asked to wait %s, want %s", r.is, e.After, r.after)
			}
			s.holds(t, f, all...)
			mustPut(t, f.Sink, o)
			all = append(all, o)
		}
	}
	s.holds(t, f, all...)
}

func (s *suite) cancelled(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, o := range s.pair() {
		err := f.Sink.Put(ctx, o)
		wantClass(t, "put with a cancelled context", err, sinks.Unknown)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the error hides context.Canceled: %v", err)
		}
	}
	s.holds(t, f)
}

// cancelling cancels while it is read.
type cancelling struct {
	io.ReaderAt
	at     int64
	cancel context.CancelFunc
}

func (c cancelling) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.at {
		c.cancel()
	}
	return c.ReaderAt.ReadAt(p, off)
}

func (s *suite) cancelledHalfway(t *testing.T, f Fixture) {
	o := Object(Key("c/", 1), s.Large, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	broken := o
	broken.ReaderAt = cancelling{o.ReaderAt, o.Size / 2, cancel}
	err := f.Sink.Put(ctx, broken)
	wantClass(t, "put that is cancelled half-way", err, sinks.Unknown)
	s.holds(t, f)
	mustPut(t, f.Sink, o)
	s.holds(t, f, o)
}

func (s *suite) damaged(t *testing.T, f Fixture) {
	for _, o := range []sinks.Object{Object(Key("d/", 1), 5000, 1), Object(Key("d/", 2), s.Large, 2), Object(Key("d/", 3), 1, 3)} {
		for _, r := range []io.ReaderAt{
			damaged{o.ReaderAt, 0}, damaged{o.ReaderAt, o.Size / 2}, damaged{o.ReaderAt, o.Size - 1},
			truncated{o.ReaderAt, o.Size - 1}, truncated{o.ReaderAt, 0},
		} {
			broken := o
			broken.ReaderAt = r
			wantClass(t, fmt.Sprintf("put of %d damaged bytes (%T)", o.Size, r), put(t, f.Sink, broken), sinks.Damaged)
			s.holds(t, f)
		}
	}
	// Damage is the object's: the next one is stored.
	o := Object(Key("d/", 4), 5000, 4)
	mustPut(t, f.Sink, o)
	s.holds(t, f, o)
}

func (s *suite) unreadable(t *testing.T, f Fixture) {
	cause := errors.New("input/output error of a test")
	for _, o := range []sinks.Object{Object(Key("u/", 1), 500_000, 1), Object(Key("u/", 2), s.Large, 2)} {
		broken := o
		broken.ReaderAt = failing{o.ReaderAt, o.Size / 2, cause}
		err := put(t, f.Sink, broken)
		// The bytes may be readable again: it is not Damaged, and nobody else's fault.
		wantClass(t, "put of unreadable bytes", err, sinks.NotStored, sinks.Unknown)
		if !errors.Is(err, cause) {
			t.Errorf("the error hides its cause: %v", err)
		}
		s.holds(t, f)
	}
}

func (s *suite) keys(t *testing.T, f Fixture) {
	var all []sinks.Object
	for i, prefix := range append([]string{
		"", "plain/", "with space/", "plus+/", "percent%20/", "umlaut=ü/", "漢字/", "quote'\"/", "punct=!()*~,;=@&$/", "a=1/b=2/c=3/",
		"question?mark/", "hash#/", strings.Repeat("d/", 100), "dot.dir/.hidden/",
	}, s.OddKeys...) {
		o := Object(Key(prefix, uint64(i)), 64, uint64(i))
		if err := f.Sink.ValidateKey(o.Key); err != nil {
			t.Errorf("key %q is refused: %v", o.Key, err)
			continue
		}
		mustPut(t, f.Sink, o)
		mustPut(t, f.Sink, o)
		if err := f.Sink.Verify(t.Context(), o); err != nil {
			t.Errorf("verify %q: %v", o.Key, err)
		}
		all = append(all, o)
	}
	s.holds(t, f, all...)
	for _, key := range append([]string{
		"", "../x", "a/../x", "a/..", "..", "a/./x", "nul\x00byte", "invalid\xffutf8", strings.Repeat("x/", 512) + "y",
	}, s.RefusedKeys...) {
		if err := f.Sink.ValidateKey(key); err == nil {
			t.Errorf("key %q is not refused", key)
		} else if strings.Contains(err.Error(), "\x00") {
			t.Errorf("the message about key %q holds it raw: %q", key, err)
		}
		wantClass(t, fmt.Sprintf("put with key %q", key), put(t, f.Sink, Object(key, 8, 1)), sinks.RefusedObject)
	}
	s.holds(t, f, all...)
}

func (s *suite) memory(t *testing.T, f Fixture) {
	if s.InProcess {
		t.Skip("the store's memory is this process's")
	}
	mustPut(t, f.Sink, Object(Key("m/", 1), s.Large, 1)) // connections and pools
	o := Object(Key("m/", 2), 64<<20, 2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	mustPut(t, f.Sink, o)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("putting %d MiB allocates %d MiB", o.Size>>20, got>>20)
	}
	if got := f.Store.Get(o.Key); got.SHA256 != o.SHA256 {
		t.Errorf("%d bytes of other content", got.Size)
	}
}
