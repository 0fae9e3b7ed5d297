package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"hydrant/access"
)

// guard keeps strangers away, and the web pages that the operator's browser shows. A page of another site may send
// requests here, with the password that the browser remembers; so what changes anything must not come from another
// origin. Where nobody is asked for a password, the name must be a loopback one besides: a page whose own name
// resolves to 127.0.0.1 could otherwise read the answers too.
func (h *Handler) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.o.Access == nil && !access.LoopbackHost(r.Host) {
			fail(w, http.StatusForbidden, fmt.Sprintf("host %q is not a loopback address: ask for 127.0.0.1 or localhost", r.Host))
			return
		}
		if err := origin.Check(r); err != nil {
			fail(w, http.StatusForbidden, "the request comes from a page of another site")
			return
		}
		if h.o.Access != nil {
			who, err := h.begin(r)
			if err != nil {
				refuse(w, err)
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, who))
		}
		next.ServeHTTP(w, r)
	})
}

// begin takes the token as Authorization: Bearer, and as the password of any user, which is how browsers send it.
func (h *Handler) begin(r *http.Request) (*access.Caller, error) {
	if _, password, ok := r.BasicAuth(); ok && !h.o.Access.Open() {
		return h.o.Access.Bearer(r, password)
	}
	return h.o.Access.Begin(r)
}

type callerKey struct{}

func callerOf(r *http.Request) *access.Caller {
	c, _ := r.Context().Value(callerKey{}).(*access.Caller)
	return c
}

// refuse answers a request that is refused because of who sent it.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusForbidden
	if e, ok := errors.AsType[*access.Error](err); ok {
		status, err = e.HTTPStatus(), errors.New(e.Message)
	}
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Basic realm="hydrant", charset="UTF-8"`)
		w.Header().Add("WWW-Authenticate", `Bearer realm="hydrant"`)
	}
	fail(w, status, err.Error())
}

// allowed serves only those who may do this.
func allowed(operation string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c := callerOf(r); c != nil {
			if err := c.Authorize(operation, r.PathValue("name")); err != nil {
				refuse(w, err)
				return
			}
		}
		next(w, r)
	}
}

// audited is allowed, and writes down what came of it.
func (h *Handler) audited(operation string, next http.HandlerFunc) http.HandlerFunc {
	next = allowed(operation, next)
	return func(w http.ResponseWriter, r *http.Request) {
		id, caller := uuid.NewString(), "anonymous"
		if c := callerOf(r); c != nil {
			caller = c.Name()
		}
		w.Header().Set("X-Request-Id", id)
		s := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		next(s, r)
		outcome := "ok"
		if s.code != http.StatusOK {
			outcome = fmt.Sprint(s.code)
		}
		h.o.Audit.Record(r.Context(), access.Event{Caller: caller, Operation: operation, Stream: r.PathValue("name"), Outcome: outcome, RequestID: id, Remote: r.RemoteAddr})
	}
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
