package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// check compares what a fresh start found with the model, and takes what was uncertain into it. It begins
// with everything at rest.
func (w *world) check() error {
	b := w.b
	if len(w.faults) > 0 {
		return bug("%s", strings.Join(w.faults, "; "))
	}
	if w.m.directory == ([16]byte{}) {
		w.m.directory = b.Directory()
	} else if w.m.directory != b.Directory() {
		return bug("the directory has another uuid")
	}
	// Inlets first: to open one writes down what had ended before the crash.
	for name, s := range w.m.streams {
		if got := b.find; s.fed && s.incarnation != 0 {
			if _, err := got(name); err == nil {
				w.laneInlet(name)
			}
		}
	}
	found := map[string]Stream{}
	for _, s := range b.Streams() {
		found[s.Name] = s
		if w.m.streams[s.Name] == nil {
			return bug("nobody defined stream %q", s.Name)
		}
	}
	outstanding := map[ManifestID]*Manifest{}
	for _, m := range b.Outstanding() {
		if outstanding[m.ID] != nil {
			return bug("manifest %x stands twice in Outstanding", m.ID)
		}
		outstanding[m.ID] = m
	}
	packs := map[string]bool{}
	for name, s := range w.m.streams {
		if err := w.checkDefinition(name, s, found); err != nil {
			return err
		}
		if s.incarnation == 0 {
			continue
		}
		w.survivors(name, s)
		if err := w.checkManifests(name, s, outstanding, packs); err != nil {
			return err
		}
		for _, id := range s.consumers {
			if err := w.checkRows(name, s, id); err != nil {
				return err
			}
			if err := w.checkEpochs(name, s, id); err != nil {
				return err
			}
		}
		s.maybe = nil // what nobody has is lost for good
		for _, id := range s.consumers {
			if err := w.checkTotals(name, s, w.consumer(name, id)); err != nil {
				return err
			}
		}
		if err := w.retry(name, s); err != nil {
			return err
		}
	}
	for id := range outstanding {
		return bug("nobody made manifest %x", id)
	}
	for _, p := range w.disk.Files(path.Join(crashDir, packsDir)) {
		if !packs[p] && !w.faulty {
			return bug("%s is left although no manifest names it", p)
		}
		delete(packs, p)
	}
	for p := range packs {
		return bug("%s is missing", p)
	}
	return w.checkRunFiles()
}

func (w *world) checkDefinition(name string, s *modelStream, found map[string]Stream) error {
	got, ok := found[name]
	switch {
	case !ok && s.incarnation == 0:
		s.maybeSpecs = nil
		return nil
	case !ok && slices.ContainsFunc(s.maybeSpecs, func(m modelSpec) bool { return m.state == Gone }):
		w.m.used[s.incarnation] = true
		delete(w.m.streams, name)
		s.incarnation = 0
		return nil
	case w.m.used[got.Incarnation]:
		return bug("stream %q got incarnation %d, which one that is gone had", name, got.Incarnation)
	case !ok:
		return bug("stream %q is gone", name)
	case s.incarnation != 0 && got.Incarnation != s.incarnation:
		return bug("stream %q has incarnation %d, had %d", name, got.Incarnation, s.incarnation)
	}
	fits := s.incarnation != 0 && string(got.Spec) == s.spec && got.State == s.state && got.Version == s.version
	for _, m := range s.maybeSpecs {
		fits = fits || string(got.Spec) == m.spec && got.State == m.state && got.Version >= s.version
	}
	if !fits {
		return bug("stream %q has spec %q state %d version %d; certain is %q %d %d, maybe %v", name, got.Spec, got.State, got.Version, s.spec, s.state, s.version, s.maybeSpecs)
	}
	s.incarnation, s.version, s.spec, s.state, s.maybeSpecs = got.Incarnation, got.Version, string(got.Spec), got.State, nil
	return nil
}

// checkManifests takes the stream's manifests out of outstanding and adds the packs that must be there.
func (w *world) checkManifests(name string, s *modelStream, outstanding map[ManifestID]*Manifest, packs map[string]bool) error {
	// first who survived: a replacement decides about the objects that it replaces
	for id, m := range s.manifests {
		if m.certain {
			continue
		}
		if outstanding[id] == nil {
			delete(s.manifests, id)
			continue
		}
		m.certain = true
		if old := s.manifests[m.head.Replaces]; old != nil {
			for _, i := range m.head.Replaced {
				old.gone[i] = true
			}
		}
	}
	for id, m := range s.manifests {
		got := outstanding[id]
		delete(outstanding, id)
		pending := map[int]bool{}
		if got != nil {
			for _, i := range w.b.Pending(id) {
				pending[i] = true
			}
		}
		done := true
		for i := range m.objects {
			if m.maybe[i] && !pending[i] && !m.sent[i] {
				m.gone[i], m.lost[i] = true, !m.dropped[i]
			}
			done = done && (m.sent[i] || m.gone[i])
		}
		for i := range m.maybe {
			if !m.gone[i] {
				delete(m.dropped, i)
			}
		}
		m.maybe = map[int]bool{}
		switch {
		case got == nil && !done:
			return bug("manifest %x of %q is gone with objects that nobody confirmed", id, name)
		case got == nil:
			m.ended = true
			continue
		case m.ended:
			return bug("manifest %x of %q is back after its end", id, name)
		}
		want := m.head
		want.Replaced = nil
		have := got.ManifestHead
		have.Replaced = nil
		if fmt.Sprint(have) != fmt.Sprint(want) || m.head.Replaces != (ManifestID{}) && !slices.Equal(got.Replaced, m.head.Replaced) {
			return bug("manifest %x is %+v, was %+v", id, got.ManifestHead, m.head)
		}
		if !slices.Equal(got.Objects, m.objects) {
			return bug("objects of manifest %x are %+v, were %+v", id, got.Objects, m.objects)
		}
		for i := range m.objects {
			packs[path.Join(crashDir, packsDir, fmt.Sprintf("%x%s", m.objects[i].Pack[:], packSuffix))] = true
			switch {
			case pending[i] && m.gone[i]:
				return bug("I5: object %d of %x was replaced and would be sent again", i, id)
			case pending[i] && m.stays[i]:
				return bug("object %d of %x was confirmed durably and would be sent again", i, id)
			case !pending[i] && !m.gone[i] && !m.sent[i]:
				return bug("object %d of %x is not pending although nobody confirmed it", i, id)
			}
			o, err := w.b.OpenObject(got, i)
			if err != nil {
				return bug("open object %d of %x: %v", i, id, err)
			}
			body := make([]byte, m.objects[i].Size)
			if n, err := o.ReadAt(body, 0); n != len(body) || err != nil && err != io.EOF || !bytes.Equal(body, m.bodies[i]) {
				o.Close()
				return bug("I5: object %d of %x has other bytes (%v)", i, id, err)
			}
			o.Close()
			// what is confirmed and not yet durable may be sent again: it counts as not confirmed
			if pending[i] {
				delete(m.sent, i)
			} else {
				m.stays[i] = true
			}
		}
	}
	return nil
}

// checkRows looks for every row in exactly one home.
func (w *world) checkRows(name string, s *modelStream, id uint8) error {
	c := w.consumer(name, id)
	if c == nil {
		return bug("stream %q has no reader %d", name, id)
	}
	type cover struct {
		span
		what string
	}
	var covers []cover
	for _, m := range s.manifests {
		if m.claimed && m.head.Consumer == id {
			covers = append(covers, cover{span{m.head.First, m.head.Next}, fmt.Sprintf("manifest %x", m.head.ID)})
		}
	}
	for _, r := range s.runs {
		if r.consumer == id {
			covers = append(covers, cover{span{r.first, r.next}, fmt.Sprintf("run %x", r.id)})
		}
	}
	slices.SortFunc(covers, func(a, b cover) int { return int(a.first) - int(b.first) })
	position := uint64(1)
	for _, k := range covers {
		if k.first != position {
			return bug("I4: %s of %q takes [%d, %d), those before it end at %d", k.what, name, k.first, k.next, position)
		}
		position = k.next
	}
	waiting := map[uint64]string{}
	var order []uint64
	if claim := c.Take(0, 1<<40); claim != nil {
		if first, _ := claim.Range(); first != position {
			claim.Release()
			return bug("I4: rows of %q wait from %d, manifests end at %d", name, first, position)
		}
		for r := range claim.Rows() {
			if _, twice := waiting[r.Seq]; twice {
				claim.Release()
				return bug("I4: row %d of %q waits twice", r.Seq, name)
			}
			waiting[r.Seq] = string(r.Data)
			order = append(order, r.Seq)
		}
		claim.Release()
	}
	if s.fed {
		return w.checkLanes(name, s, position, waiting)
	}
	for seq, row := range s.rows {
		if seq < position {
			continue
		}
		if got, ok := waiting[seq]; !ok {
			return bug("P1: acknowledged row %d of %q is lost", seq, name)
		} else if got != row {
			return bug("I3: row %d of %q is %.30q, was %.30q", seq, name, got, row)
		}
	}
	// what is more must be whole calls that got no answer, each at most once
	for i := 0; i < len(order); {
		seq := order[i]
		if _, ok := s.rows[seq]; ok {
			i++
			continue
		}
		at := slices.IndexFunc(s.maybe, func(c maybeCall) bool { return c.rows[0] == waiting[seq] })
		if at < 0 {
			return bug("row %d of %q, %.30q, was never put, or is there twice", seq, name, waiting[seq])
		}
		for j, row := range s.maybe[at].rows {
			if waiting[seq+uint64(j)] != row {
				return bug("only a part of a call is in %q: row %d of it is %.30q", name, j, waiting[seq+uint64(j)])
			}
			s.rows[seq+uint64(j)] = row
			i++
		}
		s.known(s.maybe[at].call, seq)
		s.maybe = slices.Delete(s.maybe, at, at+1)
	}
	return nil
}

func (w *world) checkTotals(name string, s *modelStream, c *Consumer) error {
	want := Totals{Accepted: int64(len(s.rows)), Waiting: int64(len(s.rows))}
	for _, m := range s.manifests {
		if m.head.Consumer != c.id {
			continue
		}
		if m.head.Replaces == (ManifestID{}) {
			want.Waiting -= m.head.Counts.OK + m.head.Counts.Dropped + m.head.Counts.Failed
		}
		want.OK += m.head.Counts.OK
		want.Dropped += m.head.Counts.Dropped
		want.Failed += m.head.Counts.Failed
		for i, lost := range m.lost {
			if lost {
				want.Lost += m.objects[i].Records
			}
		}
		for i := range m.gone {
			if m.dropped[i] {
				want.Dropped += m.objects[i].Records
			}
			if m.objects[i].Role == Data {
				want.OK -= m.objects[i].Records
			} else {
				want.Failed -= m.objects[i].Records
			}
		}
	}
	for _, r := range s.runs {
		if r.certain && r.consumer == c.id {
			want.Dropped += r.dropped
			want.Waiting -= r.dropped
		}
	}
	if got := c.Totals(); got != want {
		return bug("totals of %q are %+v, want %+v", name, got, want)
	}
	if sum := want.OK + want.Dropped + want.Failed + want.Lost + want.Waiting; sum != want.Accepted {
		return bug("totals of %q do not balance: %+v", name, want)
	}
	return nil
}

// drain delivers everything, puts one more call into every stream, delivers that too, and checks that
// nothing is left.
func (w *world) drain() error {
	for pass := range 2 {
		for _, name := range slices.Sorted(maps.Keys(w.m.streams)) {
			s := w.m.streams[name]
			if s.incarnation == 0 {
				continue
			}
			for _, id := range s.consumers {
				if _, err := w.cutFor(name, id, 1<<40, 1); errors.Is(err, ErrCrowded) && pass == 0 {
					break // what is outstanding is delivered first
				} else if err != nil {
					return bug("cut %q after the start: %v", name, err)
				}
				if err := w.sweepAll(name, id); errors.Is(err, ErrCrowded) && pass == 0 {
					break
				} else if err != nil {
					return bug("sweep %q after the start: %v", name, err)
				}
			}
			for _, m := range s.manifests {
				if m.certain && !m.ended {
					for i := range m.objects {
						if !m.gone[i] {
							w.confirm(m, i)
						}
					}
				}
			}
		}
		w.rest(time.Second)
		for _, name := range slices.Sorted(maps.Keys(w.m.streams)) {
			s := w.m.streams[name]
			if s.incarnation == 0 || s.state >= Deleting || w.consumer(name, Main).undecided() > 0 {
				continue
			}
			put := func() error { return w.put(name, 20, 2) }
			if s.fed {
				put = func() error { return w.feed(name, laneNames[pass], 20, 2) }
			}
			if err := put(); err != nil {
				return bug("put into %q when all was delivered: %v", name, err)
			}
		}
	}
	for name, s := range w.m.streams {
		if s.incarnation == 0 {
			continue
		}
		for _, id := range s.consumers {
			m, err := w.cutFor(name, id, 1<<40, 1)
			if err != nil {
				return bug("cut %q after the start: %v", name, err)
			}
			w.deliver(m)
		}
	}
	w.rest(time.Second)
	if left := w.b.Outstanding(); len(left) > 0 {
		return bug("%d manifests are outstanding after all was confirmed", len(left))
	}
	if left := w.disk.Files(path.Join(crashDir, packsDir)); len(left) > 0 {
		return bug("packs are left after all was confirmed: %v", left)
	}
	if left := w.disk.Files(path.Join(crashDir, runsDir)); len(left) > 0 {
		return bug("runs are left after all was swept: %v", left)
	}
	if s := w.b.space.stats(); s.Rows != 0 || s.Packs != 0 || s.Making != 0 || s.Ballast == 0 {
		return bug("when all is delivered the disk ledger has %+v", s)
	}
	if s := w.b.front.stats(); s.Used != 0 || s.Reserved != 0 {
		return bug("when all is delivered the front has %+v", s)
	}
	if len(w.faults) > 0 {
		return bug("%s", strings.Join(w.faults, "; "))
	}
	for name, s := range w.m.streams {
		if s.incarnation == 0 {
			continue
		}
		for _, id := range s.consumers {
			if err := w.checkTotals(name, s, w.consumer(name, id)); err != nil {
				return err
			}
			if n := w.consumer(name, id).undecided(); n > 0 {
				return bug("%d rows of %q wait when all was delivered", n, name)
			}
		}
		if s.fed {
			if err := w.settled(name, s); err != nil {
				return err
			}
		}
	}
	return nil
}
