package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/config"
)

// yaml is a stream of the configuration file.
func yaml(s *buffer.Stream) {
	*s = buffer.Stream{Name: s.Name, Version: 1, Tags: map[string]string{"team": "web"}, Spec: []byte(`{"destination":{"file":{"path":"/lake"}}}`)}
}

func TestCreateAndDescribe(t *testing.T) {
	b := newBench(t)
	b.made("logs", `,"Prefix":"in/"`)
	d := b.describe("logs")
	if d.DeliveryStreamName != "logs" || d.DeliveryStreamARN != "arn:aws:firehose:eu-west-1:123456789012:deliverystream/logs" || d.DeliveryStreamStatus != "ACTIVE" ||
		d.DeliveryStreamType != "DirectPut" || d.VersionID != "1" || d.CreateTimestamp == 0 || d.LastUpdateTimestamp != nil || *d.HasMoreDestinations ||
		d.DeliveryStreamEncryptionConfiguration.Status != "DISABLED" || len(d.Destinations) != 1 {
		t.Errorf("description %+v", d)
	}
	s, _ := b.r.Definition("logs")
	spec, err := ConfigSpec(s.Spec)
	if err != nil || !Owns(s) || s.State != buffer.Active {
		t.Fatalf("stored %+v, %v", s, err)
	}
	c, err := config.ParseSpec("logs", spec)
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Destination.S3; d == nil || d.Bucket != "lake" || d.Prefix != "in/" || d.Endpoint != "http://127.0.0.1:9000" || d.Region != "eu-west-1" {
		t.Errorf("stored configuration %s", spec)
	}
	b.f("CreateDeliveryStream", create("logs", ""), "ResourceInUseException: Firehose logs under accountId 123456789012 already exists")
	b.r.set("files", yaml)
	b.f("CreateDeliveryStream", create("files", ""), "ResourceInUseException: Firehose files under accountId 123456789012 already exists")
	if names := b.Names(); !slices.Equal(names, []string{"files", "logs"}) {
		t.Errorf("names %q", names)
	}
	if _, ok, _ := b.Describe("files"); ok {
		t.Error("a stream of the file is described as ours")
	}
	if _, ok, _ := b.Describe("nobody"); ok {
		t.Error("a stream that is not there is described")
	}
}

// Line 1 of docs/conformance.md: an enum in the wrong case is a ValidationException, and nothing is looked up.
func TestChecklist1EnumInTheWrongCase(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"fresh", "files"} {
		b.r.set("files", yaml)
		if got := b.call("CreateDeliveryStream", create(name, `,"CompressionFormat":"gzip"`)); !strings.HasPrefix(got, "ValidationException: 1 validation error detected: ") ||
			!strings.Contains(got, "extendedS3DestinationConfiguration.compressionFormat") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := b.call("UpdateDestination", `{"DeliveryStreamName":"nobody","CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001","ExtendedS3DestinationUpdate":{"CompressionFormat":"gzip"}}`); !strings.HasPrefix(got, "ValidationException: ") {
		t.Error(got)
	}
}

// Line 3 of docs/conformance.md: while it is created a stream is there, as CREATING, and what would change it is refused.
func TestChecklist3Creating(t *testing.T) {
	b := newBench(t)
	b.r.gate = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { b.made("young", "") })
	defer wg.Wait()
	for deadline := time.Now().Add(10 * time.Second); !slices.Contains(b.Names(), "young"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream is not seen while it is created")
		}
	}
	if d := b.describe("young"); d.DeliveryStreamStatus != "CREATING" || d.VersionID != "1" || d.CreateTimestamp == 0 {
		t.Errorf("description %+v", d)
	}
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"young"}`, "ResourceInUseException: Firehose young under account 123456789012 cannot be deleted in CREATING state")
	b.f("UpdateDestination", updateOf("young", "1", `"Prefix":"x/"`), "ResourceInUseException: Cannot update firehose: young when it is in CREATING status")
	b.f("CreateDeliveryStream", create("young", ""), "ResourceInUseException: Firehose young under accountId 123456789012 already exists")
	wg.Go(func() {
		b.f("TagDeliveryStream", `{"DeliveryStreamName":"young","Tags":[{"Key":"a","Value":"1"}]}`, `{}`)
	})
	close(b.r.gate)
	wg.Wait()
	if d := b.describe("young"); d.DeliveryStreamStatus != "ACTIVE" {
		t.Errorf("description %+v", d)
	}
	b.f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"young"}`, `{"Tags":[{"Key":"a","Value":"1"}],"HasMoreTags":false}`)
}

// A creation that fails leaves nothing.
func TestCreateFails(t *testing.T) {
	b := newBench(t)
	b.r.set("files", yaml)
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("define: %w", buffer.ErrFailing), "ServiceUnavailableException: The journal cannot be written at present. Nothing was changed."},
		{fmt.Errorf("define: %w", buffer.ErrTooManyStreams), "LimitExceededException: You have already consumed your firehose quota of 1 hoses. Firehose names: [files]"},
	} {
		b.r.refuse = c.err
		b.f("CreateDeliveryStream", create("new", ""), c.want)
		if names := b.Names(); len(names) != 1 {
			t.Errorf("names %q after %v", names, c.err)
		}
	}
	b.r.refuse = errors.New("the disk burns")
	if _, _, err := b.Call(t.Context(), Call{Operation: "CreateDeliveryStream", Body: []byte(create("new", ""))}); err == nil || !strings.Contains(err.Error(), "burns") {
		t.Errorf("a failure of the daemon says %v", err)
	}
	// Streams that the caller may not know of are not named.
	b.r.set("theirs", yaml)
	b.r.refuse = buffer.ErrTooManyStreams
	for sees, want := range map[string]string{"files": "[files]", "theirs": "[theirs]", "new": "[]"} {
		_, _, err := b.Call(t.Context(), Call{Operation: "CreateDeliveryStream", Body: []byte(create("new", "")), Sees: func(name string) bool { return name == sees }})
		if err == nil || !strings.HasSuffix(err.Error(), "Firehose names: "+want) {
			t.Errorf("to a caller who sees %s: %v", sees, err)
		}
	}
	delete(b.r.streams, "theirs")
	b.r.refuse = nil
	for i := range maxNames - 1 {
		b.r.set(fmt.Sprintf("x%d", i), yaml)
	}
	for _, dots := range []bool{false, true} {
		b.r.refuse = buffer.ErrTooManyStreams
		got := b.call("CreateDeliveryStream", create("new", ""))
		if want := fmt.Sprintf("quota of %d hoses. ", len(b.Names())); !strings.Contains(got, want) || strings.HasSuffix(got, ", ...]") != dots {
			t.Errorf("%.100s…%s: want %s, dots %v", got, got[len(got)-20:], want, dots)
		}
		b.r.refuse = nil
		b.made(fmt.Sprintf("new%v", dots), "")
	}
}

// updateOf is the body of an UpdateDestination.
func updateOf(name, version, members string) string {
	return `{"DeliveryStreamName":"` + name + `","CurrentDeliveryStreamVersionId":"` + version + `","DestinationId":"destinationId-000000000001","ExtendedS3DestinationUpdate":{` + members + `}}`
}

func TestUpdate(t *testing.T) {
	b := newBench(t)
	b.made("logs", `,"Prefix":"a/"`)
	b.f("UpdateDestination", updateOf("logs", "2", `"Prefix":"b/"`),
		"ConcurrentModificationException: Cannot update firehose: logs since the current version id: 1 and specified version id: 2 do not match")
	b.f("UpdateDestination", strings.Replace(updateOf("logs", "1", `"Prefix":"b/"`), "000001", "000002", 1), "InvalidArgumentException: Destination Id destinationId-000000000002 not found")
	b.f("UpdateDestination", updateOf("nobody", "1", `"Prefix":"b/"`), "ResourceNotFoundException: Firehose nobody under account 123456789012 not found.")
	b.f("UpdateDestination", updateOf("logs", "1", `"Prefix":"b/"`), `{}`)
	d := b.describe("logs")
	if d.VersionID != "2" || d.LastUpdateTimestamp == nil || d.Destinations[0].ExtendedS3DestinationDescription["Prefix"] != "b/" {
		t.Errorf("description %+v", d)
	}
	s, _ := b.r.Definition("logs")
	if !bytes.Contains(s.Spec, []byte(`"prefix":"b/"`)) {
		t.Errorf("specification %s", s.Spec)
	}
	b.f("UpdateDestination", updateOf("logs", "1", `"Prefix":"c/"`),
		"ConcurrentModificationException: Cannot update firehose: logs since the current version id: 2 and specified version id: 1 do not match")

	b.r.set("files", yaml)
	b.f("UpdateDestination", updateOf("files", "1", `"Prefix":"c/"`), "InvalidArgumentException: UpdateDestination: Firehose files is declared in the configuration file, which owns it: change it there.")
	b.r.set("logs", func(s *buffer.Stream) { s.State = buffer.Paused })
	b.f("UpdateDestination", updateOf("logs", "2", `"Prefix":"c/"`), `{}`)
	if s, _ := b.r.Definition("logs"); s.State != buffer.Paused {
		t.Error("an update resumes a paused stream")
	}
	b.r.set("logs", func(s *buffer.Stream) { s.State = buffer.Deleting })
	b.f("UpdateDestination", updateOf("logs", "3", `"Prefix":"d/"`), "ResourceInUseException: Cannot update firehose: logs when it is in DELETING status")
}

// Line 6 of docs/conformance.md: an update that changes nothing makes no version and no time of an update.
func TestChecklist6IdenticalUpdate(t *testing.T) {
	b := newBench(t)
	b.made("logs", `,"Prefix":"a/","BufferingHints":{"SizeInMBs":7,"IntervalInSeconds":61}`)
	for _, members := range []string{``, `"Prefix":"a/"`, `"BufferingHints":{"SizeInMBs":7}`, `"CompressionFormat":"UNCOMPRESSED"`, someBucket} {
		b.f("UpdateDestination", updateOf("logs", "1", members), `{}`)
		if d := b.describe("logs"); d.VersionID != "1" || d.LastUpdateTimestamp != nil {
			t.Errorf("%s: %+v", members, d)
		}
	}
	if b.r.changes != 1 {
		t.Errorf("%d definitions, want that of the creation", b.r.changes)
	}
}

// Line 8 of docs/conformance.md: the legacy S3 form is described in both forms.
func TestChecklist8LegacyForm(t *testing.T) {
	b := newBench(t)
	b.f("CreateDeliveryStream", `{"DeliveryStreamName":"old","S3DestinationConfiguration":{`+someRole+`,`+someBucket+`}}`, `{"DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/old"}`)
	d := b.describe("old")
	if d.Destinations[0].S3DestinationDescription["BucketARN"] != "arn:aws:s3:::lake" || d.Destinations[0].ExtendedS3DestinationDescription["BucketARN"] != "arn:aws:s3:::lake" {
		t.Errorf("description %+v", d)
	}
}

func TestDelete(t *testing.T) {
	b := newBench(t)
	state := func(name string) buffer.State {
		s, _ := b.r.Definition(name)
		return s.State
	}
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"nobody"}`, "ResourceNotFoundException: Firehose nobody under account 123456789012 not found.")
	b.r.set("files", yaml)
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"files","AllowForceDelete":true}`, "InvalidArgumentException: DeleteDeliveryStream: Firehose files is declared in the configuration file, which owns it: change it there.")
	b.made("logs", "")
	for _, c := range []struct {
		force string
		want  buffer.State
	}{{"false", buffer.Deleting}, {"false", buffer.Deleting}, {"true", buffer.Discarding}, {"false", buffer.Discarding}} {
		b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"logs","AllowForceDelete":`+c.force+`}`, `{}`)
		if got := state("logs"); got != c.want {
			t.Errorf("force %s: state %d, want %d", c.force, got, c.want)
		}
		if d := b.describe("logs"); d.DeliveryStreamStatus != "DELETING" {
			t.Errorf("description %+v", d)
		}
	}
	b.f("CreateDeliveryStream", create("logs", ""), "ResourceInUseException: Firehose logs under accountId 123456789012 already exists")
	// One that the file has given up goes the same way.
	b.r.set("files", func(s *buffer.Stream) { s.State = buffer.Deleting })
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"files"}`, `{}`)
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"files","AllowForceDelete":true}`, `{}`)
	if got := state("files"); got != buffer.Discarding {
		t.Errorf("state %d", got)
	}
}

func TestReadOnly(t *testing.T) {
	b := newBench(t, func(o *Options) { o.ReadOnly = true })
	b.r.set("files", yaml)
	for _, op := range slices.Sorted(maps.Keys(handlers)) {
		got := b.call(op, `{"DeliveryStreamName":"files"}`)
		want := "AccessDeniedException: " + op + " is refused: the configuration has api.control_plane: read_only, so streams are changed in the configuration file only."
		if op == "ListTagsForDeliveryStream" {
			want = `{"Tags":[{"Key":"team","Value":"web"}],"HasMoreTags":false}`
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", op, got, want)
		}
	}
	if b.r.changes != 0 {
		t.Error("something was changed")
	}
}

// What the daemon cannot deliver is not created, and no update makes it so.
func TestUndeliverable(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Check = func(s *config.Stream) error {
			if s.Destination.S3 != nil && strings.Contains(s.Destination.S3.Prefix, "no") {
				return errors.New("destination.s3: there is no such thing")
			}
			return nil
		}
	})
	const want = "InvalidArgumentException: The stream cannot be delivered: destination.s3: there is no such thing."
	b.f("CreateDeliveryStream", create("logs", `,"Prefix":"no/"`), want)
	b.made("logs", "")
	b.f("UpdateDestination", updateOf("logs", "1", `"Prefix":"no/"`), want)
	if d := b.describe("logs"); d.VersionID != "1" || len(b.Names()) != 1 {
		t.Errorf("names %q, version %s", b.Names(), d.VersionID)
	}
}

// Whoever may not do it is told before anything is looked up, and nothing happens.
func TestAllow(t *testing.T) {
	b := newBench(t)
	b.made("logs", "")
	no := errors.New("no")
	for _, c := range []struct{ operation, body string }{
		{"CreateDeliveryStream", create("other", "")}, {"DeleteDeliveryStream", `{"DeliveryStreamName":"other"}`}, {"UpdateDestination", updateOf("other", "1", `"Prefix":"b/"`)},
		{"TagDeliveryStream", `{"DeliveryStreamName":"other","Tags":[{"Key":"a"}]}`}, {"UntagDeliveryStream", `{"DeliveryStreamName":"other","TagKeys":["a"]}`},
		{"ListTagsForDeliveryStream", `{"DeliveryStreamName":"other"}`}, {"StartDeliveryStreamEncryption", `{"DeliveryStreamName":"other"}`}, {"StopDeliveryStreamEncryption", `{"DeliveryStreamName":"other"}`},
	} {
		_, _, err := b.Call(t.Context(), Call{Operation: c.operation, Body: []byte(c.body), Allow: func(stream string) error {
			if stream != "other" {
				t.Errorf("%s asks about %q", c.operation, stream)
			}
			return no
		}})
		if err != no {
			t.Errorf("%s: %v", c.operation, err)
		}
	}
	if len(b.Names()) != 1 {
		t.Errorf("names %q", b.Names())
	}
	if _, _, err := b.Call(t.Context(), Call{Operation: "PutRecord"}); err == nil {
		t.Error("an operation of another kind is served")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Call(ctx, Call{Operation: "CreateDeliveryStream", Body: []byte(create("late", ""))}); !errors.Is(err, context.Canceled) {
		t.Errorf("a call of a client that is gone: %v", err)
	}
}

// A place that follows from the file's aws settings moves with them, in a new version; streams of the file, and
// those on their way out, are left alone.
func TestAdopt(t *testing.T) {
	b := newBench(t)
	b.made("logs", "")
	b.made("leaving", "")
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"leaving"}`, `{}`)
	b.r.set("files", yaml)
	b.r.changes = 0
	if err := b.Adopt(t.Context(), someAWS); err != nil || b.r.changes != 0 {
		t.Errorf("the same settings: %v, %d changes", err, b.r.changes)
	}
	aws := someAWS
	aws.Endpoints.S3 = "http://127.0.0.1:9999"
	if err := b.Adopt(t.Context(), aws); err != nil || b.r.changes != 1 {
		t.Errorf("other settings: %v, %d changes", err, b.r.changes)
	}
	s, _ := b.r.Definition("logs")
	if !bytes.Contains(s.Spec, []byte("9999")) || s.Version != 2 {
		t.Errorf("version %d: %s", s.Version, s.Spec)
	}
	b.r.set("logs", func(s *buffer.Stream) { s.Spec = []byte(`{"firehose":7}`) })
	if err := b.Adopt(t.Context(), someAWS); err == nil {
		t.Error("a specification that cannot be read was adopted")
	}
	if s, _ := b.r.Definition("logs"); string(s.Spec) != `{"firehose":7}` {
		t.Errorf("it was changed: %s", s.Spec)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a Plane without streams")
	}
}

// FuzzConfigSpec: whatever a data directory holds is read or refused.
func FuzzConfigSpec(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"format":{"text":{}}}`, `{"firehose":{},"config":{}}`, `{"firehose":`, `{"firehose":null,"config":null}`, `{"firehose":{"a":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, spec []byte) {
		inner, err := ConfigSpec(spec)
		if !Owns(buffer.Stream{Spec: spec}) && (err != nil || !bytes.Equal(inner, spec)) {
			t.Errorf("a specification of the file became %q, %v", inner, err)
		}
		if stored, err := readSpec(spec); err == nil && stored.document == nil {
			t.Errorf("%q was read without a document", spec)
		}
	})
}
