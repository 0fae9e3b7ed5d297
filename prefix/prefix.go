// Package prefix is the language of object name prefixes: literals with !{namespace:value} expressions.
// A configured text flows in, a checked Template comes out, and a Template evaluates to the first part of
// an object's key. It is pure: the same values give the same text, before and after a crash, except for
// firehose:random-string, which is drawn once and fixed in a manifest.
package prefix

import (
	"io"
	"time"
)

// Kind says which rules a template obeys.
type Kind uint8

const (
	Prefix            Kind = iota // of data objects
	ErrorOutputPrefix             // of error objects
)

// MaxEvaluated is the longest evaluated text of an explicit prefix, in characters, as in Firehose.
const MaxEvaluated = 512

// Template is a parsed prefix. Immutable, safe for concurrent use.
type Template struct{ _ int }

// Values are what expressions stand for.
type Values struct {
	Time            time.Time // in the zone in which it is to be printed
	ErrorOutputType string    // processing-failed, ...; error prefixes only
}

// Parse checks text and compiles it. Its errors have Firehose's messages and the byte offset.
func Parse(text string, kind Kind) (*Template, error) { panic("bug: not built yet") }

// HasExpressions tells whether any !{...} stands in the text; where none does, yyyy/MM/dd/HH/ is appended
// by evaluation (for error prefixes <error-output-type>/yyyy/MM/dd/HH/).
func (t *Template) HasExpressions() bool { panic("bug: not built yet") }

// Route is the evaluated text with every random-string left as it is written: rows with equal routes may
// share an object.
func (t *Template) Route(v Values) string { panic("bug: not built yet") }

// SameRoute is the span around v.Time, [from, until), in which Route is certain to be the same. It may be
// shorter than the true span, never longer; at least the second of v.Time.
func (t *Template) SameRoute(v Values) (from, until time.Time) { panic("bug: not built yet") }

// Eval is the evaluated text; random strings are drawn from rand.
func (t *Template) Eval(v Values, rand io.Reader) (string, error) { panic("bug: not built yet") }

// String is the text that was parsed.
func (t *Template) String() string { panic("bug: not built yet") }

// ValidatePair checks the rules that need both texts (spec of Firehose: an error prefix is needed when the
// prefix has expressions; strict is for API requests, where the default does not stand in).
func ValidatePair(prefix, errorOutputPrefix string, strict bool) error { panic("bug: not built yet") }
