// Package transform is what happens to records between the buffer and the format: processors take them apart,
// edit them, drop them, or refuse them.
//
// Rows flow in, one at a time; for each, zero or more results flow out: Ok with the data to deliver, Dropped because
// the configuration says so, or Failed with a reason and the data as it was before. A Chain is made once for a version
// of a stream and is immutable. What it does depends on the row and on the configuration only (and on the file of a
// lookup, and on the clock where a jq expression asks for it), so nothing here has to survive a crash: a row whose
// results no manifest has taken is transformed again.
//
// The processors of a chain share one Document. It is parsed at most once, when the first of them wants to see JSON, and
// written at most once, when one of them has changed it; data that nobody changed is passed on byte for byte.
package transform

import (
	"fmt"

	"hydrant/record"
)

// MaxData is the size in bytes that a record may reach on its way: the bound of what decompression and jq expressions
// can make of a record of 1,000 KiB.
const MaxData = 16 << 20

// Types of the error output, Firehose's.
const (
	ProcessingFailed    = "processing-failed"
	DecompressionFailed = "decompression-failed"
)

// Verdict is what becomes of a record after a processor.
type Verdict uint8

const (
	Keep  Verdict = iota // it goes on, changed or not
	Drop                 // it ends here, because the configuration says so
	Split                // its parts go on, each a record of its own: see Document.AddPart
)

// A Processor is one entry of a stream's transform list. It is safe for concurrent use: what it needs for one record
// lies in the Document or in pools.
type Processor interface {
	// Process changes d in place and tells what becomes of it, or why it cannot be processed. After a failure d is
	// not looked at again.
	Process(d *Document) (Verdict, *Failure)
}

// Failure is the reason why a record goes to the error output.
type Failure struct {
	Type    string // of the error output; "": ProcessingFailed
	Code    string // Firehose's where it has one, else Hydrant.<Processor>
	Message string // names the field and the cause
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Failf makes a Failure with a code of Hydrant's own, Hydrant.<processor>.
func Failf(processor, format string, a ...any) *Failure {
	return &Failure{Code: "Hydrant." + processor, Message: fmt.Sprintf(format, a...)}
}

// Outcome of a record or of a sub-record.
type Outcome uint8

const (
	Ok Outcome = iota
	Dropped
	Failed
)

func (o Outcome) String() string {
	return [...]string{"Ok", "Dropped", "ProcessingFailed"}[o]
}

// Result is what a chain made of a row, or of a part of it.
type Result struct {
	Outcome Outcome
	// Row has the sequence, the arrival and the metadata of the row that came in. Sub is 0 where the row was not taken apart, and
	// counts the parts from 0 in their order where it was. Data is what is delivered or, with Failed, what can be put
	// again: the row as it came, or the part as it was split off. It is valid until emit returns.
	Row record.Row
	// Raw is what can be put again in the row's place: the row as it came, or the part as it was split off. Data is the same
	// with Failed. It is valid until emit returns. Whole tells that it is the row.
	Raw   []byte
	Whole bool
	// Partitions are partition keys that a hook returned; nil without one.
	Partitions map[string]string
	// Failure is the reason, with Failed only.
	Failure *Failure
}

// Summary counts the results of one row.
type Summary struct{ Ok, Dropped, Failed int }
