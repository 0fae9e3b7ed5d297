// Package firehose is the control plane's documents: what the requests of the Amazon Data Firehose API say
// about a delivery stream, checked, with the service's defaults, and how it is described again.
//
// The body of a request flows in. Out flows the request, or the answer of the first of two layers that finds
// a fault: Decode… checks shapes, by tables of the API's model (ValidationException, or SerializationException
// for a wrong JSON type), before anything is looked up; Create.Document and Document.Update check what the
// members mean together (InvalidArgumentException). A Document is what is kept of a stream: it marshals to
// JSON without secrets, which are apart in Secrets. Describe renders it, and Config makes of it the stream
// that delivers.
//
// Everything here is a pure function of its arguments: nothing is read, stored or started, so nothing is to
// be recovered after a crash but the JSON that the caller kept.
package firehose

import (
	"net/http"
	"time"
)

// Error is an answer of the API that is not success.
type Error struct {
	Code    string // __type on the wire, like InvalidArgumentException
	Message string
	// Detail is the member code of an answer that has one: what KMS said, with InvalidKMSResourceException.
	Detail string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// HTTPStatus of the answer.
func (e *Error) HTTPStatus() int {
	switch e.Code {
	case CodeInternal:
		return http.StatusInternalServerError
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// Codes of errors.
const (
	CodeValidation       = "ValidationException"
	CodeSerialization    = "SerializationException"
	CodeInvalidArgument  = "InvalidArgumentException"
	CodeInvalidParameter = "InvalidParameterValueException"
	CodeInvalidKMS       = "InvalidKMSResourceException"
	CodeNotFound         = "ResourceNotFoundException"
	CodeInUse            = "ResourceInUseException"
	CodeLimitExceeded    = "LimitExceededException"
	CodeConcurrent       = "ConcurrentModificationException"
	CodeAccessDenied     = "AccessDeniedException"
	CodeUnavailable      = "ServiceUnavailableException"
	CodeInternal         = "InternalFailure"
)

// DestinationID of the one destination of every stream.
const DestinationID = "destinationId-000000000001"

// Types of delivery streams. Only DirectPut can be created.
const (
	DirectPut             = "DirectPut"
	KinesisStreamAsSource = "KinesisStreamAsSource"
	MSKAsSource           = "MSKAsSource"
	DatabaseAsSource      = "DatabaseAsSource"
)

// Settings are what ARNs and rules need to know of the installation.
type Settings struct {
	Region    string // like us-east-1
	AccountID string // 12 digits
}

// Tag of a stream.
type Tag struct {
	Key   string
	Value string
}

// Key is how a stream asks for encryption at rest.
type Key struct {
	Type string // AWS_OWNED_CMK or CUSTOMER_MANAGED_CMK
	ARN  string // of a customer's key, or ""
}

// Types of keys.
const (
	OwnedKey    = "AWS_OWNED_CMK"
	CustomerKey = "CUSTOMER_MANAGED_CMK"
)

// Create is a CreateDeliveryStream whose shape is right.
type Create struct {
	Name       string
	Type       string // DirectPut where the request has none
	Encryption *Key   // nil: not asked for
	Tags       []Tag  // in the request's order; keys may repeat
	Unknown    int    // members that nobody knows, which are passed over

	tree tree
}

// Delete is a DeleteDeliveryStream.
type Delete struct {
	Name             string
	AllowForceDelete bool
	Unknown          int
}

// Update is an UpdateDestination.
type Update struct {
	Name           string
	CurrentVersion string // decimal digits
	DestinationID  string
	Unknown        int

	tree tree
}

// AddTags is a TagDeliveryStream.
type AddTags struct {
	Name    string
	Tags    []Tag // 1 to 50, in the request's order; the last of a repeated key holds
	Unknown int
}

// RemoveTags is an UntagDeliveryStream.
type RemoveTags struct {
	Name    string
	Keys    []string
	Unknown int
}

// ListTags is a ListTagsForDeliveryStream.
type ListTags struct {
	Name     string
	StartKey string // tags after it; "" from the first
	Limit    int    // 1 to 50; 50 where the request has none
	Unknown  int
}

// StartEncryption is a StartDeliveryStreamEncryption.
type StartEncryption struct {
	Name    string
	Key     Key // AWS_OWNED_CMK where the request has none
	Unknown int
}

// StopEncryption is a StopDeliveryStreamEncryption.
type StopEncryption struct {
	Name    string
	Unknown int
}

// Describe is a DescribeDeliveryStream. Its Limit and ExclusiveStartDestinationId are checked and pass
// without effect, since there is one destination and it is always shown.
type Describe struct {
	Name    string
	Unknown int
}

// List is a ListDeliveryStreams.
type List struct {
	Type    string // only streams of this type; "": all
	Start   string // names after it, which need not exist; "" from the first
	Limit   int    // 1 to 10000; 10 where the request has none
	Unknown int
}

// State is what a description says beside the document.
type State struct {
	Name       string
	Status     string // CREATING, CREATING_FAILED, ACTIVE, DELETING, DELETING_FAILED; "": ACTIVE
	Version    uint64 // from 1
	Created    time.Time
	Updated    time.Time // of the last effective update; zero where there was none
	Encryption EncryptionState
	Failure    *Failure // nil: nothing failed
}

// EncryptionState is the encryption at rest of a stream.
type EncryptionState struct {
	Status string // ENABLED, ENABLING, ...; "": DISABLED
	Key    Key    // of which only a stream that has encryption shows anything
}

// Failure is why a stream could not be created, deleted or encrypted.
type Failure struct {
	Type    string
	Details string
}

// NotDeliverable is the error of Document.Config for what is described right and cannot be delivered by this
// version: Member names what asks for it.
type NotDeliverable struct {
	Member string // path in the request, like extendedS3DestinationConfiguration.processingConfiguration
	Reason string // a sentence
	// Waits: the stream is taken all the same, and its records wait for a version that can. So it is for the types of
	// destinations that came after others, Redshift and HTTP endpoints; an S3 stream that asks for more than there is
	// would wait beside others that are delivered, and nobody would look for it.
	Waits bool
}

func (e *NotDeliverable) Error() string { return e.Member + ": " + e.Reason }

// Answer is the error as the API answers it.
func (e *NotDeliverable) Answer() *Error {
	return &Error{Code: CodeInvalidArgument, Message: e.Member + " is not supported by this version: " + e.Reason}
}
