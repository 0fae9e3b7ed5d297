//go:build sabotage

package simulation

import (
	"strings"
	"testing"
	"time"
)

// sabotages are faults of the program, by the names in delivery/sabotage_on.go and buffer/sabotage_on.go, that
// this simulation has to notice.
var sabotages = []string{
	// of delivery
	"new-key-on-retry",
	"drop-after-retries",
	"replace-after-first-byte",
	"progress-before-reply",
	"config-swap-in-two-steps",
	"one-destination-takes-all-slots",
	"start-waits-for-stores",
	"versions-mixed-in-an-epoch",
	"hook-called-again-after-its-run",
	"watermark-lost-over-a-start",
	// of the buffer, as far as whole lives show them
	"unlink-before-commit",
	"free-when-main-covered",
	"progress-lost-over-checkpoint",
	"ack-before-sync", // what is acknowledged here includes manifests: objects are sent before theirs is durable
	"reuse-sequence",
	"pack-no-sync",
	"pack-no-dir-sync",
	"ignore-size-cuts",
	"size-cuts-lost-over-checkpoint",
	"unlink-runs-at-first-sweep",
	"spill-twice",
}

// huntFor is how long a fault may stay unnoticed.
const huntFor = 60 * time.Second

// Each sabotaged program must come to grief: one that survives is a promise that nobody checks.
func TestSabotage(t *testing.T) {
	for _, name := range sabotages {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HYDRANT_SABOTAGE", name)
			began := time.Now()
			lives, faulty := hunt(1, 0, huntFor)
			if len(faulty) == 0 {
				t.Errorf("nothing was noticed in %d lives", lives)
				return
			}
			what, _, _ := strings.Cut(faulty[0].fault, "\n")
			t.Logf("after %v and %d lives: %s", time.Since(began).Round(100*time.Millisecond), lives, what)
		})
	}
}
