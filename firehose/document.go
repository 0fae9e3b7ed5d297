package firehose

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"hydrant/config"
)

// destination is a type of destination that can be described.
type destination struct {
	kind   string // as a stored document names it
	config *shape // what create takes
	// Members of the requests, and of a description.
	create, update, description string
}

// An S3 stream is one thing, whichever of its two forms created it; it is kept in the extended one.
var (
	extendedS3 = &destination{"ExtendedS3", extendedS3Config,
		"ExtendedS3DestinationConfiguration", "ExtendedS3DestinationUpdate", "ExtendedS3DestinationDescription"}
	redshift = &destination{"Redshift", redshiftConfig,
		"RedshiftDestinationConfiguration", "RedshiftDestinationUpdate", "RedshiftDestinationDescription"}
	httpEndpoint = &destination{"HttpEndpoint", httpConfig,
		"HttpEndpointDestinationConfiguration", "HttpEndpointDestinationUpdate", "HttpEndpointDestinationDescription"}
	destinations = []*destination{extendedS3, redshift, httpEndpoint}
)

// Members of the plain form of S3.
const (
	plainS3Create      = "S3DestinationConfiguration"
	plainS3Update      = "S3DestinationUpdate"
	plainS3Description = "S3DestinationDescription"
)

// Document is a validated description of what a stream does: its destination, with the service's defaults,
// and its source. It is immutable. It marshals to JSON and back; secrets are not in it.
type Document struct {
	kind *destination
	hint int64 // ThroughputHintInMBs of the source; 0: none
	from tree  // KinesisStreamSourceConfiguration; nil: producers put
	conf tree  // in the shape of kind.config, without secrets
}

// Secrets of a stream that no description shows. They print as redacted and marshal only by Encode.
type Secrets struct {
	Password  config.Secret // of a Redshift destination
	AccessKey config.Secret // of an HTTP endpoint
}

// Members that the API knows and Hydrant does not support.
var (
	unsupportedSources      = []string{"MSKSourceConfiguration", "DatabaseSourceConfiguration"}
	unsupportedDestinations = []struct {
		kind  string // begins the members' names
		fixed bool   // a stream's destination cannot be changed to it by the service's own rules
	}{
		{"Elasticsearch", true},
		{"Amazonopensearchservice", true},
		{"AmazonOpenSearchServerless", true},
		{"Splunk", false},
		{"Snowflake", false},
		{"Iceberg", false},
	}
)

func errUnsupported(member, remedy string) *Error {
	return invalid("%s is not supported by Hydrant; %s", member, remedy)
}

const supportedDestinations = "the destinations are S3, ExtendedS3, Redshift and HttpEndpoint."

// Document is the second layer: it checks what the members mean together, refuses what is known and not
// supported by its name, and fills in the defaults. Encryption is checked too (Key.Check). Errors are of type
// *Error.
func (c *Create) Document(s Settings) (*Document, Secrets, error) {
	d, secrets, err := c.document()
	if err == nil && c.Encryption != nil {
		if err = d.MayEncrypt(); err == nil {
			err = c.Encryption.Check(s)
		}
	}
	if err != nil {
		return nil, Secrets{}, err
	}
	return d, secrets, nil
}

func (c *Create) document() (*Document, Secrets, error) {
	if err := c.source(); err != nil {
		return nil, Secrets{}, err
	}
	for _, u := range unsupportedDestinations {
		if member := u.kind + "DestinationConfiguration"; c.tree.has(member) {
			return nil, Secrets{}, errUnsupported(member, supportedDestinations)
		}
	}
	if c.tree.has(plainS3Create) && c.tree.has(extendedS3.create) {
		return nil, Secrets{}, invalid("Exactly one of S3DestinationConfiguration or ExtendedS3DestinationConfiguration must be specified.")
	}
	var kind *destination
	var conf tree
	found := 0
	for _, k := range destinations {
		if c.tree.has(k.create) {
			kind, conf, found = k, c.tree.sub(k.create), found+1
		}
	}
	if c.tree.has(plainS3Create) {
		kind, conf, found = extendedS3, c.tree.sub(plainS3Create), found+1
	}
	if found != 1 {
		return nil, Secrets{}, invalid("Exactly one destination configuration is supported for a Firehose")
	}
	d := &Document{kind: kind, hint: c.tree.sub("DirectPutSourceConfiguration").integer("ThroughputHintInMBs"), conf: clone(conf)}
	if c.tree.has(kinesisSource) {
		d.from = clone(c.tree.sub(kinesisSource))
	}
	secrets := d.takeSecrets(Secrets{})
	if err := d.complete(secrets); err != nil {
		return nil, Secrets{}, err
	}
	return d, secrets, nil
}

// kinesisSource is the member of a request that names the data stream that is read.
const kinesisSource = "KinesisStreamSourceConfiguration"

// source checks where the stream's records come from: producers, or a Kinesis data stream.
func (c *Create) source() error {
	const remedy = "create the stream with DirectPut or KinesisStreamAsSource as its DeliveryStreamType."
	for _, member := range unsupportedSources {
		if c.tree.has(member) {
			return errUnsupported(member, remedy)
		}
	}
	switch {
	case c.Type == KinesisStreamAsSource && !c.tree.has(kinesisSource):
		return invalid("%s must be specified for the delivery stream type %s.", kinesisSource, c.Type)
	case c.Type == KinesisStreamAsSource && c.tree.has("DirectPutSourceConfiguration"):
		return invalid("DirectPutSourceConfiguration is only applicable for DirectPut stream type")
	case c.Type == KinesisStreamAsSource:
		return nil
	case c.Type != DirectPut:
		return errUnsupported("DeliveryStreamType "+c.Type, remedy)
	case c.tree.has(kinesisSource):
		return invalid("KinesisStreamSourceConfig is only applicable for KinesisStreamAsSource stream type")
	}
	return nil
}

// takeSecrets moves the secrets out of a configuration that came with a request; those that it does not have
// stay what they were.
func (d *Document) takeSecrets(s Secrets) Secrets {
	take := func(t tree, name string, into *config.Secret) {
		if v, ok := t[name].(hiddenText); ok {
			*into = v()
			if text, err := into.Value(); err == nil && text == "" {
				*into = config.Secret{} // an empty access key is none
			}
			delete(t, name)
		}
	}
	switch d.kind {
	case redshift:
		take(d.conf, "Password", &s.Password)
		s.AccessKey = config.Secret{}
	case httpEndpoint:
		take(d.conf.sub("EndpointConfiguration"), "AccessKey", &s.AccessKey)
		s.Password = config.Secret{}
	default:
		s = Secrets{}
	}
	return s
}

// complete fills in the defaults and checks what comes out.
func (d *Document) complete(s Secrets) error {
	d.fill()
	return d.validate(s)
}

// Check is the second layer for a key: whether type and ARN fit each other and the region. Errors are of type
// *Error.
func (k Key) Check(s Settings) error {
	switch {
	case k.Type == CustomerKey && k.ARN == "":
		return invalid("KeyARN has to be specified when KeyType is CUSTOMER_MANAGED_CMK")
	case k.Type == OwnedKey && k.ARN != "":
		return invalid("KeyARN cannot be specified when KeyType is AWS_OWNED_CMK")
	case k.ARN != "" && regionOf(k.ARN) != s.Region:
		return invalid("Cross-region keys are not allowed for SSE. The key is in %s, the delivery stream in %s.", regionOf(k.ARN), s.Region)
	}
	return nil
}

// regionOf an ARN; "" of what is none.
func regionOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[3]
	}
	return ""
}

// Equal tells whether both describe the same.
func (d *Document) Equal(other *Document) bool {
	return d.kind == other.kind && d.hint == other.hint && reflect.DeepEqual(d.from, other.from) && reflect.DeepEqual(d.conf, other.conf)
}

// Type is the delivery stream's: DirectPut or KinesisStreamAsSource.
func (d *Document) Type() string {
	if d.from != nil {
		return KinesisStreamAsSource
	}
	return DirectPut
}

// MayEncrypt says that the service has encryption at rest for streams that producers put to, and no others.
func (d *Document) MayEncrypt() error {
	if d.from != nil {
		return invalid("Server side encryption from firehose is only allowed for direct put delivery streams and database as a source delivery streams")
	}
	return nil
}

// SameDestination tells whether both are of the same type of destination.
func (d *Document) SameDestination(other *Document) bool { return d.kind == other.kind }

// Equal tells whether the secrets are the same, in a time that does not depend on where they differ.
func (s Secrets) Equal(other Secrets) bool {
	same := func(a, b config.Secret) bool {
		x, err1 := a.Value()
		y, err2 := b.Value()
		return a.IsSet() == b.IsSet() && err1 == nil && err2 == nil && subtle.ConstantTimeCompare([]byte(x), []byte(y)) == 1
	}
	return same(s.Password, other.Password) && same(s.AccessKey, other.AccessKey)
}

// stored is a document's JSON. A member that is added is left out while it has its zero value, so that an
// older document stays what it is.
type stored struct {
	DestinationType     string
	ThroughputHintInMBs int64 `json:",omitempty"`
	KinesisStreamSource any   `json:",omitempty"`
	Configuration       any
}

// MarshalJSON is canonical: equal documents give equal bytes.
func (d *Document) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	out := stored{d.kind.kind, d.hint, nil, d.conf}
	if d.from != nil {
		out.KinesisStreamSource = d.from
	}
	err := e.Encode(out)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON reads what MarshalJSON wrote, in this process or an earlier one.
func (d *Document) UnmarshalJSON(data []byte) error {
	var raw, source json.RawMessage
	s := stored{Configuration: &raw, KinesisStreamSource: &source}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return fmt.Errorf("read a stream's document: %w", err)
	}
	for _, k := range destinations {
		if k.kind != s.DestinationType {
			continue
		}
		t, unknown, err := read(k.config, raw)
		switch {
		case err != nil:
			return fmt.Errorf("read a stream's document: %w", err)
		case unknown > 0:
			return fmt.Errorf("read a stream's document: it has %d members that this version does not know", unknown)
		}
		*d = Document{k, s.ThroughputHintInMBs, nil, t}
		if source != nil {
			if d.from, unknown, err = read(kinesisSourceConfig, source); err != nil || unknown > 0 {
				return fmt.Errorf("read a stream's document: its source: %d members that this version does not know, %v", unknown, err)
			}
		}
		return nil
	}
	return fmt.Errorf("read a stream's document: its destination type %q is not one that this version knows", s.DestinationType)
}

// Encode is the secrets in JSON, to be kept in a file of mode 0600 and nowhere else; nil where there are none.
func (s Secrets) Encode() ([]byte, error) {
	out := map[string]string{}
	for name, secret := range map[string]config.Secret{"Password": s.Password, "AccessKey": s.AccessKey} {
		if !secret.IsSet() {
			continue
		}
		v, err := secret.Value()
		if err != nil {
			return nil, fmt.Errorf("encode the %s of a stream: %w", name, err)
		}
		out[name] = v
	}
	if len(out) == 0 {
		return nil, nil
	}
	return json.Marshal(out)
}

// DecodeSecrets reads what Encode wrote; nil is no secrets.
func DecodeSecrets(data []byte) (Secrets, error) {
	var s Secrets
	if len(data) == 0 {
		return s, nil
	}
	var in map[string]string
	if err := json.Unmarshal(data, &in); err != nil {
		// The decoder's error could quote what it read.
		return s, fmt.Errorf("decode the secrets of a stream: %d bytes are not what was encoded", len(data))
	}
	for name, v := range in {
		switch name {
		case "Password":
			s.Password = config.NewSecret(v)
		case "AccessKey":
			s.AccessKey = config.NewSecret(v)
		default:
			return Secrets{}, fmt.Errorf("decode the secrets of a stream: %q is not known to this version", name)
		}
	}
	return s, nil
}

// IsZero tells whether there are none.
func (s Secrets) IsZero() bool { return !s.Password.IsSet() && !s.AccessKey.IsSet() }
