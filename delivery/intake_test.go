package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/record"
	"hydrant/sources"
	"hydrant/transform"
	"hydrant/transform/jq"
)

// log is a source: lanes of records, each known by its number. Records that begin with "gap" are not handed over, as
// markers of a source are not.
type sourceLog struct {
	t testing.TB

	mu    sync.Mutex
	lanes map[string][]string
	grown chan struct{} // closed and made anew
}

func newSourceLog(t testing.TB) *sourceLog {
	return &sourceLog{t: t, lanes: map[string][]string{}, grown: make(chan struct{})}
}

func (l *sourceLog) add(lane string, records ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes[lane] = append(l.lanes[lane], records...)
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *sourceLog) names() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.lanes {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// from returns at most n records of a lane from a position on, and where more come from.
func (l *sourceLog) from(lane string, at, n int) ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.lanes[lane]
	return slices.Clone(list[min(at, len(list)):min(at+n, len(list))]), l.grown
}

func offset(t testing.TB, p sources.Position) int {
	if p == nil {
		return 0
	}
	n, err := strconv.Atoi(string(p))
	if err != nil {
		t.Errorf("position %q", p)
	}
	return n
}

func position(n int) sources.Position { return strconv.AppendInt(nil, int64(n), 10) }

// logReader is a Reader of a sourceLog.
type logReader struct {
	log  *sourceLog
	r    *rand.Rand                         // what else may happen; nil: nothing
	told func(lane string, before []string) // of what is delivered; nil: nobody
}

var errGivesUp = errors.New("the reader gives up")

func (g *logReader) Run(ctx context.Context, in sources.Inlet) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i, lane := range g.log.names() {
		var r *rand.Rand
		if g.r != nil {
			r = rand.New(rand.NewPCG(g.r.Uint64(), uint64(i)))
		}
		wg.Go(func() { g.lane(ctx, cancel, in, lane, r) })
	}
	for {
		select {
		case <-in.Changed():
			for _, lane := range in.Lanes() {
				if n := offset(g.log.t, in.Delivered(lane)); n > 0 && g.told != nil {
					before, _ := g.log.from(lane, 0, n)
					g.told(lane, before)
				}
			}
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errGivesUp) {
				return errGivesUp
			}
			return nil
		}
	}
}

// lane reads a lane.
func (g *logReader) lane(ctx context.Context, end context.CancelCauseFunc, in sources.Inlet, lane string, r *rand.Rand) {
	t := g.log.t
	at := offset(t, in.Position(lane))
	chance := func(n int) bool { return r != nil && r.IntN(n) == 0 }
	fine := func(what string, err error) bool {
		if err != nil && ctx.Err() == nil && !errors.Is(err, buffer.ErrClosed) && !errors.Is(err, buffer.ErrFailing) {
			t.Errorf("%s of lane %s: %v", what, lane, err)
		}
		return err == nil
	}
	for ctx.Err() == nil {
		n := 5
		if r != nil {
			n = 1 + r.IntN(6)
		}
		list, grown := g.log.from(lane, at, n)
		if len(list) == 0 {
			select {
			case <-grown:
			case <-ctx.Done():
			}
			continue
		}
		rows := sources.Rows{Lane: lane, Arrived: time.Now().Add(-time.Duration(at) * time.Second), Next: position(at + len(list))}
		for i, text := range list {
			if strings.HasPrefix(text, "gap") {
				continue
			}
			rows.Data = append(rows.Data, []byte(text))
			rows.Meta = append(rows.Meta, record.AppendMeta(nil, &record.Meta{Lane: lane, Offset: strconv.Itoa(at + i)}))
		}
		if len(rows.Data) == 0 {
			if !fine("Note", in.Note(ctx, lane, rows.Next)) {
				return
			}
		} else if !fine("Append", in.Append(ctx, rows)) {
			return
		}
		at += len(list)
		if got := offset(t, in.Position(lane)); got != at {
			t.Errorf("lane %s stands at %d after rows up to %d", lane, got, at)
		}
		switch {
		case chance(12): // it goes to somebody else and comes back
			in.Release(lane)
			at = offset(t, in.Position(lane))
		case chance(15):
			if fine("Note", in.Note(ctx, lane, position(at))) {
				at = offset(t, in.Position(lane))
			}
		case chance(25):
			short, cancel := context.WithTimeout(ctx, 30*time.Second)
			if in.Settle(short, lane) == nil && offset(t, in.Delivered(lane)) < at {
				t.Errorf("lane %s is settled at %d, read up to %d", lane, offset(t, in.Delivered(lane)), at)
			}
			cancel()
		case chance(60):
			end(errGivesUp)
		}
		if r != nil {
			time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
		}
	}
}

// reads makes streams read from a log.
func (w *world) reads(g func() sources.Reader) {
	w.adapt = func(p *Pipeline, _ buffer.Stream) { p.Reader, p.Source = g(), "kafka" }
}

func TestIntake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[1])
		defer w.close()
		log := newSourceLog(t)
		log.add("a", "one", "two", "three")
		log.add("b", "four")
		var mu sync.Mutex
		told := map[string]int{}
		w.reads(func() sources.Reader {
			return &logReader{log: log, told: func(lane string, before []string) {
				mu.Lock()
				told[lane] = len(before)
				mu.Unlock()
			}}
		})
		w.start()
		w.apply(map[string]spec{"s": {Interval: 10 * time.Second}})
		w.run()
		synctest.Wait()
		if st := w.status("s"); st.Accepted != 4 || st.BacklogRecords != 4 || st.Source != "kafka" || st.Lanes != 2 {
			t.Errorf("%+v", st)
		}
		var sourced *record.Sourced
		if _, err := w.tryPut("s", "five"); !errors.As(err, &sourced) || sourced.Source != "kafka" {
			t.Errorf("put to a stream with a source: %v", err)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		w.balanced("s", 4)
		mu.Lock()
		if told["a"] != 3 || told["b"] != 1 {
			t.Errorf("delivered up to %v", told)
		}
		mu.Unlock()

		// what was not delivered is read again by the next process, the rest is not
		log.add("a", "five")
		synctest.Wait()
		w.restart()
		log.add("b", "six")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		w.balanced("s", 6)
		data, _ := w.shop().rows()
		for _, row := range []string{"one", "two", "three", "four", "five", "six"} {
			if data[row] != 1 {
				t.Errorf("row %q is there %d times", row, data[row])
			}
		}

		// a version with another source, then one that takes puts
		other := newSourceLog(t)
		other.add("c", "seven")
		w.reads(func() sources.Reader { return &logReader{log: other} })
		w.apply(map[string]spec{"s": {Interval: 20 * time.Second}})
		synctest.Wait()
		w.adapt = nil
		w.apply(map[string]spec{"s": {Interval: 30 * time.Second}})
		w.put("s", "eight")
		w.flush("s")
		w.balanced("s", 8)
		w.m.StopReading()
		w.stop()
	})
}

// A Reader that gives up is started again, slowly, and its stream says why.
func TestIntakeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[1])
		defer w.close()
		var starts []time.Duration
		began := time.Now()
		w.reads(func() sources.Reader {
			return readerFunc(func(context.Context, sources.Inlet) error {
				starts = append(starts, time.Since(began))
				return errors.New("there is no such topic")
			})
		})
		w.start()
		w.apply(map[string]spec{"s": {}})
		w.run()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(starts); n < 6 || n > 12 {
			t.Errorf("started %d times in five minutes, at %v", n, starts)
		}
		if st := w.status("s"); st.SourceError != "there is no such topic" {
			t.Errorf("%+v", st)
		}
		w.stop()
	})
}

// Why a Reader gave up is told until the next one brings something, or has run for long.
func TestIntakeRecovers(t *testing.T) {
	for _, c := range []struct {
		name   string
		row    bool
		at     time.Duration // after the second start
		failed string
	}{
		{"a row", true, time.Second, ""},
		{"nothing yet", false, readCap, "no right"},
		{"nothing for long", false, readCap + time.Second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, backends[1])
				defer w.close()
				var mu sync.Mutex
				var again time.Time
				starts := 0
				w.reads(func() sources.Reader {
					return readerFunc(func(ctx context.Context, in sources.Inlet) error {
						mu.Lock()
						starts++
						first := starts == 1
						again = time.Now()
						mu.Unlock()
						if first {
							return errors.New("no right")
						}
						if c.row {
							if err := in.Append(ctx, sources.Rows{Lane: "a", Arrived: time.Now(), Data: [][]byte{[]byte("one")}, Next: position(1)}); err != nil {
								t.Error(err)
							}
						}
						<-ctx.Done()
						return nil
					})
				})
				w.start()
				w.apply(map[string]spec{"s": {}})
				w.run()
				synctest.Wait()
				if st := w.status("s"); st.SourceError != "no right" {
					t.Errorf("before: %q", st.SourceError)
				}
				time.Sleep(readBase + time.Second)
				synctest.Wait()
				mu.Lock()
				left := time.Until(again.Add(c.at))
				if starts != 2 {
					t.Errorf("started %d times", starts)
				}
				mu.Unlock()
				time.Sleep(left)
				synctest.Wait()
				if st := w.status("s"); st.SourceError != c.failed {
					t.Errorf("%q, want %q", st.SourceError, c.failed)
				}
				w.stop()
			})
		})
	}
}

type readerFunc func(context.Context, sources.Inlet) error

func (f readerFunc) Run(ctx context.Context, in sources.Inlet) error { return f(ctx, in) }

// TestIntakeCrashes lets processes that read from lanes live as TestCrashes lets those live that take puts. Whatever
// happens, each record of the source is in exactly one object, and nothing is called delivered that is not.
func TestIntakeCrashes(t *testing.T) {
	for seed := uint64(1); seed <= 40 && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { liveOnLanes(t, seed) })
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}
}

func liveOnLanes(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	l := &life{world: newWorld(t, backends[1]), r: r, acked: map[string]bool{}, maybe: map[string]bool{}}
	defer l.close()
	logs := map[string]*sourceLog{"a": newSourceLog(t), "b": newSourceLog(t)}
	l.words = seed%2 == 1
	l.streams = map[string]spec{
		"a": {Size: 60, Interval: 2 * time.Second, Words: l.words},
		"b": {Size: 1000, Prefix: "m=!{timestamp:mm}/", Interval: 20 * time.Second, Words: l.words, Scatter: seed%3 == 0},
	}
	if seed%4 >= 2 {
		l.shops["backup"] = l.newShop()
		a := l.streams["a"]
		a.Backup = &spec{Shop: "backup", Prefix: "source/", Size: 200, Interval: 7 * time.Second}
		l.streams["a"] = a
	}
	l.shop().set(l.faults(rand.New(rand.NewPCG(seed, 2))))
	var quiet atomic.Bool
	var readers atomic.Uint64 // pipelines are opened by whoever needs them
	l.adapt = func(p *Pipeline, s buffer.Stream) {
		g := &logReader{log: logs[s.Name], told: l.told}
		if !quiet.Load() {
			g.r = rand.New(rand.NewPCG(seed, 5+readers.Add(1)))
		}
		p.Reader, p.Source = g, "kafka"
	}
	l.start()
	l.apply(l.streams)
	l.run()
	for range 50 {
		switch n := r.IntN(20); {
		case n < 9:
			name := l.name()
			var list []string
			for range 1 + r.IntN(12) {
				l.next++
				kind := []string{"row", "row", "row", "row", "bad", "gap", "drop", "fail"}[r.IntN(8)]
				if !l.words && (kind == "drop" || kind == "fail") {
					kind = "row"
				}
				text := fmt.Sprintf("%s-%05d", kind, l.next)
				list = append(list, text)
				if kind != "gap" && kind != "drop" {
					l.acked[text], l.maybe[text] = true, true
				}
			}
			logs[name].add(strconv.Itoa(r.IntN(4)), list...)
		case n < 13:
			time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
		case n < 14:
			_, err := l.m.Flush(within(time.Duration(r.IntN(2000))*time.Millisecond), l.name())
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrPaused) {
				t.Errorf("Flush: %v", err)
			}
		case n < 15:
			f := l.m.Pause
			if r.IntN(3) > 0 {
				f = l.m.Resume
			}
			if err := f(l.name()); err != nil {
				t.Errorf("steer: %v", err)
			}
		case n < 16: // also so that lanes that are new are read
			name := l.name()
			c := l.streams[name]
			c.Size = int64(30 + r.IntN(300))
			l.streams[name] = c
			l.apply(l.streams)
		case n < 17:
			l.restart()
		default:
			time.Sleep(time.Duration(r.IntN(300_000)) * time.Microsecond)
			l.kill()
			l.store = l.backing.store()
			l.start()
			l.apply(l.streams)
			l.run()
		}
		l.status("a")
		l.status("b")
	}
	l.shop().set(nil)
	quiet.Store(true)
	for name, c := range l.streams {
		c.Size++
		l.streams[name] = c
		if err := l.m.Resume(name); err != nil {
			t.Errorf("Resume: %v", err)
		}
	}
	l.apply(l.streams)
	time.Sleep(time.Minute)
	for name := range l.streams {
		l.flush(name)
		if st := l.status(name); st.BacklogRecords != 0 || st.Unaccounted != 0 || len(st.Batches) != 0 || st.SourceError != "" {
			t.Errorf("stream %q after the end: %+v", name, st)
		}
	}
	if copies := l.shops["backup"]; copies != nil {
		kept, _ := copies.rows()
		for lane := range 4 {
			list, _ := logs["a"].from(strconv.Itoa(lane), 0, 1<<30)
			for _, row := range list {
				if n := kept[row]; n != 1 && !strings.HasPrefix(row, "gap") {
					t.Errorf("the backup has row %q %d times", row, n)
				}
			}
		}
	}
	data, failed := l.shop().rows()
	for row := range l.acked {
		if n := data[row] + failed[row]; n != 1 {
			t.Errorf("row %q is there %d times", row, n)
		}
	}
	for _, rows := range []map[string]int{data, failed} {
		for row := range rows {
			if !l.maybe[row] {
				t.Errorf("row %q is there, which nobody wrote", row)
			}
		}
	}
	l.stop()
}

// told checks that records which a source was told are delivered are.
func (l *life) told(lane string, before []string) {
	data, failed := l.shop().rows()
	for _, row := range before {
		kind, _, _ := strings.Cut(row, "-")
		if kind != "gap" && kind != "drop" && data[row]+failed[row] != 1 {
			l.t.Errorf("lane %s is called delivered behind row %q, which is there %d times", lane, row, data[row]+failed[row])
			return
		}
	}
}

// What the source knows of a record reaches expressions and partitions, also from a raw run and behind a function.
func TestIntakeMetadata(t *testing.T) {
	for _, hooked := range []bool{false, true} {
		t.Run(fmt.Sprint("hook=", hooked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, backends[1])
				defer w.close()
				c := spec{Keyed: true, Prefix: "p=!{partitionKeyFromQuery:p}/", Interval: 10 * time.Second}
				if hooked {
					w.functions = map[string]*function{"f": {name: "f", decide: func(data string) (string, string) { return "Ok", data }}}
					c.Hook = "f"
				}
				records := func(_ context.Context, in sources.Inlet) error {
					for i, lane := range []string{"4", "5"} {
						meta := record.AppendMeta(nil, &record.Meta{Topic: "clicks", Lane: lane, Offset: "9", Key: []byte("k" + lane), Timestamp: 1_510_772_160_123})
						if in.Position(lane) == nil {
							if err := in.Append(context.Background(), sources.Rows{Lane: lane, Arrived: time.Now(), Data: [][]byte{fmt.Appendf(nil, `{"n":%d,"t":"2000-01-01T00:00:00Z"}`, i)}, Meta: [][]byte{meta}, Next: position(1)}); err != nil {
								return err
							}
						}
					}
					return nil
				}
				w.adapt = func(p *Pipeline, s buffer.Stream) {
					p.Reader = readerFunc(func(ctx context.Context, in sources.Inlet) error {
						err := records(ctx, in)
						<-ctx.Done()
						return err
					})
					key, err := jq.New(jq.Options{Expression: `.k = $key`})
					if err != nil {
						t.Fatal(err)
					}
					if p.Transform, err = transform.New(transform.Options{Stages: []transform.Stage{{Name: "jq", Processor: key}}}); err != nil {
						t.Fatal(err)
					}
					made, err := partition.New(partition.Options{
						Prefix: p.Prefix, Keys: map[string]string{"p": `$topic + "-" + $partition + "-" + ($timestamp | tostring)`}, Hooks: hooked,
						Check: func(text string) error { return p.CheckPrefix(s.Name, text) },
					})
					if err != nil {
						t.Fatal(err)
					}
					p.Scheme = Partitioned(made)
				}
				w.start()
				w.apply(map[string]spec{"s": c})
				w.run()
				synctest.Wait()
				if n, err := w.store.Consumer(1, buffer.Main).Spill(context.Background(), 1<<20); n != 2 || err != nil {
					t.Fatalf("spill: %d, %v", n, err)
				}
				w.restart() // rows are in a raw run alone
				time.Sleep(11 * time.Second)
				synctest.Wait()
				w.balanced("s", 2)
				for i, lane := range []string{"4", "5"} {
					want := fmt.Sprintf(`{"n":%d,"t":"2000-01-01T00:00:00Z","k":"k%s"}`, i, lane) + "\n"
					found := false
					for key, o := range w.shop().objects {
						found = found || strings.HasPrefix(key, "p=clicks-"+lane+"-1510772160123/") && string(o.body) == want
					}
					if !found {
						t.Errorf("%s is not in its partition: %v", want, w.shop().keys())
					}
				}
				w.stop()
			})
		})
	}
}
