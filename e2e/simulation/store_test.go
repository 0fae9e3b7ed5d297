package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

// weather is how a place treats requests.
type weather uint8

const (
	fair     weather = iota // everything is stored and answered
	rough                   // some requests fail, before or after they were carried out
	down                    // all of them do
	refusing                // nobody is let in
	silent                  // no answer ever comes
)

func (w weather) String() string {
	return [...]string{"fair", "rough", "down", "refusing", "silent"}[w]
}

// store is all the places that objects go to. It outlives every process, and it checks how it is used: one
// key has one content for ever, nothing is sent before its manifest is durable, and nothing again that is
// known to be there. Safe for concurrent use.
type store struct {
	w *world

	mu     sync.Mutex
	places map[string]*place
	asked  map[string]uint64   // requests by key
	sent   map[string]*sending // by key
	looked map[string]bool     // keys that were found in the manifests of an image
	late   sync.WaitGroup      // requests that arrive after they were given up
}

// place is one bucket.
type place struct {
	name    string
	weather weather
	changed chan struct{}      // closed when the weather changes
	objects map[string]*object // one version per key
	denied  bool               // a third of the data keys is denied
	blind   bool               // and so is looking at them
	foreign bool               // others put objects under our keys
}

// object is what is stored under a key.
type object struct {
	sha  [32]byte
	meta map[string]string
}

// sending is what is known about a key that was sent at least once.
type sending struct {
	sha      [32]byte
	manifest string
	tries    int
	process  int // that sent it last
	answered int // process that was told that it is stored, 0: none
	at       time.Duration
	durable  bool // a restart has shown that this is on disk
}

func newStore(w *world) *store {
	return &store{w: w, places: map[string]*place{}, asked: map[string]uint64{}, sent: map[string]*sending{}, looked: map[string]bool{}}
}

// place returns a place, made on first use.
func (s *store) place(name string) *place {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[name]
	if p == nil {
		p = &place{name: name, changed: make(chan struct{}), objects: map[string]*object{}}
		p.foreign = s.w.shape.foreign
		s.places[name] = p
	}
	return p
}

// setWeather changes how a place behaves. Requests that hang are let go.
func (s *store) setWeather(p *place, w weather) {
	s.mu.Lock()
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
	s.mu.Unlock()
	s.w.trace.note("weather", p.name+" "+w.String(), 0, 0)
}

// heal makes all places fair for good.
func (s *store) heal() {
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.places))
	for _, p := range s.places {
		p.denied, p.blind, p.foreign = false, false, false
	}
	s.mu.Unlock()
	for _, name := range names {
		s.setWeather(s.place(name), fair)
	}
}

// isFair tells whether a place takes everything at present.
func (s *store) isFair(name string) bool {
	p := s.place(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.weather == fair && !p.denied
}

// sink is one process's connection to a place.
type sink struct {
	p      *process
	place  *place
	refuse string
}

var _ sinks.Sink = (*sink)(nil)

func failure(class sinks.Class, code, what string) error {
	return &sinks.Error{Class: class, Code: code, Err: errors.New(what)}
}

var errGone = failure(sinks.Unknown, "", "the process is dead")

// answer is what becomes of a request.
type answer struct {
	wait   time.Duration
	hang   bool
	stored bool          // the store carries it out
	late   time.Duration // and so long after it was given up
	err    error         // nil: what the store found
}

// Put implements sinks.Sink as a store with If-None-Match does it.
func (k *sink) Put(ctx context.Context, o sinks.Object) error {
	if k.p.dead() {
		return errGone
	}
	body := make([]byte, o.Size)
	if _, err := io.ReadFull(io.NewSectionReader(o, 0, o.Size), body); err != nil {
		if k.p.dead() {
			return errGone
		}
		return failure(sinks.Damaged, "", "read the object: "+err.Error())
	}
	s, w := k.p.w.store, k.p.w
	look := s.arrive(k, &o, body)
	if look {
		w.lookForManifest(k.p, o.Key, sha256.Sum256(body), o.Meta[sinks.MetaManifestID])
	}
	a := s.decide(k.place, &o)
	w.trace.note("put", k.place.name+" "+o.Key, o.Size, int64(k.p.number))
	cut := s.pass(ctx, k.p, k.place, &a)
	switch {
	case cut != nil:
		// The request is on its way and nobody waits for it any more. One that would be refused still is.
		if s.luck(o.Key).IntN(2) == 0 && sinks.ClassOf(a.err) == sinks.Unknown {
			s.land(k.place, &o, body)
		}
		return cut
	case a.late > 0:
		s.late.Add(1)
		time.AfterFunc(a.late, func() {
			defer s.late.Done()
			s.land(k.place, &o, body)
		})
	case a.stored:
		if err := s.land(k.place, &o, body); err != nil && a.err == nil {
			return err
		}
	}
	if a.stored && a.err != nil {
		w.trigger(afterLostAnswer, k.p)
	}
	if a.err == nil {
		if k.p.dead() {
			return errGone
		}
		s.tell(k.p, o.Key)
		w.trigger(afterAnswer, k.p)
	}
	return a.err
}

// pass lets the time of a request pass. It returns an error where the answer cannot be received.
func (s *store) pass(ctx context.Context, p *process, place *place, a *answer) error {
	s.mu.Lock()
	changed := place.changed
	s.mu.Unlock()
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	elapsed := timer.C
	if a.hang {
		elapsed = nil
	} else {
		changed = nil
	}
	select {
	case <-elapsed:
	case <-changed:
	case <-p.killed:
		return errGone
	case <-ctx.Done():
		return failure(sinks.Unknown, "", "given up: "+ctx.Err().Error())
	}
	if p.dead() {
		return errGone
	}
	return nil
}

// luck decides about the next request for a key. It depends on nothing else: requests of one instant come in
// any order, and each is to have the same fate in every run of a seed.
func (s *store) luck(key string) *rand.Rand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.luckLocked(key)
}

func (s *store) luckLocked(key string) *rand.Rand {
	s.asked[key]++
	return rand.New(rand.NewPCG(s.w.seed^fnv(fnvBasis, key), s.asked[key]))
}

// some tells whether a key is among one in n, the same ones always.
func some(key string, n uint64) bool { return fnv(fnvBasis, key)%n == 0 }

// decide draws the answer to a put.
func (s *store) decide(p *place, o *sinks.Object) (a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.luckLocked(o.Key)
	a.wait = time.Millisecond + time.Duration(r.Int64N(int64(40*time.Millisecond)))
	lost := func() { a.stored, a.err = true, failure(sinks.Unknown, "", "connection reset, after it was stored") }
	reset := func() {
		a.err = failure(sinks.Unknown, "", "connection reset, before anything was stored")
		if s.w.shape.late && r.IntN(4) == 0 {
			a.late = time.Duration(r.Int64N(int64(20 * time.Second)))
		}
	}
	busy := func() {
		a.err = &sinks.Error{Class: sinks.NotStored, Code: "SlowDown", After: time.Duration(r.IntN(3)) * time.Second, Err: errors.New("slow down")}
	}
	if p.foreign && p.objects[o.Key] == nil && r.IntN(20) == 0 {
		p.objects[o.Key] = &object{meta: map[string]string{sinks.MetaManifestID: "somebody", sinks.MetaSHA256: "else"}}
		s.w.trace.note("foreign", o.Key, 0, 0)
	}
	x := r.Float64()
	switch {
	case s.w.shape.refusals && strings.HasPrefix(o.Key, "data/") && some(o.Key, 8):
		a.err = failure(sinks.RefusedObject, "KeyTooLong", "the store does not take this object")
	case s.w.shape.refusals && strings.HasPrefix(o.Key, "data/") && some(o.Key+" turns", 8):
		// The store has it, and refuses it from then on.
		if s.sent[o.Key].tries == 1 {
			lost()
		} else {
			a.err = failure(sinks.RefusedObject, "EntityTooLarge", "the store does not take this object any more")
		}
	case p.denied && strings.HasPrefix(o.Key, "data/") && some(o.Key, 3):
		a.err = failure(sinks.RefusedDestination, "AccessDenied", "this prefix is denied")
	case p.weather == silent:
		a.hang = true
		a.err = failure(sinks.Unknown, "", "no answer")
		a.stored = x < 0.1
	case p.weather == refusing:
		a.err = failure(sinks.RefusedDestination, "AccessDenied", "access denied")
	case p.weather == down:
		switch {
		case x < 0.2:
			lost()
		case x < 0.7:
			reset()
		default:
			busy()
		}
	case p.weather == rough:
		switch {
		case x < 0.2:
			lost()
		case x < 0.35:
			reset()
		case x < 0.45:
			busy()
		case x < 0.6:
			a.wait = time.Duration(r.Int64N(int64(8 * time.Second)))
			a.stored = true
		default:
			a.stored = true
		}
	default:
		a.stored = true
	}
	return a
}

// Verify implements sinks.Sink.
func (k *sink) Verify(ctx context.Context, o sinks.Object) error {
	if k.p.dead() {
		return errGone
	}
	s := k.p.w.store
	s.mu.Lock()
	r := s.luckLocked(o.Key)
	a := answer{wait: time.Millisecond + time.Duration(r.Int64N(int64(20*time.Millisecond))), hang: k.place.weather == silent}
	switch {
	case a.hang || k.place.weather == down || k.place.weather == rough && r.IntN(3) == 0:
		a.err = failure(sinks.Unknown, "", "no answer about the object")
	case k.place.weather == refusing || k.place.denied && k.place.blind && some(o.Key, 3):
		a.err = failure(sinks.RefusedDestination, "AccessDenied", "access denied")
	}
	s.mu.Unlock()
	if err := s.pass(ctx, k.p, k.place, &a); err != nil {
		return err
	}
	if a.err == nil {
		s.mu.Lock()
		found := k.place.objects[o.Key]
		s.mu.Unlock()
		if found == nil || !found.is(&o) {
			a.err = failure(sinks.NotStored, "NotFound", "no such object of ours")
		} else {
			s.tell(k.p, o.Key)
		}
	}
	k.p.w.trace.note("verify", k.place.name+" "+o.Key, int64(k.p.number), int64(sinks.ClassOf(a.err)))
	return a.err
}

// ValidateKey implements sinks.Sink.
func (k *sink) ValidateKey(key string) error {
	if k.refuse != "" && strings.Contains(key, k.refuse) && strings.HasPrefix(key, "data/") {
		return fmt.Errorf("keys with %q are not taken", k.refuse)
	}
	return nil
}

// Close implements sinks.Sink.
func (k *sink) Close() error { return nil }

func (b *object) is(o *sinks.Object) bool {
	return b.meta[sinks.MetaManifestID] == o.Meta[sinks.MetaManifestID] && b.meta[sinks.MetaSHA256] == o.Meta[sinks.MetaSHA256]
}

var nvme = crc64.MakeTable(sinks.CRC64NVME)

// arrive checks a request against all that was promised about it. It tells whether an image of the disk is
// to be searched for its manifest.
func (s *store) arrive(k *sink, o *sinks.Object, body []byte) (look bool) {
	w, p := s.w, k.p
	sha := sha256.Sum256(body)
	id := o.Meta[sinks.MetaManifestID]
	if sha != o.SHA256 || hex.EncodeToString(sha[:]) != o.Meta[sinks.MetaSHA256] || crc64.Checksum(body, nvme) != o.CRC64NVME {
		w.violated("I5: the bytes sent under %q are not those of its checksums", o.Key)
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != len(buffer.ManifestID{}) {
		w.violated("%q is sent with manifest id %q", o.Key, id)
	}
	w.checkPaused(o.Meta[sinks.MetaStream], o.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.sent[o.Key]
	if h == nil {
		s.sent[o.Key] = &sending{sha: sha, manifest: id, process: p.number, tries: 1}
		return s.luckLocked(o.Key).IntN(6) == 0
	}
	if h.sha != sha || h.manifest != id {
		w.violated("I5: %q had checksum %x of manifest %s, now %x of %s", o.Key, h.sha[:4], h.manifest, sha[:4], id)
	}
	switch {
	case h.durable:
		w.violated("I6: %q is sent again although the journal says that it is stored", o.Key)
	case h.answered == p.number:
		w.violated("%q is sent again by the process that knows that it is stored", o.Key)
	case h.process != p.number && !p.left[o.Key]:
		w.violated("%q is sent by process %d, which did not find it in the journal", o.Key, p.number)
	}
	h.process = p.number
	h.tries++
	return !s.looked[o.Key] && s.luckLocked(o.Key).IntN(4) == 0
}

// land carries a put out: nothing is ever overwritten. Its error is what the sink finds in the way.
func (s *store) land(p *place, o *sinks.Object, body []byte) error {
	s.mu.Lock()
	old := p.objects[o.Key]
	if old == nil {
		p.objects[o.Key] = &object{sha: sha256.Sum256(body), meta: maps.Clone(o.Meta)}
	}
	s.mu.Unlock()
	switch {
	case old == nil:
		s.w.trace.note("stored", p.name+" "+o.Key, o.Size, 0)
		s.w.judge(o.Key, o.Meta, body)
	case !old.is(o):
		return failure(sinks.Foreign, "PreconditionFailed", "somebody else's object stands under the key")
	case old.sha != sha256.Sum256(body):
		s.w.violated("I5: %q has other bytes than what is stored under it", o.Key)
	}
	return nil
}

// tell notes that a process was told that an object is stored.
func (s *store) tell(p *process, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.sent[key]; h != nil {
		h.answered, h.at = p.number, time.Since(s.w.trace.began)
	}
}

// restarted compares what a new process would send with what earlier ones knew to be stored.
func (s *store) restarted(p *process, crash time.Duration, healthySince time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.sent)) {
		h := s.sent[key]
		switch {
		case h.answered == 0:
		case !p.left[key]:
			h.durable = true
		case h.durable:
			s.w.violated("I6: %q is to be sent again although an earlier start knew that it is stored", key)
		case h.answered == p.number-1 && h.at > healthySince+failingTime && crash-h.at > settleTime:
			s.w.violated("I6: %q is to be sent again although it was confirmed %v before the crash on a healthy disk", key, crash-h.at)
		}
	}
}

// settleTime is how long a confirmation may take to become durable on a healthy disk: the wait for a group,
// the groups before it, and a lap of the journal in between.
const settleTime = 2 * time.Second
