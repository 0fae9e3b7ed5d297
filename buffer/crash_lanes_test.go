package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"
)

// What the crash tests do with lanes. A lane is a list of numbered records; a position is the number of the next one. Rows
// of the model are those that claims have shown: what is in memory only is not promised. After each start, and at the end,
// every lane's rows must be exactly the records before its position, each once.

// modelLane is what a source promised and was promised.
type modelLane struct {
	skipped map[int]bool // records that a note may have passed over
	noted   int          // a note is durable: the lane never stands before it
}

func (l *modelLane) clone() *modelLane {
	return &modelLane{skipped: maps.Clone(l.skipped), noted: l.noted}
}

var laneNames = []string{"l0", "l1", "l2"}

func (s *modelStream) lane(name string) *modelLane {
	if s.lanes == nil {
		s.lanes = map[string]*modelLane{}
	}
	if s.lanes[name] == nil {
		s.lanes[name] = &modelLane{skipped: map[int]bool{}}
	}
	return s.lanes[name]
}

// shows takes note of a row that a claim has, and tells whether it may.
func (s *modelStream) shows(seq uint64, data []byte) bool {
	want, known := s.rows[seq]
	if s.fed && !known {
		s.rows[seq], known = string(data), true
		want = s.rows[seq]
	}
	return known && want == string(data)
}

// hides forgets rows in the range of a claim that the claim has not: their lane was let go since they were shown. It
// returns those that it has, by which a manifest or run is known that a crash finds although nobody was told of it.
func (s *modelStream) hides(first, next uint64, shown map[uint64]bool) map[uint64]string {
	texts := map[uint64]string{}
	for seq := first; s.fed && seq < next; seq++ {
		if !shown[seq] {
			delete(s.rows, seq)
			continue
		}
		texts[seq] = s.rows[seq]
	}
	return texts
}

// laneInlet is the inlet of a stream in this process.
func (w *world) laneInlet(name string) (*Inlet, error) {
	s := w.m.stream(name)
	if in := w.inlets[name]; in != nil {
		return in, nil
	}
	in, err := w.b.Inlet(s.incarnation)
	synctest.Wait()
	if err != nil {
		return nil, err
	}
	if w.inlets == nil {
		w.inlets = map[string]*Inlet{}
	}
	w.inlets[name] = in
	return in, nil
}

func lanePlace(p []byte) int {
	if p == nil {
		return 0
	}
	n, err := strconv.Atoi(string(p))
	if err != nil {
		panic(fmt.Sprintf("bug: position %q", p))
	}
	return n
}

func laneRow(lane string, n, size int) string {
	row := fmt.Sprintf("%s:%d:", lane, n)
	return row + strings.Repeat("x", max(size-len(row), 0))
}

// patience is how long a source waits for room before it is somebody else's turn.
const patience = 3 * time.Second

// feed appends n records to a lane.
func (w *world) feed(name, lane string, size, n int) error {
	in, err := w.laneInlet(name)
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	at := lanePlace(in.Position(lane))
	r := LaneRows{Lane: lane, Arrived: time.Now(), Next: []byte(strconv.Itoa(at + n))}
	for i := range n {
		r.Data = append(r.Data, []byte(laneRow(lane, at+i, size)))
		if at%2 == 0 {
			r.Meta = append(r.Meta, []byte(strconv.Itoa(at+i)))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = in.Append(ctx, r)
	synctest.Wait()
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	if got := lanePlace(in.Position(lane)); got != at+n {
		return bug("lane %s of %q stands at %d after records up to %d", lane, name, got, at+n)
	}
	return nil
}

// note passes over one record of a lane.
func (w *world) note(name, lane string) error {
	in, err := w.laneInlet(name)
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	at := lanePlace(in.Position(lane))
	l := w.m.stream(name).lane(lane)
	l.skipped[at] = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = in.Note(ctx, lane, []byte(strconv.Itoa(at+1)))
	synctest.Wait()
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	l.noted = at + 1
	return nil
}

// letGo releases a lane.
func (w *world) letGo(name, lane string) error {
	in, err := w.laneInlet(name)
	if err != nil {
		return err
	}
	in.Release(lane)
	synctest.Wait()
	return nil
}

// checkLanes compares what is durable with where the lanes stand: position is the sequence behind all manifests and runs,
// waiting are the rows behind it.
func (w *world) checkLanes(name string, s *modelStream, position uint64, waiting map[uint64]string) error {
	for seq := range s.rows {
		if seq >= position {
			delete(s.rows, seq)
		}
	}
	maps.Copy(s.rows, waiting)
	for _, m := range s.manifests {
		maps.Copy(s.rows, m.texts)
	}
	for _, r := range s.runs {
		maps.Copy(s.rows, r.texts)
	}
	in, err := w.laneInlet(name)
	if err != nil {
		return bug("inlet of %q after a start: %v", name, err)
	}
	if err := w.checkPlaces(name, s, in); err != nil {
		return err
	}
	return w.checkDelivered(name, s, in)
}

// checkPlaces: each lane's rows are the records before its position.
func (w *world) checkPlaces(name string, s *modelStream, in *Inlet) error {
	found := map[string]map[int]int{}
	for _, row := range s.rows {
		lane, n := parseLaneRow(row)
		if found[lane] == nil {
			found[lane] = map[int]int{}
		}
		found[lane][n]++
	}
	for _, lane := range laneNames {
		l, at := s.lane(lane), lanePlace(in.Position(lane))
		if at < l.noted {
			return bug("lane %s of %q stands at %d, a note said %d", lane, name, at, l.noted)
		}
		for n := range at {
			if found[lane][n] == 0 && !l.skipped[n] {
				return bug("lane %s of %q stands at %d, and record %d is lost", lane, name, at, n)
			}
		}
		for n, times := range found[lane] {
			if times != 1 || n >= at {
				return bug("lane %s of %q stands at %d, and record %d is there %d times", lane, name, at, n, times)
			}
		}
	}
	return nil
}

func parseLaneRow(row string) (lane string, n int) {
	parts := strings.SplitN(row, ":", 3)
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		panic("bug: row " + row)
	}
	return parts[0], n
}

// checkDelivered: nothing of what a source is told has still to be sent.
func (w *world) checkDelivered(name string, s *modelStream, in *Inlet) error {
	open := map[string]map[uint8]bool{} // consumers that have still to deliver a record
	for _, row := range s.rows {
		lane, n := parseLaneRow(row)
		all := map[uint8]bool{}
		for _, id := range s.consumers {
			all[id] = true
		}
		open[fmt.Sprint(lane, n)] = all
	}
	end := func(id uint8, seq uint64) {
		if row, ok := s.rows[seq]; ok {
			lane, n := parseLaneRow(row)
			delete(open[fmt.Sprint(lane, n)], id)
		}
	}
	for _, m := range s.manifests {
		for i := range m.objects {
			if m.sent[i] || m.dropped[i] || m.lost[i] || m.maybe[i] {
				for _, seq := range m.seqs[i] {
					end(m.head.Consumer, seq)
				}
			}
		}
	}
	for _, r := range s.runs { // what was dropped on the way into a run
		for seq := r.first; seq < r.next; seq++ {
			if modelKey(seq) == "" {
				end(r.consumer, seq)
			}
		}
	}
	for _, lane := range laneNames {
		for n := range lanePlace(in.Delivered(lane)) {
			if len(open[fmt.Sprint(lane, n)]) > 0 {
				return bug("lane %s of %q is called delivered up to %s, record %d is not", lane, name, in.Delivered(lane), n)
			}
		}
	}
	return nil
}

// settled: when all is delivered the source knows it.
func (w *world) settled(name string, s *modelStream) error {
	in, err := w.laneInlet(name)
	if err != nil {
		return bug("inlet of %q: %v", name, err)
	}
	if err := w.checkPlaces(name, s, in); err != nil {
		return err
	}
	for _, lane := range laneNames {
		if string(in.Position(lane)) != string(in.Delivered(lane)) {
			return bug("lane %s of %q stands at %s and is delivered up to %s when all is delivered", lane, name, in.Position(lane), in.Delivered(lane))
		}
	}
	return nil
}

// randomFeed does something with a lane.
func (w *world) randomFeed(r *rand.Rand, log io.Writer, name string, size int) error {
	lane := laneNames[r.IntN(len(laneNames))]
	switch r.IntN(8) {
	case 0:
		fmt.Fprintf(log, "release %s of %s\n", lane, name)
		if err := w.letGo(name, lane); err != nil && !errors.Is(err, ErrFailing) {
			return err
		}
		return nil
	case 1:
		fmt.Fprintf(log, "note %s of %s\n", lane, name)
		return w.note(name, lane)
	}
	n := 1 + r.IntN(4)
	fmt.Fprintf(log, "feed %s of %s %d x %d\n", lane, name, size, n)
	return w.feed(name, lane, size, n)
}

// lanesScripts are lives with lanes.
var lanesScripts = []script{
	{name: "lanes", run: func(w *world) error {
		w.m.stream("a").fed = true
		var first, second *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.feed("a", "l0", 100, 2) },
			func() error { return w.feed("a", "l1", 100, 1) },
			func() error { return w.feed("a", "l0", 100, 1) },
			func() (err error) { first, err = w.cut("a", 250, 2); return err },
			func() error { return w.feed("a", "l1", 100, 2) },
			func() (err error) { second, err = w.cut("a", 1<<30, 1); return err },
			func() error { w.deliver(second); w.rest(300 * time.Millisecond); return nil },
			func() error { return w.feed("a", "l2", 100, 2) },
			func() error { return w.spill("a", Main, 1<<20) },
			func() error { return w.feed("a", "l0", 100, 2) },
			func() error { return w.letGo("a", "l0") },
			func() error { return w.feed("a", "l0", 100, 3) },
			func() error { w.deliver(first); w.rest(300 * time.Millisecond); return nil },
			func() error { return w.note("a", "l0") },
			func() error { return w.route("a", Main, 1<<20) },
			func() error {
				m, err := w.sweep("a", Main, 0, true)
				if err == nil {
					w.deliver(m)
				}
				w.rest(300 * time.Millisecond)
				return err
			},
			func() error { return w.feed("a", "l0", 100, 1) },
		)
	}},
	{name: "lanes over a checkpoint", run: func(w *world) error {
		w.m.stream("a").fed = true
		if err := w.define("a", "v1", Active); isBug(err) {
			return err
		}
		i := 0
		return laps(w, 2, func() error {
			i++
			var m *modelManifest
			var err error
			switch {
			case i%3 == 0:
				err = w.feed("a", laneNames[i/3%3], 100, 1+i%2)
			case i%10 == 4:
				m, err = w.cut("a", 1<<30, 1)
				if i%20 == 4 {
					w.deliver(m)
				}
			case i%14 == 5:
				err = w.spill("a", Main, 500)
			case i == 38:
				err = w.note("a", "l1")
			}
			if isBug(err) {
				return err
			}
			return nil
		})
	}},
	{name: "lanes with a backup", run: func(w *world) error {
		w.m.stream("a").fed = true
		w.m.stream("a").consumers = []uint8{Main, Backup}
		var main, backup *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.feed("a", "l0", 100, 2) },
			func() error { return w.feed("a", "l1", 100, 1) },
			func() (err error) { main, err = w.cut("a", 250, 2); return err },
			func() error { return w.feed("a", "l0", 100, 2) },
			func() error { return w.letGo("a", "l0") },
			func() error { return w.feed("a", "l1", 100, 2) },
			func() (err error) { backup, err = w.cutFor("a", Backup, 1<<30, 1); return err },
			func() error { w.deliver(main); w.rest(300 * time.Millisecond); return nil },
			func() error { return w.note("a", "l1") },
			func() error { return w.feed("a", "l0", 100, 1) },
			func() error { return w.route("a", Main, 1<<20) },
			func() error { w.deliver(backup); w.rest(300 * time.Millisecond); return nil },
			func() error { return w.spill("a", Backup, 1<<20) },
			func() error {
				m, err := w.sweep("a", Main, 0, true)
				if err == nil {
					w.deliver(m)
				}
				w.rest(300 * time.Millisecond)
				return err
			},
			func() error { _, err := w.cutFor("a", Backup, 150, 1); return err },
		)
	}},
	{name: "a sync fails with lanes", faults: scriptFaults("a sync fails"), run: func(w *world) error {
		w.m.stream("a").fed = true
		fns := []func() error{func() error { return w.define("a", "v1", Active) }}
		for i := range 4 {
			fns = append(fns,
				func() error { return w.feed("a", "l0", 100, 2) },
				func() error { return w.feed("a", "l1", 100, 1) },
				func() error { return w.spill("a", Main, 150) },
				func() error {
					if i == 2 {
						return w.note("a", "l1")
					}
					return nil
				},
				func() error {
					m, err := w.cut("a", 400, 1)
					if err == nil {
						w.deliver(m)
					}
					w.rest(300 * time.Millisecond)
					return err
				},
			)
		}
		return steps(append(fns, func() error { w.rest(2 * retrySlot); return nil })...)
	}},
}

// cloneLanes copies what a clone of the model may change.
func cloneLanes(lanes map[string]*modelLane) map[string]*modelLane {
	c := map[string]*modelLane{}
	for _, name := range slices.Sorted(maps.Keys(lanes)) {
		c[name] = lanes[name].clone()
	}
	return c
}
