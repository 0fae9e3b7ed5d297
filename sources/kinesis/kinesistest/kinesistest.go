// Package kinesistest is a Kinesis Data Streams of one process, in memory, for tests and benchmarks: streams of shards that
// are split and merged under load, polled and subscribed to, with the service's limits and faults.
//
// Records flow in by PutRecord(s) or Put, and out by GetRecords and SubscribeToShard, as the SDK for Go speaks: JSON, and event
// streams that begin with an initial response. It checks what it is asked as the service does, and keeps nothing.
package kinesistest

import (
	"crypto/md5"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Options of a Server.
type Options struct {
	// Subscription is how long an enhanced fan-out subscription lasts; 0 is five minutes.
	Subscription time.Duration
	// Resubscribe is how soon after a subscription another one of the same consumer and shard is refused; 0 is five seconds.
	Resubscribe time.Duration
	// IteratorAge is how long a shard iterator is good for; 0 is five minutes.
	IteratorAge time.Duration
	// PageSize is the most shards of one ListShards; 0 is 1,000. TokenAge is how long its tokens are good for; 0 is five
	// minutes.
	PageSize int
	TokenAge time.Duration
	// MaxReply is the most bytes of data of one GetRecords; 0 is 10 MiB.
	MaxReply int
	// ReadsPerSecond of a shard that are answered; 0: any number. The service's is 5.
	ReadsPerSecond int
	// Fault, where not nil, is asked before each call: what to answer with instead, or nil.
	Fault func(call Call) *Fault
}

// Call is one that a client made.
type Call struct {
	Operation string // "GetRecords"
	Shard     string // where the call names one, or its iterator does
	Type      string // of an iterator that is asked for
}

// Fault is an answer that is an error, or none at all.
type Fault struct {
	Status  int    // 0: 400; 599: the connection is closed without an answer
	Type    string // "ProvisionedThroughputExceededException"
	Message string
	After   bool // the call is made, and its answer is lost
	// Empty: a GetRecords is answered with no records, as sparse shards do, far behind as they may be.
	Empty bool
	// Torn: a GetRecords is answered with no records and nothing of how to go on.
	Torn bool
}

// Server is the service. Safe for concurrent use.
type Server struct {
	o    Options
	URL  string
	http *http.Server
	done chan struct{} // closed when the server closes, for what waits

	mu      sync.Mutex // guards what follows, and all streams
	streams map[string]*stream
	calls   map[string]int
	serial  int64 // of streams and tokens
}

type stream struct {
	name      string
	created   time.Time
	serial    int64
	retention time.Duration
	shards    []*shard
	consumers map[string]*consumer // by ARN
}

type consumer struct {
	name, arn  string
	created    time.Time
	active     time.Time // from when on
	subscribed map[string]time.Time
	current    map[string]chan struct{} // by shard: closed when another takes over
}

type shard struct {
	number   int
	id       string
	parents  []string
	from, to *big.Int // of hash keys, inclusive
	records  []rec
	trimmed  uint64 // records with numbers below it are gone
	next     uint64 // number of the next record
	closed   bool
	children []*shard
	grown    chan struct{} // closed and made anew when there is something new
	reads    []time.Time   // of the last second
}

type rec struct {
	n       uint64 // of its sequence number
	arrived int64  // ms
	key     string
	data    []byte
}

// New returns a server that listens on the loopback interface until the test ends.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start returns a server that listens on the loopback interface until it is closed.
func Start(o Options) (*Server, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Subscription, 5*time.Minute)
	set(&o.Resubscribe, 5*time.Second)
	set(&o.IteratorAge, 5*time.Minute)
	set(&o.TokenAge, 5*time.Minute)
	if o.PageSize == 0 {
		o.PageSize = 1000
	}
	if o.MaxReply == 0 {
		o.MaxReply = 10 << 20
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, URL: "http://" + l.Addr().String(), streams: map[string]*stream{}, calls: map[string]int{}, done: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{Handler: s, Protocols: &protocols}
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

// Close ends all connections.
func (s *Server) Close() {
	close(s.done)
	_ = s.http.Close()
}

// SetFault changes what faults there are.
func (s *Server) SetFault(f func(Call) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Fault = f
}

// Calls is how many calls of an operation came.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// hashKeys is how many hash keys there are.
var hashKeys = new(big.Int).Lsh(big.NewInt(1), 128)

// CreateStream makes a stream of so many shards, at once.
func (s *Server) CreateStream(name string, shards int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	st := &stream{name: name, created: time.Now(), serial: s.serial, retention: 24 * time.Hour, consumers: map[string]*consumer{}}
	s.streams[name] = st
	at := func(i int) *big.Int {
		return new(big.Int).Div(new(big.Int).Mul(hashKeys, big.NewInt(int64(i))), big.NewInt(int64(shards)))
	}
	for i := range shards {
		st.add(at(i), new(big.Int).Sub(at(i+1), big.NewInt(1)))
	}
}

// DeleteStream removes one with all that is in it.
func (s *Server) DeleteStream(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, name)
}

func (st *stream) add(from, to *big.Int, parents ...*shard) *shard {
	sh := &shard{number: len(st.shards), id: fmt.Sprintf("shardId-%012d", len(st.shards)), from: from, to: to, next: 1, grown: make(chan struct{})}
	for _, p := range parents {
		sh.parents = append(sh.parents, p.id)
		p.children = append(p.children, sh)
	}
	st.shards = append(st.shards, sh)
	return sh
}

func (st *stream) arn() string { return "arn:aws:kinesis:us-east-1:000000000000:stream/" + st.name }

func (st *stream) shard(id string) *shard {
	for _, sh := range st.shards {
		if sh.id == id {
			return sh
		}
	}
	return nil
}

// sequence is the number of a record, 56 digits: higher in children than in their parents, and no two streams share one.
func (st *stream) sequence(sh *shard, n uint64) string {
	return fmt.Sprintf("49%08d%08d%038d", st.serial, sh.number, n)
}

// number undoes sequence. ok is false where it is not of this shard.
func (st *stream) parse(sh *shard, sequence string) (n uint64, ok bool) {
	prefix := st.sequence(sh, 0)[:18]
	if len(sequence) != 56 || sequence[:18] != prefix {
		return 0, false
	}
	_, err := fmt.Sscanf(sequence[18:], "%d", &n)
	return n, err == nil
}

func (sh *shard) wake() {
	close(sh.grown)
	sh.grown = make(chan struct{})
}

var errNoShard = errors.New("no open shard has the hash key")

// Put puts a record and returns its shard and sequence number.
func (s *Server) Put(name, key string, data []byte) (shard, sequence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := md5.Sum([]byte(key))
	sh, seq, err := s.put(s.streams[name], new(big.Int).SetBytes(sum[:]), key, data)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return sh.id, seq
}

// PutTo puts records into one open shard, as fast as can be: key is that of all of them. Data is kept, not copied.
func (s *Server) PutTo(name, shard, key string, data ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.streams[name].shard(shard)
	now := time.Now().UnixMilli()
	for _, d := range data {
		sh.records = append(sh.records, rec{n: sh.next, arrived: now, key: key, data: d})
		sh.next++
	}
	sh.wake()
}

func (s *Server) put(st *stream, hash *big.Int, key string, data []byte) (*shard, string, error) {
	for _, sh := range st.shards {
		if !sh.closed && sh.from.Cmp(hash) <= 0 && hash.Cmp(sh.to) <= 0 {
			n := sh.next
			sh.next += 3 // numbers have gaps
			sh.records = append(sh.records, rec{n: n, arrived: time.Now().UnixMilli(), key: key, data: data})
			sh.wake()
			return sh, st.sequence(sh, n), nil
		}
	}
	return nil, "", errNoShard
}

// Open returns the names of the open shards of a stream, by hash keys.
func (s *Server) Open(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*shard
	for _, sh := range s.streams[name].shards {
		if !sh.closed {
			open = append(open, sh)
		}
	}
	sortByRange(open)
	ids := make([]string, len(open))
	for i, sh := range open {
		ids[i] = sh.id
	}
	return ids
}

// Split splits an open shard in the middle of its range.
func (s *Server) Split(name, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	sh := st.shard(id)
	if sh == nil || sh.closed {
		return fmt.Errorf("shard %s of %s is not open", id, name)
	}
	middle := new(big.Int).Rsh(new(big.Int).Add(sh.from, sh.to), 1)
	sh.closed = true
	st.add(sh.from, middle, sh)
	st.add(new(big.Int).Add(middle, big.NewInt(1)), sh.to, sh)
	sh.wake()
	return nil
}

// Merge merges two open shards that are neighbours.
func (s *Server) Merge(name, a, b string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	x, y := st.shard(a), st.shard(b)
	if x == nil || y == nil || x.closed || y.closed {
		return fmt.Errorf("shards %s and %s of %s are not open", a, b, name)
	}
	if new(big.Int).Add(x.to, big.NewInt(1)).Cmp(y.from) != 0 {
		return fmt.Errorf("shards %s and %s of %s are no neighbours in this order", a, b, name)
	}
	x.closed, y.closed = true, true
	st.add(x.from, y.to, x, y)
	x.wake()
	y.wake()
	return nil
}

// Trim removes the oldest n records of a shard, as retention does.
func (s *Server) Trim(name, id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.streams[name].shard(id)
	if n > 0 {
		sh.trimmed = sh.records[n-1].n + 1
		sh.records = sh.records[n:]
	}
}

// Expire removes a closed shard from the stream, as retention does.
func (s *Server) Expire(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	for i, sh := range st.shards {
		if sh.id == id {
			// The place is kept, so that numbers go on.
			st.shards[i] = &shard{number: sh.number, closed: true, from: big.NewInt(1), to: big.NewInt(0), grown: make(chan struct{})}
		}
	}
}
