//go:build !unix

package kinesis_test

import "time"

// cpu is the time that this process has used; 0: it is not known.
func cpu() time.Duration { return 0 }
