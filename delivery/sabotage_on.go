//go:build sabotage

package delivery

import (
	"context"
	"os"
	"time"

	"hydrant/sinks"
)

// The faults of sabotage_off.go; HYDRANT_SABOTAGE names the one that is on.
var (
	sabotageNewKey       = sabotaged("new-key-on-retry")
	sabotageDropLate     = sabotaged("drop-after-retries")
	sabotageReplaceSent  = sabotaged("replace-after-first-byte")
	sabotageConfirmEarly = sabotaged("progress-before-reply")
	sabotageMixVersions  = sabotaged("config-swap-in-two-steps")
	sabotageAllSlots     = sabotaged("one-destination-takes-all-slots")
	sabotageWaitForStore = sabotaged("start-waits-for-stores")
	sabotageMixEpochs    = sabotaged("versions-mixed-in-an-epoch")
)

func sabotaged(name string) bool { return os.Getenv("HYDRANT_SABOTAGE") == name }

// waitForStores returns when every destination that something is left for has answered, or had the time to.
func (m *Manager) waitForStores() {
	for _, s := range m.all() {
		for _, b := range s.batches {
			if b.use.pipe == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			b.use.pipe.Destination.Sink.Verify(ctx, sinks.Object{Key: "probe"})
			cancel()
		}
	}
}
