package directput

import (
	"unicode/utf8"

	"hydrant/firehose"
)

// faults collects what breaks the shapes of puts. They are read by a scanner of their own, at the speed of
// memory; those of the other calls are read by the tables of package firehose.
type faults firehose.Faults

// add notes that the member at path breaks a constraint.
func (f *faults) add(path, constraint string) { (*firehose.Faults)(f).Add(path, constraint) }

// err is the answer that names all faults, or nil.
func (f faults) err() error {
	if err := firehose.Faults(f).Err(); err != nil {
		return errDocument(err)
	}
	return nil
}

const notNull = firehose.NotNull

func atMost(what string, n int) string  { return firehose.AtMost(what, int64(n)) }
func atLeast(what string, n int) string { return firehose.AtLeast(what, int64(n)) }

// name checks the name of a stream; nil is absent.
func (f *faults) name(path string, name *string, required bool) {
	if name == nil {
		if required {
			f.add(path, notNull)
		}
		return
	}
	matches := *name != ""
	for i := 0; i < len(*name) && matches; i++ {
		c := (*name)[i]
		matches = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
	}
	if !matches {
		f.add(path, "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+")
	}
	if *name == "" {
		f.add(path, atLeast("length", 1))
	}
	if utf8.RuneCountInString(*name) > 64 {
		f.add(path, atMost("length", 64))
	}
}
