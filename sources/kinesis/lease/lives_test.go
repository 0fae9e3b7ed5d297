package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"hydrant/sources/kinesis"
)

// TestLives lets some workers share a stream that was split and merged, while they crash, are paused, lose calls and answers, and
// come back. Of what was accepted by the table it is then checked that
//   - positions never went back,
//   - no acquisition committed after somebody else had taken the shard,
//   - everybody went on where the last commit was,
//   - no child was begun before its parents had ended;
//
// and that, once the trouble is over, every shard is owned within the take-over time, and shared evenly soon after.
// HYDRANT_LIVES says how many runs to make.
func TestLives(t *testing.T) {
	runs := 300
	if s := os.Getenv("HYDRANT_LIVES"); s != "" {
		var err error
		if runs, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	base := rand.Uint64()
	for n := range runs {
		seed := base + uint64(n)
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newLives(t, seed).run() })
		})
		if !ok {
			break
		}
	}
}

const (
	lifeFailover = 4 * time.Second
	lifeShards   = "s0 s1 s2<s0 s3<s0 s4<s1,s2"
	lifeOpen     = "s3 s4" // those that are not closed
)

// lives is one run.
type lives struct {
	t      *testing.T
	r      *rand.Rand // of the main goroutine
	table  *memory
	w      *world
	shards []kinesis.Shard

	mu      sync.Mutex
	laneOf  map[int64]string // Sub of a commit → the acquisition's token
	lanes   int64
	current map[string]*life
}

// life is one process.
type life struct {
	*worker
	mu     sync.Mutex
	r      *rand.Rand
	paused time.Time // calls that are begun before it arrive then
	bad    float64   // share of calls that go wrong
}

func newLives(t *testing.T, seed uint64) *lives {
	m, r := newMemory(), rand.New(rand.NewPCG(seed, 1))
	m.page = r.IntN(4)
	return &lives{
		t: t, r: r, table: m, laneOf: map[int64]string{}, current: map[string]*life{},
		w: &world{t: t, api: m, table: "leases", failover: lifeFailover}, shards: shardsOf(lifeShards),
	}
}

// begin starts a process with a connection that is as bad as the times.
func (l *lives) begin(name string) {
	k := &life{worker: &worker{w: l.w, lanes: map[string]kinesis.Change{}}, r: rand.New(rand.NewPCG(l.r.Uint64(), 2))}
	if l.r.IntN(2) == 0 {
		k.bad = l.r.Float64() / 4
	}
	connection := &faulty{API: l.table}
	connection.call = func(string) (there time.Duration, arrives bool, back time.Duration, answered bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		ms := func(n int) time.Duration { return time.Duration(k.r.IntN(n)) * time.Millisecond }
		there, back, arrives, answered = ms(20), ms(20), !k.cut.Load(), true
		if wait := time.Until(k.paused); wait > 0 {
			there += wait
		}
		if k.r.Float64() < k.bad {
			switch k.r.IntN(4) {
			case 0:
				arrives = false
			case 1:
				answered = false
			case 2:
				there += ms(5000)
			case 3:
				back += ms(5000)
			}
		}
		return there, arrives, back, answered
	}
	o, err := New(Options{API: connection, Table: "leases", Worker: name, Failover: lifeFailover})
	if err != nil {
		l.t.Fatal(err)
	}
	k.Owner = o
	ctx, cancel := context.WithCancel(l.t.Context())
	var running sync.WaitGroup
	k.stop = sync.OnceFunc(func() { cancel(); running.Wait(); connection.late.Wait() })
	l.current[name] = k
	running.Go(func() {
		if _, err := o.Begin(ctx, theStream, trim); err != nil {
			if ctx.Err() == nil {
				l.t.Errorf("begin: %v", err)
			}
			return
		}
		_ = o.Shards(ctx, l.shards)
		running.Go(func() { l.read(ctx, k, &running) })
		if err := o.Run(ctx); err != nil {
			l.t.Errorf("run: %v", err)
		}
	})
}

// read is the Reader: a goroutine for each lane.
func (l *lives) read(ctx context.Context, k *life, running *sync.WaitGroup) {
	stop := map[kinesis.Lane]context.CancelFunc{}
	for c := range k.Changes() {
		if c.Lost || c.Wanted {
			if end, ok := stop[c.Lane]; ok {
				end()
			}
			continue
		}
		l.mu.Lock()
		l.lanes++
		id := l.lanes
		if h := k.find(c.Lane); h != nil {
			l.laneOf[id] = h.token
		}
		l.mu.Unlock()
		l.parentsEnded(c.Lane.Shard)
		lane, end := context.WithCancel(ctx)
		stop[c.Lane] = end
		running.Go(func() { l.lane(lane, ctx, k, c, id) })
	}
}

// parentsEnded checks the table.
func (l *lives) parentsEnded(shard string) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	for _, s := range l.shards {
		for _, p := range s.Parents {
			if it, err := parseItem(l.table.items[p]); s.ID == shard && l.table.items[p] != nil && (err != nil || !it.ended()) {
				l.t.Errorf("%s is read before %s has ended", shard, p)
			}
		}
	}
}

// lane reads a shard: it commits some positions, and ends the shard at some, if it is a closed one.
func (l *lives) lane(lane, ctx context.Context, k *life, c kinesis.Change, id int64) {
	k.worker.mu.Lock()
	k.lanes[c.Lane.Shard] = c
	k.worker.mu.Unlock()
	defer func() {
		k.worker.mu.Lock()
		delete(k.lanes, c.Lane.Shard)
		k.worker.mu.Unlock()
		k.Release(ctx, c.Lane)
	}()
	n := 0
	_, _ = fmt.Sscan(c.From.Sequence, &n)
	closed := slices.ContainsFunc(l.shards, func(s kinesis.Shard) bool { return slices.Contains(s.Parents, c.Lane.Shard) })
	for {
		k.mu.Lock()
		wait := time.Duration(k.r.IntN(1500)) * time.Millisecond
		k.mu.Unlock()
		if !sleep(lane, wait) {
			break
		}
		if n++; closed && n > 12 {
			err := k.End(lane, c.Lane, nil)
			if err == nil || errors.Is(err, kinesis.ErrFenced) {
				return
			}
			continue
		}
		if errors.Is(k.Commit(lane, c.Lane, kinesis.Checkpoint{Sequence: fmt.Sprint(n), Sub: id}), kinesis.ErrFenced) {
			return
		}
	}
	if ctx.Err() == nil { // asked for or lost: what is left is settled
		_ = k.Commit(ctx, c.Lane, kinesis.Checkpoint{Sequence: fmt.Sprint(n), Sub: id})
	}
}

func (l *lives) run() {
	t := l.t
	names := []string{"a", "b", "c", "d"}[:1+l.r.IntN(4)]
	for _, name := range names {
		l.begin(name)
	}
	for until := time.Now().Add(time.Duration(10+l.r.IntN(60)) * time.Second); time.Now().Before(until); {
		time.Sleep(time.Duration(l.r.IntN(4000)) * time.Millisecond)
		name := names[l.r.IntN(len(names))]
		k := l.current[name]
		switch l.r.IntN(6) {
		case 0: // kill -9
			if k != nil {
				k.crash()
				delete(l.current, name)
			}
		case 1: // stop
			if k != nil {
				k.stop()
				delete(l.current, name)
			}
		case 2, 3:
			if k == nil {
				l.begin(name)
			}
		case 4, 5: // stopped for a while, and what it was about to write arrives afterwards
			if k != nil {
				k.mu.Lock()
				k.paused = time.Now().Add(time.Duration(l.r.IntN(12000)) * time.Millisecond)
				k.mu.Unlock()
			}
		}
	}
	// The trouble is over.
	for _, name := range names {
		k := l.current[name]
		if k == nil {
			l.begin(name)
			k = l.current[name]
		}
		k.mu.Lock()
		k.bad, k.paused = 0, time.Time{}
		k.mu.Unlock()
	}
	// Calls that are on their way, and who waits for them, take a while more; closed shards are read to their end.
	began := time.Now()
	owned := func() (sizes []int, total int) {
		for _, k := range l.current {
			k.worker.mu.Lock()
			n := len(k.lanes)
			k.worker.mu.Unlock()
			sizes = append(sizes, n)
			total += n
		}
		slices.Sort(sizes)
		return sizes, total
	}
	within := func(d time.Duration, what string, so func() bool) {
		for !so() {
			if time.Since(began) > d {
				sizes, _ := owned()
				t.Fatalf("%v after the trouble: not %s; workers have %v lanes", d, what, sizes)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	// A call takes up to 5 s here, a pause up to 12 s, and then come fail-over, looking, and a hand-over.
	within(17*time.Second+3*lifeFailover, "every shard that can be read is owned", func() bool {
		_, total := owned()
		return total > 0 && total >= len(strings.Fields(l.open()))
	})
	within(17*time.Second+40*lifeFailover, "the open shards are shared evenly", func() bool {
		sizes, total := owned()
		return total == 2 && l.open() == lifeOpen && sizes[len(sizes)-1]-sizes[0] <= 1
	})
	for _, k := range l.current {
		k.stop()
	}
	l.judge(true)
}

// open are the shards that can be read, sorted.
func (l *lives) open() string {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	known := leases{}
	for _, av := range l.table.items {
		if it, err := parseItem(av); err == nil {
			known[it.shard] = &it
		}
	}
	var names []string
	for _, it := range known {
		if readable(it, known) {
			names = append(names, it.shard)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// judge looks at all that the table accepted; ours says that nobody else wrote to it.
func (l *lives) judge(ours bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	token := map[string]string{} // by lease
	text := func(v types.AttributeValue) string {
		if s, ok := v.(*types.AttributeValueMemberS); ok {
			return s.Value
		}
		return ""
	}
	commits := 0
	for i, w := range l.table.writes {
		if w.after == nil {
			continue
		}
		after, err := parseItem(w.after)
		if err != nil {
			l.t.Fatalf("write %d: %v", i, err)
		}
		before, err := parseItem(w.before)
		if w.before == nil {
			continue // made
		}
		if err != nil {
			l.t.Fatalf("write %d: %v", i, err)
		}
		if after.counter < before.counter || after.counter == before.counter && after.checkpointOwner == before.checkpointOwner {
			l.t.Errorf("write %d to %s leaves the counter at %d", i, after.key, after.counter)
		}
		c := after.checkpoint.Compare(before.checkpoint)
		if c < 0 {
			l.t.Errorf("write %d takes %s back from %v to %v", i, after.key, before.checkpoint, after.checkpoint)
		}
		if c > 0 && after.checkpoint.IsNumber() {
			commits++
			if by := l.laneOf[after.checkpoint.Sub]; by != "" && by != token[after.key] {
				l.t.Errorf("write %d: a commit to %s by an acquisition that is over", i, after.key)
			}
		}
		if c > 0 && after.token != before.token {
			l.t.Errorf("write %d takes %s and commits to it", i, after.key)
		}
		token[after.key] = text(w.after[attrToken])
	}
	if commits == 0 {
		l.t.Error("nothing was committed")
	}
	for _, key := range slices.Sorted(maps.Keys(l.table.items)) {
		it, err := parseItem(l.table.items[key])
		if err != nil || ours && !it.ended() && (it.owner != "" || it.checkpointOwner != "") {
			l.t.Errorf("after all have stopped: %+v, %v", it, err)
		}
	}
}
