package directput

import (
	"errors"
	"net/http"

	"hydrant/access"
)

// call is one call of the API, with who makes it.
type call struct {
	operation string
	who       *access.Caller // nil: nobody is asked
}

// begin tells who calls, as far as the headers prove it. No body is read for a stranger.
func (h *Handler) begin(r *http.Request, op string) (call, error) {
	c := call{operation: op}
	if h.o.Access == nil {
		return c, nil
	}
	var err error
	c.who, err = h.o.Access.Begin(r)
	return c, errAccess(err)
}

// confirm proves the caller by the body.
func (c call) confirm(b *body) error {
	if c.who == nil {
		return nil
	}
	return errAccess(c.who.Confirm(b.sum()))
}

// authorize tells whether the caller may do this to a stream, which need not exist; "" is all streams.
func (c call) authorize(stream string) error {
	if c.who == nil {
		return nil
	}
	return errAccess(c.who.Authorize(c.operation, stream))
}

// sees tells whether the caller may know that there is a stream.
func (c call) sees(stream string) bool { return c.who == nil || c.who.Sees(stream) }

// caller is who it is, for logs.
func (c call) caller() string {
	if c.who == nil {
		return "anonymous"
	}
	return c.who.Name()
}

// errAccess is the answer to a request that is refused because of who sent it.
func errAccess(err error) error {
	e, ok := errors.AsType[*access.Error](err)
	if !ok {
		return err
	}
	return &apiError{status: e.JSONStatus(), code: e.Code, message: e.Message, reason: "access"}
}

// record writes down a call that changes streams.
func (h *Handler) record(r *http.Request, c call, stream, requestID string, err error) {
	if !access.IsAdministrative(c.operation) {
		return
	}
	outcome := "ok"
	if e, ok := errors.AsType[*apiError](err); ok {
		outcome = e.code
	} else if err != nil {
		outcome = "InternalFailure"
	}
	h.o.Audit.Record(r.Context(), access.Event{Caller: c.caller(), Operation: c.operation, Stream: stream, Outcome: outcome, RequestID: requestID, Remote: r.RemoteAddr})
}
