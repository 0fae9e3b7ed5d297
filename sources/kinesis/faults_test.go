package kinesis_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/sources/kinesis"
	"hydrant/sources/kinesis/aggregate"
	"hydrant/sources/kinesis/kinesistest"
	"hydrant/sources/sourcetest"
)

var quick = sourcetest.Options{Every: 10 * time.Millisecond}

// Faults that pass, of every call, its answer lost or not, and answers that say nothing.
func TestFaultsThatPass(t *testing.T) {
	credentials(t)
	for _, way := range []struct {
		name    string
		options func(service, string) kinesis.Options
	}{{"polling", options}, {"fan-out", fanOut}} {
		t.Run(way.name, func(t *testing.T) {
			s := newFake(t, kinesistest.Options{Subscription: 200 * time.Millisecond, Resubscribe: 10 * time.Millisecond, IteratorAge: 300 * time.Millisecond, PageSize: 2, TokenAge: 3 * time.Second})
			faults := []kinesistest.Fault{
				{Type: "ProvisionedThroughputExceededException"}, {Type: "LimitExceededException"}, {Type: "KMSThrottlingException"},
				{Status: 500, Type: "InternalFailure"}, {Status: 503, Type: "ServiceUnavailable"}, {Status: 599},
				{Status: 500, Type: "InternalFailure", After: true}, {Status: 599, After: true},
			}
			s.SetFault(func(c kinesistest.Call) *kinesistest.Fault {
				switch n := rand.IntN(100); {
				case c.Operation == "GetRecords" && n < 5:
					return &kinesistest.Fault{Type: "ExpiredIteratorException"}
				case c.Operation == "GetRecords" && n < 15:
					return &kinesistest.Fault{Empty: true}
				case c.Operation == "GetRecords" && n < 20:
					return &kinesistest.Fault{Torn: true}
				case c.Operation == "Event" && n < 5:
					return &kinesistest.Fault{Type: "InternalFailureException"}
				case c.Operation == "Event" && n < 10:
					return &kinesistest.Fault{Status: 599}
				case c.Operation == "Event":
					return nil
				case n < 50:
					f := faults[rand.IntN(len(faults))]
					if c.Operation == "SubscribeToShard" {
						f.After = false
					}
					return &f
				}
				return nil
			})
			s.CreateStream("s", 5)
			var to sourcetest.Destination
			disk := sourcetest.NewDisk(t, &to)
			d := read(t, disk, way.options(s, "s"), quick)
			n := 0
			for round := range 4 {
				for range 100 {
					s.Put("s", fmt.Sprint("k", n%20), fmt.Appendf(nil, "k%d %d", n%20, n))
					n++
				}
				open := s.Open("s")
				if round%2 == 0 {
					s.split(t, "s", open[rand.IntN(len(open))])
				} else {
					i := rand.IntN(len(open) - 1)
					s.merge(t, "s", open[i], open[i+1])
				}
				time.Sleep(20 * time.Millisecond)
			}
			once(t, &to, n)
			inOrder(t, &to)
			if got := d.metric("hydrant_source_gaps_total"); got != 0 {
				t.Errorf("%v gaps", got)
			}
			if d.metric("hydrant_source_faults_total") == 0 || d.metric("hydrant_source_throttled_total") == 0 {
				t.Error("no faults were counted")
			}
		})
	}
}

// What only an operator can mend ends the run, with what was tried on what and the remedy.
func TestFaultsForTheOperator(t *testing.T) {
	credentials(t)
	for _, c := range []struct{ operation, code, want string }{
		{"DescribeStreamSummary", "AccessDeniedException", "DescribeStreamSummary of stream s: AccessDeniedException: no (grant the rights that docs/kinesis.md lists)"},
		{"ListShards", "AccessDeniedException", "ListShards of stream s: AccessDeniedException: no (grant the rights that docs/kinesis.md lists)"},
		{"GetShardIterator", "UnrecognizedClientException", "GetShardIterator of shard shardId-000000000000 of stream s: api error UnrecognizedClientException: no (check the credentials)"},
		{"GetRecords", "KMSAccessDeniedException", "GetRecords of shard shardId-000000000000 of stream s: KMSAccessDeniedException: no (grant kms:Decrypt on the key of the stream)"},
		{"GetRecords", "KMSDisabledException", "GetRecords of shard shardId-000000000000 of stream s: KMSDisabledException: no (check the KMS key that the stream is encrypted with)"},
		{"GetRecords", "ResourceNotFoundException", "GetRecords of shard shardId-000000000000 of stream s: ResourceNotFoundException: no (check the stream's name, the account and the region)"},
		{"GetShardIterator", "ResourceNotFoundException", "GetShardIterator of shard shardId-000000000000 of stream s: ResourceNotFoundException: no (check the stream's name, the account and the region)"},
		{"GetRecords", "InvalidArgumentException", "GetRecords of shard shardId-000000000000 of stream s: InvalidArgumentException: no"},
	} {
		t.Run(c.operation+" "+c.code, func(t *testing.T) {
			s := newFake(t, kinesistest.Options{Fault: func(k kinesistest.Call) *kinesistest.Fault {
				if k.Operation == c.operation {
					return &kinesistest.Fault{Type: c.code, Message: "no"}
				}
				return nil
			}})
			s.CreateStream("s", 1)
			d := read(t, sourcetest.NewDisk(t, &sourcetest.Destination{}), options(s, "s"), quick)
			err := d.failure().Error()
			if before, after, ok := strings.Cut(err, "operation error Kinesis: "); ok {
				_, after, _ = strings.Cut(after, "RequestID: , ") // the SDK's own
				err = before + after
			}
			if err != c.want {
				t.Errorf("%s\nwant %s", err, c.want)
			}
		})
	}
}

// A daemon without credentials is told so, by its run and by its doctor, who is also told what fails when his time is up.
func TestNoCredentials(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 1)
	s.SetFault(func(kinesistest.Call) *kinesistest.Fault {
		return &kinesistest.Fault{Status: 503, Type: "ServiceUnavailable", Message: "come back"}
	})
	r, err := kinesis.New(options(s, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if got := r.Probe(ctx); len(got) != 1 || !strings.Contains(got[0].Found, "DescribeStreamSummary of stream s") || !strings.Contains(got[0].Found, "come back") {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	s.SetFault(nil)
	d := read(t, sourcetest.NewDisk(t, &sourcetest.Destination{}), options(s, "s"), quick)
	if err := d.failure().Error(); !strings.HasSuffix(err, "(give the daemon credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine)") {
		t.Error(err)
	}
}

func TestTrimmedPosition(t *testing.T) {
	credentials(t)
	for _, way := range []func(service, string) kinesis.Options{options, fanOut} {
		s := newFake(t, kinesistest.Options{Resubscribe: time.Millisecond})
		s.CreateStream("s", 1)
		for i := range 10 {
			s.Put("s", "k", fmt.Appendf(nil, "k %d", i))
		}
		var to sourcetest.Destination
		disk := sourcetest.NewDisk(t, &to)
		d := read(t, disk, way(s, "s"), quick)
		once(t, &to, 10)
		d.kill()
		for i := range 10 {
			s.Put("s", "k", fmt.Appendf(nil, "k %d", 10+i))
		}
		s.Trim("s", "shardId-000000000000", 15) // five were never read
		d = read(t, disk, way(s, "s"), quick)
		once(t, &to, 15)
		inOrder(t, &to)
		if got := d.metric("hydrant_source_gaps_total"); got != 1 {
			t.Errorf("%v gaps were counted", got)
		}
		d.kill()
	}
}

func TestShardThatIsGone(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{Resubscribe: time.Millisecond})
	s.CreateStream("s", 1)
	s.Put("s", "k", []byte("k 0"))
	var to sourcetest.Destination
	disk := sourcetest.NewDisk(t, &to)
	var hold atomic.Bool
	hold.Store(true)
	s.SetFault(func(c kinesistest.Call) *kinesistest.Fault {
		if c.Operation == "GetRecords" && hold.Load() {
			return &kinesistest.Fault{Empty: true}
		}
		return nil
	})
	d := read(t, disk, options(s, "s"), quick)
	eventually(t, "the shard is read", func() bool { return s.Calls("GetRecords") > 2 })
	s.split(t, "s", "shardId-000000000000")
	s.Put("s", "k", []byte("k 1"))
	s.Expire("s", "shardId-000000000000")
	hold.Store(false)
	once(t, &to, 1)
	if rows := to.Rows(); rows[0].Data != "k 1" {
		t.Errorf("%v", rows)
	}
	if got := d.metric("hydrant_source_gaps_total"); got != 1 {
		t.Errorf("%v gaps were counted", got)
	}
}

func TestStreamMadeAnew(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 1)
	s.Put("s", "k", []byte("k 0"))
	var to sourcetest.Destination
	disk := sourcetest.NewDisk(t, &to)
	o := options(s, "s")
	d := read(t, disk, o, quick)
	once(t, &to, 1)
	d.kill()
	s.DeleteStream("s")
	time.Sleep(1100 * time.Millisecond) // creation times are told apart by the second
	s.CreateStream("s", 1)
	s.Put("s", "k", []byte("k 1"))
	o.Start = kinesis.Checkpoint{Sequence: kinesis.Latest} // all of the new one came after reading began
	d = read(t, disk, o, quick)
	once(t, &to, 2)
	if got := d.metric("hydrant_source_gaps_total"); got != 1 {
		t.Errorf("%v gaps were counted", got)
	}
	d.kill()
	s.Put("s", "k", []byte("k 2"))
	d = read(t, disk, o, quick)
	once(t, &to, 3)
	if got := d.metric("hydrant_source_gaps_total"); got != 0 {
		t.Errorf("%v gaps were counted", got)
	}
}

// others owns no shard: all are somebody else's.
type others struct{ changes chan kinesis.Change }

func (o *others) Begin(_ context.Context, _ kinesis.Stream, first kinesis.Checkpoint) (kinesis.Checkpoint, error) {
	return first, nil
}
func (o *others) Run(ctx context.Context) error {
	<-ctx.Done()
	close(o.changes)
	return nil
}
func (o *others) Shards(context.Context, []kinesis.Shard) error { return nil }
func (o *others) Changes() <-chan kinesis.Change                { return o.changes }
func (o *others) Commit(context.Context, kinesis.Lane, kinesis.Checkpoint) error {
	return kinesis.ErrFenced
}
func (o *others) End(context.Context, kinesis.Lane, []kinesis.Shard) error { return kinesis.ErrFenced }
func (o *others) Release(context.Context, kinesis.Lane)                    {}
func (o *others) Shared() bool                                             { return true }

// Positions of shards that are gone do not pile up, whoever read them to their end, nor those of a stream of the same name.
func TestPositionsOfShardsThatAreGone(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 3)
	for i := range 30 {
		s.Put("s", strconv.Itoa(i), fmt.Appendf(nil, "%d %d", i, i))
	}
	var to sourcetest.Destination
	disk := sourcetest.NewDisk(t, &to)
	o := options(s, "s")
	o.ListInterval = 30 * time.Millisecond
	d := read(t, disk, o, quick)
	once(t, &to, 30)
	known := func(want string) {
		t.Helper()
		eventually(t, "only "+want+" are known", func() bool {
			names := d.in.Lanes()
			slices.Sort(names)
			return strings.Join(names, " ") == want
		})
	}
	known("@start shardId-000000000000 shardId-000000000001 shardId-000000000002")
	d.kill()
	shared := o
	shared.Own = func() (kinesis.Owner, error) { return &others{make(chan kinesis.Change)}, nil }
	d = read(t, disk, shared, quick)
	s.split(t, "s", "shardId-000000000001")
	s.Expire("s", "shardId-000000000001")
	known("@start shardId-000000000000 shardId-000000000002")
	d.kill()
	s.DeleteStream("s")
	time.Sleep(1100 * time.Millisecond) // creation times are told apart by the second
	s.CreateStream("s", 1)
	s.Put("s", "k", []byte("k 30"))
	d = read(t, disk, o, quick)
	once(t, &to, 31)
	known("@start shardId-000000000000")
	d.kill()
}

// What comes while the service cannot be asked how late it is came after the start, and is read.
func TestLatestThroughAnOutage(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 1)
	s.Put("s", "k", []byte("k 0"))
	time.Sleep(2100 * time.Millisecond) // "latest" is a whole second
	var ill atomic.Bool
	ill.Store(true)
	s.SetFault(func(c kinesistest.Call) *kinesistest.Fault {
		if ill.Load() {
			return &kinesistest.Fault{Status: 503, Type: "ServiceUnavailable"}
		}
		return nil
	})
	var to sourcetest.Destination
	o := options(s, "s")
	o.Start = kinesis.Checkpoint{Sequence: kinesis.Latest}
	read(t, sourcetest.NewDisk(t, &to), o, quick)
	eventually(t, "the service is asked", func() bool { return s.Calls("DescribeStreamSummary") > 0 })
	s.Put("s", "k", []byte("k 1"))
	time.Sleep(2100 * time.Millisecond)
	ill.Store(false)
	once(t, &to, 1)
	if rows := to.Rows(); rows[0].Data != "k 1" {
		t.Errorf("%v", rows)
	}
}

func TestStartAtATime(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 1)
	s.Put("s", "k", []byte("before"))
	s.split(t, "s", "shardId-000000000000") // closed before the time, and not read
	s.Put("s", "k", []byte("before, too"))
	time.Sleep(5 * time.Millisecond)
	at := time.Now()
	time.Sleep(5 * time.Millisecond)
	s.Put("s", "k", []byte("k 0"))
	open := s.Open("s")
	s.merge(t, "s", open[0], open[1])
	s.Put("s", "k", []byte("k 1"))
	var to sourcetest.Destination
	o := options(s, "s")
	o.Start = kinesis.Checkpoint{Sequence: kinesis.AtTimestamp, Time: at}
	d := read(t, sourcetest.NewDisk(t, &to), o, quick)
	once(t, &to, 2)
	inOrder(t, &to)
	d.kill()

	// A time that is still to come: what arrives before it is passed over.
	s.CreateStream("later", 1)
	at = time.Now().Add(400 * time.Millisecond)
	o.Stream, o.Start.Time = "later", at
	var later sourcetest.Destination
	read(t, sourcetest.NewDisk(t, &later), o, quick)
	eventually(t, "it is read", func() bool { return s.Calls("GetRecords") > 5 })
	s.Put("later", "k", []byte("before"))
	time.Sleep(time.Until(at.Add(10 * time.Millisecond)))
	s.Put("later", "k", []byte("k 0"))
	once(t, &later, 1)
	inOrder(t, &later)
}

// packed are records "k 0" to "k n-1", packed into one.
func packed(n int) []byte {
	var all []aggregate.Record
	for i := range n {
		all = append(all, aggregate.Record{PartitionKey: []byte("k"), Data: fmt.Appendf(nil, "k %d", i)})
	}
	return aggregate.Append(nil, all)
}

// A process that dies inside an aggregate goes on inside it.
func TestCrashInsideAnAggregate(t *testing.T) {
	credentials(t)
	for _, keep := range []bool{false, true} {
		s := newFake(t, kinesistest.Options{})
		s.CreateStream("s", 1)
		const n = 30_000
		s.Put("s", "a", packed(n))
		s.Put("s", "k", fmt.Appendf(nil, "k %d", n))
		var to sourcetest.Destination
		disk := sourcetest.NewDisk(t, &to)
		// Room for a part of it, which nothing makes durable but the test.
		d := read(t, disk, options(s, "s"), sourcetest.Options{Room: 1 << 20})
		eventually(t, "a part is handed over", func() bool { return d.in.Waiting() > 0 })
		first := d.in.Waiting()
		d.in.Persist()
		eventually(t, "another part is handed over", func() bool { return d.in.Waiting() > 0 })
		d.kill()
		if first == 0 || first >= n {
			t.Fatalf("%d parts were handed over at a time: the test means a few of them", first)
		}
		o := options(s, "s")
		o.KeepAggregates = keep // what was begun is ended
		d = read(t, disk, o, quick)
		once(t, &to, n+1)
		inOrder(t, &to)
		d.kill()
	}
}

// So does one that dies behind the first part, whose position looks in tables of others like that of a record.
func TestCrashBehindTheFirstPart(t *testing.T) {
	credentials(t)
	for _, keep := range []bool{false, true} {
		s := newFake(t, kinesistest.Options{})
		s.CreateStream("s", 1)
		var parts []aggregate.Record
		for i := range 3 { // none of them goes with another
			parts = append(parts, aggregate.Record{PartitionKey: []byte("k"), Data: append(fmt.Appendf(nil, "k %d ", i), make([]byte, 2<<20)...)})
		}
		s.Put("s", "a", aggregate.Append(nil, parts))
		var to sourcetest.Destination
		disk := sourcetest.NewDisk(t, &to)
		d := read(t, disk, options(s, "s"), sourcetest.Options{Room: 1 << 20})
		eventually(t, "a part is handed over", func() bool { return d.in.Waiting() == 1 })
		d.in.Persist()
		d.kill() // of the next part nothing is durable
		o := options(s, "s")
		o.KeepAggregates = keep
		d = read(t, disk, o, quick)
		once(t, &to, 3)
		d.kill()
	}
}

func TestKeepAggregates(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 1)
	data := packed(3)
	s.Put("s", "a", data)
	var to sourcetest.Destination
	o := options(s, "s")
	o.KeepAggregates = true
	read(t, sourcetest.NewDisk(t, &to), o, quick)
	once(t, &to, 1)
	if r := to.Rows()[0]; r.Data != string(data) || string(r.Meta.Key) != "a" || strings.Contains(r.Meta.Offset, ".") {
		t.Errorf("%q with %+v", r.Data, r.Meta)
	}
}

// An aggregate whose records name keys that are not there is for the error output, whole.
func TestAggregateThatContradictsItself(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 1)
	message := []byte("\x0a\x01a\x1a\x05\x08\x00\x1a\x01x\x1a\x05\x08\x01\x1a\x01y")
	sum := md5.Sum(message)
	bad := "\xf3\x89\x9a\xc2" + string(message) + string(sum[:])
	s.Put("s", "a", []byte(bad))
	s.Put("s", "k", []byte("k 0"))
	var to sourcetest.Destination
	d := read(t, sourcetest.NewDisk(t, &to), options(s, "s"), quick)
	once(t, &to, 2)
	if r := to.Rows()[0]; r.Data != bad || r.Meta.Fault != "record 1 of the aggregate has partition key 1 of a table of 1" || string(r.Meta.Key) != "a" {
		t.Errorf("%q with %+v", r.Data, r.Meta)
	}
	if r := to.Rows()[1]; r.Meta.Fault != "" {
		t.Errorf("%q with %+v", r.Data, r.Meta)
	}
	if got := d.metric("hydrant_source_aggregate_errors_total"); got != 1 {
		t.Errorf("%v aggregates were counted", got)
	}
}

const largeShards = 16

// serveLargeRecords is a service in a process of its own, whose memory is not measured: a record of 10 MiB in each shard.
func serveLargeRecords() {
	serve(kinesistest.Options{}, func(s *kinesistest.Server) {
		s.CreateStream("s", largeShards)
		big := bytes.Repeat([]byte("x"), 10<<20-8)
		for i, id := range s.Open("s") {
			s.PutTo("s", id, strconv.Itoa(i), big)
		}
	})
}

// 16 shards with answers of 10 MiB, and nobody who takes them, stay within the memory for answers.
func TestMemory(t *testing.T) {
	credentials(t)
	var to sourcetest.Destination
	o := options(&fake{Server: &kinesistest.Server{URL: served(t, "large")}}, "s")
	o.Memory = 64 << 20
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	d := read(t, sourcetest.NewDisk(t, &to), o, sourcetest.Options{Room: 1})
	most := int64(0)
	eventually(t, "shards are read as far as there is memory", func() bool {
		most = max(most, heap())
		return d.in.Waiting() > 0 && most-before > 20<<20
	})
	for range 100 {
		most = max(most, heap()-before)
	}
	t.Logf("%d MiB are used of 64", most>>20)
	if most > 96<<20 {
		t.Errorf("%d MiB are used of 64", most>>20)
	}
	d.kill()
	// With room all of them come.
	d = read(t, sourcetest.NewDisk(t, &to), o, sourcetest.Options{Room: 16 << 20, Every: time.Millisecond})
	eventually(t, "all records", func() bool { return to.Len() >= largeShards })
	d.kill()
}

// A token that grew too old while its page could not be read does not come again: the list is read anew.
func TestOldToken(t *testing.T) {
	credentials(t)
	var lists atomic.Int32
	var ill atomic.Int64 // until then, in nanoseconds
	s := newFake(t, kinesistest.Options{PageSize: 2, TokenAge: 100 * time.Millisecond, Fault: func(c kinesistest.Call) *kinesistest.Fault {
		if c.Operation != "ListShards" {
			return nil
		}
		if lists.Add(1) == 3 {
			ill.Store(time.Now().Add(300 * time.Millisecond).UnixNano())
		}
		if time.Now().UnixNano() < ill.Load() {
			return &kinesistest.Fault{Status: 503, Type: "ServiceUnavailable"}
		}
		return nil
	}})
	s.CreateStream("s", 7)
	for i := range 100 {
		s.Put("s", strconv.Itoa(i), fmt.Appendf(nil, "%d %d", i, i))
	}
	var to sourcetest.Destination
	o := options(s, "s")
	o.ListInterval = time.Minute
	read(t, sourcetest.NewDisk(t, &to), o, quick)
	once(t, &to, 100)
}

// A list of many pages, whose tokens are lost on the way.
func TestManyShards(t *testing.T) {
	credentials(t)
	var lists atomic.Int32
	s := newFake(t, kinesistest.Options{PageSize: 100, Fault: func(c kinesistest.Call) *kinesistest.Fault {
		if c.Operation == "ListShards" && lists.Add(1) == 5 {
			return &kinesistest.Fault{Type: "ExpiredNextTokenException"}
		}
		return nil
	}})
	s.CreateStream("s", 1200)
	for i := range 2000 {
		s.Put("s", strconv.Itoa(i), fmt.Appendf(nil, "%d %d", i, i))
	}
	var to sourcetest.Destination
	o := options(s, "s")
	o.Interval = 500 * time.Millisecond
	o.ListInterval = time.Minute
	d := read(t, sourcetest.NewDisk(t, &to), o, quick)
	once(t, &to, 2000)
	if got := d.metric("hydrant_source_lanes_owned"); got != 1200 {
		t.Errorf("%v shards are read", got)
	}
	d.kill()
}
