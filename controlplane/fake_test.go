package controlplane

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// registry is Streams in memory, with the versions and states of the buffer. It checks that what a function was
// given is not changed by it.
type registry struct {
	t       *testing.T
	mu      sync.Mutex
	streams map[string]buffer.Stream
	refuse  error         // what Change says instead of keeping anything
	gate    chan struct{} // nil, or what Change waits for before it keeps anything
	changes int           // definitions that were different

	holding string          // a stream whose older versions are kept
	older   []buffer.Stream // of it

	defining sync.Mutex
}

var _ Streams = (*registry)(nil)

func (r *registry) Change(name string, f func(now *buffer.Stream) (buffer.Stream, error)) (buffer.Stream, error) {
	r.defining.Lock()
	defer r.defining.Unlock()
	r.mu.Lock()
	old, ok := r.streams[name]
	r.mu.Unlock()
	var now *buffer.Stream
	tags := maps.Clone(old.Tags)
	if ok {
		given := old
		now = &given
	}
	next, err := f(now)
	if !maps.Equal(tags, old.Tags) {
		r.t.Errorf("tags of stream %q were changed in place", name)
	}
	if err != nil {
		return buffer.Stream{}, err
	}
	if r.gate != nil {
		<-r.gate
	}
	if r.refuse != nil {
		return buffer.Stream{}, r.refuse
	}
	next.Name = name
	if !ok {
		next.Version, next.Created = 1, time.Now()
		next.Changed = next.Created
	} else {
		next.Version, next.Created, next.Changed = old.Version, old.Created, old.Changed
		if string(old.Spec) != string(next.Spec) {
			if name == r.holding {
				r.older = append(r.older, old)
			}
			next.Version++
			next.Changed = time.Now()
		}
	}
	if !ok || next.Version != old.Version || next.State != old.State || !maps.Equal(next.Tags, old.Tags) {
		r.changes++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[name] = next
	return next, nil
}

func (r *registry) Definition(name string) (buffer.Stream, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.streams[name]
	return s, ok
}

func (r *registry) Definitions() (out []buffer.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.streams)) {
		out = append(out, r.streams[name])
	}
	return out
}

// hold keeps the older versions of a stream from now on, as if something outstanding needed them.
func (r *registry) hold(name string) { r.holding = name }

// Versions are those in force, and the older ones that are kept.
func (r *registry) Versions() []buffer.Stream {
	all := r.Definitions()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(all, r.older...)
}

// set makes a stream what it is told.
func (r *registry) set(name string, alter func(*buffer.Stream)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.streams[name]
	s.Name = name
	alter(&s)
	r.streams[name] = s
}

// bench is a Plane on a registry.
type bench struct {
	*Plane
	t    *testing.T
	r    *registry
	safe *safe
}

// logTo has what is logged written somewhere.
func logTo(w io.Writer) func(*Options) {
	return func(o *Options) { o.Log = slog.New(slog.NewTextHandler(w, nil)) }
}

var someAWS = config.AWS{AccountID: "123456789012", Region: "eu-west-1", RoleARNs: "ignore", Endpoints: config.Endpoints{S3: "http://127.0.0.1:9000"}}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	r := &registry{t: t, streams: map[string]buffer.Stream{}}
	kept := &safe{entries: map[string]string{}}
	o := Options{Streams: r, AWS: someAWS, Secrets: kept, Versions: r.Versions}
	for _, f := range change {
		f(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Plane: p, t: t, r: r, safe: kept}
}

// call makes a call and returns its answer, or "Code: message".
func (b *bench) call(operation, body string) string {
	b.t.Helper()
	answer, _, err := b.Call(b.t.Context(), Call{Operation: operation, Body: []byte(body)})
	if e, ok := errors.AsType[*firehose.Error](err); ok {
		return e.Error()
	}
	if err != nil {
		b.t.Fatalf("%s %s: %v", operation, body, err)
	}
	return string(answer)
}

// f makes a call and compares the answer.
func (b *bench) f(operation, body, want string) {
	b.t.Helper()
	if got := b.call(operation, body); got != want {
		b.t.Errorf("%s %s\n got %s\nwant %s", operation, body, got, want)
	}
}

const (
	someRole   = `"RoleARN":"arn:aws:iam::123456789012:role/firehose"`
	someBucket = `"BucketARN":"arn:aws:s3:::lake"`
)

// create is the body of a CreateDeliveryStream of the extended form; more follows its required members.
func create(name, more string) string {
	return `{"DeliveryStreamName":"` + name + `","ExtendedS3DestinationConfiguration":{` + someRole + `,` + someBucket + more + `}}`
}

// made creates a stream.
func (b *bench) made(name, more string) {
	b.t.Helper()
	b.f("CreateDeliveryStream", create(name, more), `{"DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/`+name+`"}`)
}

// description of a stream of ours.
type description struct {
	DeliveryStreamName                    string
	DeliveryStreamARN                     string
	DeliveryStreamStatus                  string
	DeliveryStreamType                    string
	DeliveryStreamEncryptionConfiguration struct{ Status, KeyType, KeyARN string }
	VersionID                             string `json:"VersionId"`
	CreateTimestamp                       float64
	LastUpdateTimestamp                   *float64
	HasMoreDestinations                   *bool
	FailureDescription                    *firehose.Failure
	Destinations                          []struct {
		DestinationID                    string `json:"DestinationId"`
		S3DestinationDescription         map[string]any
		ExtendedS3DestinationDescription map[string]any
	}
}

func (b *bench) describe(name string) description {
	b.t.Helper()
	d, ok, err := b.Describe(name)
	if err != nil || !ok {
		b.t.Fatalf("Describe %q: %v, %v", name, ok, err)
	}
	var out struct{ DeliveryStreamDescription description }
	if err := json.Unmarshal(d.Body, &out); err != nil {
		b.t.Fatalf("Describe %q: %v in %s", name, err, d.Body)
	}
	if out.DeliveryStreamDescription.DeliveryStreamStatus != d.Status {
		b.t.Errorf("status %q, described as %s", d.Status, d.Body)
	}
	return out.DeliveryStreamDescription
}
