package controlplane

import (
	"errors"
	"fmt"
	"strings"

	"hydrant/buffer"
	"hydrant/firehose"
)

func invalid(format string, args ...any) error {
	return &firehose.Error{Code: firehose.CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

func inUse(format string, args ...any) error {
	return &firehose.Error{Code: firehose.CodeInUse, Message: fmt.Sprintf(format, args...)}
}

func (p *Plane) notFound(name string) error {
	return &firehose.Error{Code: firehose.CodeNotFound, Message: fmt.Sprintf("Firehose %s under account %s not found.", name, p.settings().AccountID)}
}

// notOurs refuses to change a stream of the configuration file.
func notOurs(operation, name string) error {
	return invalid("%s: Firehose %s is declared in the configuration file, which owns it: change it there.", operation, name)
}

// maxNames is how many streams an error names.
const maxNames = 100

// failed translates an error of Streams for the caller.
func (p *Plane) failed(c *Call, err error) error {
	switch _, ours := errors.AsType[*firehose.Error](err); {
	case ours:
		return err
	case errors.Is(err, buffer.ErrTooManyStreams):
		var names []string
		all := p.o.Streams.Definitions()
		for _, s := range all {
			if c.Sees(s.Name) {
				names = append(names, s.Name)
			}
		}
		if len(names) > maxNames {
			names = append(names[:maxNames], "...")
		}
		return &firehose.Error{Code: firehose.CodeLimitExceeded, Message: fmt.Sprintf(
			"You have already consumed your firehose quota of %d hoses. Firehose names: [%s]", len(all), strings.Join(names, ", "))}
	case errors.Is(err, buffer.ErrFailing), errors.Is(err, buffer.ErrClosed):
		return &firehose.Error{Code: firehose.CodeUnavailable, Message: "The journal cannot be written at present. Nothing was changed."}
	}
	return err
}

// status of a state, as the API calls it.
func status(s buffer.State) string {
	if s >= buffer.Deleting {
		return "DELETING"
	}
	return "ACTIVE" // also where uploads are paused: records are taken
}
