package kinesis

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Sentinels are values of Checkpoint.Sequence that are no sequence numbers, by the names that lease tables of the Kinesis
// Client Library give them.
const (
	TrimHorizon = "TRIM_HORIZON" // before the oldest record that is kept
	Latest      = "LATEST"       // after the newest; only found in tables of others
	AtTimestamp = "AT_TIMESTAMP" // before the first record that arrived at Checkpoint.Time or later
	ShardEnd    = "SHARD_END"    // after the last record of a closed shard
)

// maxSequence is the most digits of a sequence number that the API allows.
const maxSequence = 128

// Checkpoint is a place in a shard: everything up to it, inclusive, is done with. The zero value is "none".
type Checkpoint struct {
	// Sequence is a sequence number, decimal, or a sentinel.
	Sequence string
	// Sub is the index of the last record done with inside an aggregate of that number. 0 for other records.
	Sub int64
	// Whole says that nothing of that number is left. Tables of others do not know: then the record is read once more and
	// what is at or before Sub is passed over.
	Whole bool
	// Time goes with AtTimestamp.
	Time time.Time
}

// IsZero says that it is none.
func (c Checkpoint) IsZero() bool { return c.Sequence == "" }

// IsNumber says that it is a sequence number and no sentinel.
func (c Checkpoint) IsNumber() bool { return number(c.Sequence) }

// number says whether s is a decimal number.
func number(s string) bool {
	if s == "" || len(s) > maxSequence {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Compare is negative where c is before d, and positive where it is after. Sequence numbers are numbers of any length; ShardEnd
// is after all of them, and the other sentinels, which count as equal, are before them, and none before those.
func (c Checkpoint) Compare(d Checkpoint) int {
	if a, b := c.rank(), d.rank(); a != b || a != rankNumber {
		return a - b
	}
	if n := compareNumbers(c.Sequence, d.Sequence); n != 0 {
		return n
	}
	switch {
	case c.Whole && d.Whole:
		return 0
	case c.Sub != d.Sub:
		// The one that is whole has the index of the last record, where it is known.
		if c.Sub < d.Sub {
			return -1
		}
		return 1
	case c.Whole:
		return 1
	case d.Whole:
		return -1
	}
	return 0
}

// The ranks of what a Checkpoint can be.
const (
	rankNone = iota
	rankStart
	rankNumber
	rankEnd
)

func (c Checkpoint) rank() int {
	switch c.Sequence {
	case "":
		return rankNone
	case TrimHorizon, Latest, AtTimestamp:
		return rankStart
	case ShardEnd:
		return rankEnd
	}
	return rankNumber
}

// compareNumbers compares decimal numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// String is what people and logs see of it.
func (c Checkpoint) String() string {
	switch {
	case c.Sequence == AtTimestamp:
		return AtTimestamp + " " + c.Time.UTC().Format(time.RFC3339Nano)
	case !c.IsNumber():
		return c.Sequence
	case c.Sub == 0:
		return c.Sequence
	}
	return c.Sequence + "." + strconv.FormatInt(c.Sub, 10)
}

var errCheckpoint = errors.New("is no position in a shard")

// append appends the form that parseCheckpoint reads: "A" (after the whole record) or "I" (inside it), the number, a dot and
// Sub; or the sentinel, for AtTimestamp with a space and the milliseconds since 1970.
func (c Checkpoint) append(dst []byte) []byte {
	if !c.IsNumber() {
		dst = append(dst, c.Sequence...)
		if c.Sequence == AtTimestamp {
			dst = strconv.AppendInt(append(dst, ' '), c.Time.UnixMilli(), 10)
		}
		return dst
	}
	kind := byte('I')
	if c.Whole {
		kind = 'A'
	}
	dst = append(append(dst, kind), c.Sequence...)
	return strconv.AppendInt(append(dst, '.'), c.Sub, 10)
}

// parseCheckpoint reads what append wrote, all of it.
func parseCheckpoint(s string) (Checkpoint, error) {
	fail := func() (Checkpoint, error) { return Checkpoint{}, fmt.Errorf("%q %w", s, errCheckpoint) }
	switch s {
	case "":
		return fail()
	case TrimHorizon, ShardEnd, Latest:
		return Checkpoint{Sequence: s}, nil
	}
	if at, ok := strings.CutPrefix(s, AtTimestamp+" "); ok {
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return fail()
		}
		return Checkpoint{Sequence: AtTimestamp, Time: time.UnixMilli(ms).UTC()}, nil
	}
	seq, index, _ := strings.Cut(s[1:], ".")
	sub, err := strconv.ParseInt(index, 10, 64)
	if (s[0] != 'A' && s[0] != 'I') || !number(seq) || err != nil || sub < 0 {
		return fail()
	}
	return Checkpoint{Sequence: seq, Sub: sub, Whole: s[0] == 'A'}, nil
}
