package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// What the model of the crash tests knows of runs. Raw runs it need not know: their rows wait as before.

// modelRun is a routed run.
type modelRun struct {
	id             RunID
	consumer       uint8
	epoch, version uint64
	n              uint32
	first, next    uint64
	rows           map[string][]uint64 // sequences by key
	dropped        int64
	certain        bool
	texts          map[uint64]string // of the rows of lanes that it takes of a claim
}

// modelEpoch is what certain runs and manifests say of an epoch.
type modelEpoch struct {
	number uint64
	runs   []*modelRun
	cuts   map[string]uint32
	closed uint32
	bound  string
	ended  bool
}

// modelKey is the key that the model routes a row to, "" where it drops it.
func modelKey(seq uint64) string {
	if seq%7 == 4 {
		return ""
	}
	return string('a' + rune(seq%3))
}

// epochs of a consumer, also those that have ended.
func (s *modelStream) epochs(consumer uint8) (list []*modelEpoch) {
	find := func(number uint64) *modelEpoch {
		for _, e := range list {
			if e.number == number {
				return e
			}
		}
		list = append(list, &modelEpoch{number: number, cuts: map[string]uint32{}})
		return list[len(list)-1]
	}
	for _, r := range s.runs {
		if r.certain && r.consumer == consumer {
			e := find(r.epoch)
			e.runs = append(e.runs, r)
		}
	}
	for _, m := range s.manifests {
		if !m.certain || m.head.Consumer != consumer || m.head.Source.Kind == SourceRange || m.head.Replaces != (ManifestID{}) {
			continue
		}
		e := find(m.head.Epoch)
		if m.head.Source.Kind == SourceKey {
			e.cuts[m.keys[0]] = max(e.cuts[m.keys[0]], m.head.Source.Run)
			continue
		}
		e.closed = m.head.Source.Run
		e.ended = e.ended || m.head.Source.All
		e.bound = max(e.bound, string(m.head.Source.Bound))
	}
	slices.SortFunc(list, func(a, b *modelEpoch) int { return int(a.number) - int(b.number) })
	return list
}

// left is what no manifest has taken, by key, up to run n.
func (e *modelEpoch) left(n uint32) map[string][]uint64 {
	left := map[string][]uint64{}
	for _, r := range e.runs {
		for key, seqs := range r.rows {
			if r.n <= n && r.n > e.cuts[key] && key > e.bound && !e.ended {
				left[key] = append(left[key], seqs...)
			}
		}
	}
	return left
}

// spill moves rows of the front to a raw run.
func (w *world) spill(name string, id uint8, most int64) error {
	s := w.m.stream(name)
	if s.incarnation == 0 {
		return nil
	}
	_, err := w.consumer(name, id).Spill(context.Background(), most)
	synctest.Wait()
	if err != nil {
		w.errs = append(w.errs, err)
	}
	return err
}

// route takes up to most bytes of what waits into the next run of the epoch that is open, or of a new one.
func (w *world) route(name string, id uint8, most int64) error {
	s := w.m.stream(name)
	if s.incarnation == 0 {
		return nil
	}
	c := w.consumer(name, id)
	claim := w.take(name, s, id, most)
	if claim == nil {
		return nil
	}
	first, next := claim.Range()
	r := &modelRun{consumer: id, version: s.version, n: 1, first: first, next: next, rows: map[string][]uint64{}}
	if open := c.Epochs(); len(open) > 0 && !open[len(open)-1].Closed && open[len(open)-1].Version == s.version {
		r.epoch, r.n = open[len(open)-1].Number, uint32(len(open[len(open)-1].Runs))+1
	} else {
		r.epoch = c.NewEpoch()
	}
	err := w.makeRun(s, claim, r)
	if err != nil {
		claim.Release()
		w.errs = append(w.errs, err)
	}
	synctest.Wait()
	return err
}

func (w *world) makeRun(s *modelStream, claim *Claim, r *modelRun) error {
	run, err := w.b.NewRun(RunRouted, 0)
	if err != nil {
		return err
	}
	h := RunHead{Incarnation: s.incarnation, Consumer: r.consumer, Kind: RunRouted, Version: r.version, Epoch: r.epoch, N: r.n, First: r.first, Next: r.next}
	shown := map[uint64]bool{}
	for row := range claim.Rows() {
		shown[row.Seq] = true
		if !s.shows(row.Seq, row.Data) {
			run.Abort()
			return bug("row %d is %.30q, want %.30q", row.Seq, row.Data, s.rows[row.Seq])
		}
		key := modelKey(row.Seq)
		if key == "" {
			r.dropped++
			continue
		}
		if err := run.Append([]byte(key), RunRow{Row: row, Counts: true}); err != nil {
			run.Abort()
			return err
		}
		r.rows[key] = append(r.rows[key], row.Seq)
		h.Counts.OK++
	}
	r.texts = s.hides(r.first, r.next, shown)
	h.Counts.Dropped = r.dropped
	if err := run.Seal(h); err != nil {
		run.Abort()
		return err
	}
	r.id = run.ID()
	s.runs = append(s.runs, r)
	if err := w.b.Route(claim, run, h); err != nil {
		if !errors.Is(err, ErrFailing) && !errors.Is(err, ErrClosed) { // it cannot be in the journal either
			s.runs = slices.DeleteFunc(s.runs, func(o *modelRun) bool { return o == r })
		}
		run.Abort()
		return err
	}
	r.certain = true
	return nil
}

// cutKey makes a manifest of one key of the open epoch up to run n, 0: the last.
func (w *world) cutKey(name string, id uint8, key string, n uint32) (*modelManifest, error) {
	s := w.m.stream(name)
	if s.incarnation == 0 {
		return nil, nil
	}
	list := w.consumer(name, id).Epochs()
	if len(list) == 0 || list[len(list)-1].Closed {
		return nil, nil
	}
	e := &list[len(list)-1]
	if n == 0 || int(n) > len(e.Runs) {
		n = uint32(len(e.Runs))
	}
	return w.cutRuns(name, s, id, e, Source{Kind: SourceKey, Key: KeyHash([]byte(key)), Run: n}, []string{key})
}

// sweep makes a manifest of the next keys of the oldest epoch, or of all that are left.
func (w *world) sweep(name string, id uint8, keys int, all bool) (*modelManifest, error) {
	s := w.m.stream(name)
	if s.incarnation == 0 {
		return nil, nil
	}
	list := w.consumer(name, id).Epochs()
	if len(list) == 0 {
		return nil, nil
	}
	e := &list[0]
	names, err := w.keysOf(name, id, e)
	if err != nil {
		return nil, err
	}
	source := Source{Kind: SourceSweep, Run: uint32(len(e.Runs)), All: all}
	if !all {
		if names = names[:min(keys, len(names))]; len(names) == 0 {
			return nil, nil
		}
		source.Bound = []byte(names[len(names)-1])
	}
	return w.cutRuns(name, s, id, e, source, names)
}

// keysOf are the keys of an epoch that nobody has taken.
func (w *world) keysOf(name string, id uint8, e *Epoch) (names []string, err error) {
	r, err := w.b.OpenEpoch(w.consumer(name, id), e.Number, uint32(len(e.Runs)))
	if err != nil {
		w.errs = append(w.errs, err)
		return nil, err
	}
	defer r.Close()
	for k, err := range r.Keys(e.Bound) {
		if err != nil {
			w.errs = append(w.errs, err)
			return nil, err
		}
		names = append(names, string(k.Key))
	}
	return names, nil
}

// cutRuns makes a manifest of rows of runs, an object for each key.
func (w *world) cutRuns(name string, s *modelStream, id uint8, e *Epoch, source Source, keys []string) (*modelManifest, error) {
	m, err := w.makeKeys(name, s, id, e, source, keys)
	if err != nil {
		w.errs = append(w.errs, err)
	}
	synctest.Wait()
	return m, err
}

func (w *world) makeKeys(name string, s *modelStream, id uint8, e *Epoch, source Source, keys []string) (*modelManifest, error) {
	c := w.consumer(name, id)
	r, err := w.b.OpenEpoch(c, e.Number, source.Run)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h := ManifestHead{
		ID: w.b.NewManifestID(), Incarnation: s.incarnation, Consumer: id, Version: e.Version, Epoch: e.Number,
		First: e.First, Next: e.Runs[source.Run-1].Next, Source: source,
	}
	p, err := w.b.NewPack()
	if err != nil {
		return nil, err
	}
	var bodies [][]byte
	var seqs [][]uint64
	var taken []string
	for _, key := range keys {
		var rows []record.Row
		var found []uint64
		for row, err := range r.Rows([]byte(key)) {
			if err == nil && string(row.Data) != s.rows[row.Seq] {
				err = bug("row %d of key %q of %q is %.30q, want %.30q", row.Seq, key, name, row.Data, s.rows[row.Seq])
			}
			if err != nil {
				p.Abort()
				return nil, err
			}
			row.Data = bytes.Clone(row.Data)
			rows = append(rows, row.Row)
			found = append(found, row.Seq)
		}
		if len(rows) == 0 {
			continue
		}
		body, err := encodeRows(p, name+"/"+key, rows, 1, Data)
		if err != nil {
			p.Abort()
			return nil, err
		}
		bodies, seqs, taken = append(bodies, body...), append(seqs, found), append(taken, key)
		h.Counts.OK += int64(len(rows))
	}
	if len(taken) == 0 && !source.All {
		p.Abort()
		return nil, nil // there is nothing of it
	}
	var packs []*Pack
	if len(taken) > 0 {
		if err := p.Seal(h); err != nil {
			p.Abort()
			return nil, err
		}
		packs = append(packs, p)
	} else {
		p.Abort()
	}
	m := newManifest(h, p.Objects(), bodies)
	m.keys, m.seqs = taken, seqs
	s.manifests[h.ID] = m
	if _, err := w.b.CutKeys(c, packs, h); err != nil {
		if !errors.Is(err, ErrFailing) && !errors.Is(err, ErrClosed) {
			delete(s.manifests, h.ID)
		}
		p.Abort()
		return nil, err
	}
	m.certain, m.ended = true, len(m.objects) == 0
	return m, nil
}

// survivors decides about runs and manifests without objects that nobody is certain of. It comes before everything
// that the model says of epochs.
func (w *world) survivors(name string, s *modelStream) {
	there := map[RunID]bool{}
	epochs := map[string]bool{}
	for _, id := range s.consumers {
		for _, e := range w.consumer(name, id).Epochs() {
			epochs[fmt.Sprint(id, e.Number)] = true
			for _, r := range e.Runs {
				there[r.ID] = true
			}
		}
	}
	s.runs = slices.DeleteFunc(s.runs, func(r *modelRun) bool {
		r.certain = r.certain || there[r.id]
		return !r.certain
	})
	for _, m := range s.manifests {
		if len(m.objects) == 0 && !m.certain {
			m.certain = !epochs[fmt.Sprint(m.head.Consumer, m.head.Epoch)]
			m.ended = m.certain
		}
	}
}

// checkEpochs compares a consumer's epochs and their rows with the model.
func (w *world) checkEpochs(name string, s *modelStream, id uint8) error {
	c := w.consumer(name, id)
	got := c.Epochs()
	for _, e := range s.epochs(id) {
		if e.ended {
			continue
		}
		if len(got) == 0 || got[0].Number != e.number {
			return bug("P1: epoch %d of %q is gone", e.number, name)
		}
		have := got[0]
		got = got[1:]
		if have.Closed != (e.closed > 0) || have.ClosedAt != e.closed || string(have.Bound) != e.bound || len(have.Runs) != len(e.runs) {
			return bug("epoch %d of %q is %+v, was %+v", e.number, name, have, e)
		}
		for i, r := range e.runs {
			if h := have.Runs[i]; h.ID != r.id || h.N != r.n || h.First != r.first || h.Next != r.next || have.Version != r.version {
				return bug("run %d of epoch %d of %q is %+v, was %+v", i+1, e.number, name, h, r)
			}
		}
		left := e.left(uint32(len(e.runs)))
		reader, err := w.b.OpenEpoch(c, e.number, uint32(len(e.runs)))
		if err != nil {
			return bug("open epoch %d of %q: %v", e.number, name, err)
		}
		defer reader.Close()
		records := int64(0)
		for k, err := range reader.Keys(have.Bound) {
			if err != nil {
				return bug("keys of epoch %d of %q: %v", e.number, name, err)
			}
			var seqs []uint64
			for row, err := range reader.Rows(k.Key) {
				if err != nil || string(row.Data) != s.rows[row.Seq] {
					return bug("row %d of key %q of epoch %d of %q is %.30q, was %.30q (%v)", row.Seq, k.Key, e.number, name, row.Data, s.rows[row.Seq], err)
				}
				seqs = append(seqs, row.Seq)
			}
			records += int64(len(seqs))
			if want := left[string(k.Key)]; !slices.Equal(seqs, want) || k.Rows != int64(len(want)) || k.Records != k.Rows {
				return bug("key %q of epoch %d of %q has rows %v (%+v), had %v", k.Key, e.number, name, seqs, k, want)
			}
			delete(left, string(k.Key))
		}
		if len(left) > 0 || records != have.Records {
			return bug("P1: of epoch %d of %q these rows are gone: %v; %d are there, it counts %d", e.number, name, left, records, have.Records)
		}
	}
	if len(got) > 0 {
		return bug("nobody made these epochs of %q, or they have ended: %+v", name, got)
	}
	return nil
}

// checkRunFiles compares the run files with what the ledger names.
func (w *world) checkRunFiles() error {
	named := map[string]bool{}
	w.b.ledger.mu.RLock()
	w.b.ledger.eachRun(func(_ uint32, c *consumerState, ref runRef) {
		named[path.Join(crashDir, runsDir, fmt.Sprintf("%x%s", ref.ID[:], runSuffix))] = true
		for i := range c.raw {
			if c.raw[i].next <= c.base {
				w.faults = append(w.faults, fmt.Sprintf("a raw run of [%d, %d) is kept, all is decided up to %d", c.raw[i].first, c.raw[i].next, c.base))
			}
		}
	})
	w.b.ledger.mu.RUnlock()
	for _, p := range w.disk.Files(path.Join(crashDir, runsDir)) {
		if !named[p] && !w.faulty {
			return bug("%s is left although the ledger does not name it", p)
		}
		delete(named, p)
	}
	for p := range named {
		return bug("%s is missing", p)
	}
	return nil
}

// sweepAll ends all epochs and delivers them.
func (w *world) sweepAll(name string, id uint8) error {
	for len(w.consumer(name, id).Epochs()) > 0 {
		m, err := w.sweep(name, id, 0, true)
		if err != nil {
			return err
		}
		w.deliver(m)
		w.rest(200 * time.Millisecond)
	}
	return nil
}

// runsScripts are lives with runs.
var runsScripts = []script{
	{name: "spill", run: func(w *world) error {
		var m *modelManifest
		cut := func(most int64) func() error {
			return func() (err error) { m, err = w.cut("a", most, 1); return err }
		}
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 300, 3, 2) },
			func() error { return w.spill("a", Main, 700) },
			func() error { return w.put("a", 300, 2) },
			cut(400), // a part of the run
			func() error { return w.spill("a", Main, 700) },
			func() error { w.deliver(m); return w.put("a", 300, 3) },
			cut(1500), // across runs and memory
			func() error { w.rest(300 * time.Millisecond); w.deliver(m); w.rest(300 * time.Millisecond); return nil },
			func() error { w.spillUnder = 1000; defer func() { w.spillUnder = 0 }(); return cut(600)() },
			func() error { return w.spill("a", Main, 1<<20) },
			func() error { return w.put("a", 300, 1) },
		)
	}},
	{name: "size cut, close and sweep", run: func(w *world) error {
		var ms []*modelManifest
		keep := func(m *modelManifest, err error) error {
			if m != nil {
				ms = append(ms, m)
			}
			return err
		}
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 200, 3, 4) },
			func() error { return w.route("a", Main, 1100) },
			func() error { return w.spill("a", Main, 300) },
			func() error { return w.put("a", 200, 2) },
			func() error { return w.route("a", Main, 1<<20) },
			func() error { return keep(w.cutKey("a", Main, "b", 0)) },
			func() error { return w.put("a", 200, 3, 1) },
			func() error { return w.define("a", "v2", Active) },
			func() error { return w.put("a", 200, 3) },
			func() error { return w.route("a", Main, 900) }, // a new epoch: versions do not mix
			func() error { return keep(w.sweep("a", Main, 1, false)) },
			func() error { w.rest(300 * time.Millisecond); return nil },
			func() error { return keep(w.sweep("a", Main, 1, false)) },
			func() error { return w.route("a", Main, 1<<20) },
			func() error { return keep(w.sweep("a", Main, 0, true)) },
			func() error {
				for _, m := range ms {
					w.deliver(m)
				}
				w.rest(300 * time.Millisecond)
				return nil
			},
			func() error { return keep(w.sweep("a", Main, 0, true)) },
		)
	}},
	{name: "runs over a checkpoint", run: func(w *world) error {
		w.m.stream("slow").consumers = []uint8{Main, Backup}
		i := 0
		return laps(w, 2, func() error {
			i++
			switch {
			case i%7 == 3:
				return w.spill("slow", Backup, 500)
			case i%9 == 4:
				return w.route("slow", Main, 700)
			case i%16 == 5:
				_, err := w.cutKey("slow", Main, "b", 0)
				return err
			case i == 25 || i == 31:
				m, err := w.sweep("slow", Main, 1, i == 31)
				if err == nil {
					w.deliver(m)
				}
				return err
			}
			return nil
		})
	}},
	{name: "runs on a full disk", faults: noFaults, run: func(w *world) error {
		w.disk.SetCapacity(64 << 20)
		fill := func(left int64) func() error {
			return func() error {
				w.disk.SetOther(64<<20 - w.disk.Used() - left)
				w.rest(300 * time.Millisecond)
				return nil
			}
		}
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 1000, 3, 3) },
			fill(0),
			func() error { return w.spill("a", Main, 2500) },
			func() error { return w.route("a", Main, 2500) },
			func() error { return w.route("a", Main, 1500) },
			fill(5000),
			func() error { return w.spill("a", Main, 2500) },
			func() error { return w.route("a", Main, 1<<20) },
			func() error {
				m, err := w.sweep("a", Main, 0, true)
				if err == nil {
					w.deliver(m)
				}
				w.rest(300 * time.Millisecond)
				return err
			},
			fill(32<<20),
			func() error { return w.put("a", 1000, 2) },
			func() error { return w.spill("a", Main, 1<<20) },
		)
	}},
	{name: "a sync fails with runs", faults: scriptFaults("a sync fails"), run: func(w *world) error {
		fns := []func() error{
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 100, 3) },
		}
		for range 3 {
			fns = append(fns,
				func() error { return w.put("a", 100, 1, 2) },
				func() error { return w.spill("a", Main, 150) },
				func() error { return w.route("a", Main, 250) },
				func() error {
					m, err := w.cutKey("a", Main, "b", 0)
					if err == nil {
						w.deliver(m)
					}
					w.rest(300 * time.Millisecond)
					return err
				},
			)
		}
		return steps(append(fns,
			func() error { w.rest(2 * retrySlot); return nil },
			func() error { _, err := w.sweep("a", Main, 2, false); return err },
			func() error { _, err := w.sweep("a", Main, 0, true); return err },
		)...)
	}},
}

// cloneRuns copies what a clone of the model may change.
func cloneRuns(runs []*modelRun) (list []*modelRun) {
	for _, r := range runs {
		c := *r
		c.rows = maps.Clone(r.rows)
		list = append(list, &c)
	}
	return list
}

// scriptFaults are the faults of a script.
func scriptFaults(name string) func(w *world) func(forgetfs.Op) *forgetfs.Fault {
	for _, s := range scripts {
		if s.name == name {
			return s.faults
		}
	}
	panic("there is no script " + name)
}

// randomRuns does something with runs.
func (w *world) randomRuns(r *rand.Rand, log io.Writer, name string, id uint8) (err error) {
	var m *modelManifest
	switch r.IntN(8) {
	case 0, 1:
		most := int64(r.IntN(20000))
		fmt.Fprintf(log, "spill %s for %d, %d bytes\n", name, id, most)
		err = w.spill(name, id, most)
	case 2, 3, 4:
		most := int64(r.IntN(20000))
		fmt.Fprintf(log, "route %s for %d, %d bytes\n", name, id, most)
		err = w.route(name, id, most)
	case 5:
		key, n := string('a'+rune(r.IntN(3))), uint32(r.IntN(4))
		fmt.Fprintf(log, "cut key %s of %s for %d up to run %d\n", key, name, id, n)
		m, err = w.cutKey(name, id, key, n)
	case 6:
		fmt.Fprintf(log, "sweep two keys of %s for %d\n", name, id)
		m, err = w.sweep(name, id, 1+r.IntN(2), false)
	default:
		fmt.Fprintf(log, "sweep all of %s for %d\n", name, id)
		m, err = w.sweep(name, id, 0, true)
	}
	if m != nil && r.IntN(2) == 0 {
		w.deliver(m)
	}
	return err
}
