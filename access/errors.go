package access

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
)

// Error is why a request is refused, in the words of AWS. It holds no secret.
type Error struct {
	Code    string // exception of AWS's protocols
	Message string // for the caller
	Reason  string // label of hydrant_rejected_requests_total
	Claimed string // id of the key, or name of the token, that the request claims to be of; "" where none is known
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Exceptions.
const (
	codeMissing      = "MissingAuthenticationTokenException"
	codeIncomplete   = "IncompleteSignatureException"
	codeInvalid      = "InvalidSignatureException"
	codeUnrecognized = "UnrecognizedClientException"
	codeExpired      = "ExpiredTokenException"
	codeDenied       = "AccessDeniedException"
)

// Messages that AWS words like this.
const (
	messageMissing      = "Missing Authentication Token"
	messageInvalidToken = "The security token included in the request is invalid."
	messageExpired      = "The security token included in the request is expired"
	messageMismatch     = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)

// Reasons.
const (
	reasonMissing    = "missing"    // no signature and no token
	reasonIncomplete = "incomplete" // a signature that cannot be read
	reasonSignature  = "signature"  // does not fit the request and the key
	reasonScope      = "scope"      // made for another service or day
	reasonClock      = "clock"      // too old, or from the future
	reasonKey        = "key"        // unknown access key id, or a wrong session token
	reasonToken      = "token"      // unknown bearer token
	reasonExpired    = "expired"    // key or token past its time
	reasonDenied     = "denied"     // known, and not allowed to do this
	reasonHost       = "host"       // a name that is not a loopback one, on a listener that asks for no key
)

func reasons() []string {
	return []string{reasonMissing, reasonIncomplete, reasonSignature, reasonScope, reasonClock, reasonKey, reasonToken, reasonExpired, reasonDenied, reasonHost}
}

// JSONStatus is the status with which AWS's JSON protocols answer: always 400.
func (e *Error) JSONStatus() int { return http.StatusBadRequest }

// HTTPStatus is the status for clients that go by it: 401 where another key may help, 403 where it is known who
// calls.
func (e *Error) HTTPStatus() int {
	if e.Reason == reasonDenied || e.Reason == reasonHost {
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

func errIncomplete(message, claimed string) *Error {
	return &Error{Code: codeIncomplete, Message: message, Reason: reasonIncomplete, Claimed: claimed}
}

func errInvalid(reason, claimed, format string, args ...any) *Error {
	return &Error{Code: codeInvalid, Message: fmt.Sprintf(format, args...), Reason: reason, Claimed: claimed}
}

// quoted is what a caller sent, in quotes.
func quoted(s string) string { return "'" + printable(s) + "'" }

// printable is what a caller sent, short enough for a message and without control characters.
func printable(s string) string {
	const most = 128
	cut := len(s) > most
	if cut {
		s = s[:most]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if cut {
		s += "..."
	}
	return s
}
