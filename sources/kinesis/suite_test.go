package kinesis_test

import (
	"bufio"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hydrant/sources"
	"hydrant/sources/kinesis"
	"hydrant/sources/kinesis/aggregate"
	"hydrant/sources/kinesis/kinesistest"
	"hydrant/sources/sourcetest"
)

func TestMain(m *testing.M) {
	if serve, ok := servers[os.Getenv(serveAs)]; ok {
		serve()
		return
	}
	goleak.VerifyTestMain(m)
}

// servers are services that tests run in processes of their own, by the value of the variable that starts one of them.
const serveAs = "HYDRANT_TEST_SERVE"

var servers = map[string]func(){
	"large":  serveLargeRecords,
	"plain":  func() { serveBenchRecords("plain") },
	"packed": func() { serveBenchRecords("packed") },
}

// served starts one of them, which ends with the test, and returns its URL.
func served(t testing.TB, name string) string {
	t.Helper()
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), serveAs+"="+name)
	in, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = server.Wait()
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// serve is such a process: it makes streams, says where it listens, and ends with its input.
func serve(o kinesistest.Options, streams func(*kinesistest.Server)) {
	s, err := kinesistest.Start(o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	streams(s)
	fmt.Println(s.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Close()
}

// credentials are what AWS's chain finds.
func credentials(t testing.TB) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

// service is a Kinesis, the fake or somebody else's, as the suite drives it.
type service interface {
	url() string
	create(t *testing.T, stream string, shards int)
	// put puts records, each a key and data, in order.
	put(t *testing.T, stream string, records ...[2]string)
	// open are the open shards by their hash keys.
	open(t *testing.T, stream string) []string
	split(t *testing.T, stream, shard string)
	merge(t *testing.T, stream, a, b string)
}

// fake is our own.
type fake struct{ *kinesistest.Server }

func newFake(t testing.TB, o kinesistest.Options) *fake { return &fake{kinesistest.New(t, o)} }

func (f *fake) url() string                                    { return f.URL }
func (f *fake) create(_ *testing.T, stream string, shards int) { f.CreateStream(stream, shards) }
func (f *fake) put(_ *testing.T, stream string, records ...[2]string) {
	for _, r := range records {
		f.Put(stream, r[0], []byte(r[1]))
	}
}
func (f *fake) open(_ *testing.T, stream string) []string { return f.Open(stream) }
func (f *fake) split(t *testing.T, stream, shard string) {
	if err := f.Split(stream, shard); err != nil {
		t.Fatal(err)
	}
}
func (f *fake) merge(t *testing.T, stream, a, b string) {
	if err := f.Merge(stream, a, b); err != nil {
		t.Fatal(err)
	}
}

// options are those of a Reader that is in a hurry.
func options(s service, stream string) kinesis.Options {
	return kinesis.Options{
		Stream: stream, Endpoint: s.url(), Start: kinesis.Checkpoint{Sequence: kinesis.TrimHorizon},
		Interval: 20 * time.Millisecond, ReadsPerSecond: 100, BytesPerSecond: -1, ListInterval: 200 * time.Millisecond,
		Backoff: 5 * time.Millisecond, Resubscribe: 20 * time.Millisecond,
	}
}

// reading is a Reader that runs.
type reading struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
	in     *sourcetest.Inlet
	m      *sources.Reading
}

func read(t *testing.T, disk *sourcetest.Disk, o kinesis.Options, io sourcetest.Options) *reading {
	t.Helper()
	m := sources.NewReading(func() []string { return []string{"s"} })
	o.Metrics = m.Stream("s")
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(&testWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	r, err := kinesis.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &reading{t: t, cancel: cancel, ended: make(chan error, 1), in: disk.Open(io), m: m}
	go func() { d.ended <- r.Run(ctx, d.in) }()
	t.Cleanup(d.kill)
	return d
}

// kill is the end of the process: what is only in memory is lost.
func (d *reading) kill() {
	if d.cancel == nil {
		return
	}
	d.in.Crash()
	d.stop()
}

// stop ends the Reader in peace.
func (d *reading) stop() {
	d.cancel()
	d.cancel = nil
	select {
	case err := <-d.ended:
		if err != nil {
			d.t.Errorf("Run: %v", err)
		}
	case <-time.After(30 * time.Second):
		d.t.Fatal("Run does not end")
	}
	d.in.Crash()
}

// failure waits for the error that Run returns.
func (d *reading) failure() error {
	d.t.Helper()
	select {
	case err := <-d.ended:
		d.cancel()
		d.cancel = nil
		d.in.Crash()
		if err == nil {
			d.t.Fatal("Run returned without an error")
		}
		return err
	case <-time.After(10 * time.Second):
		d.t.Fatal("Run does not fail")
		return nil
	}
}

// metric is the value of one of the stream.
func (d *reading) metric(name string) float64 {
	r := prometheus.NewRegistry()
	r.MustRegister(d.m)
	families, err := r.Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	d.t.Fatalf("no metric %s", name)
	return 0
}

type testWriter struct {
	t  *testing.T
	mu sync.Mutex
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if testing.Verbose() {
		fmt.Print(string(b))
	}
	return len(b), nil
}

// eventually waits until f says that all is well.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// once checks that n records, "key-0" and so on, were delivered once each.
func once(t *testing.T, d *sourcetest.Destination, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d records", n), func() bool { return d.Len() >= n })
	times := d.Times()
	for data, k := range times {
		if k != 1 {
			t.Errorf("%s came %d times", data, k)
		}
	}
	if len(times) != n || d.Len() != n {
		t.Errorf("%d records came, %d of them different, want %d", d.Len(), len(times), n)
	}
}

// inOrder checks that the numbers of each key go up: data is "key number".
func inOrder(t *testing.T, d *sourcetest.Destination) {
	t.Helper()
	last := map[string]int{}
	for _, r := range d.Rows() {
		key, number, _ := strings.Cut(r.Data, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := last[key]; ok && n <= before {
			t.Errorf("%s came after %s %d", r.Data, key, before)
		}
		last[key] = n
	}
}

// numbered are n records "k number" from a number on, of so many keys.
func numbered(from, n, keys int) (records [][2]string) {
	for i := from; i < from+n; i++ {
		key := fmt.Sprintf("k%d", i%keys)
		records = append(records, [2]string{key, fmt.Sprintf("%s %d", key, i)})
	}
	return records
}

// suite is what every service must pass.
func suite(t *testing.T, s service, options func(service, string) kinesis.Options) {
	quick := sourcetest.Options{Every: 10 * time.Millisecond}
	t.Run("records and what is known of them", func(t *testing.T) {
		s.create(t, "plain", 2)
		s.put(t, "plain", numbered(0, 100, 7)...)
		var to sourcetest.Destination
		d := read(t, sourcetest.NewDisk(t, &to), options(s, "plain"), quick)
		once(t, &to, 100)
		s.put(t, "plain", numbered(100, 50, 7)...)
		once(t, &to, 150)
		inOrder(t, &to)
		for _, r := range to.Rows() {
			key, _, _ := strings.Cut(r.Data, " ")
			if r.Meta.Topic != "plain" || r.Meta.Lane != r.Lane || string(r.Meta.Key) != key || !isNumber(r.Meta.Offset) || r.Meta.Timestamp/1000 != r.Arrived.Unix() && r.Meta.Timestamp/1000 != r.Arrived.Unix()+1 {
				t.Fatalf("%q of lane %s, arrived %v, has %+v", r.Data, r.Lane, r.Arrived, r.Meta)
			}
		}
		if got := d.metric("hydrant_source_records_total"); got != 150 {
			t.Errorf("%v records were counted", got)
		}
		eventually(t, "no lag", func() bool { return d.metric("hydrant_source_lag_seconds") == 0 })
	})
	t.Run("reading goes on where it stopped", func(t *testing.T) {
		s.create(t, "again", 1)
		var to sourcetest.Destination
		disk := sourcetest.NewDisk(t, &to)
		for round := range 3 {
			d := read(t, disk, options(s, "again"), quick)
			s.put(t, "again", numbered(round*20, 20, 1)...)
			once(t, &to, (round+1)*20)
			d.kill()
		}
		inOrder(t, &to)
	})
	t.Run("splits and merges", func(t *testing.T) {
		s.create(t, "tree", 2)
		var to sourcetest.Destination
		disk := sourcetest.NewDisk(t, &to)
		d := read(t, disk, options(s, "tree"), quick)
		n := 0
		some := func() {
			s.put(t, "tree", numbered(n, 40, 10)...)
			n += 40
		}
		some()
		s.split(t, "tree", s.open(t, "tree")[0])
		some()
		open := s.open(t, "tree")
		s.merge(t, "tree", open[1], open[2])
		some()
		d.kill()
		open = s.open(t, "tree")
		s.merge(t, "tree", open[0], open[1])
		some()
		s.split(t, "tree", s.open(t, "tree")[0])
		some()
		d = read(t, disk, options(s, "tree"), quick)
		once(t, &to, n)
		inOrder(t, &to)
		eventually(t, "two shards are read", func() bool { return d.metric("hydrant_source_lanes_owned") == 2 })
		if got := d.metric("hydrant_source_lanes_waiting"); got != 0 {
			t.Errorf("%v shards wait", got)
		}
		d.kill()
		read(t, disk, options(s, "tree"), quick)
		some()
		once(t, &to, n)
	})
	t.Run("from the latest", func(t *testing.T) {
		s.create(t, "latest", 1)
		s.put(t, "latest", [2]string{"k", "before"})
		time.Sleep(1100 * time.Millisecond) // the service's clock has whole seconds
		var to sourcetest.Destination
		disk := sourcetest.NewDisk(t, &to)
		o := options(s, "latest")
		o.Start = kinesis.Checkpoint{Sequence: kinesis.Latest}
		d := read(t, disk, o, quick)
		eventually(t, "the start is noted", func() bool { return slices.Contains(d.in.Lanes(), "@start") })
		d.kill() // nothing was read; the start stays what it was
		s.put(t, "latest", [2]string{"k", "k 0"})
		s.split(t, "latest", s.open(t, "latest")[0])
		s.put(t, "latest", [2]string{"k", "k 1"})
		read(t, disk, o, quick)
		once(t, &to, 2)
		inOrder(t, &to)
	})
	t.Run("aggregates", func(t *testing.T) {
		s.create(t, "packed", 1)
		var parts []aggregate.Record
		for i := range 10 {
			parts = append(parts, aggregate.Record{PartitionKey: fmt.Appendf(nil, "p%d", i%3), Data: fmt.Appendf(nil, "p%d %d", i%3, i)})
		}
		s.put(t, "packed", [2]string{"a", string(aggregate.Append(nil, parts))})
		empty := []byte("\x0a\x01a") // a key and no records
		sum := md5.Sum(empty)
		s.put(t, "packed", [2]string{"a", "\xf3\x89\x9a\xc2" + string(empty) + string(sum[:])})
		s.put(t, "packed", [2]string{"p0", "p0 10"})
		var to sourcetest.Destination
		read(t, sourcetest.NewDisk(t, &to), options(s, "packed"), quick)
		once(t, &to, 11)
		inOrder(t, &to)
		for i, r := range to.Rows() {
			key, _, _ := strings.Cut(r.Data, " ")
			if _, sub, packed := strings.Cut(r.Meta.Offset, "."); string(r.Meta.Key) != key || packed != (i < 10) || packed && sub != strconv.Itoa(i) {
				t.Errorf("%q has %+v", r.Data, r.Meta)
			}
		}
	})
	t.Run("a stream that is not there", func(t *testing.T) {
		var to sourcetest.Destination
		d := read(t, sourcetest.NewDisk(t, &to), options(s, "nowhere"), quick)
		if err := d.failure(); !strings.Contains(err.Error(), "stream nowhere") || !strings.Contains(err.Error(), "check the stream's name") {
			t.Errorf("%v", err)
		}
	})
}

func isNumber(s string) bool { _, err := strconv.ParseFloat(s, 64); return err == nil && s != "" }

func TestFake(t *testing.T) {
	credentials(t)
	suite(t, newFake(t, kinesistest.Options{PageSize: 3}), options)
}

// A subscription of half a second is renewed many times.
func TestFakeFanOut(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{Subscription: 100 * time.Millisecond, Resubscribe: 20 * time.Millisecond})
	suite(t, s, fanOut)
	if s.Calls("RegisterStreamConsumer") == 0 || s.Calls("SubscribeToShard") < 10 || s.Calls("GetRecords") != 0 {
		t.Errorf("%d registrations, %d subscriptions, %d polls", s.Calls("RegisterStreamConsumer"), s.Calls("SubscribeToShard"), s.Calls("GetRecords"))
	}
}

func fanOut(s service, stream string) kinesis.Options {
	o := options(s, stream)
	o.FanOut = "hydrant"
	return o
}
