package firehose

import (
	"fmt"
	"strings"
)

// Faults collects what breaks the shapes of the API's model, in the order of the model. The service checks
// all of that before it looks at what a call means, or whether its stream exists.
type Faults []string

// Add notes that the member at path breaks a constraint. Values are not told: some are secret.
func (f *Faults) Add(path, constraint string) {
	*f = append(*f, "Value at '"+path+"' failed to satisfy constraint: "+constraint)
}

// NotNull is the constraint that a required member breaks by being absent.
const NotNull = "Member must not be null"

// AtMost is the constraint of a "length" or "value" that is more than n.
func AtMost(what string, n int64) string {
	return fmt.Sprintf("Member must have %s less than or equal to %d", what, n)
}

// AtLeast is the constraint of a "length" or "value" that is less than n.
func AtLeast(what string, n int64) string {
	return fmt.Sprintf("Member must have %s greater than or equal to %d", what, n)
}

// Err is the *Error that names all faults, or nil.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	noun := "errors"
	if len(f) == 1 {
		noun = "error"
	}
	return &Error{Code: CodeValidation, Message: fmt.Sprintf("%d validation %s detected: %s", len(f), noun, strings.Join(f, "; "))}
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
