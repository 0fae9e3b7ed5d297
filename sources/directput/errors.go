package directput

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"hydrant/firehose"
	"hydrant/record"
)

// apiError is an answer that is not success.
type apiError struct {
	status  int
	code    string // __type on the wire
	message string
	detail  string // member code of the errors that have one
	reason  string // label of put_refused_total
	// close: the connection is of no use any more, since its body is not read to the end.
	close bool
	cause error // for the log, or nil
}

func (e *apiError) Error() string { return e.code + ": " + e.message }
func (e *apiError) Unwrap() error { return e.cause }

func errUnknownOperation(message string) error {
	return &apiError{status: http.StatusBadRequest, code: "UnknownOperationException", message: message, reason: "unknown_operation"}
}

func errNotSupported(op string) error {
	return &apiError{status: http.StatusBadRequest, code: "InvalidArgumentException",
		message: op + " is not supported here: streams are declared in the configuration file.", reason: "unsupported"}
}

func errSerialization(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, code: "SerializationException", message: fmt.Sprintf(format, args...), reason: "serialization"}
}

func errInvalidArgument(message string) error {
	return &apiError{status: http.StatusBadRequest, code: "InvalidArgumentException", message: message, reason: "invalid_argument"}
}

// errDocument is the answer to a request that package firehose does not take.
func errDocument(err error) error {
	e, ok := errors.AsType[*firehose.Error](err)
	if !ok {
		return err
	}
	reason := "invalid_argument"
	switch e.Code {
	case firehose.CodeValidation:
		reason = "validation"
	case firehose.CodeSerialization:
		reason = "serialization"
	}
	return &apiError{status: e.HTTPStatus(), code: e.Code, message: e.Message, reason: reason}
}

// errTooLarge is the answer to a body of more than most bytes. One that is no longer than a put's is read to its end, so
// that its sender gets the answer.
func errTooLarge(most int) error {
	return &apiError{status: http.StatusRequestEntityTooLarge, code: "RequestEntityTooLargeException",
		message: fmt.Sprintf("The request body is longer than %d bytes.", most), reason: "too_large", close: most == MaxBody}
}

func (h *Handler) errNotFound(stream string) error {
	return &apiError{status: http.StatusBadRequest, code: "ResourceNotFoundException",
		message: fmt.Sprintf("Firehose %s under account %s not found.", stream, h.account()), reason: "not_found"}
}

// Code and message by which clients of Firehose know that they are too fast.
const (
	codeUnavailable = "ServiceUnavailableException"
	slowDown        = "Slow down."
)

// errRefused is the answer to a call of which nothing was kept. Every SDK sends it again.
func errRefused(refusal *record.Refusal) error {
	message := slowDown
	if refusal.Message != "" && refusal.Reason != "rate" { // of which Firehose says no more
		message += " " + refusal.Message
	}
	return &apiError{status: http.StatusServiceUnavailable, code: codeUnavailable, message: message, reason: refusal.Reason}
}

// errBody is the answer to a body that did not arrive.
func errBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &apiError{status: http.StatusRequestTimeout, code: "RequestTimeoutException",
			message: "The request body did not arrive in time.", reason: "timeout", close: true, cause: err}
	}
	return &apiError{status: http.StatusBadRequest, code: "SerializationException",
		message: "The request body ended early.", reason: "serialization", close: true, cause: err}
}

// leaving says why a stream that is there takes no records.
const leaving = " It was deleted or taken out of the configuration, and only what it holds is still delivered."

// errAppend translates what an Appender said.
func (h *Handler) errAppend(ctx context.Context, stream string, err error) error {
	if notFound, ok := errors.AsType[*record.NotFound](err); ok {
		// One that is being created is known before it takes records.
		if d, known := h.o.Directory.Describe(stream); notFound.Inactive || known && d.Status == statusCreating {
			message := fmt.Sprintf("Firehose %s is not active in %s account.", stream, h.account())
			if notFound.Inactive {
				message += leaving
			}
			return &apiError{status: http.StatusBadRequest, code: "ResourceNotFoundException", message: message, reason: "inactive"}
		}
		return h.errNotFound(stream)
	}
	if sourced, ok := errors.AsType[*record.Sourced](err); ok {
		kind := "MSKAsSource"
		if sourced.Source == "kinesis" {
			kind = "KinesisStreamAsSource"
		}
		return &apiError{status: http.StatusBadRequest, code: "InvalidArgumentException", reason: "invalid_argument",
			message: "This operation is not permitted on " + kind + " delivery stream type."}
	}
	if refusal, ok := errors.AsType[*record.Refusal](err); ok {
		return errRefused(refusal)
	}
	reason := "internal"
	if ctx.Err() != nil {
		reason = "canceled"
	}
	return &apiError{status: http.StatusInternalServerError, code: "InternalFailure",
		message: "The call failed. Its records may or may not have been stored.", reason: reason, cause: err}
}

// fail answers with err, counts it, and logs it where someone must act.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, op string, err error) {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		e = &apiError{status: http.StatusInternalServerError, code: "InternalFailure", message: "The call failed.", reason: "internal", cause: err}
	}
	h.metrics.Refused(op, e.reason)
	if e.reason == "internal" {
		h.o.Log.ErrorContext(r.Context(), "a call of the Firehose API failed", "operation", op, "err", e.cause)
	}
	switch e.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	}
	if e.close {
		w.Header().Set("Connection", "close")
	} else if r.Header.Get("Expect") == "" {
		// A client that is still sending would see a broken connection instead of the answer.
		_, _ = io.CopyN(io.Discard, h.pace(w, r), MaxBody)
	}
	body, err := json.Marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
		Code    string `json:"code,omitempty"`
	}{e.code, e.message, e.detail})
	if err != nil {
		panic("bug: an error answer cannot be encoded: " + err.Error())
	}
	writeAnswer(w, e.status, body)
}

func writeAnswer(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone does not want it
}
