package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"hydrant/sinks"
)

// Codes of failures, which are Firehose's where it has them.
const (
	codeTimeout     = "HttpEndpoint.RequestTimeout"
	codeTooLarge    = "HttpEndpoint.ResponseTooLarge"
	codeInvalid     = "HttpEndpoint.InvalidResponseFromDestination"
	codeException   = "HttpEndpoint.DestinationException"
	codeReason      = "HttpEndpoint.ResponseReasonPhraseExceededLimit"
	codeUnreachable = "HttpEndpoint.ConnectionFailed"
	codeReset       = "HttpEndpoint.ConnectionReset"
	codeHandshake   = "HttpEndpoint.SSLHandshakeFailure"
	codeCertificate = "HttpEndpoint.SSLHandshakeCertificatePathValidationFailure"
	codeMalformed   = "HttpEndpoint.IllegalResponseFailure"
	codeSecret      = "Hydrant.SecretUnreadable"
)

// maxTold is how much of an answer a message shows.
const maxTold = 2 << 10

// attempt is one Put.
type attempt struct {
	sink    *Sink
	secrets Secrets
	id      string
	body    *body
}

// failure of the attempt. told is for the error output; err for logs.
func (a *attempt) failure(class sinks.Class, code, told string, after time.Duration) *sinks.Error {
	told = a.scrub(told)
	return &sinks.Error{Class: class, Code: code, After: after, Message: told, Err: fmt.Errorf("post to %s: %s (%s)", a.sink.where, told, code)}
}

// scrub takes out of a text what must not be read: an endpoint may echo what it got.
func (a *attempt) scrub(text string) string {
	const redacted = "**redacted**"
	hide := func(secret string) {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, redacted)
		}
	}
	hide(a.secrets.AccessKey)
	for _, h := range a.secrets.Headers {
		hide(h[1])
		if _, token, ok := strings.Cut(h[1], " "); ok { // Bearer ...
			hide(token)
		}
	}
	return text
}

// judge says what an answer means.
func (a *attempt) judge(r *http.Response, text []byte) error {
	after := retryAfter(r.Header, time.Now())
	answered := func(what string) string {
		shown := text
		if len(shown) > maxTold {
			shown = shown[:maxTold]
		}
		return what + " Received the following response from the endpoint destination. " + strings.ToValidUTF8(string(shown), string(utf8.RuneError))
	}
	status := fmt.Sprintf("Status %d.", r.StatusCode)
	reason := strings.TrimSpace(strings.TrimPrefix(r.Status, fmt.Sprint(r.StatusCode)))
	switch {
	case len(text) > maxAnswer:
		return a.failure(sinks.Unknown, codeTooLarge, fmt.Sprintf("%s The response is larger than %d bytes.", status, maxAnswer), after)
	case r.StatusCode == http.StatusRequestEntityTooLarge:
		return a.failure(sinks.TooLarge, codeException, answered(status), after)
	case a.sink.o.Plain && r.StatusCode/100 == 2:
		return nil
	case r.StatusCode == http.StatusOK:
		if utf8.RuneCountInString(reason) > maxReason {
			return a.failure(sinks.Unknown, codeReason, fmt.Sprintf("The reason phrase of the response has more than %d characters.", maxReason), after)
		}
		if problem := a.wrong(r, text); problem != "" {
			return a.failure(sinks.Unknown, codeInvalid, answered("The response is no valid one: "+problem), after)
		}
		return nil
	case r.StatusCode/100 == 3:
		return a.failure(sinks.RefusedDestination, codeException, answered(status+" Redirections are not followed; correct the url."), after)
	}
	return a.failure(classOf(r.StatusCode), codeException, answered(status), after)
}

// classOf is what a status other than those with a meaning of their own says. The endpoint may have the request where it
// is at fault itself.
func classOf(status int) sinks.Class {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusGone, http.StatusUnsupportedMediaType:
		return sinks.RefusedDestination
	case http.StatusRequestTimeout, http.StatusConflict:
		return sinks.Unknown
	}
	if status/100 == 4 || status == http.StatusServiceUnavailable {
		return sinks.NotStored
	}
	return sinks.Unknown
}

// wrong tells what keeps an answer of status 200 from saying that the request was taken; "" where nothing does.
func (a *attempt) wrong(r *http.Response, text []byte) string {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return fmt.Sprintf("its Content-Type is %.100q, not application/json.", r.Header.Get("Content-Type"))
	}
	if c := r.Header.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return fmt.Sprintf("it has Content-Encoding %.100q.", c)
	}
	var doc struct {
		RequestID *string         `json:"requestId"`
		Timestamp json.RawMessage `json:"timestamp"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return "its body is not the JSON that is expected."
	}
	switch {
	case doc.RequestID == nil:
		return "it has no requestId."
	case *doc.RequestID != a.id:
		return fmt.Sprintf("its requestId %.100q is not that of the request, %q.", *doc.RequestID, a.id)
	}
	var at json.Number
	if len(doc.Timestamp) == 0 || doc.Timestamp[0] == '"' || json.Unmarshal(doc.Timestamp, &at) != nil || at == "" {
		return "its timestamp is not a number."
	}
	return ""
}

// failed says what an attempt without an answer means. ctx is the caller's, bounded the one with the time-out.
func (a *attempt) failed(ctx, bounded context.Context, err error) error {
	err = a.body.explain(err)
	where := a.sink.where
	_, reading := errors.AsType[*readError](err)
	switch {
	case errors.Is(err, errDamaged):
		return &sinks.Error{Class: sinks.Damaged, Code: "Damaged", Err: fmt.Errorf("post to %s: %w", where, err)}
	case reading:
		return &sinks.Error{Class: sinks.NotStored, Err: fmt.Errorf("post to %s: %w", where, err)}
	case ctx.Err() != nil:
		return &sinks.Error{Class: sinks.Unknown, Err: fmt.Errorf("post to %s: %w", where, ctx.Err())}
	case bounded.Err() != nil, isTimeout(err):
		return a.failure(sinks.Unknown, codeTimeout, fmt.Sprintf("The request was not answered within %s.", a.sink.o.Timeout), 0)
	}
	class, code := sinks.Unknown, codeReset
	switch {
	case isCertificate(err):
		class, code = sinks.RefusedDestination, codeCertificate
	case isHandshake(err):
		class, code = sinks.RefusedDestination, codeHandshake
	case isDial(err):
		class, code = sinks.NotStored, codeUnreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.Contains(err.Error(), "EOF"):
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "server response headers exceeded"), strings.Contains(err.Error(), "HTTP response"):
		code = codeMalformed
	}
	return a.failure(class, code, "No response: "+err.Error()+".", 0)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

func isDial(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "dial" || e.Op == "proxyconnect") {
		return true
	}
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

func isCertificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}

func isHandshake(err error) bool {
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok || strings.Contains(err.Error(), "tls: ")
}
