package firehose

import (
	"encoding/json"
	"strconv"
	"strings"
)

// queryKey is a key of an object that a jq query builds, with the query for its value.
type queryKey struct{ name, value string }

// queryKeys are the keys of a jq query that builds one object with plainly written keys, which nearly all
// queries for partition keys are: {a:.x, "b":(.y|tostring), c}. ok is false for every other query.
func queryKeys(query string) (keys []queryKey, ok bool) {
	q := strings.TrimSpace(query)
	if !strings.HasPrefix(q, "{") || !strings.HasSuffix(q, "}") {
		return nil, false
	}
	q = q[1 : len(q)-1]
	for {
		q = strings.TrimLeft(q, " \t\r\n")
		if q == "" {
			return keys, len(keys) > 0
		}
		key, rest := readQueryKey(q)
		if key == "" {
			return nil, false
		}
		value, more, end := queryValue(rest)
		if !end {
			return nil, false
		}
		if value = strings.TrimSpace(value); value != "" && value[0] != ':' {
			return nil, false
		}
		if value = strings.TrimSpace(strings.TrimPrefix(value, ":")); value == "" {
			value = valueOf(".", key)
		}
		keys = append(keys, queryKey{key, value})
		if q = more; q == "" {
			return keys, true
		}
		if q = strings.TrimLeft(q[1:], " \t\r\n"); q == "" { // the comma
			return nil, false
		}
	}
}

// valueOf is the query for a member of what another query gives.
func valueOf(query, key string) string {
	text, err := json.Marshal(key)
	if err != nil {
		panic("bug: a text has no JSON: " + err.Error())
	}
	return query + "[" + string(text) + "]" // what JSON escapes jq reads
}

// readQueryKey reads the key that q begins with, a word or a string without interpolation; "" where there is none.
func readQueryKey(q string) (key, rest string) {
	if q[0] == '"' {
		quoted, err := strconv.QuotedPrefix(q)
		if err != nil {
			return "", ""
		}
		key, err := strconv.Unquote(quoted)
		if err != nil {
			return "", ""
		}
		return key, q[len(quoted):]
	}
	n := 0
	for n < len(q) && (q[n] == '_' || 'a' <= q[n]|0x20 && q[n]|0x20 <= 'z' || n > 0 && '0' <= q[n] && q[n] <= '9') {
		n++
	}
	return q[:n], q[n:]
}

// queryValue is what stands before the next comma that is not within brackets or a string, and the rest from
// the comma on; ok is false where brackets or quotes do not close.
func queryValue(q string) (value, rest string, ok bool) {
	depth := 0
	for i := 0; i < len(q); i++ {
		switch q[i] {
		case '"':
			n, closed := stringLength(q[i:])
			if !closed {
				return "", "", false
			}
			i += n - 1
		case '#':
			return "", "", false // a comment
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth < 0 {
				return "", "", false
			}
		case ',':
			if depth == 0 {
				return q[:i], q[i:], true
			}
		}
	}
	return q, "", depth == 0
}

// stringLength is the length of the jq string that q begins with; what is interpolated in it is brackets in a
// string, which may hold strings again.
func stringLength(q string) (n int, closed bool) {
	for i := 1; i < len(q); i++ {
		switch q[i] {
		case '"':
			return i + 1, true
		case '\\':
			i++
			if i < len(q) && q[i] == '(' {
				return 0, false // an interpolation: only jq itself can say
			}
		}
	}
	return 0, false
}
