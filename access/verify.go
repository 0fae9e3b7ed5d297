package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Window is how far the clock of a caller may be from ours, to either side.
const Window = 5 * time.Minute

// pending is a signature that the hash of the body is wanted for.
type pending struct {
	k         *key
	secret    *reading
	s         *signature
	canonical []byte    // request without the hash of the payload; nil: the signature was verified already
	claimed   *[32]byte // the hash that the request names; nil: it names none
	unsigned  bool      // the payload is not signed at all
}

// signed looks at a request that must be signed. Where the request itself names the hash of its payload, the
// signature is verified at once and before the body is read.
func (g *Guard) signed(ring *ring, r *http.Request) (*Caller, *Error) {
	s, err := readSignature(r)
	if err != nil {
		return nil, err
	}
	k := ring.keys[s.key]
	if k == nil {
		return nil, &Error{Code: codeUnrecognized, Message: messageInvalidToken, Reason: reasonKey, Claimed: s.key}
	}
	if err := k.checkSession(s); err != nil {
		return nil, err
	}
	if err := s.checkScope(); err != nil {
		return nil, err
	}
	if err := s.checkClock(time.Now()); err != nil {
		return nil, err
	}
	if err := s.checkHeaders(r.Header); err != nil {
		return nil, err
	}
	p := &pending{k: k, secret: k.secret.now(), s: s}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" && s.presigned {
		payload = r.URL.Query().Get("X-Amz-Content-Sha256")
	}
	if err := p.readPayload(payload, r.TLS != nil); err != nil {
		return nil, err
	}
	canonical, ok := appendCanonical(make([]byte, 0, 1024), r, s)
	if !ok {
		return nil, errIncomplete("The query string cannot be decoded.", s.key)
	}
	p.canonical = canonical
	if payload != "" {
		if err := p.verify(payload); err != nil {
			return nil, err
		}
		p.canonical = nil
	}
	return &Caller{g: g, name: k.ID, kind: "access_key", grant: &k.Grant, tag: k.tag, remote: r.RemoteAddr, pending: p}, nil
}

// checkSession compares the session token with the key's. A key that has none takes no request with one: such a
// request was signed with temporary credentials that this daemon has not given out.
func (k *key) checkSession(s *signature) *Error {
	refused := &Error{Code: codeUnrecognized, Message: messageInvalidToken, Reason: reasonKey, Claimed: s.key}
	switch {
	case k.session == nil && s.session != "":
		return refused
	case k.session != nil:
		want, got := k.session.now().sum, sha256.Sum256([]byte(s.session))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			return refused
		}
	}
	if expired(k.Expires) {
		return &Error{Code: codeExpired, Message: messageExpired, Reason: reasonExpired, Claimed: s.key}
	}
	return nil
}

// checkScope wants this service and the day of the signature. Every region is right: clients of an endpoint of
// one's own name whichever they are set up for.
func (s *signature) checkScope() *Error {
	if s.service != service {
		return errInvalid(reasonScope, s.key, "Credential should be scoped to correct service: '%s'. ", service)
	}
	if s.region == "" || len(s.region) > 64 {
		return errInvalid(reasonScope, s.key, "Credential should be scoped to a valid region. ")
	}
	if day := s.at.Format(dayLayout); s.day != day {
		return errInvalid(reasonScope, s.key, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: %s != '%s', from '%s'.", quoted(s.day), day, s.stamp)
	}
	return nil
}

// checkClock wants the moment of signing within the window, or a presigned request within its own time.
func (s *signature) checkClock(now time.Time) *Error {
	now = now.UTC()
	if latest := now.Add(Window); s.at.After(latest) {
		return errInvalid(reasonClock, s.key, "Signature not yet current: %s is still later than %s (%s + 5 min.)", s.stamp, latest.Format(stampLayout), now.Format(stampLayout))
	}
	if s.presigned {
		if earliest := now.Add(-s.expires); s.at.Before(earliest) {
			return errInvalid(reasonClock, s.key, "Signature expired: %s is now earlier than %s (%s - %d sec.)", s.stamp, earliest.Format(stampLayout), now.Format(stampLayout), int(s.expires.Seconds()))
		}
		return nil
	}
	if earliest := now.Add(-Window); s.at.Before(earliest) {
		return errInvalid(reasonClock, s.key, "Signature expired: %s is now earlier than %s (%s - 5 min.)", s.stamp, earliest.Format(stampLayout), now.Format(stampLayout))
	}
	return nil
}

// checkHeaders wants the host and every x-amz-* header to be signed, so that nobody on the way can change what
// a request asks for.
func (s *signature) checkHeaders(h http.Header) *Error {
	if !slices.Contains(s.headers, "host") {
		return errInvalid(reasonIncomplete, s.key, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range h {
		const prefix = "X-Amz-"
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) && !slices.ContainsFunc(s.headers, func(signed string) bool { return strings.EqualFold(signed, name) }) {
			return errInvalid(reasonIncomplete, s.key, "%s must be a 'SignedHeader' in the AWS Authorization.", quoted(name))
		}
	}
	return nil
}

// readPayload reads what the request says of its payload.
func (p *pending) readPayload(said string, encrypted bool) *Error {
	switch {
	case said == "":
	case said == unsignedPayload && encrypted:
		p.unsigned = true
	case said == unsignedPayload:
		return errInvalid(reasonIncomplete, p.s.key, "An unsigned payload is taken over TLS only.")
	default:
		p.claimed = new([32]byte)
		if n, err := hex.Decode(p.claimed[:], []byte(said[:min(len(said), 64)])); err != nil || n != 32 || len(said) != 64 || strings.ToLower(said) != said {
			return errInvalid(reasonIncomplete, p.s.key, "'X-Amz-Content-Sha256' must be 64 hexadecimal digits in lower case or %s, and is %s.", unsignedPayload, quoted(said))
		}
	}
	return nil
}

// confirm ends the verification with the hash of the body.
func (p *pending) confirm(body [32]byte) *Error {
	if p.canonical == nil {
		if p.unsigned || subtle.ConstantTimeCompare(p.claimed[:], body[:]) == 1 {
			return nil
		}
		return errInvalid(reasonSignature, p.s.key, "The body is not the one that was signed: its SHA-256 is not that of 'X-Amz-Content-Sha256'.")
	}
	var text [64]byte
	hex.Encode(text[:], body[:])
	return p.verify(string(text[:]))
}

// verify compares the signature with the one that the key makes for this hash of the payload.
func (p *pending) verify(payload string) *Error {
	s := p.s
	request := sha256.Sum256(append(p.canonical, payload...))
	text := make([]byte, 0, 256)
	text = append(append(text, algorithm...), '\n')
	text = append(append(text, s.stamp...), '\n')
	text = append(append(text, s.day...), '/')
	text = append(append(text, s.region...), '/')
	text = append(append(text, s.service...), "/"+terminator+"\n"...)
	text = hex.AppendEncode(text, request[:])
	signingKey, cached := p.k.signingKey(p.secret, s)
	sum := mac(signingKey[:], text)
	if subtle.ConstantTimeCompare(sum[:], s.sum[:]) != 1 {
		return errInvalid(reasonSignature, s.key, "%s", messageMismatch)
	}
	if !cached { // only what is proven gets a place, so that strangers cannot crowd the cache
		p.k.remember(derivation{p.secret.sum, s.day, s.region, signingKey})
	}
	return nil
}

func mac(key []byte, text []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	h.Sum(sum[:0])
	return sum
}

// derivation is a signing key with what it was derived from. The service is always the same.
type derivation struct {
	secret      [32]byte // SHA-256 of it
	day, region string
	key         [32]byte
}

// maxDerivations is for two days around midnight in a few regions.
const maxDerivations = 8

// signingKey derives the key of a day and region.
func (k *key) signingKey(secret *reading, s *signature) (out [32]byte, cached bool) {
	if all := k.derived.Load(); all != nil {
		for i := range *all {
			if d := &(*all)[i]; d.day == s.day && d.region == s.region && d.secret == secret.sum {
				return d.key, true
			}
		}
	}
	out = mac([]byte("AWS4"+secret.text), []byte(s.day))
	for _, part := range []string{s.region, s.service, terminator} {
		out = mac(out[:], []byte(part))
	}
	return out, false
}

// remember keeps a signing key, and the latest of those before.
func (k *key) remember(d derivation) {
	old := k.derived.Load()
	next := []derivation{d}
	if old != nil {
		next = append(next, (*old)[:min(len(*old), maxDerivations-1)]...)
	}
	k.derived.CompareAndSwap(old, &next) // somebody else was faster: the next request tries again
}
