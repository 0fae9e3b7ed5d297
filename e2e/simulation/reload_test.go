package simulation

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"hydrant/buffer"
)

// reloading is the bit of seeds in whose lives the configuration is reloaded all the time, beside all that happens
// in others.
const reloading = 1 << 33

// reloads tells whether this is such a life. Those in which a silent destination is flooded are not.
func (w *world) reloads() bool { return w.seed&reloading != 0 && !w.shape.floods }

// forReloads makes destinations move in half of the lives, and the journal's slots large enough for checkpoints
// with all versions of an outage: where they are not, further changes are refused.
func (s *shape) forReloads(seed uint64) {
	if seed%2 == 0 {
		s.moves, s.late = true, false
	}
	s.slot, s.disk = max(s.slot, 512<<10), max(s.disk, 64<<20)
	s.capacity = s.disk + s.disk/2
}

// operate reloads the configuration at random instants until ctx ends: some streams at a time get other settings
// and other places, are taken out, or are put back, as they were or not. Where no process runs, or it dies on
// the way, the next start finds what the file has by then.
func (w *world) operate(ctx context.Context) {
	l := &life{w: w, r: rand.New(rand.NewPCG(w.seed, 0x4e10ad)), places: 1000}
	last := map[string]*spec{} // of streams that were taken out
	for range mostReloads {    // an outage may be thousands of paces long
		if !sleep(ctx, time.Duration(l.r.ExpFloat64()*float64(w.shape.pace))) || w.failed() {
			return
		}
		for {
			for range 1 + l.r.IntN(w.shape.streams) {
				l.edit(w.names()[l.r.IntN(w.shape.streams)], last)
			}
			p := w.running()
			if p == nil {
				break
			}
			w.apply(p)
			if l.r.IntN(3) > 0 { // else another follows at once
				break
			}
		}
	}
}

// mostReloads is how often a life is reloaded at most.
const mostReloads = 40

// edit changes what the file says of a stream.
func (l *life) edit(name string, last map[string]*spec) {
	w, r, s := l.w, l.r, &l.w.shape
	w.mu.Lock()
	old, trying := w.declared[name], w.trying[name]
	w.mu.Unlock()
	switch {
	case old == nil && trying > 0:
		// The stream may be gone by now, and the one that takes its name would take the retry of a call that the
		// former has answered for a new one. A client whose attempt takes that long has to know.
	case old == nil && last[name] != nil && r.IntN(2) == 0:
		w.declare(name, last[name])
	case old == nil:
		w.declare(name, l.draw(name, fmt.Sprintf("b%d", r.IntN(s.streams))))
	case r.IntN(3) == 0:
		last[name] = old
		w.declare(name, nil)
	default:
		place := old.Place
		if s.moves && r.IntN(2) == 0 {
			l.places++
			place = fmt.Sprintf("m%d", l.places)
			if r.IntN(2) == 0 {
				place = fmt.Sprintf("b%d", r.IntN(s.streams))
			}
		}
		w.declare(name, l.draw(name, place))
	}
}

// checkApplied checks that what is in force after an Apply without an error is what was declared, as a whole.
// Nobody else steers or configures streams meanwhile.
func (w *world) checkApplied(p *process, declared map[string][]byte) {
	for _, s := range p.m.Definitions() {
		spec, ours := declared[s.Name]
		delete(declared, s.Name)
		switch {
		case !ours && s.State < buffer.Deleting:
			w.violated("stream %q takes records although it is not declared", s.Name)
		case ours && s.State >= buffer.Deleting:
			w.violated("stream %q takes no records although it is declared", s.Name)
		case ours && !bytes.Equal(s.Spec, spec):
			w.violated("stream %q has %s in force, declared is %s", s.Name, s.Spec, spec)
		}
	}
	for name := range declared {
		w.violated("stream %q is declared and not there", name)
	}
}

// TestReloads runs lives in which the configuration is reloaded at random instants.
func TestReloads(t *testing.T) {
	if os.Getenv(envWorker) != "" {
		t.Skip("this process is a worker")
	}
	random(t, reloading, reloadSeconds)
}

// reloadSeconds is the time that they get where nothing else is said.
const reloadSeconds = 15
