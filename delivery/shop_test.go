package delivery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/transform/hook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a format for tests: each row and a newline. A row that begins with "bad" does not fit, one that
// begins with "panic" breaks the encoder.
type lines struct {
	extension string
	gate      func() // called for a row that begins with "wait"
	short     int    // bytes of a row that are written; 0: all
	raw       bool   // every row is written as it is
}

func (f lines) NewEncoder() format.Encoder {
	return &lineEncoder{gate: f.gate, short: f.short, raw: f.raw}
}

func (f lines) Extension() string       { return f.extension }
func (f lines) ContentEncoding() string { return "" }
func (f lines) SchemaVersion() string   { return "s1" }

type lineEncoder struct {
	w     io.Writer
	stats format.Stats
	buf   []byte
	gate  func()
	short int
	raw   bool
	broke bool
}

func (e *lineEncoder) Reset(w io.Writer) {
	if e.broke {
		panic("a broken encoder is used again")
	}
	e.w, e.stats = w, format.Stats{}
}

func (e *lineEncoder) Append(row record.Row) error {
	if e.raw {
		return e.write(row.Data)
	}
	if bytes.HasPrefix(row.Data, []byte("bad")) || bytes.Contains(row.Data, []byte(`"bad":`)) {
		return &format.RowError{Code: "DataFormatConversion.MalformedData", Message: "not \"good\""}
	}
	if bytes.HasPrefix(row.Data, []byte("panic")) {
		e.broke = true
		panic("cannot stand this row")
	}
	if bytes.HasPrefix(row.Data, []byte("wait")) {
		e.gate()
	}
	data := row.Data
	if e.short > 0 {
		data = data[:min(e.short, len(data))]
	}
	return e.write(data)
}

func (e *lineEncoder) write(data []byte) error {
	e.buf = append(append(e.buf[:0], data...), '\n')
	n, err := e.w.Write(e.buf)
	e.stats.Bytes += int64(n)
	e.stats.Rows++
	return err
}

func (e *lineEncoder) Buffered() int64              { return e.stats.Bytes }
func (e *lineEncoder) Close() (format.Stats, error) { return e.stats, nil }

// shop is a destination that outlives processes: what was stored under which key.
type shop struct {
	lenient bool // takes long keys

	t       testing.TB
	durable func([16]byte) bool // tells whether a manifest is on disk, nil: unknown

	mu      sync.Mutex
	objects map[string]shopped
	sent    map[string][32]byte // checksum of what was ever sent under a key
	puts    int
	most    int // puts at a time
	now     int
	fault   func(o sinks.Object, attempt int) *fault // nil: none
	tries   map[string]int
	closed  int
	times   []time.Time                // of objects stored
	verify  func(o sinks.Object) error // nil: looks
	slow    time.Duration              // that a put takes
	gate    chan struct{}              // not nil: puts wait for it to be closed
}

type shopped struct {
	body []byte
	meta map[string]string
}

// fault is what happens to an attempt.
type fault struct {
	err    error
	stored bool // only the answer is lost
}

func newShop(t testing.TB) *shop {
	return &shop{t: t, objects: map[string]shopped{}, sent: map[string][32]byte{}, tries: map[string]int{}}
}

func refusal(class sinks.Class, code string) error {
	return &sinks.Error{Class: class, Code: code, Err: fmt.Errorf("store says %s %s", class, code)}
}

func (s *shop) Put(ctx context.Context, o sinks.Object) error {
	body := make([]byte, o.Size)
	if _, err := io.ReadFull(io.NewSectionReader(o, 0, o.Size), body); err != nil {
		return &sinks.Error{Class: sinks.Damaged, Err: err}
	}
	s.mu.Lock()
	s.puts++
	s.now++
	s.most = max(s.most, s.now)
	s.tries[o.Key]++
	try, f, gate := s.tries[o.Key], s.fault, s.gate
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	var id buffer.ManifestID
	if n, err := hex.Decode(id[:], []byte(o.Meta[sinks.MetaManifestID])); n != 16 || err != nil {
		s.t.Errorf("object %q has manifest-id %q", o.Key, o.Meta[sinks.MetaManifestID])
	}
	marks := strings.Contains(o.Key, "/_SUCCESS")
	if s.durable != nil && !marks && !s.durable(id) {
		s.t.Errorf("object %q leaves before its manifest is durable", o.Key)
	}
	time.Sleep(s.slow)
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if sha256.Sum256(body) != o.SHA256 {
		return &sinks.Error{Class: sinks.Damaged, Err: errors.New("wrong checksum")}
	}
	var hit *fault
	if f != nil {
		hit = f(o, try)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if marks {
		s.checkMarker(o, body)
	}
	if sum, ok := s.sent[o.Key]; ok && sum != o.SHA256 && !marks { // a name of a marker is tried while another has it
		s.t.Errorf("other bytes are sent under key %q", o.Key)
	}
	s.sent[o.Key] = o.SHA256
	if hit != nil && !hit.stored {
		return hit.err
	}
	if old, ok := s.objects[o.Key]; ok {
		if old.meta[sinks.MetaManifestID] != o.Meta[sinks.MetaManifestID] {
			return &sinks.Error{Class: sinks.Foreign, Err: errors.New("taken")}
		}
	} else {
		s.objects[o.Key] = shopped{body: body, meta: o.Meta}
		s.times = append(s.times, time.Now())
	}
	if hit != nil {
		return hit.err
	}
	return nil
}

func (s *shop) Verify(_ context.Context, o sinks.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verify != nil {
		return s.verify(o)
	}
	if old, ok := s.objects[o.Key]; ok && old.meta[sinks.MetaManifestID] == o.Meta[sinks.MetaManifestID] {
		return nil
	}
	return refusal(sinks.NotStored, "NoSuchKey")
}

func (s *shop) ValidateKey(key string) error {
	if strings.Contains(key, "forbidden") || len(key) > 400 && !s.lenient {
		return fmt.Errorf("key %q is forbidden", key)
	}
	return nil
}

func (s *shop) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *shop) set(f func(o sinks.Object, attempt int) *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// keys in order.
func (s *shop) keys() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.objects {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// rows is every row in data objects and in error objects, and how often.
func (s *shop) rows() (data, failed map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, failed = map[string]int{}, map[string]int{}
	for key, o := range s.objects {
		if strings.Contains(key, "/_SUCCESS") {
			continue
		}
		isError := strings.HasPrefix(key, "errors/") && !strings.Contains(key, deliveryFailed)
		for line := range strings.Lines(string(o.body)) {
			line = strings.TrimSuffix(line, "\n")
			if !isError {
				data[line]++
				continue
			}
			var e struct {
				RawData []byte `json:"rawData"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				s.t.Errorf("error line %q of %q: %v", line, key, err)
			}
			failed[string(e.RawData)]++
		}
	}
	return data, failed
}

// spec is the stream's configuration in tests.
type spec struct {
	Prefix   string
	Errors   string
	Size     int64
	FileSize int64
	Interval time.Duration
	Zone     string
	Place    string
	Kind     string
	Fail     string // Open says this
	Shop     string // which shop; "" is the first
	Ext      string // of the format
	FileExt  string // of the stream
	Words    bool   // rows go through the transform of words
	Hook     string // and through this function of the world
	Then     bool   // and through the transform of words after it
	Hook2    string // and through this one after that
	Scatter  bool   // rows are routed by their first letter
	Most     int    // routes at which everything is delivered early
	Hard     bool   // or at which new ones go to the error output
	Short    int    // bytes of a row that the format writes; 0: all
	Backup   *spec  `json:",omitempty"` // of all source records: what of a spec concerns one
	Marked   bool   // of a Keyed one: its directories get markers, 1 minute of lateness is allowed and late rows are delivered
	Keyed    bool   // rows are JSON and are routed by what the prefix names; their event time is t, late ones are quarantined
}

func (s spec) bytes() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}

// world is a process with its disk and its shops.
type world struct {
	t         testing.TB
	backing   backing
	store     store
	shops     map[string]*shop
	m         *Manager
	end       func() // of Run, waits
	workers   int
	memory    int64
	gate      func() // of the encoders
	functions map[string]*function
	adapt     func(*Pipeline, buffer.Stream) // changes what open makes; nil: nothing
	directory Directory

	declares func(buffer.Stream) bool // Options.Declares
}

func (w *world) shop() *shop { return w.shops[""] }

// openBackup is Options.OpenBackup.
func (w *world) openBackup(s buffer.Stream) (*Pipeline, error) {
	var c spec
	if err := json.Unmarshal(s.Spec, &c); err != nil || c.Backup == nil {
		return nil, err
	}
	s.Spec = c.Backup.bytes()
	p, err := w.open(s)
	if err == nil {
		p.Format = lines{raw: true}
		p.Destination.ID = s.Name + "/source/s3"
	}
	return p, err
}

func (w *world) open(s buffer.Stream) (*Pipeline, error) {
	var c spec
	if err := json.Unmarshal(s.Spec, &c); err != nil {
		return nil, err
	}
	if c.Fail != "" {
		return nil, errors.New(c.Fail)
	}
	p := &Pipeline{Format: lines{extension: c.Ext, gate: w.gate, short: c.Short}, Size: c.Size, FileSize: c.FileSize, Interval: c.Interval, FileExtension: c.FileExt}
	if c.Words {
		p.Transform = words(w.t)
	}
	for i, name := range []string{c.Hook, c.Hook2} {
		if f := w.functions[name]; f != nil {
			retries := 1
			h := Hook{Options: hook.Options{Carrier: f, Retries: &retries, Concurrency: 3}, Size: hook.MinSize, Interval: time.Second}
			if c.Then && i == 0 {
				h.Then = words(w.t)
			}
			p.Hooks = append(p.Hooks, h)
		}
	}
	if c.Scatter {
		p.Scheme, p.MaxActive, p.Hard = scatter{p}, c.Most, c.Hard
	}
	if c.Size == 0 {
		p.Size = 1 << 20
	}
	if c.Interval == 0 {
		p.Interval = time.Minute
	}
	if c.Errors == "" {
		c.Errors = "errors/!{firehose:error-output-type}/"
	}
	if c.Kind == "" {
		c.Kind = "s3"
	}
	var err error
	kind := prefix.Prefix
	if c.Keyed {
		kind = prefix.PartitionedPrefix
	}
	if p.Prefix, err = prefix.Parse(c.Prefix, kind); err != nil {
		return nil, err
	}
	if p.ErrorPrefix, err = prefix.Parse(c.Errors, prefix.ErrorOutputPrefix); err != nil {
		return nil, err
	}
	if c.Zone != "" {
		if p.TimeZone, err = time.LoadLocation(c.Zone); err != nil {
			return nil, err
		}
	}
	p.Destination = Destination{ID: s.Name + "/data/" + c.Kind, Kind: c.Kind, Place: c.Place, Sink: w.shops[c.Shop]}
	if c.Keyed {
		keys := map[string]string{}
		for _, k := range p.Prefix.Keys() {
			if k.Namespace == prefix.FromQuery {
				keys[k.Name] = "." + k.Name
			}
		}
		if n := len(p.Hooks); n > 0 {
			for _, k := range p.Prefix.Keys() {
				if k.Namespace == prefix.FromLambda {
					p.Hooks[n-1].PartitionKeys = append(p.Hooks[n-1].PartitionKeys, k.Name)
				}
			}
		}
		lateness := time.Hour
		if p.Markers = c.Marked; c.Marked {
			lateness = time.Minute
		}
		made, err := partition.New(partition.Options{
			Prefix: p.Prefix, Keys: keys, Hooks: len(p.Hooks) > 0, Check: func(text string) error { return p.CheckPrefix(s.Name, text) },
			EventTime: &partition.EventTime{Field: "t", Formats: []string{"rfc3339"}, AllowedLateness: lateness, Quarantine: !c.Marked},
		})
		if err != nil {
			return nil, err
		}
		p.Scheme, p.MaxActive, p.Hard = Partitioned(made), c.Most, c.Hard
	}
	if w.adapt != nil {
		w.adapt(p, s)
	}
	return p, nil
}

// start runs a manager.
func (w *world) start() {
	w.t.Helper()
	if w.workers == 0 {
		w.workers = 2
	}
	m, err := newManager(Options{Open: w.open, OpenBackup: w.openBackup, Declares: w.declares, Directory: w.directory, Workers: w.workers, Memory: w.memory, Log: slog.New(slog.DiscardHandler)}, w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	m := w.m
	go func() {
		defer close(over)
		if err := m.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	w.end = func() { cancel(); <-over }
}

func (w *world) apply(streams map[string]spec) {
	w.t.Helper()
	var d []Declared
	for name, s := range streams {
		d = append(d, Declared{Name: name, Spec: s.bytes(), Backup: s.Backup != nil})
	}
	if err := w.m.Apply(d); err != nil {
		w.t.Fatalf("Apply: %v", err)
	}
}

// put appends one call.
func (w *world) put(stream string, rows ...string) record.Receipt {
	w.t.Helper()
	r, err := w.tryPut(stream, rows...)
	if err != nil {
		w.t.Fatalf("Append to %q: %v", stream, err)
	}
	return r
}

func (w *world) tryPut(stream string, rows ...string) (record.Receipt, error) {
	b := record.NewBatch(nil)
	for _, r := range rows {
		b.Append([]byte(r))
	}
	r, _, err := w.m.Append(context.Background(), stream, record.Call{Batch: b})
	return r, err
}

func (w *world) status(stream string) Status {
	w.t.Helper()
	st, ok := w.m.Stream(stream)
	if !ok {
		w.t.Fatalf("no stream %q", stream)
	}
	if sum := st.Delivered + st.Failed + st.Dropped + st.Unaccounted + st.BacklogRecords; sum != st.Accepted {
		w.t.Errorf("stream %q accepted %d, accounts for %d: %+v", stream, st.Accepted, sum, st)
	}
	if b := st.Backup; b != nil {
		if sum := b.Delivered + b.Failed + b.Dropped + b.Unaccounted + b.BacklogRecords; sum != b.Accepted {
			w.t.Errorf("backup of %q accepted %d, accounts for %d: %+v", stream, b.Accepted, sum, *b)
		}
	}
	return st
}

func (w *world) flush(stream string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if left, err := w.m.Flush(ctx, stream); err != nil {
		w.t.Fatalf("Flush of %q: %v, remaining %+v", stream, err, left)
	}
}

// balanced checks that a stream whose work is done has lost and doubled nothing.
func (w *world) balanced(stream string, accepted int64) {
	w.t.Helper()
	st := w.status(stream)
	if st.Accepted != accepted || st.BacklogRecords != 0 || st.BacklogBytes != 0 || st.Unaccounted != 0 || st.Oldest != nil || len(st.Batches) != 0 {
		w.t.Errorf("stream %q is not empty and in balance after %d records: %+v", stream, accepted, st)
	}
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
