package access

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// appendCanonical appends the canonical request up to the hash of the payload:
//
//	method \n path \n query \n name:value \n … \n \n names \n
func appendCanonical(b []byte, r *http.Request, s *signature) ([]byte, bool) {
	b = append(append(b, r.Method...), '\n')
	b = append(appendPath(b, r.URL.EscapedPath()), '\n')
	b, ok := appendQuery(b, r.URL.RawQuery, s.presigned)
	if !ok {
		return b, false
	}
	b = append(b, '\n')
	for _, name := range s.headers {
		b = append(append(b, name...), ':')
		b = append(appendHeader(b, r, name), '\n')
	}
	b = append(b, '\n')
	for i, name := range s.headers {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	return append(b, '\n'), true
}

// appendHeader appends a header's values, trimmed, with runs of spaces made one, in the order in which they came.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	var key [64]byte
	values := r.Header[string(appendHeaderKey(key[:0], name))]
	switch {
	case name == "host":
		values = []string{r.Host}
	case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		v = strings.Trim(v, " \t")
		for j := 0; j < len(v); j++ {
			if v[j] != ' ' || v[j-1] != ' ' { // the first is no space, so there is one before
				b = append(b, v[j])
			}
		}
	}
	return b
}

// appendHeaderKey appends a name in lower case in the form in which http.Header has it, which saves a text for each.
func appendHeaderKey(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
		upper = c == '-'
	}
	return b
}

// appendPath appends the path, which is escaped already: without empty and dot segments, and escaped once more,
// as every service but S3 wants it.
func appendPath(b []byte, path string) []byte {
	if path == "/" || path == "" {
		return append(b, '/')
	}
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	for _, segment := range kept {
		b = appendEscaped(append(b, '/'), segment)
	}
	if slash := strings.HasSuffix(path, "/") || strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/.."); slash || len(kept) == 0 {
		b = append(b, '/')
	}
	return b
}

// appendQuery appends the parameters, escaped in one way and sorted by name and then by value, without the
// signature of a presigned request. It is false where the query cannot be decoded.
func appendQuery(b []byte, raw string, presigned bool) ([]byte, bool) {
	if raw == "" {
		return b, true
	}
	type pair struct{ name, value []byte }
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, ok1 := unescape(name)
		v, ok2 := unescape(value)
		if !ok1 || !ok2 {
			return b, false
		}
		if presigned && string(n) == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, pair{appendEscaped(nil, string(n)), appendEscaped(nil, string(v))})
	}
	slices.SortStableFunc(pairs, func(x, y pair) int {
		if c := bytes.Compare(x.name, y.name); c != 0 {
			return c
		}
		return bytes.Compare(x.value, y.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(append(b, p.name...), '='), p.value...)
	}
	return b, true
}

// unescape undoes percent-encoding; a + is a space, as for the clients that write one.
func unescape(s string) ([]byte, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return nil, false
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return nil, false
			}
			out = append(out, byte(n))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out, true
}

// appendEscaped percent-encodes all bytes but A-Z a-z 0-9 - . _ ~
func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
