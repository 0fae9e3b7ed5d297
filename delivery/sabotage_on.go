//go:build sabotage

package delivery

import (
	"bytes"
	"context"
	"os"
	"time"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// The faults of sabotage_off.go; HYDRANT_SABOTAGE names the one that is on.
var (
	sabotageNewKey          = sabotaged("new-key-on-retry")
	sabotageDropLate        = sabotaged("drop-after-retries")
	sabotageReplaceSent     = sabotaged("replace-after-first-byte")
	sabotageConfirmEarly    = sabotaged("progress-before-reply")
	sabotageConfirmStaged   = sabotaged("progress-before-finish")
	sabotageGiveUpUnasked   = sabotaged("give-up-unasked")
	sabotageMixVersions     = sabotaged("config-swap-in-two-steps")
	sabotageAllSlots        = sabotaged("one-destination-takes-all-slots")
	sabotageWaitForStore    = sabotaged("start-waits-for-stores")
	sabotageMarkTwice       = sabotaged("marker-before-its-note")
	sabotageMarkUnsettled   = sabotaged("marker-before-its-objects")
	sabotageSendUnaccounted = sabotaged("object-before-its-account")
	sabotageMixEpochs       = sabotaged("versions-mixed-in-an-epoch")
	sabotageAskAgain        = sabotaged("hook-called-again-after-its-run")
	sabotageForgetMark      = sabotaged("watermark-lost-over-a-start")
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

// askAgain has the function decide about a row of a run once more, and tells whether the row is left.
func (j *job) askAgain(row *buffer.RunRow) (left bool) {
	if len(j.use.invokers) == 0 {
		return true
	}
	err := j.use.invokers[0].Invoke(context.Background(), []record.Row{row.Row}, func(o *hook.Outcome) error {
		if left = o.Outcome == transform.Ok; left {
			row.Data = bytes.Clone(o.Row.Data)
		}
		return nil
	})
	return left && err == nil
}
