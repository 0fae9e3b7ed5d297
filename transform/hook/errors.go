package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"syscall"
	"time"

	"hydrant/transform"
)

// Codes of failures, Firehose's.
const (
	CodeAccessDenied      = "Lambda.InvokeAccessDenied"
	CodeAssumeRole        = "Lambda.AssumeRoleAccessDenied"
	CodeJSONProcessing    = "Lambda.JsonProcessingException"
	CodeJSONMapping       = "Lambda.JsonMappingException"
	CodeLimitExceeded     = "Lambda.InvokeLimitExceeded"
	CodeDuplicatedID      = "Lambda.DuplicatedRecordId"
	CodeMissingID         = "Lambda.MissingRecordId"
	CodeNotFound          = "Lambda.ResourceNotFound"
	CodeFunctionTimedOut  = "Lambda.FunctionTimedOut"
	CodeFunctionError     = "Lambda.FunctionError"
	CodeRequestTimedOut   = "Lambda.FunctionRequestTimedOut"
	CodeFailedToRespond   = "Lambda.TargetServerFailedToRespond"
	CodeInternal          = "Lambda.InternalServerError"
	CodeUnavailable       = "Lambda.ServiceUnavailable"
	CodeSecurityToken     = "Lambda.InvalidSecurityToken"
	CodeInvocationFailure = "Lambda.InvocationFailure"
	CodeReturnFormat      = "Lambda.InvalidReturnFormat"
	CodeFailedStatus      = "Lambda.ProcessingFailedStatus"
	CodeZipFile           = "Lambda.InvalidZipFileException"
	CodeSubnetID          = "Lambda.InvalidSubnetIDException"
	CodeSecurityGroup     = "Lambda.InvalidSecurityGroupIDException"
	CodeSubnetAddresses   = "Lambda.SubnetIPAddressLimitReachedException"
	CodeENILimit          = "Lambda.ENILimitReachedException"

	codeExtraction = "DynamicPartitioning.MetadataExtractionFailed"
	typeExtraction = "metadata-extraction-failed"
)

const messageParse = "There was an error parsing returned records from the Lambda function. Ensure that the returned records follow the status model required by Amazon Data Firehose."

// messages of the error output. They are compared by tools that were made for Firehose, and so say nothing of the case: the
// log does.
var messages = map[string]string{
	CodeAccessDenied:      "Access was denied. Ensure that the access policy allows access to the Lambda function.",
	CodeAssumeRole:        "Access was denied. Ensure that the trust policy for the provided IAM role allows Amazon Data Firehose to assume the role.",
	CodeJSONProcessing:    messageParse,
	CodeJSONMapping:       messageParse,
	CodeLimitExceeded:     "The Lambda concurrent execution limit is exceeded. Increase the concurrent execution limit.",
	CodeDuplicatedID:      "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record Id for each record.",
	CodeMissingID:         "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids.",
	CodeNotFound:          "The specified Lambda function does not exist. Use a different function that does exist.",
	CodeFunctionTimedOut:  "The Lambda function timed out. Increase the Timeout setting in the Lambda function.",
	CodeFunctionError:     "The Lambda function was successfully invoked but it returned an error result.",
	CodeRequestTimedOut:   "The request to the Lambda function did not complete before the request timeout. Increase the timeout, or make the function faster.",
	CodeFailedToRespond:   "The target server failed to respond when the Lambda function was called.",
	CodeInternal:          "An internal server error occurred when the Lambda function was called.",
	CodeUnavailable:       "The service was unavailable when the Lambda function was called.",
	CodeSecurityToken:     "Cannot invoke Lambda function due to Invalid Security Token.",
	CodeInvocationFailure: "The Lambda function could not be called.",
	CodeReturnFormat: "The data field cannot be null when the SourceType is DirectPut or KinesisStreamAsSource and processing result is Ok. " +
		"The value field cannot be null when the SourceType is MSKAsSource and processing result is Ok.",
	CodeFailedStatus:    "ProcessingFailed status set for record",
	CodeZipFile:         "The zip file of the Lambda function cannot be unpacked.",
	CodeSubnetID:        "The specified subnet ID in the Lambda function VPC configuration is invalid. Ensure that the subnet ID is valid.",
	CodeSecurityGroup:   "The specified security group ID in the Lambda function VPC configuration is invalid. Ensure that the security group ID is valid.",
	CodeSubnetAddresses: "AWS Lambda was not able to set up the VPC access for the Lambda function because one or more configured subnets have no available IP addresses. Increase the IP address limit.",
	CodeENILimit: "AWS Lambda was not able to create an Elastic Network Interface (ENI) in the VPC, specified as part of the Lambda function configuration, " +
		"because the limit for network interfaces has been reached. Increase the network interface limit.",
	codeExtraction: "partitionKeys values must not be null or empty",
}

// failures of single records.
var failures = [...]*transform.Failure{
	stateMissing:    {Type: transform.ProcessingFailed, Code: CodeMissingID, Message: messages[CodeMissingID]},
	stateDuplicated: {Type: transform.ProcessingFailed, Code: CodeDuplicatedID, Message: messages[CodeDuplicatedID]},
	stateFailed:     {Type: transform.ProcessingFailed, Code: CodeFailedStatus, Message: messages[CodeFailedStatus]},
	stateNoData:     {Type: transform.ProcessingFailed, Code: CodeReturnFormat, Message: messages[CodeReturnFormat]},
	stateNoKey:      {Type: typeExtraction, Code: codeExtraction, Message: messages[codeExtraction]},
}

// Error is the failure of one attempt, and so of all records of its request.
type Error struct {
	Code string // one of the codes above
	Err  error  // the cause, for the log
	// After is how long the function asks to be left alone; 0 where it does not.
	After time.Duration
	// TooLarge: the request or its answer is too large, and fewer records may do.
	TooLarge bool

	final bool // another attempt is not made: the function has answered
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code
	}
	return e.Code + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) failure() *transform.Failure {
	message, ok := messages[e.Code]
	if !ok {
		message = messages[CodeInvocationFailure]
	}
	return &transform.Failure{Type: transform.ProcessingFailed, Code: e.Code, Message: message}
}

// wrong is an answer that cannot be used; it is final.
func wrong(code, format string, a ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, a...), final: true}
}

func tooLargeToSend() *Error {
	return wrong(CodeInvocationFailure, "the record alone makes a request of more than %d bytes", MaxRequest)
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return TransportError(err)
}

// TransportError is the failure of an attempt that got no answer. The URL, which may have secrets in it, is left out.
func TransportError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	code := CodeInvocationFailure
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = CodeRequestTimedOut
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		code = CodeFailedToRespond
	}
	return &Error{Code: code, Err: err}
}

// timedOut begins what Lambda and its emulator say of a function that was too slow; Lambda puts time and request id first.
const timedOut = "Task timed out after "

// maxQuoted bounds what of a function's words goes into the log, in bytes.
const maxQuoted = 512

// FunctionError is the failure that a function, or the runtime for it, reports with payload: a JSON object with errorType
// and errorMessage as all runtimes make it, or anything else.
func FunctionError(payload []byte) *Error {
	var said struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if err := json.Unmarshal(payload, &said); err != nil {
		said.Message = string(payload[:min(len(payload), maxQuoted)])
	}
	e := &Error{Code: CodeFunctionError, Err: fmt.Errorf("the function failed: %s: %s", quoted(said.Type), quoted(said.Message))}
	switch {
	case said.Type == "Function.ResponseSizeTooLarge":
		e.TooLarge = true
	case strings.Contains(said.Type, "Timedout"), strings.Contains(said.Message, timedOut):
		e.Code = CodeFunctionTimedOut
	}
	return e
}

func quoted(s string) string {
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}

// Pauses between attempts: the first of firstPause, then twice as long each time up to longestPause, each between half of
// that and the whole, so that batches that failed together do not come back together.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 20 * time.Second
	longestAfter = 2 * time.Minute // that a function can ask for
)

// pause waits after a failed attempt, which are counted from 0.
func pause(ctx context.Context, attempt int, after time.Duration) error {
	d := longestPause
	if attempt < 10 {
		d = min(d, firstPause<<attempt)
	}
	// From the one source of randomness that a test can make predictable.
	var raw [8]byte
	rand.Read(raw[:]) // never fails
	d = d/2 + time.Duration(binary.LittleEndian.Uint64(raw[:])%uint64(d/2+1))
	d = max(d, min(after, longestAfter))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SaysError tells whether the body of an answer reports an error of the function, where nothing but the body tells: it begins
// as a time-out does, or it is an object with errorType or errorMessage and without records.
func SaysError(body []byte) bool {
	if bytes.HasPrefix(body, []byte(timedOut)) {
		return true
	}
	// Nearly every answer begins with its records, and nearly none of the others has one of these.
	head := body[:min(len(body), 256)]
	if i := bytes.Index(head, []byte(`"records"`)); i >= 0 && bytes.HasPrefix(bytes.TrimLeft(head[i+len(`"records"`):], " \t\r\n"), []byte(":")) {
		return false
	}
	if !bytes.Contains(body, []byte(`"errorType"`)) && !bytes.Contains(body, []byte(`"errorMessage"`)) {
		return false
	}
	var said map[string]json.RawMessage
	if json.Unmarshal(body, &said) != nil {
		return false
	}
	_, records := said["records"]
	_, kind := said["errorType"]
	_, message := said["errorMessage"]
	return !records && (kind || message)
}
