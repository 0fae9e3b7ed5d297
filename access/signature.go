package access

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Facts of Signature Version 4, from the AWS General Reference, "AWS Signature Version 4 for API requests".
const (
	algorithm       = "AWS4-HMAC-SHA256"
	terminator      = "aws4_request"
	service         = "firehose"
	stampLayout     = "20060102T150405Z"
	dayLayout       = "20060102"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	maxExpires      = 7 * 24 * time.Hour // of presigned URLs
)

// maxSigned bounds the list of signed headers; clients have 4 to 12.
const maxSigned = 64

// signature is what a request says of how it was signed. Nothing in it is proven.
type signature struct {
	key                  string // access key id
	day, region, service string // credential scope
	headers              []string
	sum                  [32]byte
	stamp                string // ISO 8601 basic, as in the string to sign
	at                   time.Time
	presigned            bool
	expires              time.Duration // presigned only
	session              string        // session token; "": none
}

// readSignature finds the signature in the headers or in the query.
func readSignature(r *http.Request) (*signature, *Error) {
	authorization := r.Header.Get("Authorization")
	query, parsed := presignedQuery(r.URL.RawQuery)
	if !parsed {
		return nil, errIncomplete("The query string cannot be decoded.", "")
	}
	switch has := query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Signature"); {
	case has && authorization != "":
		return nil, &Error{Code: codeInvalid, Reason: reasonIncomplete,
			Message: "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."}
	case has:
		return readPresigned(query)
	case authorization == "":
		return nil, &Error{Code: codeMissing, Message: messageMissing, Reason: reasonMissing}
	}
	s, err := readAuthorization(authorization)
	if err != nil {
		return nil, err
	}
	return s, s.readDate(r.Header)
}

// readAuthorization reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func readAuthorization(text string) (*signature, *Error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if scheme != algorithm {
		return nil, errIncomplete("Authorization header must begin with '"+algorithm+"' or 'Bearer'.", "")
	}
	params := [...]struct{ name, value string }{{name: "Credential"}, {name: "Signature"}, {name: "SignedHeaders"}}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		for i := range params {
			if params[i].name == name {
				ok = ok && params[i].value == ""
				params[i].value = value
			}
		}
		if !ok {
			return nil, errIncomplete(quoted(part)+" not a valid key=value pair (missing equal-sign or given twice) in Authorization header.", "")
		}
	}
	var missing strings.Builder
	for _, p := range params {
		if p.value == "" {
			missing.WriteString("Authorization header requires '" + p.name + "' parameter. ")
		}
	}
	if missing.Len() > 0 {
		return nil, errIncomplete(strings.TrimSuffix(missing.String(), " "), "")
	}
	s := &signature{}
	return s, s.read(params[0].value, params[2].value, params[1].value)
}

// read fills in what both forms have.
func (s *signature) read(credential, headers, sum string) *Error {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 {
		return errIncomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got "+quoted(credential), "")
	}
	s.key, s.day, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
	if s.key == "" {
		return errIncomplete("Credential has an empty access key id.", "")
	}
	if scope[4] != terminator {
		return errInvalid(reasonScope, s.key, "Credential should be scoped with a valid terminator: '%s', not %s.", terminator, quoted(scope[4]))
	}
	s.headers = strings.Split(headers, ";")
	if len(s.headers) > maxSigned {
		return errIncomplete("SignedHeaders has more than "+strconv.Itoa(maxSigned)+" names.", s.key)
	}
	for i, name := range s.headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7F || r >= 'A' && r <= 'Z' || r == ':' }) || slices.Contains(s.headers[:i], name) {
			return errIncomplete("SignedHeaders must be different names in lower case, separated by ';', and has "+quoted(name)+".", s.key)
		}
	}
	if len(sum) != hex.EncodedLen(len(s.sum)) {
		return errInvalid(reasonSignature, s.key, "%s", messageMismatch)
	}
	if _, err := hex.Decode(s.sum[:], []byte(sum)); err != nil {
		return errInvalid(reasonSignature, s.key, "%s", messageMismatch)
	}
	return nil
}

// readDate takes the moment of signing from X-Amz-Date or Date, and the session token.
func (s *signature) readDate(h http.Header) *Error {
	s.session = h.Get("X-Amz-Security-Token")
	if text := h.Get("X-Amz-Date"); text != "" {
		return s.setStamp(text, "X-Amz-Date")
	}
	text := h.Get("Date")
	if text == "" {
		return errIncomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.", s.key)
	}
	if at, err := http.ParseTime(text); err == nil {
		s.at, s.stamp = at.UTC(), at.UTC().Format(stampLayout)
		return nil
	}
	return s.setStamp(text, "Date")
}

func (s *signature) setStamp(text, name string) *Error {
	at, err := time.Parse(stampLayout, text)
	if err != nil || at.Format(stampLayout) != text {
		return errIncomplete("Date must be in ISO-8601 'basic format', like 20150830T123600Z. Got "+quoted(text)+" in '"+name+"'.", s.key)
	}
	s.at, s.stamp = at, text
	return nil
}

// presignedQuery decodes a query, of which no parameter of a signature may be there twice.
func presignedQuery(raw string) (url.Values, bool) {
	if raw == "" {
		return nil, true
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, false
	}
	for name, v := range values {
		if len(v) > 1 && strings.HasPrefix(name, "X-Amz-") {
			return nil, false
		}
	}
	return values, true
}

// readPresigned reads the parameters of a presigned URL.
func readPresigned(q url.Values) (*signature, *Error) {
	var missing strings.Builder
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires"} {
		if q.Get(name) == "" {
			missing.WriteString("AWS query-string parameters must include '" + name + "'. ")
		}
	}
	if missing.Len() > 0 {
		return nil, errIncomplete(missing.String()+"Re-examine the query-string parameters.", "")
	}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return nil, errIncomplete("'X-Amz-Algorithm' must be '"+algorithm+"'.", "")
	}
	s := &signature{presigned: true, session: q.Get("X-Amz-Security-Token")}
	if err := s.read(q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")); err != nil {
		return nil, err
	}
	if err := s.setStamp(q.Get("X-Amz-Date"), "X-Amz-Date"); err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseUint(q.Get("X-Amz-Expires"), 10, 31)
	if err != nil || seconds < 1 || time.Duration(seconds)*time.Second > maxExpires {
		return nil, errIncomplete("'X-Amz-Expires' must be from 1 to "+strconv.Itoa(int(maxExpires.Seconds()))+" seconds, and is "+quoted(q.Get("X-Amz-Expires"))+".", s.key)
	}
	s.expires = time.Duration(seconds) * time.Second
	return s, nil
}
