// Package deaggregate takes records apart that hold several. Records flow in, sub-records flow out; nothing is kept.
package deaggregate

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"hydrant/transform"
)

const name = "Deaggregate"

// MaxSubRecords is how many sub-records a record may hold, Firehose's limit.
const MaxSubRecords = 500

// CodeLimit is the code of a record that holds more, Firehose's.
const CodeLimit = "DynamicPartitioning.DeAggregationRecordCountLimitExceeded"

// Options of a Deaggregate.
type Options struct {
	// Delimiter in base64, as Firehose takes it, between sub-records; "": they are JSON objects one after another, with or
	// without white space between them.
	Delimiter string
}

// Deaggregate is the processor deaggregate.
type Deaggregate struct{ delimiter []byte }

var _ transform.Processor = (*Deaggregate)(nil)

// New decodes the delimiter.
func New(o Options) (*Deaggregate, error) {
	if o.Delimiter == "" {
		return &Deaggregate{}, nil
	}
	delimiter, err := base64.StdEncoding.Strict().DecodeString(o.Delimiter)
	if err != nil {
		return nil, fmt.Errorf("delimiter %q is not base64: a newline is Cg==, #### is IyMjIw==", o.Delimiter)
	}
	return &Deaggregate{delimiter: delimiter}, nil
}

var (
	errLimit = errors.New("more sub-records than Firehose takes")
	errKind  = errors.New("not an object")
)

// Process takes the record apart, whole or not at all. White space between objects and empty pieces between delimiters are
// left out; a record of which nothing remains is dropped.
func (p *Deaggregate) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	n := 0
	if p.delimiter != nil {
		for piece := range bytes.SplitSeq(d.Data(), p.delimiter) {
			if len(piece) == 0 {
				continue
			}
			if n++; n > MaxSubRecords {
				return 0, limit()
			}
			d.AddPartData(piece)
		}
		return transform.Split, nil
	}
	var other transform.Kind
	err := d.Values(func(v transform.Ref) error {
		if other = d.Kind(v); other != transform.Object {
			return errKind
		}
		if n++; n > MaxSubRecords {
			return errLimit
		}
		d.AddPart(v)
		return nil
	})
	switch {
	case err == errLimit:
		return 0, limit()
	case err == errKind:
		return 0, transform.Failf(name, "The record is not JSON objects one after another: value %d is %s.", n+1, other)
	case err != nil:
		return 0, transform.Failf(name, "The record is not JSON objects one after another: %v.", err)
	}
	return transform.Split, nil
}

func limit() *transform.Failure {
	return &transform.Failure{Code: CodeLimit, Message: fmt.Sprintf("The record holds more than %d sub-records.", MaxSubRecords)}
}
