package firehose

import (
	"hydrant/config"
)

// Document is a validated description of what a stream does: its type and its destination, with the service's
// defaults. It is immutable. It marshals to JSON and back; secrets are not in it.
type Document struct {
	tree tree
}

type tree = map[string]any

// Secrets of a stream that no description shows. They print as redacted and marshal only by Encode.
type Secrets struct {
	Password  config.Secret // of a Redshift destination
	AccessKey config.Secret // of an HTTP endpoint
}

// DecodeCreate reads a CreateDeliveryStream. Errors are of type *Error, here and in all of these.
func DecodeCreate(body []byte) (*Create, error) { panic("todo") }

// DecodeDelete reads a DeleteDeliveryStream.
func DecodeDelete(body []byte) (*Delete, error) { panic("todo") }

// DecodeUpdate reads an UpdateDestination.
func DecodeUpdate(body []byte) (*Update, error) { panic("todo") }

// DecodeAddTags reads a TagDeliveryStream.
func DecodeAddTags(body []byte) (*AddTags, error) { panic("todo") }

// DecodeRemoveTags reads an UntagDeliveryStream.
func DecodeRemoveTags(body []byte) (*RemoveTags, error) { panic("todo") }

// DecodeListTags reads a ListTagsForDeliveryStream.
func DecodeListTags(body []byte) (*ListTags, error) { panic("todo") }

// DecodeStartEncryption reads a StartDeliveryStreamEncryption.
func DecodeStartEncryption(body []byte) (*StartEncryption, error) { panic("todo") }

// DecodeStopEncryption reads a StopDeliveryStreamEncryption.
func DecodeStopEncryption(body []byte) (*StopEncryption, error) { panic("todo") }

// DecodeDescribe reads a DescribeDeliveryStream.
func DecodeDescribe(body []byte) (*Describe, error) { panic("todo") }

// DecodeList reads a ListDeliveryStreams.
func DecodeList(body []byte) (*List, error) { panic("todo") }

// Check is the second layer for a key: whether type and ARN fit each other and the region. Errors are of type
// *Error.
func (k Key) Check(s Settings) error { panic("todo") }

// Document is the second layer: it checks what the members mean together, refuses what is known and not
// supported by its name, and fills in the defaults. Encryption is checked too (Key.Check). Errors are of type
// *Error.
func (c *Create) Document(s Settings) (*Document, Secrets, error) { panic("todo") }

// Update merges an update into the document by the service's rules and checks the result. changed is false
// where document and secrets are what they were: then the stream keeps its version. The caller has compared
// version and destination id with the stream's before. Errors are of type *Error.
func (d *Document) Update(u *Update, secrets Secrets) (next *Document, nextSecrets Secrets, changed bool, err error) {
	panic("todo")
}

// Describe is the answer to DescribeDeliveryStream: {"DeliveryStreamDescription": ...}.
func (d *Document) Describe(s Settings, state State) ([]byte, error) { panic("todo") }

// MarshalJSON is canonical: equal documents give equal bytes.
func (d *Document) MarshalJSON() ([]byte, error) { panic("todo") }

// UnmarshalJSON reads what MarshalJSON wrote, in this process or an earlier one.
func (d *Document) UnmarshalJSON(data []byte) error { panic("todo") }

// Config is the stream that delivers what the document describes. aws says what ARNs cannot: endpoint,
// region, and whether roles are assumed. The error is a *NotDeliverable where this version cannot deliver it.
// Tags and name are the caller's: Tags are left empty.
func (d *Document) Config(name string, aws config.AWS) (*config.Stream, error) { panic("todo") }

// Encode is the secrets in JSON, to be kept in a file of mode 0600 and nowhere else; nil where there are none.
func (s Secrets) Encode() ([]byte, error) { panic("todo") }

// DecodeSecrets reads what Encode wrote; nil is no secrets.
func DecodeSecrets(data []byte) (Secrets, error) { panic("todo") }

// IsZero tells whether there are none.
func (s Secrets) IsZero() bool { panic("todo") }

// ARN of a delivery stream.
func ARN(s Settings, stream string) string { panic("todo") }
