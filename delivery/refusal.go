package delivery

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"hydrant/buffer"
	"hydrant/sinks"
)

// refusalOf is what the object that tells of one that was given up says about it. attempts are those that were refused.
func refusalOf(err error, attempts int64) buffer.Refusal {
	code, message := codeLoadFailed, err.Error()
	if e, ok := errors.AsType[*sinks.Error](err); ok {
		code, message = cmp.Or(e.Code, code), cmp.Or(e.Message, message)
	}
	return buffer.Refusal{Code: headerText(code, sinks.MaxErrorCode), Message: headerText(message, sinks.MaxErrorMessage), Attempts: attempts}
}

// omitted stands for what a text has more than is kept.
const omitted = " ... "

// headerText is a text in at most most bytes as it may stand in a header: blanks for white space, escapes for what is not ASCII.
// Of a longer one the middle is left out: what was tried stands at its beginning, and which row is bad at its end.
func headerText(s string, most int) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(s), " ") {
		switch {
		case r < ' ' || r == 0x7f:
			b.WriteByte('?')
		case r > 0x7f:
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteByte(byte(r))
		}
	}
	text := b.String()
	if len(text) <= most {
		return text
	}
	head := (most - len(omitted)) / 3
	tail := most - len(omitted) - head
	return strings.TrimRight(text[:head], " ") + omitted + strings.TrimLeft(text[len(text)-tail:], " ")
}
