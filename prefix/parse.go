package prefix

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The namespaces of expressions.
const (
	nsTimestamp = "timestamp"
	nsFirehose  = "firehose"
	nsQuery     = string(FromQuery)
	nsLambda    = string(FromLambda)
)

// The values of namespace firehose.
const (
	randomString    = "random-string"
	errorOutputType = "error-output-type"
)

// randomSource is the only way to write the expression of a random string.
const randomSource = "!{" + nsFirehose + ":" + randomString + "}"

// MaxKeys is how many partition keys a stream may have, as in Firehose.
const MaxKeys = 50

// appendedDate is what evaluation appends to a text without expressions, by plain concatenation.
const appendedDate = "yyyy/MM/dd/HH/"

// Error is a text that breaks a rule.
type Error struct {
	Kind    Kind
	Message string // as the service words it
	Detail  string // what exactly is wrong, in our words, or ""
	Offset  int    // byte of the text at which the fault begins
}

// Error is the service's message with what is known beyond it.
func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s (at byte %d)", e.Message, e.Offset)
	}
	return fmt.Sprintf("%s (at byte %d: %s)", e.Message, e.Offset, e.Detail)
}

// Parse checks text and compiles it. Its errors are *Error, with Firehose's messages and the byte offset.
// What only the other text of a pair can break is left to ValidatePair.
func Parse(text string, kind Kind) (*Template, error) {
	if i := invalidUTF8(text); i >= 0 {
		return nil, &Error{Kind: kind, Message: kind.String() + " must be valid UTF-8", Offset: i}
	}
	t := &Template{text: text, kind: kind}
	errorTypes := 0
	for off := 0; off < len(text); {
		open := strings.Index(text[off:], "!{")
		if open < 0 {
			t.parts = append(t.parts, part{literal: text[off:]})
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: text[off : off+open]})
		}
		off += open
		p, key, end, err := parseExpression(text, off, kind)
		if err != nil {
			return nil, err
		}
		if key != (Key{}) {
			if p.key = 1 + slices.Index(t.keys, key); p.key == 0 {
				t.keys = append(t.keys, key)
				p.key = len(t.keys)
			}
			if len(t.keys) > MaxKeys {
				return nil, &Error{Kind: kind, Message: fmt.Sprintf("Prefix cannot have more than %d partition keys", MaxKeys), Offset: off}
			}
		}
		if p.errorType {
			errorTypes++
		}
		t.parts = append(t.parts, p)
		t.exprs = true
		off = end
	}
	if kind == ErrorOutputPrefix && t.exprs && errorTypes == 0 {
		return nil, &Error{Kind: kind, Message: "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}"}
	}
	explicit := len(t.parts)
	if !t.exprs {
		if kind == ErrorOutputPrefix {
			t.parts = append(t.parts, part{errorType: true}, part{literal: "/"})
		}
		date, err := compileDate(appendedDate)
		if err != nil {
			panic("bug: the appended date does not compile: " + err.Error())
		}
		t.parts = append(t.parts, part{date: date})
	}
	shortest := 0
	for i, p := range t.parts {
		if p.date != nil {
			t.unit = max(t.unit, p.date.unit)
		}
		if i < explicit {
			shortest += p.minLength()
		}
	}
	if shortest > MaxEvaluated {
		return nil, &Error{Kind: kind, Message: tooLongMessage(kind), Detail: fmt.Sprintf("it has at least %d characters", shortest)}
	}
	return t, nil
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(text string) int {
	if utf8.ValidString(text) {
		return -1
	}
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}

// minLength is the fewest characters to which the part evaluates.
func (p *part) minLength() int {
	switch {
	case p.date != nil:
		return p.date.min
	case p.random:
		return RandomLength
	case p.errorType:
		return 0
	case p.key > 0:
		return 1
	}
	return utf16Length(p.literal)
}

// utf16Length is the length of valid UTF-8 in UTF-16 code units.
func utf16Length(s string) int {
	n := utf8.RuneCountInString(s)
	for _, r := range s {
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// parseExpression reads the expression that begins with "!{" at byte off and returns the offset behind it.
func parseExpression(text string, off int, kind Kind) (p part, key Key, end int, err error) {
	fail := func(at int, message, detail string, args ...any) (part, Key, int, error) {
		return part{}, Key{}, 0, &Error{Kind: kind, Message: message, Detail: fmt.Sprintf(detail, args...), Offset: at}
	}
	const usage = "Invalid expression usage"
	unknown := "Invalid conversion character used in the value of the expression in " + kind.String()

	length := strings.IndexByte(text[off:], '}')
	if length < 0 {
		return fail(off, usage, "!{ is not closed by }")
	}
	end = off + length + 1
	source := text[off:end]
	inner := source[2:length]
	if nested := strings.Index(inner, "!{"); nested >= 0 {
		return fail(off+2+nested, usage, "!{ stands inside an expression")
	}
	namespace, value, colon := strings.Cut(inner, ":")
	if !colon {
		return fail(off, usage, "%s is not !{namespace:value}", source)
	}
	at := off + 2 + len(namespace) + 1 // of the value
	p.source = source
	switch namespace {
	case nsTimestamp:
		if value == "" {
			return fail(at, usage, "%s has no pattern", source)
		}
		date, err := compileDate(value)
		if err != nil {
			return fail(at+err.offset, unknown, "%s", err.detail)
		}
		p.date = date
	case nsFirehose:
		switch value {
		case randomString:
			p.random = true
		case errorOutputType:
			if kind != ErrorOutputPrefix {
				return fail(off, "Prefix must not contain any occurrence of !{firehose:error-output-type}", "it is known of error objects only")
			}
			p.errorType = true
		default:
			return fail(at, unknown, "%q is neither %s nor %s", value, randomString, errorOutputType)
		}
	case nsQuery, nsLambda:
		if kind == ErrorOutputPrefix {
			return fail(off, "Dynamic Partitioning Namespaces can't be part of an error prefix expression", "%s", source)
		}
		if value == "" {
			return fail(at, usage, "%s names no key", source)
		}
		if kind != PartitionedPrefix {
			return fail(off, source+" is known where objects are partitioned only", "give the stream `partition`, or take it out: records in a backup are not partitioned")
		}
		key = Key{Namespace(namespace), value}
	default:
		known := nsTimestamp + " and " + nsFirehose
		if kind == PartitionedPrefix {
			known = strings.Join([]string{nsTimestamp, nsFirehose, nsQuery}, ", ") + " and " + nsLambda
		}
		return fail(off+2, "Namespace to the left of colon ("+namespace+") is an invalid keyword!", "known are %s", known)
	}
	return p, key, end, nil
}
