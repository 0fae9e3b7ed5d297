package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"hydrant/e2e/parts"
	"hydrant/sources"
	"hydrant/sources/kinesis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	began     = time.UnixMilli(1725000000000).UTC()
	theStream = kinesis.Stream{Name: "clicks", ARN: "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks", Created: began}
	trim      = kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}
)

// at is a checkpoint with a number.
func at(n int) kinesis.Checkpoint {
	return kinesis.Checkpoint{Sequence: fmt.Sprint(n), Whole: true}
}

// world is a DynamoDB with a table of its own for one test.
type world struct {
	t        *testing.T
	api      API
	table    string
	failover time.Duration
	slack    time.Duration // what a busy machine may take longer
}

// TestOwner runs the tests of an Owner that both kinds of tables pass: in memory with time of its own, and against dynalite in
// real time.
func TestOwner(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"first start", testFirstStart},
		{"start at a time", testStartAtATime},
		{"table of a KCL", testTableOfAKCL},
		{"another stream", testAnotherStream},
		{"commit", testCommit},
		{"shares", testShares},
		{"take over", testTakeOver},
		{"stop", testStop},
		{"restart", testRestart},
		{"reshard", testReshard},
		{"taken by force", testTakenByForce},
		{"asked for by a KCL 3", testAskedFor},
		{"lost answers", testLostAnswers},
		{"cut off", testCutOff},
	}
	t.Run("memory", func(t *testing.T) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemory()
					m.exists, m.page = false, 2
					test.run(t, &world{t: t, api: m, table: "leases", failover: 10 * time.Second})
				})
			})
		}
	})
	t.Run("dynalite", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "k")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
		client, err := NewClient(t.Context(), ClientOptions{Region: "us-east-1", Endpoint: parts.DynamoDB(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, &world{t: t, api: client, table: strings.ReplaceAll(test.name, " ", "."), failover: 2500 * time.Millisecond, slack: 3 * time.Second})
			})
		}
	})
}

// eventually waits until what is said is so.
func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(20 * w.failover)
	for !so() {
		if time.Now().After(deadline) {
			w.t.Fatalf("after %v: not %s", 20*w.failover, what)
		}
		time.Sleep(w.failover / 200)
	}
}

// items are all leases of the table, by key.
func (w *world) items() map[string]item {
	w.t.Helper()
	tb := table{api: w.api, name: w.table, timeout: 10 * time.Second}
	all, _, err := tb.scan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	items := map[string]item{}
	for _, it := range all {
		items[it.key] = it
	}
	return items
}

// put writes a whole item as somebody else would.
func (w *world) put(av map[string]types.AttributeValue) {
	w.t.Helper()
	if _, err := w.api.PutItem(w.t.Context(), &dynamodb.PutItemInput{TableName: &w.table, Item: av, ConditionExpression: aws.String("attribute_not_exists(nothing)")}); err != nil {
		w.t.Fatal(err)
	}
}

// raw is one item as it is.
func (w *world) raw(key string) map[string]types.AttributeValue {
	w.t.Helper()
	out, err := w.api.GetItem(w.t.Context(), &dynamodb.GetItemInput{TableName: &w.table, Key: keyOf(key), ConsistentRead: aws.Bool(true)})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Item
}

// worker is a process with an Owner and a Reader that does as it is told.
type worker struct {
	*Owner
	w       *world
	metrics *sources.Reading
	cut     atomic.Bool // from the table
	lose    atomic.Int64
	stop    func() // and wait

	mu      sync.Mutex
	lanes   map[string]kinesis.Change // by shard
	history []string                  // "+a" acquired, "-a" lost, "?a" wanted
	keep    bool                      // what is wanted or lost is not let go of
	err     error                     // of Run
}

// start starts a worker on a list of shards. It does not wait.
func (w *world) start(name, shards string, first kinesis.Checkpoint) *worker {
	w.t.Helper()
	k := &worker{w: w, metrics: sources.NewReading(func() []string { return []string{"s"} }), lanes: map[string]kinesis.Change{}}
	connection := &faulty{API: w.api, call: func(op string) (time.Duration, bool, time.Duration, bool) {
		lose := op == "update" && k.lose.Add(-1) >= 0
		return 0, !k.cut.Load(), 0, !lose
	}}
	o, err := New(Options{API: connection, Table: w.table, Worker: name, Failover: w.failover, Metrics: k.metrics.Stream("s")})
	if err != nil {
		w.t.Fatal(err)
	}
	k.Owner = o
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	k.stop = sync.OnceFunc(func() { cancel(); running.Wait(); connection.late.Wait() })
	w.t.Cleanup(k.stop)
	if _, err := o.Begin(ctx, theStream, first); err != nil {
		w.t.Fatal(err)
	}
	if err := o.Shards(ctx, shardsOf(shards)); err != nil {
		w.t.Fatal(err)
	}
	running.Go(func() {
		err := o.Run(ctx)
		k.mu.Lock()
		k.err = err
		k.mu.Unlock()
	})
	running.Go(func() {
		for c := range o.Changes() {
			k.mu.Lock()
			keep := k.keep
			switch {
			case c.Lost:
				k.history = append(k.history, "-"+c.Lane.Shard)
				delete(k.lanes, c.Lane.Shard)
			case c.Wanted:
				k.history = append(k.history, "?"+c.Lane.Shard)
				if !keep {
					delete(k.lanes, c.Lane.Shard)
				}
			default:
				k.history = append(k.history, "+"+c.Lane.Shard)
				k.lanes[c.Lane.Shard] = c
			}
			k.mu.Unlock()
			if (c.Lost || c.Wanted) && !keep {
				o.Release(ctx, c.Lane)
			}
		}
	})
	return k
}

// crash ends a worker as kill -9 does.
func (k *worker) crash() {
	k.cut.Store(true)
	k.stop()
}

// shards that the Reader has, sorted.
func (k *worker) shards() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(k.lanes)), " ")
}

func (k *worker) lane(shard string) kinesis.Lane {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lanes[shard].Lane
}

func (k *worker) change(shard string) kinesis.Change {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lanes[shard]
}

func (k *worker) did() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.history, " ")
}

// has waits until the Reader has these shards.
func (k *worker) has(shards string) {
	k.w.t.Helper()
	k.w.eventually(fmt.Sprintf("%s has %q", k.me, shards), func() bool { return k.shards() == shards })
}

// commits commits and wants an error.
func (k *worker) commits(lane kinesis.Lane, c kinesis.Checkpoint, want error) {
	k.w.t.Helper()
	if err := k.Commit(k.w.t.Context(), lane, c); !errors.Is(err, want) {
		k.w.t.Fatalf("commit of %v to %v: got %v, want %v", c, lane, err, want)
	}
}
