// Package fault sends records to the error output of which their source could make nothing: their metadata says why, and
// their data is as it came. It stands before everything else in the chain of a stream whose source decodes values. Records
// flow in and out untouched; nothing is kept.
package fault

import (
	"hydrant/record"
	"hydrant/transform"
)

// Fault is the processor. The zero one is ready.
type Fault struct{}

var _ transform.Processor = Fault{}

// Process fails a record whose metadata has a fault.
func (Fault) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	if why := record.MetaFault(d.Meta()); why != "" {
		return 0, transform.Failf("Source", "%s", why)
	}
	return transform.Keep, nil
}
