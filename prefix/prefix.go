// Package prefix is the language of object name prefixes: literals with !{namespace:value} expressions.
// A configured text flows in, a checked Template comes out, and a Template evaluates to the first part of
// an object's key. It is pure: the same values give the same text, before and after a crash, except for
// firehose:random-string, which is drawn once and fixed in a manifest.
//
// Values of partition keys come from records, so what a value could do to a key is undone as it is printed: see
// Unescape. The patterns of timestamps serve in the other direction too: a TimeReader reads what they print.
//
// Time has a resolution of one second, as in Firehose: fractions (S, n, A, N) are printed as zeros.
package prefix

import (
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says which rules a template obeys.
type Kind uint8

const (
	Prefix            Kind = iota // of data objects
	ErrorOutputPrefix             // of error objects
	PartitionedPrefix             // of data objects of a stream with dynamic partitioning
)

// String is the name by which messages call the kind.
func (k Kind) String() string {
	if k == ErrorOutputPrefix {
		return "ErrorOutputPrefix"
	}
	return "Prefix"
}

// MaxEvaluated is the longest evaluated text of an explicit prefix, in UTF-16 code units as the service
// counts characters. A date that evaluation appends by itself is not counted.
const MaxEvaluated = 512

// RandomLength is the number of characters of firehose:random-string.
const RandomLength = 11

// Template is a parsed prefix. Immutable, safe for concurrent use.
type Template struct {
	text  string
	kind  Kind
	parts []part
	exprs bool // the text has expressions
	unit  unit // the finest unit of time that the evaluated text shows
	keys  []Key
}

// Namespace is where a partition key comes from.
type Namespace string

const (
	FromQuery  Namespace = "partitionKeyFromQuery"  // a jq expression
	FromLambda Namespace = "partitionKeyFromLambda" // a function's answer
)

// Key is a partition key that a template prints.
type Key struct {
	Namespace Namespace
	Name      string
}

// String is the key's expression.
func (k Key) String() string { return "!{" + string(k.Namespace) + ":" + k.Name + "}" }

// part is a piece of a template. Exactly one of its fields says what it is.
type part struct {
	literal   string
	date      *datePattern
	random    bool
	errorType bool
	key       int    // 1 + index in Template.keys
	source    string // of an expression: as it is written
}

// Values are what expressions stand for.
type Values struct {
	Time            time.Time // in the zone in which it is to be printed
	ErrorOutputType string    // processing-failed, ...; error prefixes only
	Keys            []string  // values of partition keys, in the order of Template.Keys
}

// HasExpressions tells whether any !{...} stands in the text; where none does, yyyy/MM/dd/HH/ is appended
// by evaluation (for error prefixes <error-output-type>/yyyy/MM/dd/HH/).
func (t *Template) HasExpressions() bool { return t.exprs }

// HasTime tells whether the evaluated text depends on time.
func (t *Template) HasTime() bool { return t.unit != unitForever }

// Keys are the partition keys that the template prints, each once, in the order of the text. The caller does not
// change them.
func (t *Template) Keys() []Key { return t.keys }

// String is the text that was parsed.
func (t *Template) String() string { return t.text }

// Route is the evaluated text with every random-string left as it is written: rows with equal routes may
// share an object. Finish makes the text of an object of it.
func (t *Template) Route(v Values) string {
	dst := make([]byte, 0, len(t.text)+32)
	var c civil
	if t.unit != unitForever {
		c = civilOf(v.Time)
	}
	if len(t.keys) > 0 {
		return string(t.print(dst, v, &c))
	}
	for i := range t.parts {
		dst = t.parts[i].append(dst, v, &c)
	}
	return string(dst)
}

// print is the route with values of partition keys, which need care where they meet other text.
func (t *Template) print(dst []byte, v Values, c *civil) []byte {
	w := writer{dst: dst}
	var buf [64]byte
	for i := range t.parts {
		if p := &t.parts[i]; p.key > 0 {
			w.value(v.Keys[p.key-1])
		} else {
			w.text(p.append(buf[:0], v, c))
		}
	}
	return w.end()
}

// append adds the evaluated part; a random string stays as it is written.
func (p *part) append(dst []byte, v Values, c *civil) []byte {
	switch {
	case p.date != nil:
		return p.date.append(dst, c)
	case p.errorType:
		return append(dst, v.ErrorOutputType...)
	case p.random:
		return append(dst, p.source...)
	}
	return append(dst, p.literal...)
}

// Eval is the evaluated text; random strings are drawn from rand, anew for each occurrence. Its errors:
// *Error when the text is longer than MaxEvaluated, or what rand says.
func (t *Template) Eval(v Values, rand io.Reader) (string, error) { return t.Finish(t.Route(v), rand) }

// Finish makes the evaluated text of a route of this template: random strings are drawn from rand, anew for each
// occurrence. Errors are as Eval's.
func (t *Template) Finish(route string, rand io.Reader) (string, error) {
	if !t.exprs { // Parse has measured the text; the date that is appended to it does not count
		return route, nil
	}
	dst := make([]byte, 0, len(route))
	for {
		head, tail, more := strings.Cut(route, randomSource)
		dst = append(dst, head...)
		if !more {
			break
		}
		route = tail
		var raw [(RandomLength + 1) / 2]byte
		if _, err := io.ReadFull(rand, raw[:]); err != nil {
			return "", fmt.Errorf("draw the random string of prefix %q: %w", t.text, err)
		}
		var printed [2 * len(raw)]byte
		hex.Encode(printed[:], raw[:])
		dst = append(dst, printed[:RandomLength]...)
	}
	if tooLong(dst) {
		return "", &Error{Kind: t.kind, Message: tooLongMessage(t.kind)}
	}
	return string(dst), nil
}

// tooLong tells whether text has more than MaxEvaluated UTF-16 code units.
func tooLong(text []byte) bool {
	if len(text) <= MaxEvaluated {
		return false
	}
	units := 0
	for len(text) > 0 && units <= MaxEvaluated {
		r, size := utf8.DecodeRune(text)
		units++
		if r > 0xFFFF {
			units++
		}
		text = text[size:]
	}
	return units > MaxEvaluated
}

func tooLongMessage(k Kind) string {
	if k == ErrorOutputPrefix {
		return fmt.Sprintf("Length of evaluated ErrorOutputPrefix cannot be greater than %d", MaxEvaluated)
	}
	return fmt.Sprintf("Length of evaluated prefix cannot be greater than %d", MaxEvaluated)
}

// The whole seconds since 1970 whose microseconds fit an int64.
const (
	firstSecond = math.MinInt64 / 1_000_000
	lastSecond  = math.MaxInt64 / 1_000_000
)

// SameRoute is the span around v.Time, [from, until), in which Route is certain to be the same. It may be
// shorter than the true span, never longer; at least the second of v.Time. Where nothing depends on time
// it is all instants whose microseconds since 1970 fit an int64.
func (t *Template) SameRoute(v Values) (from, until time.Time) {
	loc := v.Time.Location()
	second := v.Time.Unix()
	lo, hi := int64(firstSecond), int64(lastSecond)
	if t.unit != unitForever {
		// Within one period of the zone's rules local time is instant + offset, so spans of local time are
		// spans of instants; a change of the rules ends a span early.
		_, offset := v.Time.Zone()
		begin, end := v.Time.ZoneBounds()
		lo, hi = t.unit.span(second + int64(offset))
		lo, hi = max(lo-int64(offset), firstSecond), min(hi-int64(offset), lastSecond)
		if !begin.IsZero() {
			lo = max(lo, begin.Unix())
		}
		if !end.IsZero() {
			hi = min(hi, end.Unix())
		}
	}
	lo, hi = min(lo, second), max(hi, second+1)
	return time.Unix(lo, 0).In(loc), time.Unix(hi, 0).In(loc)
}
