//go:build !linux && !darwin

package file

import (
	"errors"
	"os"
)

// There are none that every file system of the other systems has.

func setAttribute(*os.File, string, []byte) error { return errors.ErrUnsupported }

func getAttribute(*os.File, string, []byte) (int, error) { return 0, errors.ErrUnsupported }
