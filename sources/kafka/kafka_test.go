package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"hydrant/sources"
	"hydrant/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is how long what should happen at once may take on a busy machine.
const soon = 30 * time.Second

// await polls until ok, and fails where it does not come.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, soon)
		}
	}
}

// cluster is one of brokers in this process, with a client to write to it and ask it.
type cluster struct {
	*kfake.Cluster
	t  testing.TB
	cl *kgo.Client
}

func newCluster(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.GroupMinSessionTimeout(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &cluster{Cluster: c, t: t}
}

// client makes a client for producing and for questions.
func (c *cluster) client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

func (c *cluster) own() *kgo.Client {
	if c.cl == nil {
		c.cl = c.client()
	}
	return c.cl
}

func (c *cluster) produce(records ...*kgo.Record) {
	c.t.Helper()
	if err := c.own().ProduceSync(c.t.Context(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

// texts produces values "topic/partition/n" for n from first on, in turn to all partitions.
func (c *cluster) texts(topic string, partitions, first, count int) {
	c.t.Helper()
	var records []*kgo.Record
	for n := first; n < first+count; n++ {
		p := n % partitions
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Value: fmt.Appendf(nil, "%s/%d/%d", topic, p, n)})
	}
	c.produce(records...)
}

func (c *cluster) admin() *kadm.Client { return kadm.NewClient(c.own()) }

// offset is what the group has committed of a partition, -1: nothing.
func (c *cluster) offset(group, topic string, p int32) int64 {
	c.t.Helper()
	all, err := kadm.NewClient(c.own()).FetchOffsets(c.t.Context(), group)
	if err != nil {
		return -1
	}
	if o, ok := all.Lookup(topic, p); ok {
		return o.At
	}
	return -1
}

// options are those of most tests: quick.
func (c *cluster) options() Options {
	return Options{
		Brokers: c.ListenAddrs(), Topics: []string{"t"}, Group: "g", Start: Earliest,
		SessionTimeout: 2 * time.Second, RebalanceTimeout: 3 * time.Second, CommitEvery: 20 * time.Millisecond, WatchEvery: 100 * time.Millisecond, StopTime: time.Second, MetadataAge: 500 * time.Millisecond,
		Memory: MinMemory, Log: testLog(c.t),
	}
}

func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("KAFKA_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// running is a Reader that runs.
type running struct {
	t    testing.TB
	r    *Reader
	in   *sourcetest.Inlet
	wire *wire
	end  context.CancelFunc
	done chan struct{}
	once sync.Once
	err  error // of Run, once done is closed
}

func run(t testing.TB, o Options, in *sourcetest.Inlet) *running {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := &running{t: t, r: r, in: in, wire: &wire{}, end: cancel, done: make(chan struct{})}
	r.dial = x.wire.dial
	go func() {
		defer close(x.done)
		x.err = r.Run(ctx, in)
	}()
	t.Cleanup(x.stop)
	return x
}

// stop ends it in order.
func (x *running) stop() {
	x.once.Do(func() {
		x.end()
		select {
		case <-x.done:
		case <-time.After(soon):
			x.t.Errorf("the reader does not end")
		}
		x.in.Close()
	})
}

// crash kills its process: nothing that it held in memory counts any more, and no broker hears of it again.
func (x *running) crash() {
	x.once.Do(func() {
		x.in.Crash()
		x.wire.cut()
		x.end()
		x.t.Cleanup(func() { <-x.done })
	})
}

// wire are the connections of one process.
type wire struct {
	mu    sync.Mutex
	conns []net.Conn
	gone  bool
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return nil, errors.New("the process is dead")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

// shake breaks the connections that there are.
func (w *wire) shake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	for _, c := range w.conns {
		c.Close()
	}
}

// failed waits for Run to end with an error.
func (x *running) failed() error {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(soon):
		x.t.Fatal("the reader does not end by itself")
	}
	return x.err
}

// once checks that each of count texts of the topic was delivered exactly once, and in order in each partition.
func once(t testing.TB, to *sourcetest.Destination, topic string, partitions, first, count int) {
	t.Helper()
	times := to.Times()
	for n := first; n < first+count; n++ {
		if data := fmt.Sprintf("%s/%d/%d", topic, n%partitions, n); times[data] != 1 {
			t.Fatalf("%s was delivered %d times", data, times[data])
		}
	}
	ordered(t, to)
}

// ordered checks that what is delivered of a lane is in order, each time it is.
func ordered(t testing.TB, to *sourcetest.Destination) {
	t.Helper()
	last := map[string]int64{}
	for _, r := range to.Rows() {
		offset, err := strconv.ParseInt(r.Meta.Offset, 10, 64)
		if err != nil {
			t.Fatalf("offset %q", r.Meta.Offset)
		}
		if before, ok := last[r.Lane]; ok && offset <= before {
			t.Fatalf("%s: offset %d was delivered after %d", r.Lane, offset, before)
		}
		last[r.Lane] = offset
	}
}

const deliverEvery = 20 * time.Millisecond

// TestRead: records of several partitions and brokers come once, in order, with what is known of them, and the group is
// told.
func TestRead(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "t"))
	var to sourcetest.Destination
	x := run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	c.texts("t", 4, 0, 1000)
	await(t, "1000 records", func() bool { return to.Len() >= 1000 })
	c.produce(&kgo.Record{Topic: "t", Partition: 1, Key: []byte("k"), Value: []byte("v"), Timestamp: time.UnixMilli(1700000000123),
		Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("1")}, {Key: "null"}}})
	await(t, "one more", func() bool { return to.Len() >= 1001 })
	once(t, &to, "t", 4, 0, 1000)
	rows := to.Rows()
	r := rows[len(rows)-1]
	if m := r.Meta; r.Lane != "t-1" || r.Data != "v" || !r.Arrived.Equal(time.UnixMilli(1700000000123)) || m.Topic != "t" || m.Lane != "1" || m.Offset != "250" ||
		m.Timestamp != 1700000000123 || string(m.Key) != "k" || len(m.Headers) != 2 || string(m.Headers[0].Value) != "1" || m.Headers[1].Value != nil {
		t.Errorf("%+v", r)
	}
	for p, want := range []int64{250, 251, 250, 250} {
		await(t, "the commit", func() bool { return c.offset("g", "t", int32(p)) == want })
	}
	x.stop()
	if x.err != nil {
		t.Error(x.err)
	}
}

// TestRestart: a reader that goes on on its disk delivers each record once, whatever was lost in memory.
func TestRestart(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	var to sourcetest.Destination
	disk := sourcetest.NewDisk(t, &to)
	o := c.options()
	o.InstanceID = "one" // its partitions are its own, at once
	n := 0
	for round := range 6 {
		in := disk.Open(sourcetest.Options{Room: 4 << 10})
		x := run(t, o, in)
		c.texts("t", 3, n, 300)
		n += 300
		await(t, "rows that wait", func() bool { return in.Waiting() > 0 })
		switch round % 3 {
		case 0: // in memory
		case 1:
			in.Persist() // in a run
		case 2:
			in.Deliver() // delivered, and the group may not know it
		}
		if round%2 == 0 {
			x.crash()
		} else {
			x.stop()
		}
	}
	run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "all records", func() bool { return to.Len() >= n })
	once(t, &to, "t", 3, 0, n)
}

// TestNew: what is wrong with options is told by the key.
func TestNew(t *testing.T) {
	good := Options{Brokers: []string{"b:1"}, Topics: []string{"t"}, Group: "g", Start: Earliest}
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { o.Brokers = nil }, "brokers"},
		{func(o *Options) { o.Topics = nil }, "topics"},
		{func(o *Options) { o.Topics, o.Patterns = nil, []string{"^a.*"} }, ""},
		{func(o *Options) { o.Patterns = []string{"("} }, "topics"},
		{func(o *Options) { o.Group = "" }, "group"},
		{func(o *Options) { o.Start = "" }, "start"},
		{func(o *Options) { o.Start, o.StartTime = "", time.Unix(1, 0) }, ""},
		{func(o *Options) { o.Start = "newest" }, "start"},
		{func(o *Options) { o.OutOfRange = "ignore" }, "out_of_range"},
		{func(o *Options) { o.Memory = MinMemory - 1 }, "memory"},
		{func(o *Options) { o.Memory = MinMemory }, ""},
		{func(o *Options) { o.SASL = &SASL{Mechanism: "gssapi"} }, "sasl"},
		{func(o *Options) { o.SASL = &SASL{Mechanism: Plain, Username: "u"} }, "sasl"},
		{func(o *Options) { o.SASL = &SASL{Mechanism: MSKIAM} }, ""},
		{func(o *Options) { o.Value.Format = "protobuf" }, "value: format"},
		{func(o *Options) { o.Value.Format = ConfluentAvro }, "value: registry: url"},
		{func(o *Options) { o.Value = Value{ConfluentAvro, Registry{URL: "http://r:8081"}} }, ""},
	} {
		o := good
		o.Brokers = slices.Clone(good.Brokers)
		c.change(&o)
		_, err := New(o)
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want+":") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

var _ sources.Inlet = (*sourcetest.Inlet)(nil)
