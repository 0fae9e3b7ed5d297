package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"hydrant/sinks"
)

// classified says what was tried on what, and what kind of failure it is.
func (s *Sink) classified(verb, name string, err error) *sinks.Error {
	e := &sinks.Error{Class: sinks.Unknown}
	hint := ""
	if known, ok := errors.AsType[*sinks.Error](err); ok {
		*e = *known
	} else {
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		case diskFull(err):
			e.Class, e.Code, hint = sinks.RefusedDestination, "DiskFull", ": the destination's file system is full, or a quota is used up"
			e.Full = true
		case readOnly(err):
			e.Class, e.Code, hint = sinks.RefusedDestination, "ReadOnly", ": the destination's file system is read-only"
		case errors.Is(err, fs.ErrPermission):
			e.Class, e.Code, hint = sinks.RefusedDestination, "Denied", ": give the daemon's user the right to write there"
		case crossDevice(err):
			e.Class, e.Code, hint = sinks.RefusedDestination, "CrossDevice", ": a directory under the destination's path is on another file system; make it a destination of its own"
		case badName(err):
			e.Class, e.Code = sinks.RefusedObject, "InvalidKey"
		case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
			e.Class, e.Code, hint = sinks.RefusedObject, "NotADirectory", ": a file has the name of a directory of the key"
		case errors.Is(err, syscall.ELOOP), strings.HasSuffix(err.Error(), "path escapes from parent"):
			e.Class, e.Code, hint = sinks.RefusedObject, "LeavesDirectory", ": a link on the way leads out of the destination's path"
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, fs.ErrNotExist):
			// Nothing had its name yet: a directory was removed under us, or there are no file descriptors.
			e.Class = sinks.NotStored
		}
	}
	e.Err = fmt.Errorf("%s file %q: %w%s", verb, filepath.Join(s.path, name), err, hint)
	return e
}
