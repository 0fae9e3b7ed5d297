package sinks

import "context"

// Part is an object that Put has stored and that is to be taken into a database from there.
type Part struct {
	// ID names the part for ever: the manifest's id and the object's number in it. Whoever finishes the part again,
	// in this process or the next, gives the same.
	ID      string
	Key     string // of the object
	Size    int64  // of the object, in bytes
	Records int64  // rows that the object holds; below 0 where that is not known
}

// CodeSkipped is the code of a part that was skipped before: it is not in the table, and Finish does not take it.
const CodeSkipped = "Skipped"

// CodeMissing is the code of a load that did not find what it should take, with the class RefusedDestination: the objects
// are to be put again.
const CodeMissing = "Redshift.MissingS3File"

// CodeUnreachable is the code of a load for which the database did not answer at all: that it was too large is not the reason.
const CodeUnreachable = "Redshift.ConnectionFailed"

// Finisher is a sink whose objects are only staged by Put. A part is delivered once Finish has said so; each is taken
// once, however often and by however many processes it is finished. Safe for concurrent use.
//
// Part by part the order is: Put, Finish until it has no error, the COMMIT frame, Forget. Who gives up calls Skip in
// the place of Finish, and believes its answer: a part that turns out to be in the table is delivered.
type Finisher interface {
	Sink
	// Finish takes the parts, all together where that is possible, and returns an error for each, nil for those
	// that are in the table now. It makes one attempt; parts that spoil the others are found and left out, and their
	// error is RefusedObject. All other classes mean what they mean for Put.
	Finish(ctx context.Context, parts []Part) []error
	// Skip notes durably that the parts will not be taken, and tells which of them were taken before and so are
	// delivered. With an error nothing is decided: nobody may give up what might be in the table.
	Skip(ctx context.Context, parts []Part) (taken []bool, err error)
	// Forget removes what was noted about parts that are delivered. Nobody finishes them again after that.
	Forget(ctx context.Context, ids []string) error
}
