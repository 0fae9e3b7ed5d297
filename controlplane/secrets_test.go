package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// safe is Secrets in memory.
type safe struct {
	mu      sync.Mutex
	entries map[string]string
	made    int
	refuse  error // what Put and Keep say
}

func (s *safe) Put(secret []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return "", s.refuse
	}
	s.made++
	id := fmt.Sprintf("%032x", s.made)
	s.entries[id] = string(secret)
	return id, nil
}

func (s *safe) Get(id string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, ok := s.entries[id]; ok {
		return []byte(text), nil
	}
	return nil, buffer.ErrNoSecret
}

func (s *safe) Keep(used func(string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	maps.DeleteFunc(s.entries, func(id, _ string) bool { return !used(id) })
	return nil
}

func (s *safe) content() []string { return slices.Sorted(maps.Values(s.entries)) }

const (
	someCluster  = `"ClusterJDBCURL":"jdbc:redshift://c.abc.eu-west-1.redshift.amazonaws.com:5439/dev","CopyCommand":{"DataTableName":"clicks"}`
	someEndpoint = `"Url":"https://collector.example/x"`
)

// redshift and endpoint are bodies of a CreateDeliveryStream; more follows the required members, of the endpoint in
// EndpointConfiguration.
func redshift(name, more string) string {
	return `{"DeliveryStreamName":"` + name + `","RedshiftDestinationConfiguration":{` + someRole + `,` + someCluster + `,"Username":"loader","S3Configuration":{` + someRole + `,` + someBucket + `}` + more + `}}`
}

func endpoint(name, more string) string {
	return `{"DeliveryStreamName":"` + name + `","HttpEndpointDestinationConfiguration":{"EndpointConfiguration":{` + someEndpoint + more + `},"S3Configuration":{` + someRole + `,` + someBucket + `}}}`
}

// updateTo is the body of an UpdateDestination of another form than the extended one.
func updateTo(kind, name, version, members string) string {
	return strings.Replace(updateOf(name, version, members), "ExtendedS3", kind, 1)
}

func created(name string) string {
	return `{"DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/` + name + `"}`
}

// spec of a stream, which must not have any of the secrets of these tests in it, no more than its description.
func (b *bench) spec(name string) storedSpec {
	b.t.Helper()
	s, _ := b.r.Definition(name)
	stored, err := readSpec(s.Spec)
	if err != nil {
		b.t.Fatal(err)
	}
	d, _, err := b.Describe(name)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, text := range [][]byte{s.Spec, d.Body} {
		if bytes.Contains(text, []byte("hunter")) || bytes.Contains(text, []byte("sesame")) {
			b.t.Errorf("%s: a secret stands in %s", name, text)
		}
	}
	return stored
}

func (b *bench) kept(want ...string) {
	b.t.Helper()
	if got := b.safe.content(); !slices.Equal(got, want) {
		b.t.Errorf("kept are %q, want %q", got, want)
	}
}

// Secrets are kept before the definition that names them, survive updates that do not speak of them, and go when
// nothing names them any more.
func TestSecretsFollowTheirStreams(t *testing.T) {
	b := newBench(t)
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), created("red"))
	b.f("CreateDeliveryStream", endpoint("web", `,"AccessKey":"open-sesame"`), created("web"))
	b.f("CreateDeliveryStream", endpoint("bare", ``), created("bare"))
	b.kept(`{"AccessKey":"open-sesame"}`, `{"Password":"hunter22"}`)
	first := b.spec("red")
	if first.secret == "" || b.spec("web").secret == "" || b.spec("bare").secret != "" {
		t.Errorf("specifications name %q", first.secret)
	}
	got, err := SecretsOf(b.r.streams["web"].Spec, b.safe)
	if key, err1 := got.AccessKey.Value(); err != nil || err1 != nil || key != "open-sesame" {
		t.Errorf("secrets %v, %v, %v", got, err, err1)
	}

	// An update that leaves the password out keeps it, and so does one that gives the same.
	b.f("UpdateDestination", updateTo("Redshift", "red", "1", `"Password":"hunter22"`), `{}`)
	if v := b.describe("red").VersionID; v != "1" {
		t.Errorf("version %s after an update that changes nothing", v)
	}
	b.f("UpdateDestination", updateTo("Redshift", "red", "1", `"Username":"other"`), `{}`)
	if s := b.spec("red"); s.secret != first.secret {
		t.Error("an update without a password changes it")
	}
	// Another one is kept beside the one before until nothing needs that.
	b.r.hold("red")
	b.f("UpdateDestination", updateTo("Redshift", "red", "2", `"Password":"hunter23"`), `{}`)
	if v := b.describe("red").VersionID; v != "3" || b.spec("red").secret == first.secret {
		t.Errorf("version %s after another password", v)
	}
	b.kept(`{"AccessKey":"open-sesame"}`, `{"Password":"hunter22"}`, `{"Password":"hunter23"}`)
	b.r.holding, b.r.older = "", nil
	b.f("UpdateDestination", updateTo("HttpEndpoint", "bare", "1", `"RetryOptions":{"DurationInSeconds":1}`), `{}`)
	b.kept(`{"AccessKey":"open-sesame"}`, `{"Password":"hunter23"}`)
	// Another type of destination has no use for it.
	b.f("UpdateDestination", updateTo("S3", "red", "3", someRole+`,`+someBucket), `{}`)
	if s := b.spec("red"); s.secret != "" || s.config == nil {
		t.Errorf("as an S3 stream: %+v", s)
	}
	b.kept(`{"AccessKey":"open-sesame"}`)
	// It goes with its stream.
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"web","AllowForceDelete":true}`, `{}`)
	b.kept(`{"AccessKey":"open-sesame"}`)
	delete(b.r.streams, "web")
	if err := b.Adopt(t.Context(), someAWS); err != nil {
		t.Error(err)
	}
	b.kept()
}

// An empty access key is none, and takes away the one that there was.
func TestEmptyAccessKey(t *testing.T) {
	b := newBench(t)
	b.f("CreateDeliveryStream", endpoint("web", `,"AccessKey":""`), created("web"))
	b.kept()
	b.f("UpdateDestination", updateTo("HttpEndpoint", "web", "1", `"EndpointConfiguration":{`+someEndpoint+`,"AccessKey":"open-sesame"}`), `{}`)
	b.kept(`{"AccessKey":"open-sesame"}`)
	b.f("UpdateDestination", updateTo("HttpEndpoint", "web", "2", `"EndpointConfiguration":{`+someEndpoint+`,"AccessKey":""}`), `{}`)
	if s := b.spec("web"); s.secret != "" || bytes.Contains(s.config, []byte("access_key")) {
		t.Errorf("stored %q, %s", s.secret, s.config)
	}
	b.kept()
}

// What fails changes nothing, and a secret whose definition may still be found after a crash stays until another one
// has succeeded.
func TestSecretsAndFailures(t *testing.T) {
	b := newBench(t)
	b.safe.refuse = errors.New("the disk burns")
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), "ServiceUnavailableException: The data directory cannot be written at present. Nothing was changed.")
	b.safe.refuse = buffer.ErrSecretsFull
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), "LimitExceededException: There is no room for more passwords and access keys: the file of secrets would have more than 8 MiB.")
	if b.r.changes != 0 {
		t.Error("a stream without its password was created")
	}
	b.safe.refuse = nil
	b.r.refuse = fmt.Errorf("define: %w", buffer.ErrTooManyStreams)
	b.call("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`))
	b.kept()
	b.r.refuse = fmt.Errorf("define: %w", buffer.ErrFailing)
	b.call("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`))
	b.kept(`{"Password":"hunter22"}`)
	b.r.refuse = fmt.Errorf("define: %w", buffer.ErrTooManyStreams)
	b.call("CreateDeliveryStream", redshift("red", `,"Password":"hunter23"`))
	b.kept(`{"Password":"hunter22"}`, `{"Password":"hunter23"}`)
	b.r.refuse = nil
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter24"`), created("red"))
	b.kept(`{"Password":"hunter24"}`)
	// A name that is taken costs nothing.
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter25"`), "ResourceInUseException: Firehose red under accountId 123456789012 already exists")
	b.kept(`{"Password":"hunter24"}`)
	b.f("UpdateDestination", updateTo("Redshift", "red", "7", `"Password":"hunter25"`),
		"ConcurrentModificationException: Cannot update firehose: red since the current version id: 1 and specified version id: 7 do not match")
	b.kept(`{"Password":"hunter24"}`)
	// What cannot be forgotten now is forgotten later.
	b.f("CreateDeliveryStream", redshift("other", `,"Password":"hunter26"`), created("other"))
	delete(b.r.streams, "other")
	b.safe.refuse = errors.New("the disk burns")
	b.made("logs", "")
	b.safe.refuse = nil
	b.made("more", "")
	b.kept(`{"Password":"hunter24"}`)

	none := newBench(t, func(o *Options) { o.Secrets, o.Versions = nil, nil })
	if _, _, err := none.Call(t.Context(), Call{Operation: "CreateDeliveryStream", Body: []byte(redshift("red", `,"Password":"hunter22"`))}); err == nil || none.r.changes != 0 {
		t.Errorf("without a place for secrets: %v", err)
	}
}

// Where the file of secrets was lost, the stream says so, keeps its settings, and takes the secret again.
func TestSecretsLost(t *testing.T) {
	b := newBench(t)
	b.f("CreateDeliveryStream", endpoint("web", `,"AccessKey":"open-sesame"`), created("web"))
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), created("red"))
	clear(b.safe.entries)
	const lost = "its password or access key is not in the file of secrets of the data directory any more: give it again with UpdateDestination"
	before := b.spec("web")
	if _, err := SecretsOf(b.r.streams["web"].Spec, b.safe); err == nil || err.Error() != lost {
		t.Errorf("error %v", err)
	}
	aws := someAWS
	aws.Endpoints.S3 = "http://127.0.0.1:9999"
	if err := b.Adopt(t.Context(), aws); err == nil || !strings.Contains(err.Error(), lost) {
		t.Errorf("error %v", err)
	}
	if now := b.spec("web"); !bytes.Equal(now.config, before.config) || now.secret != before.secret {
		t.Errorf("stored %+v", now)
	}
	b.f("UpdateDestination", updateTo("HttpEndpoint", "web", "1", `"RetryOptions":{"DurationInSeconds":1}`), "InvalidArgumentException: Cannot update firehose: web: "+lost)
	b.f("UpdateDestination", updateTo("Redshift", "red", "1", `"Username":"other"`), "InvalidArgumentException: Redshift Database Password is required for Redshift Destination")
	b.f("UpdateDestination", updateTo("HttpEndpoint", "web", "1", `"EndpointConfiguration":{`+someEndpoint+`,"AccessKey":"open-sesame"}`), `{}`)
	b.f("UpdateDestination", updateTo("Redshift", "red", "1", `"Password":"hunter22"`), `{}`)
	b.kept(`{"AccessKey":"open-sesame"}`, `{"Password":"hunter22"}`)
	if v := b.describe("web").VersionID; v != "2" {
		t.Errorf("version %s", v)
	}
}

// A stream whose destination is to come is there, says why it waits, and is delivered when its time has come.
func TestWaiting(t *testing.T) {
	notYet := &firehose.NotDeliverable{Member: "destination.http", Reason: "it is to come.", Waits: true}
	var check error
	var log bytes.Buffer
	b := newBench(t, logTo(&log), func(o *Options) {
		o.Check = func(s *config.Stream) error {
			if s.Destination.HTTP != nil {
				return check
			}
			return nil
		}
	})
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), created("red"))
	check = notYet
	b.f("CreateDeliveryStream", endpoint("web", `,"AccessKey":"open-sesame"`), created("web"))
	for name, want := range map[string]string{
		"red": "it cannot be delivered, so its records wait until it can be: redshiftDestinationConfiguration: COPY of Amazon Redshift reads buckets of AWS alone, and aws.endpoints.s3 names another store.",
		"web": "it cannot be delivered, so its records wait until it can be: its destination is yet to come.",
	} {
		s, _ := b.r.Definition(name)
		_, err := ConfigSpec(s.Spec)
		if e, ok := errors.AsType[*WaitingError](err); !ok || e.Error() != want {
			t.Errorf("%s: error %v", name, err)
		}
		if d := b.describe(name); d.DeliveryStreamStatus != "ACTIVE" || d.FailureDescription != nil || s.State != buffer.Active {
			t.Errorf("%s: %+v", name, d)
		}
		if !strings.Contains(log.String(), "stream="+name) || strings.Contains(log.String(), "hunter") || strings.Contains(log.String(), "sesame") {
			t.Errorf("%s: log\n%s", name, log.String())
		}
	}
	// A start of the same version changes nothing, and one of a version that can deliver it does.
	changes := b.r.changes
	if err := b.Adopt(t.Context(), someAWS); err != nil || b.r.changes != changes {
		t.Errorf("%d changes, %v", b.r.changes-changes, err)
	}
	check = nil
	if err := b.Adopt(t.Context(), someAWS); err != nil || b.r.changes != changes+1 {
		t.Errorf("%d changes, %v", b.r.changes-changes, err)
	}
	stored := b.spec("web")
	c, err := config.ParseSpec("web", stored.config)
	if err != nil || c.Destination.HTTP.URL != "https://collector.example/x" || !c.Destination.HTTP.AccessKey.IsSet() || c.Backup.S3.Bucket != "lake" {
		t.Errorf("stored %s, %v", stored.config, err)
	}
	// One that is delivered does not wait again, neither by an update nor by an older version.
	b.made("logs", "")
	b.f("UpdateDestination", updateTo("Redshift", "logs", "1", someRole+`,`+someCluster+`,"Username":"loader","Password":"hunter22","S3Update":{`+someRole+`,`+someBucket+`}`),
		"InvalidArgumentException: redshiftDestinationConfiguration is not supported by this version: COPY of Amazon Redshift reads buckets of AWS alone, and aws.endpoints.s3 names another store.")
	check = notYet
	if err := b.Adopt(t.Context(), someAWS); err == nil || string(b.spec("web").config) != string(stored.config) {
		t.Errorf("an older version: %v", err)
	}
	// What waits can be updated as it likes.
	b.f("CreateDeliveryStream", endpoint("late", ``), created("late"))
	b.f("UpdateDestination", updateTo("HttpEndpoint", "late", "1", `"S3BackupMode":"AllData"`), `{}`)
	check = nil
	b.f("UpdateDestination", updateTo("HttpEndpoint", "late", "2", `"S3BackupMode":"FailedDataOnly"`), `{}`)
	if b.spec("late").config == nil {
		t.Error("an update to what can be delivered leaves the stream waiting")
	}
	// A deletion that cannot end says so.
	log.Reset()
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"red"}`, `{}`)
	d := b.describe("red")
	if d.DeliveryStreamStatus != "DELETING" || d.FailureDescription == nil || d.FailureDescription.Type != "UNKNOWN_ERROR" || !strings.Contains(d.FailureDescription.Details, "AllowForceDelete") ||
		!strings.Contains(log.String(), "AllowForceDelete") {
		t.Errorf("deleted: %+v\n%s", d, log.String())
	}
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"red","AllowForceDelete":true}`, `{}`)
	if d := b.describe("red"); d.FailureDescription != nil {
		t.Errorf("deleted by force: %+v", d)
	}
}

// A stream into Redshift waits as long as the settings name a store that COPY does not read, and is delivered, with its
// password, as soon as they do not.
func TestWaitsForAnotherStore(t *testing.T) {
	b := newBench(t)
	b.f("CreateDeliveryStream", redshift("red", `,"Password":"hunter22"`), created("red"))
	if b.spec("red").config != nil {
		t.Fatal("it does not wait")
	}
	aws := someAWS
	aws.Endpoints.S3 = ""
	if err := b.Adopt(t.Context(), aws); err != nil {
		t.Fatal(err)
	}
	stored := b.spec("red")
	c, err := config.ParseSpec("red", stored.config)
	if err != nil || c.Destination.Redshift.Table != "clicks" || !c.Destination.Redshift.DSN.Parts.Password.IsSet() {
		t.Fatalf("stored %s, %v", stored.config, err)
	}
	secrets, err := SecretsOf(b.r.streams["red"].Spec, b.safe)
	if err != nil {
		t.Fatal(err)
	}
	secrets.Into(c)
	if got, err := c.Destination.Redshift.DSN.Parts.Password.Value(); err != nil || got != "hunter22" {
		t.Errorf("password %q, %v", got, err)
	}
	// One that is delivered goes on, whatever the settings come to.
	if err := b.Adopt(t.Context(), someAWS); err == nil || b.spec("red").config == nil {
		t.Errorf("back to another store: %v", err)
	}
}

// What each layer refuses of these destinations, before anything is kept.
func TestDestinationsAreChecked(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ body, want string }{
		{redshift("red", ``), "InvalidArgumentException: Redshift Database Password is required for Redshift Destination"},
		{redshift("red", `,"Password":"short"`), "ValidationException: 1 validation error detected: Value at 'redshiftDestinationConfiguration.password' failed to satisfy constraint: Member must have length greater than or equal to 6"},
		{strings.Replace(endpoint("web", ``), "https:", "http:", 1), "ValidationException: 1 validation error detected: Value at 'httpEndpointDestinationConfiguration.endpointConfiguration.url' failed to satisfy constraint: Member must satisfy regular expression pattern: https://.*"},
		{strings.Replace(endpoint("web", ``), "lake", "ab", 1), "InvalidArgumentException: BucketARN arn:aws:s3:::ab does not name a bucket; names have at least 3 characters."},
		{redshift("red", `,"Password":"hunter22","SecretsManagerConfiguration":{"Enabled":true}`), "InvalidArgumentException: SecretsManagerConfiguration is not supported by Hydrant; give the secret itself in the request, which keeps it apart from what is described."},
	} {
		b.f("CreateDeliveryStream", c.body, c.want)
	}
	b.f("CreateDeliveryStream", endpoint("web", ``), created("web"))
	b.f("UpdateDestination", updateTo("S3", "web", "1", `"Prefix":"a/"`), "InvalidArgumentException: Changing the destination type to or from HttpEndpoint is not supported at this time.")
	b.f("UpdateDestination", updateTo("HttpEndpoint", "web", "1", `"EndpointConfiguration":{}`),
		"ValidationException: 1 validation error detected: Value at 'httpEndpointDestinationUpdate.endpointConfiguration.url' failed to satisfy constraint: Member must not be null")
	if b.r.changes != 1 || b.safe.made != 0 {
		t.Errorf("%d changes, %d secrets", b.r.changes, b.safe.made)
	}
}
