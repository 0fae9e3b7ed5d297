package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"hydrant/sinks"
)

const (
	codeDenied         = "AccessDenied"
	codePrecondition   = "PreconditionFailed"
	codeNotImplemented = "NotImplemented"
)

// meaning of an error code: what delivery does about it, and what a person does.
type meaning struct {
	class sinks.Class
	fix   string
}

// meanings of the error codes of S3 and of stores like it. What is not here goes by its HTTP status.
//
// A code is RefusedObject only where the same bytes under another key, or a smaller object, would be taken:
// that is what delivery then tries. When in doubt it is RefusedDestination, which loses nothing and calls for
// a person.
var meanings = map[string]meaning{
	"NoSuchBucket":                                   {sinks.RefusedDestination, "create the bucket, or correct its name or the endpoint"},
	"InvalidBucketName":                              {sinks.RefusedDestination, "correct the bucket's name"},
	"AccessDenied":                                   {sinks.RefusedDestination, "grant s3:PutObject on the bucket to these credentials"},
	"AllAccessDisabled":                              {sinks.RefusedDestination, "the bucket's access is switched off"},
	"AccountProblem":                                 {sinks.RefusedDestination, "there is a problem with the account that owns the bucket"},
	"NotSignedUp":                                    {sinks.RefusedDestination, "the account is not signed up for the store"},
	"InvalidAccessKeyId":                             {sinks.RefusedDestination, "correct access_key_id: the store does not know it"},
	"SignatureDoesNotMatch":                          {sinks.RefusedDestination, "correct secret_access_key, or region"},
	"XAdminUserNotFound":                             {sinks.RefusedDestination, "correct access_key_id: the store does not know it"},
	"AuthorizationHeaderMalformed":                   {sinks.RefusedDestination, "correct region"},
	"InvalidToken":                                   {sinks.RefusedDestination, "correct session_token"},
	"ExpiredToken":                                   {sinks.RefusedDestination, "the credentials have expired: provide new ones"},
	"ExpiredTokenException":                          {sinks.RefusedDestination, "the credentials have expired: provide new ones"},
	"TokenRefreshRequired":                           {sinks.RefusedDestination, "the credentials have expired: provide new ones"},
	"PermanentRedirect":                              {sinks.RefusedDestination, "correct region or endpoint"},
	"MovedPermanently":                               {sinks.RefusedDestination, "correct region or endpoint"},
	"TemporaryRedirect":                              {sinks.RefusedDestination, "the bucket is being moved or is very new: this passes, or correct region"},
	"IllegalLocationConstraintException":             {sinks.RefusedDestination, "correct region"},
	"InvalidStorageClass":                            {sinks.RefusedDestination, "correct storage_class: the store does not have it"},
	"InvalidEncryptionAlgorithmError":                {sinks.RefusedDestination, "correct encryption"},
	"ServerSideEncryptionConfigurationNotFoundError": {sinks.RefusedDestination, "correct encryption, or the bucket's"},
	"KMS.NotFoundException":                          {sinks.RefusedDestination, "correct encryption.kms: there is no such key"},
	"KMS.DisabledException":                          {sinks.RefusedDestination, "the KMS key is disabled"},
	"KMS.KMSInvalidStateException":                   {sinks.RefusedDestination, "the KMS key is disabled or pending deletion"},
	"kms:KeyNotFound":                                {sinks.RefusedDestination, "correct encryption.kms: there is no such key"},
	"KMSKeyNotFoundException":                        {sinks.RefusedDestination, "correct encryption.kms: there is no such key"},
	"KMSNotConfigured":                               {sinks.RefusedDestination, "the store has no key service: set encryption: none"},
	"XMinioKMSNotConfigured":                         {sinks.RefusedDestination, "the store has no key service: set encryption: none"},
	codeNotImplemented:                               {sinks.RefusedDestination, "the store does not know something that is asked of it: try checksum: when_required, encryption: none or another storage_class"},
	"MethodNotAllowed":                               {sinks.RefusedDestination, "the store does not allow writes here: correct endpoint or bucket"},
	"QuotaExceeded":                                  {sinks.RefusedDestination, "the store's quota is used up"},
	"XMinioAdminBucketQuotaExceeded":                 {sinks.RefusedDestination, "the bucket's quota is used up"},
	"XMinioStorageFull":                              {sinks.RefusedDestination, "the store's disks are full"},
	"XMinioStorageQuotaExceeded":                     {sinks.RefusedDestination, "the store's quota is used up"},
	"InsufficientCapacity":                           {sinks.RefusedDestination, "the store's disks are full"},
	"InvalidObjectState":                             {sinks.RefusedDestination, "the bucket's object lock or archive settings refuse writes"},

	"KeyTooLongError":               {sinks.RefusedObject, "the store takes shorter keys: shorten the prefix"},
	"KeyTooLong":                    {sinks.RefusedObject, "the store takes shorter keys: shorten the prefix"},
	"XMinioInvalidObjectName":       {sinks.RefusedObject, "the store does not take such keys: change the prefix"},
	"InvalidObjectName":             {sinks.RefusedObject, "the store does not take such keys: change the prefix"},
	"XMinioParentIsObject":          {sinks.RefusedObject, "an object has the name of a folder of the key: change the prefix"},
	"XMinioObjectExistsAsDirectory": {sinks.RefusedObject, "a folder has the name of the key: change the prefix"},
	"ObjectParentIsFile":            {sinks.RefusedObject, "an object has the name of a folder of the key: change the prefix"},
	"DirectoryObjectContainsData":   {sinks.RefusedObject, "the store does not take such keys: change the prefix"},
	"ExistingObjectIsDirectory":     {sinks.RefusedObject, "a folder has the name of the key: change the prefix"},
	"EntityTooLarge":                {sinks.RefusedObject, "the store takes smaller objects: lower buffer.size"},
	"MetadataTooLarge":              {sinks.RefusedObject, "the store takes less metadata"},
	"InvalidURI":                    {sinks.RefusedObject, "the store does not take such keys: change the prefix"},

	"SlowDown":               {sinks.NotStored, ""},
	"SlowDownWrite":          {sinks.NotStored, ""},
	"Throttling":             {sinks.NotStored, ""},
	"ThrottlingException":    {sinks.NotStored, ""},
	"RequestLimitExceeded":   {sinks.NotStored, ""},
	"TooManyRequests":        {sinks.NotStored, ""},
	"BandwidthLimitExceeded": {sinks.NotStored, ""},
	// The bytes that arrived are not those that were sent, or did not arrive in time. Ours are right: they
	// have been checked on the way.
	"BadDigest":                   {sinks.NotStored, ""},
	"InvalidDigest":               {sinks.NotStored, ""},
	"XAmzContentSHA256Mismatch":   {sinks.NotStored, ""},
	"XAmzContentChecksumMismatch": {sinks.NotStored, ""},
	"IncompleteBody":              {sinks.NotStored, ""},
	"RequestTimeout":              {sinks.NotStored, ""},
	// The SDK learns the store's time from this answer, and the next request has it right.
	"RequestTimeTooSkewed": {sinks.NotStored, "this machine's clock is wrong"},

	// Another request for the same key is under way, perhaps an earlier one of ours.
	"ConditionalRequestConflict": {sinks.Unknown, ""},
	"OperationAborted":           {sinks.Unknown, ""},
	// A look follows that says what is there.
	codePrecondition: {sinks.Unknown, ""},
	// The upload is over: aborted by somebody else, or completed and the answer lost.
	"NoSuchUpload": {sinks.Unknown, "a lifecycle rule or another writer has ended the upload"},
	"InvalidPart":  {sinks.Unknown, ""},
}

// full are the refusals of a store without room.
var full = map[string]bool{
	"QuotaExceeded": true, "XMinioAdminBucketQuotaExceeded": true, "XMinioStorageFull": true,
	"XMinioStorageQuotaExceeded": true, "InsufficientCapacity": true,
}

// renewable are the refusals that other credentials may end.
var renewable = map[string]bool{
	"ExpiredToken": true, "ExpiredTokenException": true, "TokenRefreshRequired": true,
	"InvalidAccessKeyId": true, "SignatureDoesNotMatch": true, "InvalidToken": true, "AccessDenied": true,
	"XAdminUserNotFound": true,
}

// attempt is what was tried: for messages, and to know which credentials were refused.
type attempt struct {
	verb  string
	key   string
	creds aws.Credentials
}

func (s *Sink) tried(a attempt) string {
	return fmt.Sprintf("%s s3://%s/%s", a.verb, s.opts.Bucket, a.key)
}

// codeOf is the store's error code, or what stands for it where the answer had no body; "" without an answer.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	switch statusOf(err) {
	case http.StatusPreconditionFailed:
		return codePrecondition
	case http.StatusNotImplemented:
		return codeNotImplemented
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// statusOf is the HTTP status of the answer, or 0 without one.
func statusOf(err error) int {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}

// classified says what was tried on what, what kind of failure it is, and what can be done about it. conn may
// be nil.
func (s *Sink) classified(ctx context.Context, conn *connection, a attempt, err error) *sinks.Error {
	if e, ok := errors.AsType[*sinks.Error](err); ok {
		return e
	}
	e := &sinks.Error{Class: sinks.Unknown, Err: fmt.Errorf("%s: %w", s.tried(a), &told{err})}
	fix := ""
	status := statusOf(err)
	switch {
	case errors.Is(err, errDamaged):
		e.Class, e.Code = sinks.Damaged, "Damaged"
		return e
	case isReadError(err):
		e.Class = sinks.NotStored
		return e
	case ctx.Err() != nil:
		e.Err = fmt.Errorf("%s: %w (%w)", s.tried(a), ctx.Err(), err)
		return e
	case isCredentialsError(err):
		e.Class, e.Code = sinks.RefusedDestination, "NoCredentials"
		fix = "give credentials in the destination, or in the environment or shared files of AWS"
	case isBundleError(err):
		e.Class, e.Code = sinks.RefusedDestination, "Certificate"
	case status != 0:
		e.Code = codeOf(err)
		e.Class, fix = meaningOf(e.Code, status)
		e.Full = full[e.Code] || status == http.StatusInsufficientStorage
		e.After = retryAfter(err)
		if r := regionOf(err); r != "" && r != s.opts.Region && (status == http.StatusMovedPermanently || status == http.StatusBadRequest) {
			fix = fmt.Sprintf("the bucket is in region %q: set region", r)
			e.Class = sinks.RefusedDestination
		}
		if renewable[e.Code] && conn != nil && s.renew(ctx, conn, a.creds, e.Code == codeDenied) {
			e.Class, fix = sinks.NotStored, "other credentials are there and are used from now on"
		}
	default:
		e.Class, e.Code, fix = transportFailure(err)
	}
	if fix != "" {
		e.Err = fmt.Errorf("%w: %s", e.Err, fix)
	}
	return e
}

// told prints an error of the SDK without what only the SDK's authors need.
type told struct{ err error }

func (e *told) Unwrap() error { return e.err }

func (e *told) Error() string {
	if a, ok := errors.AsType[smithy.APIError](e.err); ok && statusOf(e.err) != 0 {
		id := ""
		if r, ok := errors.AsType[*awshttp.ResponseError](e.err); ok && r.ServiceRequestID() != "" {
			id = ", request id " + r.ServiceRequestID()
		}
		return fmt.Sprintf("%s: %s (HTTP status %d%s)", a.ErrorCode(), a.ErrorMessage(), statusOf(e.err), id)
	}
	if u, ok := errors.AsType[*url.Error](e.err); ok {
		return u.Err.Error()
	}
	if status := statusOf(e.err); status != 0 {
		return fmt.Sprintf("the answer cannot be read (HTTP status %d): is the endpoint an S3 store?", status)
	}
	return e.err.Error()
}

func isReadError(err error) bool {
	_, ok := errors.AsType[*readError](err)
	return ok
}

func isBundleError(err error) bool {
	_, ok := errors.AsType[*bundleError](err)
	return ok
}

func isCredentialsError(err error) bool {
	_, ok := errors.AsType[*credentialsError](err)
	return ok
}

func meaningOf(code string, status int) (sinks.Class, string) {
	if m, ok := meanings[code]; ok {
		return m.class, m.fix
	}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return sinks.NotStored, ""
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		return sinks.Unknown, ""
	case status == http.StatusRequestEntityTooLarge:
		return sinks.RefusedObject, "the store, or a proxy before it, takes smaller objects: lower buffer.size"
	case status == http.StatusRequestURITooLong:
		return sinks.RefusedObject, "the store takes shorter keys: shorten the prefix"
	case status == http.StatusInsufficientStorage:
		return sinks.RefusedDestination, "the store's disks are full"
	case status >= 300 && status < 500:
		return sinks.RefusedDestination, ""
	}
	return sinks.Unknown, "" // 5xx, and an answer that cannot be read
}

// transportFailure classifies what went wrong without an answer.
func transportFailure(err error) (class sinks.Class, code, fix string) {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return sinks.NotStored, "NoConnection", ""
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return sinks.NotStored, "NoConnection", ""
	}
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	if verify || authority || host {
		return sinks.RefusedDestination, "Certificate", "the store's certificate is not trusted: correct endpoint, or install its authority's certificate"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return sinks.RefusedDestination, "NoTLS", "correct endpoint to http://"
	}
	return sinks.Unknown, "", ""
}

// maxAfter bounds what a store can ask for.
const maxAfter = 5 * time.Minute

// retryAfter is the Retry-After of the answer.
func retryAfter(err error) time.Duration {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || e.Response == nil {
		return 0
	}
	v := e.Response.Header.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return min(time.Duration(min(n, 86400))*time.Second, maxAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), maxAfter)
	}
	return 0
}

// regionOf is the bucket's region, where the answer names it.
func regionOf(err error) string {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.ResponseError != nil && e.Response != nil {
		return e.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}
