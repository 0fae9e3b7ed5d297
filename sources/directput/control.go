package directput

import (
	"context"
	"errors"
	"net/http"
)

// ControlPlane serves the operations that change streams. It must be safe for concurrent use.
type ControlPlane interface {
	// Control serves one call and returns its answer in JSON, with the number of members in it that nobody
	// knows. body is not valid after it returns. allow is asked whether the caller may do this to the stream that
	// the call is about, before anything is looked up, and its error is returned as it is. Other errors that are
	// not a *ControlError count as failures of the daemon. sees tells of other streams whether an answer may name them.
	Control(ctx context.Context, operation string, body []byte, allow func(stream string) error, sees func(stream string) bool) (answer []byte, unknown int, err error)
}

// ControlError is an answer of a ControlPlane that is not success.
type ControlError struct {
	Status  int    // of HTTP
	Code    string // __type on the wire
	Message string
	Detail  string // member code, or ""
}

func (e *ControlError) Error() string { return e.Code + ": " + e.Message }

// control passes a call on, and has it written down.
func (h *Handler) control(w http.ResponseWriter, r *http.Request, c call) (answer []byte, err error) {
	body, err := h.readBody(w, r, MaxDocument)
	if err != nil {
		return nil, err
	}
	defer body.free()
	if err := c.confirm(&body); err != nil {
		return nil, err
	}
	var stream string // once the plane knows it
	answer, err = h.passOn(r, c, body.bytes, &stream)
	h.record(r, c, stream, w.Header().Get("X-Amzn-Requestid"), err)
	return answer, err
}

func (h *Handler) passOn(r *http.Request, c call, body []byte, stream *string) ([]byte, error) {
	op := c.operation
	if h.o.Control == nil {
		return nil, errNotSupported(op)
	}
	answer, unknown, err := h.o.Control.Control(r.Context(), op, body, func(name string) error {
		*stream = name
		return c.authorize(name)
	}, c.sees)
	if unknown > 0 {
		h.metrics.unknown.WithLabelValues(op).Add(float64(unknown))
	}
	if e, ok := errors.AsType[*ControlError](err); ok {
		reason, known := controlReasons[e.Code]
		if !known {
			reason = "other"
		}
		return nil, &apiError{status: e.Status, code: e.Code, message: e.Message, detail: e.Detail, reason: reason}
	}
	return answer, err
}

// controlReasons are the reason labels of refused calls by their codes.
var controlReasons = map[string]string{
	"ValidationException":             "validation",
	"SerializationException":          "serialization",
	"InvalidArgumentException":        "invalid_argument",
	"InvalidParameterValueException":  "invalid_argument",
	"InvalidKMSResourceException":     "encryption",
	"ResourceNotFoundException":       "not_found",
	"ResourceInUseException":          "in_use",
	"LimitExceededException":          "limit",
	"ConcurrentModificationException": "concurrent",
	"AccessDeniedException":           "access",
	"ServiceUnavailableException":     "failing",
	"InternalFailure":                 "internal",
}
