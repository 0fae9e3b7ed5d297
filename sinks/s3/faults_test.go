package s3

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"hydrant/e2e/parts/faultproxy"
	"hydrant/sinks"
	"hydrant/sinks/sinktest"
)

// fiveMiB is the least part of a multipart upload that stores take.
const fiveMiB = 5 << 20

// openSmall is open with the smallest parts, to test multipart uploads in little time.
func openSmall(t testing.TB, o Options) *Sink {
	s := open(t, o)
	s.single, s.part, s.patience = fiveMiB, fiveMiB, 300*time.Millisecond
	return s
}

const parted = fiveMiB + 1000

// faults are all that a network or a store can do to one request.
var faults = []struct {
	fault   faultproxy.Fault
	timeout time.Duration // of the put that meets it; 0: a long one
}{
	{faultproxy.DropBefore(), 0},
	{faultproxy.DropAfter(), 0},
	{faultproxy.TruncateRequest(), 0},
	{faultproxy.TruncateAnswer(), 0},
	{faultproxy.Answer(500, "InternalError"), 0},
	{faultproxy.AnswerAfter(500, "InternalError"), 0},
	{faultproxy.Answer(503, "SlowDown"), 0},
	{faultproxy.AnswerAfter(503, "ServiceUnavailable"), 0},
	{faultproxy.Answer(502, ""), 0},
	{faultproxy.AnswerAfter(504, ""), 0},
	{faultproxy.Answer(200, "InternalError"), 0},
	{faultproxy.AnswerAfter(200, "InternalError"), 0},
	{faultproxy.Answer(200, ""), 0},
	{faultproxy.Answer(409, "ConditionalRequestConflict"), 0},
	{faultproxy.Answer(412, "PreconditionFailed"), 0},
	{faultproxy.AnswerAfter(412, "PreconditionFailed"), 0},
	{faultproxy.Answer(403, "AccessDenied"), 0},
	{faultproxy.Answer(404, "NoSuchUpload"), 0},
	{faultproxy.Answer(501, "NotImplemented"), 0},
	{faultproxy.Delay(20 * time.Millisecond), 0},
	{faultproxy.Hang(), 300 * time.Millisecond},
	{faultproxy.Duplicate(false), 0},
	{faultproxy.Duplicate(true), 0},
}

// TestFaults meets every request of a put with every fault, and puts until it is done: there is one object
// then, the right one, and nothing else.
func TestFaults(t *testing.T) {
	small := sinktest.Object("", 3000, 1)
	big := sinktest.Object("", parted, 2)
	cases := []struct {
		operation string
		object    sinks.Object
		there     bool   // the object is stored already
		skip      int    // so many requests for the operation come through first
		before    string // an operation that fails first, so that the other comes about,
		how       faultproxy.Fault
	}{
		{operation: "PutObject", object: small},
		{operation: "PutObject", object: small, there: true},
		{operation: "HeadObject", object: small, there: true},
		{operation: "HeadObject", object: big},
		{operation: "HeadObject", object: big, there: true},
		{operation: "HeadObject", object: big, skip: 1, before: "CompleteMultipartUpload", how: faultproxy.DropAfter()},
		{operation: "HeadObject", object: big, skip: 1, before: "CompleteMultipartUpload", how: faultproxy.DropBefore()},
		{operation: "ListMultipartUploads", object: big},
		{operation: "CreateMultipartUpload", object: big},
		{operation: "UploadPart", object: big},
		{operation: "CompleteMultipartUpload", object: big},
		{operation: "AbortMultipartUpload", object: big, before: "CompleteMultipartUpload", how: faultproxy.Answer(500, "InternalError")},
	}
	each(t, func(t *testing.T, s *server) {
		if raceEnabled && s.name == "versitygw" {
			t.Skip("the race detector has seen it all on MinIO; this takes minutes")
		}
		for _, c := range cases {
			if s.inProcess && c.object.Size > fiveMiB {
				continue // its uploads are unlike any real store's
			}
			t.Run(fmt.Sprintf("%s, %d bytes, there=%t, after %s %v", c.operation, c.object.Size, c.there, c.before, c.how), func(t *testing.T) {
				v := s.bucket(t)
				proxy := faultproxy.New(t, s.endpoint)
				var all []sinks.Object
				for i, f := range faults {
					o := c.object
					o.Key = sinktest.Key("f/", uint64(i))
					if c.there {
						if err := openSmall(t, v.options("")).Put(t.Context(), o); err != nil {
							t.Fatal(err)
						}
					}
					sink := openSmall(t, v.options(proxy.URL))
					proxy.Clear()
					if c.before != "" {
						proxy.Inject(faultproxy.Rule{Match: faultproxy.On(c.before), Fault: c.how})
					}
					proxy.Inject(faultproxy.Rule{Match: faultproxy.On(c.operation), Skip: c.skip, Fault: f.fault})
					wantHits := 1
					if c.before != "" {
						wantHits = 2
					}
					errs := untilStored(t, sink, o, f.timeout)
					if got := proxy.Hits(); got != wantHits {
						t.Errorf("%v: %d faults happened, want %d; asked %v", f.fault, got, wantHits, proxy.Asked())
					}
					if len(errs) > 2 {
						t.Errorf("%v: it took %d attempts: %v", f.fault, len(errs)+1, errs)
					}
					for _, err := range errs {
						if class := sinks.ClassOf(err); class == sinks.Foreign || class == sinks.Damaged || class == sinks.RefusedObject {
							t.Errorf("%v: class %v: %v", f.fault, class, err)
						}
					}
					if err := sink.Verify(t.Context(), o); err != nil {
						t.Errorf("%v: verify: %v", f.fault, err)
					}
					all = append(all, o)
					if c.operation == "CreateMultipartUpload" && slices.Contains([]string{"duplicate (second=false)", "duplicate (second=true)"}, f.fault.String()) {
						// Two uploads were made and we were told of one. Only a lifecycle rule can end the other.
						endUploads(t, v)
					}
				}
				v.has(all...)
			})
		}
	})
}

// untilStored puts until it succeeds, a few times at most, and returns the errors on the way.
func untilStored(t *testing.T, s *Sink, o sinks.Object, first time.Duration) (errs []error) {
	t.Helper()
	for range 6 {
		timeout := 30 * time.Second
		if first > 0 {
			timeout, first = first, 0
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		err := s.Put(ctx, o)
		cancel()
		if err == nil {
			return errs
		}
		errs = append(errs, err)
	}
	t.Fatalf("%q is not stored after %d attempts: %v", o.Key, len(errs), errs)
	return nil
}

// TestWriteOnlyCredentials: HEAD is forbidden. A key with a UUID can only be ours.
func TestWriteOnlyCredentials(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		proxy := faultproxy.New(t, s.endpoint)
		proxy.Inject(faultproxy.Rule{Match: faultproxy.On("HeadObject", "ListMultipartUploads"), Times: -1, Fault: faultproxy.Answer(403, "AccessDenied")})
		sink := openSmall(t, v.options(proxy.URL))
		all := []sinks.Object{sinktest.Object(sinktest.Key("w/", 1), 3000, 1), sinktest.Object(sinktest.Key("w/", 2), parted, 2)}
		for range 2 {
			for _, o := range all {
				if err := sink.Put(t.Context(), o); err != nil {
					t.Errorf("put %q: %v", o.Key, err)
				}
				if err := sink.Verify(t.Context(), o); sinks.ClassOf(err) != sinks.Unknown || err == nil {
					t.Errorf("verify: %v, want Unknown", err)
				}
			}
		}
		v.has(all...)

		// Without a UUID nobody can tell.
		o := sinktest.Object("fixed-name", 10, 3)
		v.Plant(o.Key, "whose?")
		if err := sink.Put(t.Context(), o); sinks.ClassOf(err) != sinks.RefusedDestination {
			t.Errorf("put over something that may not be looked at: %v", err)
		}
	})
}

// TestStoreWithoutConditions: 501 to every conditional write.
func TestStoreWithoutConditions(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		proxy := faultproxy.New(t, s.endpoint)
		proxy.Inject(faultproxy.Rule{Times: -1, Fault: faultproxy.Answer(501, "NotImplemented"),
			Match: func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }})
		sink := openSmall(t, v.options(proxy.URL))
		all := []sinks.Object{sinktest.Object(sinktest.Key("p/", 1), parted, 1), sinktest.Object(sinktest.Key("p/", 2), 3000, 2), sinktest.Object(sinktest.Key("p/", 3), parted, 3)}
		for range 2 {
			for _, o := range all {
				if err := sink.Put(t.Context(), o); err != nil {
					t.Errorf("put %q: %v", o.Key, err)
				}
			}
		}
		v.has(all...)
		if got := proxy.Hits(); got != 1 {
			t.Errorf("the store was asked %d times for what it does not know, want once", got)
		}
		foreign := sinktest.Object(sinktest.Key("p/", 4), 3000, 4)
		v.Plant(foreign.Key, "somebody else's")
		if err := sink.Put(t.Context(), foreign); sinks.ClassOf(err) != sinks.Foreign {
			t.Errorf("put over a foreign object: %v", err)
		}
	})
}

// TestStoreThatImplementsNothing: 501 is not about the condition, and conditions are not given up for it.
func TestStoreThatImplementsNothing(t *testing.T) {
	s := servers[2].open(t)
	v := s.bucket(t)
	proxy := faultproxy.New(t, s.endpoint)
	proxy.Inject(faultproxy.Rule{Match: faultproxy.On("PutObject"), Times: 2, Fault: faultproxy.Answer(501, "NotImplemented")})
	sink := open(t, v.options(proxy.URL))
	o := sinktest.Object(sinktest.Key("p/", 1), 3000, 1)
	if err := sink.Put(t.Context(), o); sinks.ClassOf(err) != sinks.RefusedDestination {
		t.Errorf("put: %v", err)
	}
	if sink.unconditional.Load() {
		t.Error("conditional writes were given up")
	}
	if err := sink.Put(t.Context(), o); err != nil {
		t.Error(err)
	}
	v.has(o)
}

// TestStoreThatIgnoresConditions: the same bytes under the same key change nothing.
func TestStoreThatIgnoresConditions(t *testing.T) {
	s := servers[2].open(t) // it checks no signatures
	v := s.bucket(t)
	proxy := faultproxy.New(t, s.endpoint)
	proxy.Inject(faultproxy.Rule{Times: -1, Fault: faultproxy.RemoveHeader("If-None-Match")})
	sink := openSmall(t, v.options(proxy.URL))
	all := []sinks.Object{sinktest.Object(sinktest.Key("p/", 1), 3000, 1), sinktest.Object(sinktest.Key("p/", 2), parted, 2)}
	for range 3 {
		for _, o := range all {
			if err := sink.Put(t.Context(), o); err != nil {
				t.Errorf("put %q: %v", o.Key, err)
			}
		}
	}
	v.has(all...)
}

// TestAnotherVersionsObjectIsAdopted: the same manifest with other bytes delivers the same records.
func TestAnotherVersionsObjectIsAdopted(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		sink := openSmall(t, v.options(""))
		for i, size := range []int64{3000, parted} {
			mine := sinktest.Object(sinktest.Key("a/", uint64(i)), size, uint64(i))
			theirs := sinktest.Object(mine.Key, 2500, 77)
			theirs.Meta[sinks.MetaManifestID] = mine.Meta[sinks.MetaManifestID]
			if err := sink.Put(t.Context(), theirs); err != nil {
				t.Fatal(err)
			}
			if err := sink.Put(t.Context(), mine); err != nil {
				t.Errorf("put over another version's object: %v", err)
			}
			if err := sink.Verify(t.Context(), mine); err != nil {
				t.Errorf("verify of another version's object: %v", err)
			}
			if got := v.Get(mine.Key); got.SHA256 != theirs.SHA256 {
				t.Error("another version's object was replaced")
			}
		}
	})
}

// TestObjectThatClaimsToBeOurs has our metadata and another length.
func TestObjectThatClaimsToBeOurs(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		o := sinktest.Object(sinktest.Key("c/", 1), 3000, 1)
		v.plant(o.Key, "half of it", o.Meta)
		if err := open(t, v.options("")).Put(t.Context(), o); sinks.ClassOf(err) != sinks.Foreign {
			t.Errorf("put: %v, want Foreign", err)
		}
	})
}

// TestLeftoversOfADeadProcess: uploads of exactly this key are aborted, and those of no other.
func TestLeftoversOfADeadProcess(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		o := sinktest.Object(sinktest.Key("l/", 1), parted, 1)
		v.startUpload(o.Key)
		v.startUpload(o.Key)
		v.startUpload(o.Key + ".another")
		if err := openSmall(t, v.options("")).Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if got := v.Leftovers(); len(got) != 1 {
			t.Errorf("uploads: %q, want the other key's", got)
		}
		endUploads(t, v)
		v.has(o)
	})
}

// TestForeignObjectThatAppearsMeanwhile: nothing was there when the upload began. The condition of its last
// request protects what has come since.
func TestForeignObjectThatAppearsMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		if s.completeOverwrites {
			t.Skip("the store takes no heed of the condition")
		}
		v := s.bucket(t)
		proxy := faultproxy.New(t, s.endpoint)
		for i, size := range []int64{3000, parted} {
			o := sinktest.Object(sinktest.Key("m/", uint64(i)), size, 1)
			v.Plant(o.Key, "somebody else's")
			proxy.Inject(faultproxy.Rule{Match: func(r *http.Request) bool {
				return size == parted && faultproxy.On("HeadObject")(r)
			}, Fault: faultproxy.Answer(404, "NotFound")})
			if err := openSmall(t, v.options(proxy.URL)).Put(t.Context(), o); sinks.ClassOf(err) != sinks.Foreign || err == nil {
				t.Errorf("put of %d bytes: %v, want Foreign", size, err)
			}
			if got := v.Get(o.Key); got.Size != int64(len("somebody else's")) {
				t.Errorf("somebody else's object was replaced by %d bytes", got.Size)
			}
		}
		if left := v.Leftovers(); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	})
}
