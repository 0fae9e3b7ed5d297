package plainhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"hydrant/access"
	"hydrant/record"
	"hydrant/sources"
)

// apiError is an answer that is not success.
type apiError struct {
	status  int
	code    string
	message string
	reason  string // label of put_refused_total
	// close: the connection is of no use any more, since its body did not come to its end.
	close bool
	// coming: the client is sending the rest of the body, also where it has asked before.
	coming bool
	cause  error // for the log, or nil
}

func (e *apiError) Error() string { return e.code + ": " + e.message }
func (e *apiError) Unwrap() error { return e.cause }

// Codes and messages of records that were not stored.
const (
	codeUnavailable = "ServiceUnavailableException"
	slowDown        = "Slow down."
	codeTooLong     = "RecordTooLargeException"
)

func errMalformed(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, code: "SerializationException", message: fmt.Sprintf(format, args...), reason: "serialization"}
}

func errInvalid(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, code: "InvalidArgumentException", message: fmt.Sprintf(format, args...), reason: "invalid_argument"}
}

func errTooLarge(format string, args ...any) *apiError {
	return &apiError{status: http.StatusRequestEntityTooLarge, code: "RequestEntityTooLargeException", message: fmt.Sprintf(format, args...), reason: "too_large"}
}

// errBodyTooLarge is the answer to a body that is longer than it may be.
func errBodyTooLarge(coming bool) error {
	e := errTooLarge("The body is longer than %d bytes. Send the records in several requests.", MaxBody)
	e.coming = coming
	return e
}

func errDecodedTooLarge() error {
	return errTooLarge("The body holds more than %d bytes when it is decompressed. Send the records in several requests.", MaxBody)
}

func errUnsupported(format string, args ...any) error {
	return &apiError{status: http.StatusUnsupportedMediaType, code: "UnsupportedMediaTypeException", message: fmt.Sprintf(format, args...), reason: "content_type"}
}

// errAccess is the answer to a request that is refused because of who sent it.
func errAccess(err error) error {
	e, ok := errors.AsType[*access.Error](err)
	if !ok {
		return err
	}
	return &apiError{status: e.HTTPStatus(), code: e.Code, message: e.Message, reason: "access"}
}

// errBody is the answer to a body that did not arrive.
func errBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &apiError{status: http.StatusRequestTimeout, code: "RequestTimeoutException",
			message: "The body did not arrive in time.", reason: "timeout", close: true, cause: err}
	}
	return &apiError{status: http.StatusBadRequest, code: "SerializationException",
		message: "The body ended early.", reason: "serialization", close: true, cause: err}
}

// errRefused is the answer to a call of which nothing was kept.
func errRefused(refusal *record.Refusal) error {
	message := slowDown
	if refusal.Message != "" && refusal.Reason != "rate" {
		message += " " + refusal.Message
	}
	return &apiError{status: http.StatusServiceUnavailable, code: codeUnavailable, message: message, reason: refusal.Reason}
}

// errAppend translates what an Appender said.
func errAppend(ctx context.Context, stream string, err error) error {
	if notFound, ok := errors.AsType[*record.NotFound](err); ok {
		if notFound.Inactive {
			return &apiError{status: http.StatusNotFound, code: "ResourceNotFoundException", reason: "inactive",
				message: fmt.Sprintf("Stream %s takes no records any more: it was deleted or taken out of the configuration, and only what it holds is still delivered.", stream)}
		}
		return &apiError{status: http.StatusNotFound, code: "ResourceNotFoundException", reason: "not_found",
			message: fmt.Sprintf("There is no stream %s.", strconv.Quote(stream))}
	}
	if sourced, ok := errors.AsType[*record.Sourced](err); ok {
		return &apiError{status: http.StatusBadRequest, code: "InvalidArgumentException", reason: "invalid_argument",
			message: fmt.Sprintf("Stream %s takes its records from %s: write them there, or put them to a stream without a source.", sourced.Stream, sourced.Source)}
	}
	if refusal, ok := errors.AsType[*record.Refusal](err); ok {
		return errRefused(refusal)
	}
	if _, ok := errors.AsType[*record.KeyReused](err); ok {
		return &apiError{status: http.StatusUnprocessableEntity, code: "IdempotentParameterMismatchException", reason: "invalid_argument",
			message: "This Idempotency-Key was sent with another body less than 5 minutes ago. Draw a new key for each new request."}
	}
	reason := "internal"
	if ctx.Err() != nil {
		reason = "canceled"
	}
	return &apiError{status: http.StatusInternalServerError, code: "InternalFailure",
		message: "The request failed. Its records may or may not have been stored.", reason: reason, cause: err}
}

// maxRest is how much of a body that is not wanted is read, so that the client comes to read the answer.
const maxRest = 4 * MaxBody

// fail answers with err, counts it, and logs it where someone must act.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		e = &apiError{status: http.StatusInternalServerError, code: "InternalFailure", message: "The request failed.", reason: "internal", cause: err}
	}
	h.o.Metrics.Refused(sources.PlainHTTP, e.reason)
	if e.reason == "internal" {
		h.o.Log.ErrorContext(r.Context(), "a request of the plain API failed", "err", e.cause)
	}
	switch e.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusUnsupportedMediaType:
		w.Header().Set("Accept", mediaNDJSON+", "+mediaJSON)
		w.Header().Set("Accept-Encoding", "gzip, zstd, identity")
	}
	if !e.close && (e.coming || r.Header.Get("Expect") == "") {
		// A client that is still sending would see a broken connection instead of the answer.
		_, err := io.CopyN(io.Discard, h.pace(w, r), maxRest)
		e.close = err != io.EOF
	}
	if e.close {
		w.Header().Set("Connection", "close")
	}
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{e.code, e.message})
	if err != nil {
		panic("bug: an error answer cannot be encoded: " + err.Error())
	}
	writeAnswer(w, e.status, body)
}

func writeAnswer(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", mediaJSON)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone does not want it
}
