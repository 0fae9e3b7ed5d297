package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"hydrant/sources"
	"hydrant/sources/sourcetest"
)

// replica is a member with a disk of its own.
type replica struct {
	*running
	disk *sourcetest.Disk
}

// shares is how many lanes each replica has, in order.
func shares(c *cluster, group string) (n []int, stable bool) {
	info := c.GroupInfo(group)
	if info == nil || info.State != "Stable" {
		return nil, false
	}
	for _, m := range info.Members {
		count := 0
		for _, a := range m.Assignment {
			count += len(a)
		}
		n = append(n, count)
	}
	return n, true
}

func even(n []int, members, all int) bool {
	if len(n) != members {
		return false
	}
	sum := 0
	for _, x := range n {
		sum += x
		if x < all/members || x > (all+members-1)/members {
			return false
		}
	}
	return sum == all
}

// TestReplicasShare: 1, 2 and 4 replicas have 32 partitions in even parts, one that dies is taken over within the session
// time-out, and none of the steps loses a record. Only the crash gives any twice: what the dead one had delivered and not
// committed.
func TestReplicasShare(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(32, "t"))
	var to sourcetest.Destination
	o := c.options()
	n := 0
	produce := func() {
		c.texts("t", 32, n, 640)
		n += 640
	}
	var replicas []replica
	for _, want := range []int{1, 2, 4} {
		for len(replicas) < want {
			disk := sourcetest.NewDisk(t, &to)
			replicas = append(replicas, replica{run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery})), disk})
		}
		produce()
		await(t, fmt.Sprintf("even parts of %d", want), func() bool {
			s, stable := shares(c, "g")
			return stable && even(s, want, 32)
		})
		produce()
	}
	await(t, "all records", func() bool { return to.Len() >= n })
	once(t, &to, "t", 32, 0, n)
	replicas[0].crash()
	died := time.Now()
	produce()
	await(t, "even parts of 3", func() bool {
		s, stable := shares(c, "g")
		return stable && even(s, 3, 32)
	})
	if took := time.Since(died); took > o.SessionTimeout+o.RebalanceTimeout+5*time.Second {
		t.Errorf("taking over took %v", took)
	}
	await(t, "each record", func() bool { return len(to.Times()) >= n })
	replicas[1].stop() // leaves in order: nothing of it is read again
	produce()
	await(t, "each record", func() bool { return len(to.Times()) >= n })
	repeated := 0
	for _, times := range to.Times() {
		repeated += times - 1
	}
	if repeated > 640 {
		t.Errorf("%d records came again", repeated)
	}
}

// TestRollingRestart: replicas that stop in order and come back read nothing twice, and partitions that do not move are read
// all the time.
func TestRollingRestart(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(8, "t"))
	var to sourcetest.Destination
	o := c.options()
	var disks [2]*sourcetest.Disk
	var replicas [2]*running
	for i := range replicas {
		disks[i] = sourcetest.NewDisk(t, &to)
		replicas[i] = run(t, o, disks[i].Open(sourcetest.Options{Every: deliverEvery}))
	}
	n := 0
	for round := range 4 {
		await(t, "even parts", func() bool {
			s, stable := shares(c, "g")
			return stable && even(s, 2, 8)
		})
		c.texts("t", 8, n, 400)
		n += 400
		replicas[round%2].stop()
		c.texts("t", 8, n, 400)
		n += 400
		replicas[round%2] = run(t, o, disks[round%2].Open(sourcetest.Options{Every: deliverEvery}))
	}
	await(t, "all records", func() bool { return to.Len() >= n })
	once := to.Times()
	for data, times := range once {
		if times != 1 {
			t.Fatalf("%s was delivered %d times", data, times)
		}
	}
}

// TestOthersGoOnWhileOneSettles: while a partition that moves waits for its delivery, those that stay are read.
func TestOthersGoOnWhileOneSettles(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	var to, other sourcetest.Destination
	o := c.options()
	o.RebalanceTimeout = time.Minute
	settling := make(chan []string, 4)
	settle := make(chan struct{})
	in := &slowSettle{Inlet: sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}), settling: settling, settle: settle}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, in) }()
	c.texts("t", 2, 0, 10)
	await(t, "records", func() bool { return to.Len() == 10 })
	second := run(t, o, sourcetest.NewDisk(t, &other).Open(sourcetest.Options{Every: deliverEvery}))
	var moving []string
	select {
	case moving = <-settling:
	case <-time.After(soon):
		t.Fatal("no partition moves with its delivery")
	}
	if len(moving) != 1 {
		t.Fatalf("%v move", moving)
	}
	c.texts("t", 2, 10, 10)
	await(t, "those of the partition that stays", func() bool { return to.Len() == 15 })
	if other.Len() != 0 {
		t.Error("the other member reads already")
	}
	close(settle)
	await(t, "the others", func() bool { return other.Len() == 5 })
	second.stop()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	in.Inlet.Close()
}

// slowSettle is an Inlet whose deliveries of partitions that move take until settle is closed.
type slowSettle struct {
	*sourcetest.Inlet
	settling chan []string
	settle   chan struct{}
}

func (s *slowSettle) Settle(ctx context.Context, lanes ...string) error {
	s.settling <- lanes
	select {
	case <-s.settle:
		return s.Inlet.Settle(ctx, lanes...)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestStorm: members come and go, in order and not, with deliveries that take their time: nothing is lost, and with the disks
// of the dead back nothing stays undelivered.
func TestStorm(t *testing.T) {
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("KAFKA_STORM")); err == nil {
		rounds = n
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(12, "t"))
	var to sourcetest.Destination
	o := c.options()
	o.SessionTimeout, o.RebalanceTimeout = time.Second, 2*time.Second
	var disks [3]*sourcetest.Disk
	var replicas [3]*running
	for i := range disks {
		disks[i] = sourcetest.NewDisk(t, &to)
	}
	start := func(i int) {
		replicas[i] = run(t, o, disks[i].Open(sourcetest.Options{Every: deliverEvery, Delay: 10 * time.Millisecond, Room: 64 << 10}))
	}
	n, crashes := 0, 0
	for range rounds {
		for range 4 {
			c.texts("t", 12, n, 120)
			n += 120
			i := rnd.IntN(3)
			switch {
			case replicas[i] == nil:
				start(i)
			case rnd.IntN(2) == 0:
				replicas[i].crash()
				replicas[i] = nil
				crashes++
			default:
				replicas[i].stop()
				replicas[i] = nil
			}
		}
		at := len(to.Times())
		if i := rnd.IntN(3); replicas[i] == nil {
			start(i)
		}
		await(t, "some progress", func() bool { return len(to.Times()) > at || len(to.Times()) == n })
	}
	for i := range replicas {
		if replicas[i] == nil {
			start(i)
		}
	}
	await(t, "each record", func() bool { return len(to.Times()) >= n })
	repeated := 0
	for _, times := range to.Times() {
		repeated += times - 1
	}
	t.Logf("%d records, %d crashes, %d delivered again", n, crashes, repeated)
	if crashes == 0 && repeated > 0 {
		t.Errorf("%d records came again without a crash", repeated)
	}
}

// TestPausedMember: a member that was expelled while it stood still commits nothing over the one that took over.
func TestPausedMember(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	var first, second sourcetest.Destination
	o := c.options()
	in := sourcetest.NewDisk(t, &first).Open(sourcetest.Options{})
	x := run(t, o, in)
	c.texts("t", 1, 0, 100)
	await(t, "rows", func() bool { return in.Waiting() == 100 })
	member := c.GroupInfo("g").Members[0].MemberID
	// Its heartbeats do not arrive any more, and neither do its joins.
	cut := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup}, Err: kerr.CoordinatorLoadInProgress, Count: -1, When: func(r kmsg.Request) bool {
		switch r := r.(type) {
		case *kmsg.HeartbeatRequest:
			return r.MemberID == member
		case *kmsg.JoinGroupRequest:
			return r.MemberID == member
		}
		return false
	}})
	y := run(t, o, sourcetest.NewDisk(t, &second).Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "the other has it", func() bool { return second.Len() >= 100 && c.offset("g", "t", 0) == 100 })
	c.texts("t", 1, 100, 50)
	await(t, "the other goes on", func() bool { return second.Len() >= 150 && c.offset("g", "t", 0) == 150 })
	in.Deliver() // the first one delivers what it has, and would commit 100
	cut.Remove()
	await(t, "the first one knows", func() bool { return in.Waiting() == 0 })
	c.texts("t", 1, 150, 50)
	await(t, "200", func() bool { return c.offset("g", "t", 0) == 200 || first.Len()+second.Len() >= 300 })
	if got := c.offset("g", "t", 0); got < 150 {
		t.Errorf("the group went back to %d", got)
	}
	y.stop()
	x.stop()
}

// TestCommitErrors: commits that fail are made again, and nothing is read twice for it.
func TestCommitErrors(t *testing.T) {
	for _, err := range []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.RebalanceInProgress, kerr.UnknownServerError} {
		c := newCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
		var to sourcetest.Destination
		x := run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
		h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "t", Err: err, Count: 3})
		for i := range 10 {
			c.texts("t", 2, 10*i, 10)
			await(t, "records", func() bool { return to.Len() >= 10*(i+1) })
		}
		await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 50 && c.offset("g", "t", 1) == 50 })
		if h.Hits() == 0 {
			t.Errorf("%v: no commit met it", err)
		}
		once(t, &to, "t", 2, 0, 100)
		x.stop()
	}
}

// TestStaticMember: one that restarts within the session time-out has its partitions back, and no other is touched.
func TestStaticMember(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "t"))
	var to sourcetest.Destination
	o := c.options()
	o.SessionTimeout = time.Minute
	o.InstanceID = "a"
	disk := sourcetest.NewDisk(t, &to)
	x := run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
	c.texts("t", 4, 0, 100)
	await(t, "records", func() bool { return to.Len() == 100 })
	x.crash()
	c.texts("t", 4, 100, 100)
	began := time.Now()
	run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "records", func() bool { return to.Len() >= 200 })
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	once(t, &to, "t", 4, 0, 200)
}

var _ sources.Inlet = (*slowSettle)(nil)
