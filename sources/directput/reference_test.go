package directput

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// kinds of errors, each with what is in its message and in no other's.
var kinds = map[string]string{
	"utf8": "is not valid UTF-8", "json": "is not JSON", "depth": "nested more than", "type": "must be", "base64": "is not base64", "twice": "a second time",
}

// kindOf is the kind of an error of decodeBatch, "" of nil.
func kindOf(err error) string {
	if err == nil {
		return ""
	}
	for kind, part := range kinds {
		if strings.Contains(err.Error(), part) {
			return kind
		}
	}
	return "unknown: " + err.Error()
}

// slow reads a body by the rules of GRAMMAR.md, one after the other and a character at a time. It has nothing
// in common with the scanner, and panics with the kind of the first error.
type slow struct {
	in     string
	at     int
	single bool
	p      plain
}

// decodeSlowly is what a body says, and the kind of its first error, or "".
func decodeSlowly(body []byte, single bool) (p plain, kind string) {
	if !utf8.Valid(body) {
		return p, "utf8"
	}
	s := &slow{in: string(body), single: single}
	defer func() {
		p = s.p
		if r := recover(); r != nil {
			kind = r.(string)
		}
	}()
	s.body()
	return s.p, ""
}

func must(ok bool, kind string) {
	if !ok {
		panic(kind)
	}
}

// next is the character after white space, as a string; "" at the end.
func (s *slow) next() string {
	for s.at < len(s.in) && strings.Contains(" \t\r\n", s.in[s.at:s.at+1]) {
		s.at++
	}
	return s.in[s.at:min(s.at+1, len(s.in))]
}

// take reads word where it is next.
func (s *slow) take(word string) bool {
	s.next()
	ok := strings.HasPrefix(s.in[s.at:], word)
	if ok {
		s.at += len(word)
	}
	return ok
}

func (s *slow) object(member func(name string)) {
	must(s.take("{"), "json")
	for first := true; !first || !s.take("}"); first = false {
		must(s.next() == `"`, "json")
		name := s.text()
		must(s.take(":"), "json")
		member(name)
		if s.take("}") {
			return
		}
		must(s.take(","), "json")
	}
}

func (s *slow) array(element func()) {
	must(s.take("["), "json")
	for first := true; !first || !s.take("]"); first = false {
		element()
		if s.take("]") {
			return
		}
		must(s.take(","), "json")
	}
}

var (
	stringForm = regexp.MustCompile(`^"([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"`)
	numberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`)
)

func (s *slow) text() (text string) {
	literal := stringForm.FindString(s.in[s.at:])
	must(literal != "" && json.Unmarshal([]byte(literal), &text) == nil, "json")
	s.at += len(literal)
	return text
}

func (s *slow) any(depth int) {
	must(depth <= maxDepth, "depth")
	switch s.next() {
	case "{":
		s.object(func(string) { s.any(depth + 1) })
	case "[":
		s.array(func() { s.any(depth + 1) })
	case `"`:
		s.text()
	default:
		n := numberForm.FindString(s.in[s.at:])
		s.at += len(n)
		must(n != "" || s.take("true") || s.take("false") || s.take("null"), "json")
	}
}

func (s *slow) body() {
	must(s.next() == "{", "json")
	records, seen := "Records", map[string]bool{}
	if s.single {
		records = "Record"
	}
	s.object(func(name string) {
		if name != "DeliveryStreamName" && name != records {
			s.p.unknown++
			s.any(1)
			return
		}
		must(!seen[name], "twice")
		seen[name] = true
		switch {
		case s.take("null"):
		case name == "DeliveryStreamName":
			must(s.next() == `"`, "type")
			s.p.stream = ":" + s.text()
		case s.single:
			s.p.present = true
			s.record()
		default:
			s.p.present = true
			must(s.next() == "[", "type")
			s.array(s.record)
		}
	})
	must(s.next() == "", "json")
}

func (s *slow) record() {
	s.p.count++
	fault := func() {
		if s.p.count <= MaxBatchRecords {
			s.p.faults++
		}
	}
	if s.take("null") {
		fault()
		return
	}
	must(s.next() == "{", "type")
	seen, there := false, false
	s.object(func(name string) {
		if name != "Data" {
			s.p.unknown++
			s.any(3)
			return
		}
		must(!seen, "twice")
		seen = true
		if s.take("null") {
			return
		}
		must(s.next() == `"`, "type")
		there = true
		text := s.text()
		data, err := base64.StdEncoding.DecodeString(text)
		must(err == nil && !strings.ContainsAny(text, "\r\n"), "base64")
		if len(data) > MaxRecordBytes {
			fault()
		}
		s.p.records = append(s.p.records, string(data))
	})
	if !there {
		fault()
	}
}
