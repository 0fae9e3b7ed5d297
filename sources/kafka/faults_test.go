package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"hydrant/sources"
	"hydrant/sources/sourcetest"
)

// counted are metrics with what a test asks of them.
type counted struct {
	t   testing.TB
	all *sources.Reading
	*sources.StreamReading
}

func newCounted(t testing.TB) *counted {
	m := sources.NewReading(func() []string { return []string{"s"} })
	return &counted{t, m, m.Stream("s")}
}

// is checks a metric's value.
func (c *counted) is(name, help, kind, value string) {
	c.t.Helper()
	text := "# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n" + name + `{stream="s"} ` + value + "\n"
	if err := testutil.CollectAndCompare(c.all, strings.NewReader(text), name); err != nil {
		c.t.Error(err)
	}
}

func (c *counted) gaps(n string) {
	c.t.Helper()
	c.is("hydrant_source_gaps_total", "Positions that were gone at the source when reading should have gone on there: records may be lost.", "counter", n)
}

// TestOutOfRange: where the records at an offset are gone, the policy says what happens, on a first start of a process as
// while it reads.
func TestOutOfRange(t *testing.T) {
	for _, policy := range []string{Stop, Earliest, Latest} {
		t.Run(policy, func(t *testing.T) {
			c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
			var to sourcetest.Destination
			disk := sourcetest.NewDisk(t, &to)
			o := c.options()
			o.OutOfRange = policy
			m := newCounted(t)
			o.Reading = m.StreamReading
			x := run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
			c.texts("t", 1, 0, 10)
			await(t, "the first", func() bool { return to.Len() == 10 && c.offset("g", "t", 0) == 10 })
			x.stop()
			c.texts("t", 1, 10, 20)
			if err := c.DeleteRecords("t", 0, 20); err != nil {
				t.Fatal(err)
			}
			x = run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
			switch policy {
			case Stop:
				if err := x.failed(); err == nil || !strings.Contains(err.Error(), "partition 0 of topic t: offset 10 is out of range, the log has 20 to 30") {
					t.Errorf("%v", err)
				}
				if to.Len() != 10 {
					t.Errorf("%d records", to.Len())
				}
			case Earliest:
				await(t, "what is left", func() bool { return to.Len() == 20 })
				await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 30 })
			case Latest:
				await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 30 })
				c.texts("t", 1, 30, 5)
				await(t, "what is new", func() bool { return to.Len() == 15 })
			}
			m.gaps("1")
		})
	}
}

// TestTopicMadeAnew: offsets of a topic that is gone say nothing of the one that has its name, whether that happens while
// reading or between.
func TestTopicMadeAnew(t *testing.T) {
	for _, while := range []bool{true, false} {
		for _, policy := range []string{Stop, Earliest} {
			t.Run(fmt.Sprintf("%s while reading %v", policy, while), func(t *testing.T) {
				c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
				var to sourcetest.Destination
				disk := sourcetest.NewDisk(t, &to)
				o := c.options()
				o.OutOfRange = policy
				x := run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
				c.texts("t", 1, 0, 10)
				await(t, "the first", func() bool { return to.Len() == 10 && c.offset("g", "t", 0) == 10 })
				if !while {
					x.stop()
				}
				if err := c.DeleteTopic("t"); err != nil {
					t.Fatal(err)
				}
				if err := c.CreateTopic("t", 1, nil); err != nil {
					t.Fatal(err)
				}
				c.cl = nil // that one knows the old topic
				c.texts("t", 1, 100, 15)
				if !while {
					x = run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
				}
				if policy == Stop {
					if err := x.failed(); err == nil || !strings.Contains(err.Error(), "topic t was made anew") {
						t.Errorf("%v", err)
					}
					return
				}
				await(t, "all of the new one", func() bool { return to.Len() >= 25 })
				for data, times := range to.Times() {
					if times != 1 {
						t.Errorf("%s came %d times", data, times)
					}
				}
				await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 15 })
			})
		}
	}
}

// TestTransactions: what was aborted is not delivered, what was committed is, and positions go over the marks behind them.
func TestTransactions(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	var to sourcetest.Destination
	run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	cl := c.client(kgo.TransactionalID("x"))
	for i := range 6 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: fmt.Appendf(nil, "%d", i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TransactionEndTry(i%2 == 0)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "those that were committed", func() bool { return to.Len() >= 3 })
	await(t, "the commit after the last mark", func() bool { return c.offset("g", "t", 0) == 12 })
	if got := to.Times(); len(got) != 3 || got["0"] != 1 || got["2"] != 1 || got["4"] != 1 {
		t.Errorf("%v", got)
	}
}

// TestStartLatest: the first start decides once what "latest" means, for all replicas: a crash before anything was
// committed loses nothing, and partitions that are made later are read from their beginning.
func TestStartLatest(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	var to sourcetest.Destination
	disk := sourcetest.NewDisk(t, &to)
	o := c.options()
	o.Start = Latest
	c.produce(&kgo.Record{Topic: "t", Value: []byte("old"), Timestamp: time.Now().Add(-time.Hour)})
	in := disk.Open(sourcetest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{r: r, o: &r.o, in: in, log: r.o.Log}
	s.adm = c.admin()
	if err := s.begin(ctx); err != nil || s.began.IsZero() {
		t.Fatal(s.began, err)
	}
	cancel()
	in.Crash() // the time is noted, and nothing committed
	c.texts("t", 2, 0, 10)
	x := run(t, o, disk.Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "what came after the first start", func() bool { return to.Len() >= 10 })
	await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 6 && c.offset("g", "t", 1) == 5 })
	once(t, &to, "t", 2, 0, 10)
	x.stop()
	// Another replica, with a disk of its own, begins when the first did.
	c.texts("t", 2, 10, 10)
	x = run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "the rest", func() bool { return to.Len() >= 20 })
	once(t, &to, "t", 2, 0, 20)
	began, r2 := s.began, x.r
	s = &session{r: r2, o: &r2.o, in: sourcetest.NewDisk(t, &to).Open(sourcetest.Options{}), log: r2.o.Log, adm: c.admin()}
	if err := s.begin(t.Context()); err != nil || !s.began.Equal(began) {
		t.Errorf("a new replica begins at %v, want %v, %v", s.began, began, err)
	}
	if to.Times()["old"] != 0 {
		t.Error("what was there before was read")
	}
}

// TestStartBetweenAnswers: a record that comes while brokers are asked where a time begins in an empty partition is read.
func TestStartBetweenAnswers(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	timed, came := false, false // of the cluster's goroutine, which runs one request after another
	var first sync.Once
	c.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		switch at := req.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp; {
		case at >= 0:
			timed = true
		case at == -1 && timed && !came:
			came = true
			c.SleepControl(func() { first.Do(func() { c.texts("t", 1, 0, 1) }) })
		}
		return nil, nil, false
	})
	var to sourcetest.Destination
	o := c.options()
	o.Start, o.StartTime = "", time.Now().Add(-time.Minute)
	run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "the record that came between", func() bool { return to.Len() == 1 })
}

// TestStartTime: reading begins with the first record of a time.
func TestStartTime(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	at := time.UnixMilli(1700000000000)
	for i := range 5 {
		c.produce(&kgo.Record{Topic: "t", Value: fmt.Appendf(nil, "%d", i), Timestamp: at.Add(time.Duration(i) * time.Minute)})
	}
	var to sourcetest.Destination
	o := c.options()
	o.Start, o.StartTime = "", at.Add(2*time.Minute)
	run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	await(t, "three records", func() bool { return to.Len() >= 3 })
	if got := to.Times(); len(got) != 3 || got["2"] != 1 {
		t.Errorf("%v", got)
	}
	for _, r := range to.Rows() {
		if !r.Arrived.Equal(time.UnixMilli(r.Meta.Timestamp)) {
			t.Errorf("%s arrived at %v: rows that lie a minute apart went together", r.Data, r.Arrived)
		}
	}
}

// TestTombstones: they are dropped, with positions that go over them, or marked.
func TestTombstones(t *testing.T) {
	for _, mark := range []bool{false, true} {
		c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
		var to sourcetest.Destination
		o := c.options()
		o.MarkTombstones = mark
		run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
		c.produce(&kgo.Record{Topic: "t", Key: []byte("k"), Value: []byte("v")}, &kgo.Record{Topic: "t", Value: []byte{}}, &kgo.Record{Topic: "t", Key: []byte("k")})
		await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 3 })
		c.produce(&kgo.Record{Topic: "t", Key: []byte("k")})
		await(t, "the commit", func() bool { return c.offset("g", "t", 0) == 4 })
		got := to.Times()
		want := map[string]int{"v": 1, "": 1}
		if mark {
			want[`{"_deleted":true}`] = 2
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// TestPatterns: topics that match are read, those that are made later too, and names that are given beside.
func TestPatterns(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a-1", "b.x", "bcx"))
	var to sourcetest.Destination
	o := c.options()
	o.Topics, o.Patterns = []string{"b.x"}, []string{"^a-.*"}
	run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	for _, topic := range []string{"a-1", "b.x", "bcx"} {
		c.texts(topic, 1, 0, 1)
	}
	await(t, "two topics", func() bool { return to.Len() == 2 })
	if err := c.CreateTopic("a-2", 1, nil); err != nil {
		t.Fatal(err)
	}
	c.texts("a-2", 1, 0, 1)
	await(t, "the new topic", func() bool { return to.Len() >= 3 })
	if got := to.Times(); len(got) != 3 || got["bcx/0/0"] != 0 || got["a-2/0/0"] != 1 {
		t.Errorf("%v", got)
	}
}

// TestTopicGone: lanes of a topic that is not there at two looks are forgotten once what was read of them is delivered, and
// no others.
func TestTopicGone(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a-1"))
	r, err := New(c.options())
	if err != nil {
		t.Fatal(err)
	}
	var to sourcetest.Destination
	in := sourcetest.NewDisk(t, &to).Open(sourcetest.Options{})
	defer in.Crash()
	s := &session{r: r, o: &r.o, in: in, log: r.o.Log, adm: c.admin(), lanes: map[partition]*lane{{"read", 0}: {}}}
	add := func(offset int64, lanes ...string) {
		for _, name := range lanes {
			rows := sources.Rows{Lane: name, Arrived: time.Now(), Data: [][]byte{[]byte("x")}, Next: position{s.r.group, topicID{1}, 0, 0, offset}.encode()}
			if err := in.Append(t.Context(), rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(1, "a-1-0", "b-2-0", "b-2-11", "read-0", "half-0", "other")
	in.Deliver()
	add(2, "half-0")
	in.Persist("half-0")
	look := func(before map[string]bool, gone, lanes string) map[string]bool {
		t.Helper()
		now, err := s.forgetGone(t.Context(), before)
		if got := strings.Join(slices.Sorted(maps.Keys(now)), " "); err != nil || got != gone {
			t.Errorf("%q are gone, %v; want %q", got, err, gone)
		}
		if got := strings.Join(in.Lanes(), " "); got != lanes {
			t.Errorf("lanes %s, want %s", got, lanes)
		}
		return now
	}
	gone := look(nil, "b-2", "a-1-0 b-2-0 b-2-11 half-0 other read-0")
	gone = look(gone, "", "a-1-0 half-0 other read-0")
	in.Deliver()
	gone = look(gone, "half", "a-1-0 half-0 other read-0")
	look(gone, "", "a-1-0 other read-0")
}

// TestLeaderMoves: partitions that move between brokers are read on.
func TestLeaderMoves(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "t"))
	var to sourcetest.Destination
	run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	for i := range 5 {
		c.texts("t", 4, 100*i, 100)
		c.ShufflePartitionLeaders()
		c.RehashCoordinators()
		await(t, "records", func() bool { return to.Len() >= 100*(i+1) })
	}
	once(t, &to, "t", 4, 0, 500)
}

// TestConnectionsBreak: connections that break, and brokers that nobody reaches for a while, end nothing and repeat nothing.
func TestConnectionsBreak(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "t"))
	var to sourcetest.Destination
	x := run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	for i := range 8 {
		c.texts("t", 4, 100*i, 100)
		x.wire.shake()
		await(t, "records", func() bool { return to.Len() >= 100*(i+1) })
		select {
		case <-x.done:
			t.Fatalf("the reader ended: %v", x.err)
		default:
		}
	}
	once(t, &to, "t", 4, 0, 800)
}

// TestErrorsForPeople: what only somebody else can mend ends Run, with what to do.
func TestErrorsForPeople(t *testing.T) {
	for _, c := range []struct {
		name    string
		cluster []kfake.Opt
		fault   *kfake.Fault
		change  func(*Options)
		want    []string
	}{
		{"no topic", nil, nil, func(o *Options) { o.Topics = []string{"absent"} }, []string{"topic absent is not there", "create it"}},
		{"no login", []kfake.Opt{kfake.EnableSASL()}, nil, nil, []string{"tls, sasl"}},
		{"wrong password", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "u", "right")}, nil, func(o *Options) {
			o.SASL = &SASL{Mechanism: ScramSHA512, Username: "u", Password: func() (string, error) { return "wrong", nil }}
		}, []string{"sasl"}},
		{"no right to the group", nil, &kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed, Count: -1}, nil, []string{"READ on group g"}},
		{"session time-out", nil, &kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InvalidSessionTimeout, Count: -1}, nil, []string{"session_timeout"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newCluster(t, append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "t")}, c.cluster...)...)
			if c.fault != nil {
				k.Fault(*c.fault)
			}
			o := k.options()
			if c.change != nil {
				c.change(&o)
			}
			var to sourcetest.Destination
			err := run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{})).failed()
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%v, want %q", err, w)
				}
			}
			if err != nil && strings.Contains(err.Error(), "wrong") {
				t.Errorf("a password in %q", err)
			}
		})
	}
}

// TestProbe: brokers, topics and the group are asked, each with the key to change where reading would not work.
func TestProbe(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "t"), kfake.SeedTopics(1, "x-1"))
	probe := func(change func(*Options)) string {
		o := c.options()
		change(&o)
		r, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, s := range r.Probe(t.Context()) {
			line := s.Check + ": " + s.Found
			if s.Err {
				line = "failed " + s.Key + ": " + line
			}
			out = append(out, line)
		}
		return strings.Join(out, "; ")
	}
	for _, x := range []struct {
		change func(*Options)
		want   string
	}{
		{func(*Options) {}, "brokers: 2 answer; topic: t has 3 partitions; group: g has no offsets yet: reading begins at start"},
		{func(o *Options) { o.Topics = []string{"absent", "t"} }, "brokers: 2 answer; failed topics: topic: absent is not there; topic: t has 3 partitions; group: g has no offsets yet: reading begins at start"},
		{func(o *Options) { o.Topics, o.Patterns = nil, []string{"^x-"} }, "brokers: 2 answer; topic: x-1 has 1 partitions; group: g has no offsets yet: reading begins at start"},
		{func(o *Options) { o.Topics, o.Patterns = nil, []string{"^y-"} }, "brokers: 2 answer; topic: no topic matches yet; group: g has no offsets yet: reading begins at start"},
	} {
		if got := probe(x.change); got != x.want {
			t.Errorf("%s\nwant %s", got, x.want)
		}
	}
	var to sourcetest.Destination
	run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	c.texts("t", 3, 0, 3)
	await(t, "commits", func() bool { return strings.Contains(probe(func(*Options) {}), "group: g has offsets of 3 partitions") })
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.GroupAuthorizationFailed, Count: -1, Group: "h"})
	if got := probe(func(o *Options) { o.Group = "h" }); !strings.Contains(got, "failed group: group: h:") || !strings.Contains(got, "READ on group h") {
		t.Error(got)
	}
}

// TestLargeRecord: records that are larger than what is handed over at once go alone.
func TestLargeRecord(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000000"}))
	c.cl = c.client(kgo.ProducerBatchMaxBytes(16 << 20))
	var to sourcetest.Destination
	run(t, c.options(), sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	for i, size := range []int{10, 10 << 20, 10, 3 << 20} {
		c.produce(&kgo.Record{Topic: "t", Key: fmt.Appendf(nil, "%d", i), Value: make([]byte, size)})
	}
	await(t, "all of them", func() bool { return to.Len() == 4 })
	ordered(t, &to)
}

// TestSASL: each mechanism logs in, with a password that is asked for each time.
func TestSASL(t *testing.T) {
	for mechanism, name := range map[string]string{Plain: "PLAIN", ScramSHA256: "SCRAM-SHA-256", ScramSHA512: "SCRAM-SHA-512"} {
		c := newCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"), kfake.EnableSASL(), kfake.Superuser(name, "u", "secret"))
		sasl := &SASL{Mechanism: mechanism, Username: "u", Password: func() (string, error) { return "secret", nil }}
		c.cl = c.client(kgo.SASL(sasl.mechanism()))
		var to sourcetest.Destination
		o := c.options()
		o.SASL = sasl
		run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
		c.texts("t", 2, 0, 10)
		await(t, mechanism, func() bool { return to.Len() == 10 })
	}
}

// certificate makes one of 127.0.0.1 that signs itself, and its file.
func certificate(t *testing.T) (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// TestTLS: a broker with a certificate is trusted only by the authority that is named.
func TestTLS(t *testing.T) {
	pair, file := certificate(t)
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	trust := &TLS{CAFile: file}
	c.cl = c.client(kgo.Dialer(trust.dial))
	var to sourcetest.Destination
	o := c.options()
	o.TLS = trust
	run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery}))
	c.texts("t", 1, 0, 10)
	await(t, "records", func() bool { return to.Len() == 10 })
	o.TLS, o.Group = &TLS{}, "other"
	err := run(t, o, sourcetest.NewDisk(t, &to).Open(sourcetest.Options{})).failed()
	if err == nil || !strings.Contains(err.Error(), "tls.ca_file") {
		t.Errorf("%v", err)
	}
	if _, err := (&TLS{CAFile: filepath.Join(t.TempDir(), "absent")}).config(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestBackPressure: where nothing is taken, no more is fetched than memory allows, and all of it is delivered once there is
// room.
func TestBackPressure(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(8, "t"))
	const count, size = 400, 100_000
	for n := range count {
		value := make([]byte, size)
		rand.Read(value) // nothing that compression makes smaller
		c.produce(&kgo.Record{Topic: "t", Partition: int32(n % 8), Value: value})
	}
	var to sourcetest.Destination
	m := newCounted(t)
	o := c.options()
	o.Reading = m.StreamReading
	in := sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery, Room: 1 << 20})
	in.Full(true)
	run(t, o, in)
	read := func() float64 { return m.value(t, "hydrant_source_bytes_total") }
	await(t, "something is read", func() bool { return read() > 0 })
	last, since := 0.0, time.Now()
	await(t, "reading stops", func() bool {
		if now := read(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	if last > 2*MinMemory {
		t.Errorf("%.0f bytes were read, memory is %d", last, MinMemory)
	}
	in.Full(false)
	await(t, "all records", func() bool { return to.Len() >= count })
	if got := to.Times(); len(got) != count || to.Len() != count {
		t.Errorf("%d records, %d different, want %d", to.Len(), len(got), count)
	}
	ordered(t, &to)
}

// TestLag: how far behind reading is shows while nothing is fetched.
func TestLag(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	var to sourcetest.Destination
	m := newCounted(t)
	o := c.options()
	o.Reading = m.StreamReading
	in := sourcetest.NewDisk(t, &to).Open(sourcetest.Options{Every: deliverEvery})
	run(t, o, in)
	c.texts("t", 1, 0, 10)
	await(t, "records", func() bool { return to.Len() == 10 })
	await(t, "no lag", func() bool { return m.value(t, "hydrant_source_lag_records") == 0 })
	in.Full(true)
	big := strings.Repeat("x", 900_000)
	for range 12 { // more than is held in memory
		c.produce(&kgo.Record{Topic: "t", Value: []byte(big), Timestamp: time.Now().Add(-time.Hour)})
	}
	await(t, "lag", func() bool { return m.value(t, "hydrant_source_lag_records") > 0 })
	await(t, "lag in seconds", func() bool { return m.value(t, "hydrant_source_lag_seconds") >= 3600 })
	in.Full(false)
	await(t, "records", func() bool { return to.Len() == 22 })
	await(t, "no lag", func() bool {
		return m.value(t, "hydrant_source_lag_records") == 0 && m.value(t, "hydrant_source_lag_seconds") == 0
	})
}

func (c *counted) value(t testing.TB, name string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c.all)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}
