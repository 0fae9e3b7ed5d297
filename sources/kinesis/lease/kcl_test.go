package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"hydrant/sources/kinesis"
)

// kcl is a worker that does to the table what one of the KCL 2 does: it renews, takes, steals without asking, commits, and ends
// shards, with that library's conditions and arithmetic.
type kcl struct {
	table table
	me    string
	r     *rand.Rand
	l     *lives
	owned map[string]int64 // counters, by lease
	seen  map[string]*sighting
}

// run works until ctx ends, and gives nothing up then, as a worker that dies.
func (k *kcl) run(ctx context.Context) {
	renew := time.NewTicker(lifeFailover/3 - 25*time.Millisecond)
	take := time.NewTicker(2 * (lifeFailover + 25*time.Millisecond))
	defer renew.Stop()
	defer take.Stop()
	for k.take(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			for _, key := range slices.Sorted(maps.Keys(k.owned)) {
				k.renew(ctx, key)
				k.read(ctx, key)
			}
		case <-take.C:
			k.take(ctx)
		}
	}
}

// update writes on the condition that the counter is as it was.
func (k *kcl) update(ctx context.Context, key string, counter int64, update string, values map[string]types.AttributeValue) bool {
	if values == nil {
		values = map[string]types.AttributeValue{}
	}
	values[":c"], values[":n"] = number(counter), number(counter+1)
	_, err := k.table.update(ctx, key, write{what: "write", update: update, condition: "leaseCounter = :c", values: values})
	return err == nil
}

func (k *kcl) renew(ctx context.Context, key string) {
	if !k.update(ctx, key, k.owned[key], "SET leaseCounter = :n", nil) {
		delete(k.owned, key)
		return
	}
	k.owned[key]++
}

// read commits one more record of a shard whose parents have ended, or ends it.
func (k *kcl) read(ctx context.Context, key string) {
	items, _, err := k.table.scan(ctx)
	if _, ok := k.owned[key]; !ok || err != nil {
		return
	}
	known := leases{}
	for i := range items {
		known[items[i].shard] = &items[i]
	}
	it := known[key]
	if it == nil || !readable(it, known) {
		return
	}
	n := 0
	_, _ = fmt.Sscan(it.checkpoint.Sequence, &n)
	var children []string
	for _, s := range k.l.shards {
		if slices.Contains(s.Parents, key) {
			children = append(children, s.ID)
		}
	}
	update, values := "SET checkpoint = :p, checkpointSubSequenceNumber = :s, leaseCounter = :n", map[string]types.AttributeValue{":p": text(fmt.Sprint(n + 1)), ":s": number(0)}
	if len(children) > 0 && n >= 12 {
		for _, s := range k.l.shards {
			if slices.Contains(children, s.ID) {
				_ = k.table.create(ctx, newItem(s, naming{}, trim, time.Time{}))
			}
		}
		update += ", childShardIds = :k"
		values[":p"], values[":k"] = text(kinesis.ShardEnd), set(children)
	}
	if !k.update(ctx, key, k.owned[key], update, values) {
		delete(k.owned, key)
		return
	}
	k.owned[key]++
}

// take counts all leases, those of ended shards too, and takes what was never owned at once.
func (k *kcl) take(ctx context.Context) {
	items, _, err := k.table.scan(ctx)
	if err != nil {
		return
	}
	now := time.Now()
	counts, free, old := map[string]int{k.me: 0}, []item(nil), []item(nil)
	for _, it := range items {
		s := k.seen[it.key]
		if s == nil {
			s = &sighting{since: now}
			if it.owner == "" {
				s.since = now.Add(-24 * time.Hour)
			}
			k.seen[it.key] = s
		} else if s.counter != it.counter {
			s.since = now
		}
		s.item = it
		if it.owner == "" || now.Sub(s.since) > lifeFailover {
			free = append(free, it)
		} else {
			counts[it.owner]++
		}
		if now.Sub(s.since) > 3*lifeFailover {
			old = append(old, it)
		}
	}
	target := max(1, (len(items)+len(counts)-1)/len(counts))
	need := target - counts[k.me]
	wanted := old
	if len(old) == 0 && need > 0 {
		k.r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
		wanted = free[:min(need, len(free))]
		if len(free) == 0 {
			most := slices.MaxFunc(slices.Sorted(maps.Keys(counts)), func(a, b string) int { return counts[a] - counts[b] })
			if counts[most] > target || counts[most] == target && need > 1 {
				for _, it := range items {
					if it.owner == most {
						wanted = []item{it}
					}
				}
			}
		}
	}
	for _, it := range wanted {
		if k.update(ctx, it.key, it.counter, "SET leaseOwner = :o, leaseCounter = :n REMOVE checkpointOwner", map[string]types.AttributeValue{":o": text(k.me)}) {
			k.owned[it.key] = it.counter + 1
		}
	}
}

// TestLivesBesideTheKCL lets workers of both kinds share a table, and die. Positions never go back, nobody commits to what is
// another's, and all shards are owned and read to their ends.
func TestLivesBesideTheKCL(t *testing.T) {
	base := rand.Uint64()
	for n := range uint64(100) {
		ok := t.Run(fmt.Sprintf("seed=%d", base+n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { besideTheKCL(t, base+n) })
		})
		if !ok {
			break
		}
	}
}

func besideTheKCL(t *testing.T, seed uint64) {
	l := newLives(t, seed)
	work := func(name string) (die func()) {
		ctx, cancel := context.WithCancel(t.Context())
		k := &kcl{table: table{api: l.table, name: "leases", timeout: time.Second}, me: name, r: rand.New(rand.NewPCG(seed, 3)), l: l, owned: map[string]int64{}, seen: map[string]*sighting{}}
		ended := make(chan struct{})
		go func() { defer close(ended); k.run(ctx) }()
		return func() { cancel(); <-ended }
	}
	l.begin("a")
	time.Sleep(time.Duration(l.r.IntN(10)) * time.Second)
	die := work("kcl-1")
	for range 1 + l.r.IntN(5) {
		time.Sleep(time.Duration(l.r.IntN(20)) * time.Second)
		switch l.r.IntN(3) {
		case 0:
			die()
			die = work(fmt.Sprint("kcl-", l.r.IntN(1000)))
		case 1:
			l.current["a"].crash()
			l.begin("a")
		case 2:
			if l.current["b"] == nil {
				l.begin("b")
			}
		}
	}
	deadline := time.Now().Add(10 * time.Minute)
	for l.open() != lifeOpen {
		if time.Now().After(deadline) {
			t.Fatalf("shards that can be read are %s, not %s", l.open(), lifeOpen)
		}
		time.Sleep(time.Second)
	}
	// Somebody alive has each of them, and both kinds of workers go on with what they have.
	time.Sleep(10 * lifeFailover)
	before := l.w.items()
	time.Sleep(2 * lifeFailover)
	for key, it := range l.w.items() {
		if !it.ended() && it.checkpoint.Compare(before[key].checkpoint) <= 0 {
			t.Errorf("nobody reads %s: %+v", key, it)
		}
	}
	die()
	for _, k := range l.current {
		k.stop()
	}
	l.judge(false)
	for i, w := range l.table.writes {
		if w.before == nil || w.after == nil {
			continue
		}
		before, err1 := parseItem(w.before)
		after, err2 := parseItem(w.after)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if after.checkpoint != before.checkpoint && after.checkpoint.Sub > 0 && !strings.HasPrefix(before.holder(), workerPrefix) {
			t.Errorf("write %d: a commit to %s, which %q has", i, after.key, before.holder())
		}
	}
}
