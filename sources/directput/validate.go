package directput

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// faults collects what breaks the shapes of the API's model. The service checks all of that before it
// looks at what a call means, or whether its stream exists.
type faults []string

// add notes that the member at path breaks a constraint.
func (f *faults) add(path, constraint string) {
	*f = append(*f, "Value at '"+path+"' failed to satisfy constraint: "+constraint)
}

const notNull = "Member must not be null"

func atMost(what string, n int) string {
	return fmt.Sprintf("Member must have %s less than or equal to %d", what, n)
}
func atLeast(what string, n int) string {
	return fmt.Sprintf("Member must have %s greater than or equal to %d", what, n)
}

// err is the answer that names all faults, or nil.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	noun := "errors"
	if len(f) == 1 {
		noun = "error"
	}
	return &apiError{status: http.StatusBadRequest, code: "ValidationException", reason: "validation",
		message: fmt.Sprintf("%d validation %s detected: %s", len(f), noun, strings.Join(f, "; "))}
}

// name checks the name of a stream; nil is absent.
func (f *faults) name(path string, name *string, required bool) {
	const allowed = "[a-zA-Z0-9_.-]+"
	f.text(path, name, required, 64, allowed, func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
	})
}

// text checks a string of 1 to most characters, of which each is to be in the pattern; nil is absent.
func (f *faults) text(path string, s *string, required bool, most int, pattern string, in func(c byte) bool) {
	if s == nil {
		if required {
			f.add(path, notNull)
		}
		return
	}
	matches := *s != ""
	for i := 0; i < len(*s) && matches; i++ {
		matches = in((*s)[i])
	}
	if !matches {
		f.add(path, "Member must satisfy regular expression pattern: "+pattern)
	}
	if *s == "" {
		f.add(path, atLeast("length", 1))
	}
	if utf8.RuneCountInString(*s) > most {
		f.add(path, atMost("length", most))
	}
}

// limit checks a number from 1 to most; nil is absent.
func (f *faults) limit(path string, n *int32, most int) {
	switch {
	case n == nil:
	case *n < 1:
		f.add(path, atLeast("value", 1))
	case int(*n) > most:
		f.add(path, atMost("value", most))
	}
}

// enum checks one of a set of words; nil is absent.
func (f *faults) enum(path string, s *string, values []string) {
	if s != nil && !slices.Contains(values, *s) {
		f.add(path, "Member must satisfy enum value set: ["+strings.Join(values, ", ")+"]")
	}
}
