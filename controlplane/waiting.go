package controlplane

import (
	"errors"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// A stream whose destination this version describes and cannot deliver to is taken all the same, where its document
// says that it waits (firehose.NotDeliverable). It has no configuration then: delivery cannot open it, its records
// wait in the journal, and Adopt gives it its configuration as soon as a version can.

// WaitingError says that a stream waits for a version of the program, or for settings, that can deliver it.
type WaitingError struct{ Reason string }

func (e *WaitingError) Error() string {
	return "it cannot be delivered, so its records wait until it can be: " + e.Reason
}

// waiting is why a stored stream waits; nil where it does not.
func (s storedSpec) waiting() error {
	if s.config != nil {
		return nil
	}
	// It waits, so whatever may make a stream of its kind wait is the reason: what this version cannot do, or a store that
	// its destination does not read.
	_, err := s.document.Config("waiting", config.AWS{Endpoints: config.Endpoints{S3: "http://another.invalid"}})
	if n, ok := errors.AsType[*firehose.NotDeliverable](err); ok {
		return &WaitingError{n.Error()}
	}
	return &WaitingError{"its destination is yet to come."}
}

// mayWait tells whether a stream that is now stored, nil of one that is being created, may become one that waits.
// None that is delivered may: an update must not stop what works.
func (s *storedSpec) mayWait(why *firehose.NotDeliverable) error {
	if !why.Waits || s != nil && s.config != nil {
		return why.Answer()
	}
	return nil
}

// warnOfWaiting says in the log that a stream, as it was just defined, waits.
func (p *Plane) warnOfWaiting(s buffer.Stream) {
	stored, err := readSpec(s.Spec)
	if err != nil {
		return
	}
	why := stored.waiting()
	switch {
	case why == nil:
	case s.State == buffer.Deleting:
		p.o.Log.Warn("stream that is to be deleted cannot be delivered: what waits stays, and the stream with it, until a version can or AllowForceDelete discards it", "stream", s.Name, "why", why)
	case s.State < buffer.Deleting:
		p.o.Log.Warn("stream is taken and cannot be delivered yet: its records are acknowledged and wait", "stream", s.Name, "why", why)
	}
}

// failureOf is what a description says of a stream that cannot come to its end; nil: nothing.
func failureOf(s buffer.Stream, stored storedSpec) *firehose.Failure {
	why := stored.waiting()
	if why == nil || s.State != buffer.Deleting {
		return nil
	}
	return &firehose.Failure{Type: "UNKNOWN_ERROR", Details: "What waits cannot be delivered: " + why.Error() + " AllowForceDelete discards it."}
}
