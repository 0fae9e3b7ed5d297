package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/sources/kinesis"
)

// A table that is not there is made, and all shards are taken from where the stream begins.
func testFirstStart(t *testing.T, w *world) {
	k := w.start("a", "s0 s1 s2", trim)
	k.has("s0 s1 s2")
	c := k.change("s1")
	if c.From != trim || !c.NotBefore.IsZero() || c.Lost || c.Wanted {
		t.Errorf("got %+v", c)
	}
	it := w.items()["s1"]
	if it.owner != "hydrant:a" || it.counter < 1 || it.checkpoint != trim || it.token == "" || it.stream != "" {
		t.Errorf("the table has %+v", it)
	}
	counter := it.counter
	w.eventually("renewed", func() bool { return w.items()["s1"].counter > counter+2 })
	if k.did() != "+s0 +s1 +s2" && len(k.did()) != len("+s0 +s1 +s2") {
		t.Errorf("did %s", k.did())
	}
	const lanes = "# HELP hydrant_source_lanes_owned Shards or partitions that this process reads.\n# TYPE hydrant_source_lanes_owned gauge\nhydrant_source_lanes_owned{stream=\"s\"} 3\n"
	if err := testutil.CollectAndCompare(k.metrics, strings.NewReader(lanes), "hydrant_source_lanes_owned"); err != nil {
		t.Error(err)
	}
}

// The time at which reading begins is kept with the leases: who comes later, with another time, begins there.
func testStartAtATime(t *testing.T, w *world) {
	first := func(d time.Duration) kinesis.Checkpoint {
		return kinesis.Checkpoint{Sequence: kinesis.AtTimestamp, Time: began.Add(d)}
	}
	k := w.start("a", "s0", first(0))
	k.has("s0")
	if c := k.change("s0"); c.From != first(0) || !c.NotBefore.Equal(began) {
		t.Errorf("got %+v", c)
	}
	k.stop()
	o, err := New(Options{API: w.api, Table: w.table, Failover: w.failover})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := o.Begin(t.Context(), theStream, first(time.Hour)); err != nil || got != first(0) {
		t.Errorf("began at %v, %v, want %v", got, err, first(0))
	}
	k = w.start("b", "s0 s1<s0", first(time.Hour))
	k.has("s0")
	if err := k.End(t.Context(), k.lane("s0"), nil); err != nil {
		t.Fatal(err)
	}
	k.has("s0 s1") // the Reader lets go of s0 by itself
	if c := k.change("s1"); c.From != trim || !c.NotBefore.Equal(began) {
		t.Errorf("the child begins at %+v", c)
	}
}

// Leases of a stream that was deleted, or of another one, are not taken for those of the one that is read: it has shards of
// the same names, whose records they would pass over.
func testAnotherStream(t *testing.T, w *world) {
	k := w.start("a", "s0", trim)
	k.has("s0")
	k.stop()
	for _, c := range []struct {
		stream kinesis.Stream
		want   string // "": it is read
	}{
		{theStream, ""},
		{kinesis.Stream{Name: theStream.Name, ARN: theStream.ARN, Created: began.Add(time.Hour)}, "123456789012:clicks:1725003600"},
		{kinesis.Stream{Name: "views", ARN: "arn:aws:kinesis:eu-west-1:123456789012:stream/views", Created: began}, "123456789012:views:1725000000"},
	} {
		o, err := New(Options{API: w.api, Table: w.table, Failover: w.failover})
		if err != nil {
			t.Fatal(err)
		}
		switch _, err = o.Begin(t.Context(), c.stream, trim); {
		case c.want == "" && err != nil:
			t.Error(err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), "has leases of the stream 123456789012:clicks:1725000000, and "+c.want+" is to be read")):
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

// A table of a KCL is taken over: what is delivered is not read again, what is not a lease stays, and so does what the KCL or
// others keep in a lease.
func testTableOfAKCL(t *testing.T, w *world) {
	w.start("x", "", trim).stop() // it makes the table
	for _, av := range fixture(t, "kcl2.json") {
		w.put(av)
	}
	leader := fixture(t, "kcl3.json")[2]
	w.put(leader)
	k := w.start("a", "shardId-000000000000 shardId-000000000001<shardId-000000000000 shardId-000000000002<shardId-000000000000", trim)
	k.has("shardId-000000000001 shardId-000000000002")
	if c := k.change("shardId-000000000001"); c.From != (kinesis.Checkpoint{Sequence: number56, Sub: 17}) {
		t.Errorf("goes on at %+v", c)
	}
	lane := k.lane("shardId-000000000001")
	later := kinesis.Checkpoint{Sequence: number56[:55] + "9", Sub: 2}
	k.commits(lane, later, nil)
	av := w.raw(lane.Shard)
	it, err := parseItem(av)
	if err != nil || it.checkpoint != later || it.owner != "hydrant:a" || it.endHash == "" || len(it.parents) != 1 {
		t.Errorf("after a commit: %+v, %v", it, err)
	}
	for name, want := range map[string]string{"ownerSwitchesSinceCheckpoint": "N0", "pendingCheckpoint": "-", "pendingCheckpointSubSequenceNumber": "-", "pendingCheckpointState": "-"} {
		if got := shown(av[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if _, there := w.raw("shardId-000000000002")["somebodysOwn"]; !there {
		t.Error("an attribute of somebody else is gone")
	}
	if got := w.raw("Leader"); shown(got["leaseDuration"]) != "S120000" || len(got) != len(leader) {
		t.Errorf("an item that is no lease is now %v", got)
	}
}

func testCommit(t *testing.T, w *world) {
	k := w.start("a", "s0", trim)
	k.has("s0")
	lane := k.lane("s0")
	is := func(want kinesis.Checkpoint) {
		t.Helper()
		if got := w.items()["s0"].checkpoint; got != want {
			t.Errorf("the table has %v, want %v", got, want)
		}
	}
	k.commits(lane, at(9), nil)
	is(kinesis.Checkpoint{Sequence: "9"})
	k.commits(lane, at(10), nil) // greater as a number, and less as a text
	k.commits(lane, kinesis.Checkpoint{Sequence: "10", Sub: 3}, nil)
	is(kinesis.Checkpoint{Sequence: "10", Sub: 3})
	k.commits(lane, at(9), nil)
	k.commits(lane, kinesis.Checkpoint{Sequence: "10", Sub: 2}, nil)
	is(kinesis.Checkpoint{Sequence: "10", Sub: 3})
	if err := k.Commit(t.Context(), lane, trim); err == nil {
		t.Error("a commit of a sentinel is taken")
	}
	stale := lane
	stale.Token++
	k.commits(stale, at(11), kinesis.ErrFenced)
	k.Release(t.Context(), lane)
	k.commits(lane, at(12), kinesis.ErrFenced)
	is(kinesis.Checkpoint{Sequence: "10", Sub: 3})
	k.w.eventually("taken again", func() bool { return k.lane("s0") != lane })
	k.commits(lane, at(13), kinesis.ErrFenced) // of an earlier acquisition
	k.commits(k.lane("s0"), at(14), nil)
}

// Shards are spread over one, two, four workers, by handing over.
func testShares(t *testing.T, w *world) {
	const all = "s0 s1 s2 s3 s4 s5 s6 s7"
	workers := []*worker{w.start("a", all, trim)}
	workers[0].has(all)
	level := func(share int) {
		t.Helper()
		w.eventually(fmt.Sprintf("%d each", share), func() bool {
			for _, k := range workers {
				if s := k.shards(); s == "" || strings.Count(s, " ") != share-1 {
					return false
				}
			}
			return true
		})
	}
	workers = append(workers, w.start("b", all, trim))
	level(4)
	workers = append(workers, w.start("c", all, trim), w.start("d", all, trim))
	level(2)
	for _, k := range workers {
		if strings.Contains(k.did(), "-") {
			t.Errorf("%s lost a shard that it would have handed over: %s", k.me, k.did())
		}
		for _, c := range strings.Fields(k.shards()) {
			k.commits(k.lane(c), at(1), nil)
		}
	}
}

// What a dead worker had is taken within the fail-over time and what it takes to look.
func testTakeOver(t *testing.T, w *world) {
	a := w.start("a", "s0 s1", trim)
	a.has("s0 s1")
	a.commits(a.lane("s0"), at(5), nil)
	b := w.start("b", "s0 s1", trim)
	w.eventually("b has one", func() bool { return b.shards() == "s0" || b.shards() == "s1" })
	died := time.Now()
	a.crash()
	b.has("s0 s1")
	took := time.Since(died)
	t.Logf("taken over after %v, with a fail-over time of %v", took, w.failover)
	if took+w.slack < w.failover/2 || took > w.failover*15/10+w.slack {
		t.Errorf("taken over after %v, with a fail-over time of %v", took, w.failover)
	}
	if c := b.change("s0"); c.From.Sequence != "5" {
		t.Errorf("goes on at %+v", c)
	}
	b.commits(b.lane("s0"), at(6), nil)
}

// Who stops gives up what he has: others need not wait.
func testStop(t *testing.T, w *world) {
	a := w.start("a", "s0 s1 s2 s3", trim)
	a.has("s0 s1 s2 s3")
	b := w.start("b", "s0 s1 s2 s3", trim)
	w.eventually("two each", func() bool { return len(a.shards()) == len(b.shards()) })
	a.stop()
	stopped := time.Now()
	for _, it := range w.items() {
		if it.owner == "hydrant:a" {
			t.Errorf("it has still %s", it.key)
		}
	}
	b.has("s0 s1 s2 s3")
	if took := time.Since(stopped); took > w.failover*6/10+w.slack {
		t.Errorf("taken after %v, with a fail-over time of %v", took, w.failover)
	}
}

// A worker that crashed and has its name again takes its own leases at once, and an old life of it can write no more.
func testRestart(t *testing.T, w *world) {
	a := w.start("a", "s0 s1", trim)
	a.has("s0 s1")
	old := a.lane("s0")
	a.crash()
	again := time.Now()
	b := w.start("a", "s0 s1", trim)
	b.has("s0 s1")
	if took := time.Since(again); took > w.failover/2+w.slack {
		t.Errorf("taken after %v, with a fail-over time of %v", took, w.failover)
	}
	a.cut.Store(false)
	if err := a.Commit(t.Context(), old, at(3)); !errors.Is(err, kinesis.ErrFenced) {
		t.Errorf("a commit of an earlier life: %v", err)
	}
	b.commits(b.lane("s0"), at(2), nil)
}

// Children are read after their parents, from the beginning, whoever had those; leases of ended shards go when nothing needs
// them.
func testReshard(t *testing.T, w *world) {
	const before, after = "s0 s1", "s0 s1 s2<s0 s3<s0 s4<s1,s2"
	a := w.start("a", before, trim)
	a.has("s0 s1")
	b := w.start("b", before, trim)
	w.eventually("one each", func() bool { return len(a.shards()) == 2 && len(b.shards()) == 2 })
	of := func(shard string) *worker {
		t.Helper()
		var k *worker
		w.eventually(shard+" is owned", func() bool {
			for _, k = range []*worker{a, b} {
				if k.lane(shard).Shard != "" {
					return true
				}
			}
			return false
		})
		return k
	}
	end := func(shard, children string) {
		t.Helper()
		w.eventually("ended "+shard, func() bool {
			k := of(shard)
			err := k.End(t.Context(), k.lane(shard), shardsOf(children))
			if err == nil {
				k.mu.Lock()
				delete(k.lanes, shard)
				k.mu.Unlock()
			}
			return err == nil
		})
	}
	k := of("s0")
	if err := k.End(t.Context(), k.lane("s0"), nil); !errors.Is(err, errChildren) {
		t.Fatalf("end without children: %v", err)
	}
	if it := w.items()["s0"]; it.ended() {
		t.Fatal("the shard has ended, and its children have no leases")
	}
	end("s0", "s2<s0 s3")
	if it := w.items()["s0"]; !it.ended() || strings.Join(it.children, " ") != "s2 s3" {
		t.Errorf("the parent: %+v", it)
	}
	if it := w.items()["s3"]; it.checkpoint != trim || strings.Join(it.parents, " ") != "s0" {
		t.Errorf("the child: %+v", it)
	}
	for _, k := range []*worker{a, b} {
		if err := k.Shards(t.Context(), shardsOf(after)); err != nil {
			t.Fatal(err)
		}
	}
	end("s2", "s4<s1,s2")
	w.eventually("s4 has a lease", func() bool { return w.items()["s4"].key != "" })
	of("s3")
	if a.lane("s4").Shard != "" || b.lane("s4").Shard != "" {
		t.Fatal("a merged shard is read before both parents have ended")
	}
	end("s1", "s4<s1,s2")
	for _, shard := range []string{"s3", "s4"} {
		k := of(shard)
		k.commits(k.lane(shard), at(1), nil)
	}
	if w.failover > 5*time.Second { // where time costs nothing
		w.eventually("leases of ended shards are gone", func() bool { return len(w.items()) == 2 })
		for _, k := range []*worker{a, b} {
			if err := k.Shards(t.Context(), shardsOf(after)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if len(w.items()) != 2 {
			t.Errorf("they came back: %v", w.items())
		}
	}
}

// A worker of a KCL 2 steals by a write of its own.
func testTakenByForce(t *testing.T, w *world) {
	a := w.start("a", "s0", trim)
	a.has("s0")
	lane := a.lane("s0")
	tb := table{api: w.api, name: w.table, timeout: time.Second}
	w.eventually("stolen", func() bool {
		_, err := tb.update(t.Context(), "s0", write{
			what: "steal", update: "SET leaseOwner = :o, leaseCounter = :next", condition: "leaseCounter = :c",
			values: map[string]types.AttributeValue{":o": text("kcl"), ":c": number(w.items()["s0"].counter), ":next": number(w.items()["s0"].counter + 1)},
		})
		return err == nil
	})
	a.commits(lane, at(1), kinesis.ErrFenced)
	w.eventually("lost", func() bool { return a.shards() == "" })
	if it := w.items()["s0"]; it.owner != "kcl" || it.checkpoint != trim {
		t.Errorf("the table has %+v", it)
	}
	a.has("s0") // it does not renew it
}

// The leader of a KCL 3 asks for a lease: it is finished, and given to whom it says.
func testAskedFor(t *testing.T, w *world) {
	a := w.start("a", "s0", trim)
	a.has("s0")
	lane := a.lane("s0")
	a.mu.Lock()
	a.keep = true
	a.mu.Unlock()
	tb := table{api: w.api, name: w.table, timeout: time.Second}
	if _, err := tb.update(t.Context(), "s0", write{
		what: "ask for", update: "SET leaseOwner = :o, checkpointOwner = :a", condition: "leaseOwner = :a AND attribute_not_exists(checkpointOwner)",
		values: map[string]types.AttributeValue{":o": text("kcl"), ":a": text("hydrant:a")},
	}); err != nil {
		t.Fatal(err)
	}
	w.eventually("wanted", func() bool { return a.did() == "+s0 ?s0" })
	counter := w.items()["s0"].counter
	w.eventually("renewed meanwhile", func() bool { return w.items()["s0"].counter > counter })
	a.commits(lane, at(7), nil)
	a.Release(t.Context(), lane)
	if it := w.items()["s0"]; it.owner != "kcl" || it.checkpointOwner != "" || it.checkpoint.Sequence != "7" {
		t.Errorf("the table has %+v", it)
	}
}

// An answer that was lost is no loss of the lease: the write is found to be one's own.
func testLostAnswers(t *testing.T, w *world) {
	a := w.start("a", "s0", trim)
	a.has("s0")
	lane := a.lane("s0")
	for n := range 5 {
		a.lose.Store(1 + int64(n)%2)
		a.commits(lane, at(n+1), nil)
		if it := w.items()["s0"]; it.checkpoint.Sequence != fmt.Sprint(n+1) {
			t.Fatalf("the table has %+v", it)
		}
	}
	a.lose.Store(3)
	w.eventually("lost three answers", func() bool { return a.lose.Load() <= 0 })
	a.commits(lane, at(10), nil)
	// A commit that was given up is in the table, and a renewal finds it there: an earlier place does not take it back.
	w.eventually("committed without an answer", func() bool {
		a.lose.Store(1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return a.Commit(ctx, lane, at(30)) != nil && w.items()["s0"].checkpoint.Sequence == "30"
	})
	counter := w.items()["s0"].counter
	w.eventually("renewed", func() bool { return w.items()["s0"].counter > counter })
	a.commits(lane, at(20), nil)
	if it := w.items()["s0"]; it.checkpoint.Sequence != "30" {
		t.Errorf("the table has %+v", it)
	}
	if err := a.Shards(t.Context(), shardsOf("s0 s1<s0")); err != nil {
		t.Fatal(err)
	}
	a.lose.Store(1)
	if err := a.End(t.Context(), lane, nil); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	delete(a.lanes, "s0")
	a.mu.Unlock()
	a.lose.Store(1) // of taking s1, or of a renewal
	a.has("s1")
	a.lose.Store(1)
	a.Release(t.Context(), a.lane("s1"))
	if strings.Contains(a.did(), "-") {
		t.Errorf("did %s", a.did())
	}
}

// Who cannot reach the table lets go at about the time when others take over, and not before.
func testCutOff(t *testing.T, w *world) {
	a := w.start("a", "s0", trim)
	a.has("s0")
	lane := a.lane("s0")
	a.commits(lane, at(1), nil)
	a.cut.Store(true)
	cut := time.Now()
	w.eventually("lost", func() bool { return a.shards() == "" })
	if took := time.Since(cut); took < w.failover*9/10 || took > w.failover*17/10+w.slack {
		t.Errorf("let go after %v, with a fail-over time of %v", took, w.failover)
	}
	a.commits(lane, at(2), kinesis.ErrFenced)
	a.cut.Store(false)
	a.has("s0")
	if c := a.change("s0"); c.From.Sequence != "1" || c.Lane == lane {
		t.Errorf("got %+v", c)
	}
}
