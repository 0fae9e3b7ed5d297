package http

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"hydrant/sinks"
	"hydrant/sinks/http/receiver"
	"hydrant/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testARN = "arn:aws:firehose:us-east-1:000000000000:deliverystream/clicks"

func open(t testing.TB, o Options) *Sink {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// taken is a receiver as the suite's store. Requests have the keys of their objects for ids.
type taken struct {
	t *testing.T
	*receiver.Receiver
}

func (s taken) Keys() (keys []string) {
	keys = []string{}
	for _, r := range s.Requests() {
		keys = append(keys, r.ID)
	}
	slices.Sort(keys)
	return keys
}

func (s taken) Get(key string) sinktest.Stored {
	for _, r := range s.Requests() {
		if r.ID == key {
			return sinktest.Stored{Size: int64(len(r.Sent)), SHA256: r.Sum, ContentType: r.Header.Get("Content-Type"), ContentEncoding: r.Header.Get("Content-Encoding")}
		}
	}
	s.t.Fatalf("no request %q", key)
	return sinktest.Stored{}
}

func (s taken) Plant(key, _ string) {
	s.t.Fatalf("bug: somebody else's %q in a store without names", key)
}

func (s taken) Leftovers() []string { return s.Broken() }

func TestSuite(t *testing.T) {
	sinktest.Run(t, sinktest.Target{
		AtLeastOnce: true, InProcess: true, NoMeta: true,
		Open: func(t *testing.T) sinktest.Fixture {
			r := receiver.New(t, receiver.Rules{AnyBody: true, ARN: testARN})
			o := Options{URL: r.URL + "/firehose", SourceARN: func() string { return testARN }, MaxInFlight: 16}
			once := func(f receiver.Fault) {
				var used atomic.Bool
				r.Inject(func(int, string) *receiver.Fault {
					if used.Swap(true) {
						return nil
					}
					return &f
				})
			}
			return sinktest.Fixture{
				Sink: open(t, o), Store: taken{t, r}, Reopen: func() sinks.Sink { return open(t, o) },
				LoseAnswer: func(committed bool) { once(receiver.Fault{Store: committed}) },
				Refuse: func(is sinktest.Refusal) {
					status := map[sinktest.Refusal]int{sinktest.Busy: 503, sinktest.Broken: 500, sinktest.Denied: 403, sinktest.TooLarge: 413}[is]
					once(receiver.Fault{Answer: func(w http.ResponseWriter, id string) {
						if is == sinktest.Busy {
							w.Header().Set("Retry-After", "2")
						}
						receiver.Status(status)(w, id)
					}})
				},
			}
		},
	})
}
