//go:build !unix

package directput

import (
	"testing"
	"time"
)

// cpu is not known here: what is reported by core means nothing.
func cpu(*testing.B) time.Duration { return 0 }
