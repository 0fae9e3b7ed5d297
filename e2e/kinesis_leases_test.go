//go:build unix

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/sources/kinesis/kinesistest"
)

// replicas share the shards of a stream "clicks" by a table, and deliver into one lake.
type replicas struct {
	t        *testing.T
	stream   *kinesistest.Server
	duck     *parts.Duck
	table    string // base URL of DynamoDB
	lake     string
	failover time.Duration

	sent    atomic.Int64 // records, with ids from 0 on
	stop    context.CancelFunc
	running sync.WaitGroup
}

// share starts a stream with so many shards, a table, and a producer of 2000 records a second.
func share(t *testing.T, shards int, failover time.Duration) *replicas {
	t.Helper()
	r := &replicas{
		t: t, stream: kinesistest.New(t, kinesistest.Options{}), duck: parts.DuckDB(t), table: parts.DynamoDB(t),
		lake: filepath.Join(t.TempDir(), "lake"), failover: failover,
	}
	r.stream.CreateStream("clicks", shards)
	ctx, stop := context.WithCancel(t.Context())
	r.stop = func() { stop(); r.running.Wait() }
	t.Cleanup(r.stop)
	r.running.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for range 10 {
				n := r.sent.Load()
				r.stream.Put("clicks", fmt.Sprint("k", n%50), fmt.Appendf(nil, `{"id":%d}`, n))
				r.sent.Add(1)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return r
}

// replica starts a daemon with a data directory of its own.
func (r *replicas) replica() *daemon {
	d := configure(r.t, fmt.Sprintf(`aws: { endpoints: { kinesis: %q, dynamodb: %q } }
limits: { memory: 256MiB, disk: 1GiB }
streams:
  - name: clicks
    source: { kinesis: { stream: clicks, start: trim_horizon, checkpoints: { dynamodb: clicks-leases, failover: %v } } }
    format: { parquet: { schema: [id bigint] } }
    buffer: { size: 1MiB, interval: 1s }
    destination: { file: { path: %q, prefix: "rows/" } }
`, r.stream.URL, r.table, r.failover, r.lake))
	d.env = append(d.env, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent")
	return d.start()
}

// lanes are the shards that a replica owns.
func lanes(d *daemon) int64 { return int64(d.counter(`hydrant_source_lanes_owned{stream="clicks"}`)) }

// lostOf is how many leases a replica lost.
func lostOf(d *daemon) int64 {
	return int64(d.counter(`hydrant_source_lease_lost_total{stream="clicks"}`))
}

// own waits until the replicas own so many shards each.
func (r *replicas) own(n int64, daemons ...*daemon) time.Duration {
	r.t.Helper()
	began := time.Now()
	eventually(r.t, fmt.Sprintf("%d shards each", n), func() bool {
		for _, d := range daemons {
			if lanes(d) != n {
				return false
			}
		}
		return true
	})
	return time.Since(began).Round(time.Millisecond)
}

// ask is one number of the rows of the lake.
func (r *replicas) ask(what string) int64 {
	if len(walk(r.t, r.lake)) == 0 {
		return 0
	}
	rows := r.duck.Query(fmt.Sprintf("select %s as n from (select id, count(*) as times from read_parquet('%s/rows/**/*.parquet') group by id)", what, r.lake))
	n, _ := rows[0]["n"].(int64)
	return n
}

// all ends the producer and waits until all that it sent is delivered. It returns how many records came more than once, and the
// highest id among them.
func (r *replicas) all(d *daemon) (twice, most int64) {
	r.t.Helper()
	r.stop()
	n := r.sent.Load()
	eventually(r.t, fmt.Sprintf("%d records are delivered", n), func() bool {
		d.flush("clicks")
		return r.ask("count(*)") >= n
	})
	if got, highest := r.ask("count(*)"), r.ask("max(id)"); got != n || highest != n-1 {
		r.t.Errorf("%d different records with ids up to %d, want %d", got, highest, n)
	}
	if got := d.counter(`hydrant_source_gaps_total{stream="clicks"}`); got != 0 {
		r.t.Errorf("%d gaps", got)
	}
	return r.ask("count(*) filter (times > 1)"), r.ask("coalesce(max(id) filter (times > 1), -1)")
}

// A replica is killed, and the other takes over within the fail-over time and what it takes to look; shards are split and
// merged; the first comes back and is given its share; then the other one stops. Nothing is lost, and what was read after the
// take-over is there once, although shards went to and fro.
func TestKinesisReplicas(t *testing.T) {
	t.Parallel()
	r := share(t, 4, 2500*time.Millisecond)
	a, b := r.replica(), r.replica()
	r.own(2, a, b)
	eventually(t, "something is delivered", func() bool { return r.ask("count(*)") > 0 })

	a.kill()
	took := r.own(4, b)
	t.Logf("taken over %v after a death, with a fail-over time of %v", took, r.failover)
	if took > r.failover*3/2+3*time.Second { // on a busy machine
		t.Errorf("taken over after %v, with a fail-over time of %v", took, r.failover)
	}
	since := r.sent.Load()
	open := r.stream.Open("clicks")
	if err := r.stream.Split("clicks", open[0]); err != nil {
		t.Error(err)
	}
	if err := r.stream.Merge("clicks", open[2], open[3]); err != nil {
		t.Error(err)
	}
	a.start()
	r.own(2, a, b)
	lost := lostOf(b) // on a machine that is busy for longer than the fail-over time
	if code := b.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("all shards were owned %v after the other's end", r.own(4, a))
	twice, most := r.all(a)
	t.Logf("%d records, of which %d up to id %d came twice; %d had been sent when the first was taken over", r.sent.Load(), twice, most, since)
	if lost += lostOf(a); lost > 0 {
		t.Logf("%d leases were lost, which need not have been", lost)
	} else if most >= since {
		t.Errorf("record %d came twice, and was sent after the take-over", most)
	}
}

// A replica is stopped for longer than the fail-over time, with records on their way. When it wakes, what it tells the table
// is refused: it lets go of its shards, and goes on as one of two.
func TestKinesisReplicaThatSleeps(t *testing.T) {
	t.Parallel()
	r := share(t, 2, 1500*time.Millisecond)
	a, b := r.replica(), r.replica()
	r.own(1, a, b)
	for range 2 {
		if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r.own(2, b)
		before := r.ask("count(*)")
		eventually(t, "the other delivers", func() bool { return r.ask("count(*)") > before })
		if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		r.own(1, a, b)
	}
	if got := lostOf(a); got < 2 {
		t.Errorf("%d lost leases are counted, want 2", got)
	}
	r.stop()
	n := r.sent.Load()
	eventually(t, fmt.Sprintf("%d records are delivered", n), func() bool {
		a.flush("clicks")
		b.flush("clicks")
		return r.ask("count(*)") >= n
	})
	twice, most := r.all(b)
	t.Logf("%d records, of which %d up to id %d came twice", n, twice, most)
}
