//go:build sabotage

package buffer

import "os"

// The fault of this run: one of the names below, in HYDRANT_SABOTAGE.
var (
	sabotageAckBeforeSync       = sabotaged("ack-before-sync")
	sabotageSkipDirSync         = sabotaged("skip-dir-sync")
	sabotageRetrySync           = sabotaged("retry-sync")
	sabotageAppendOldTail       = sabotaged("append-old-tail")
	sabotageIgnoreDurable       = sabotaged("ignore-durable-lsn")
	sabotageReuseSequence       = sabotaged("reuse-sequence")
	sabotageReuseSlotEarly      = sabotaged("reuse-slot-early")
	sabotageFreeWhenMainCovered = sabotaged("free-when-main-covered")
	sabotageReplayFromStart     = sabotaged("replay-from-start")
	sabotageResidueTwice        = sabotaged("residue-twice")
	sabotageSlotBeforeIDs       = sabotaged("slot-before-ids")
	sabotageLedgerDamage        = sabotaged("ledger-damage-passed-over")
	sabotageProgressLost        = sabotaged("progress-lost-over-checkpoint")
	sabotageUnlinkBeforeCommit  = sabotaged("unlink-before-commit")
	sabotageReuseNonce          = sabotaged("reuse-nonce")
	sabotageKeyLater            = sabotaged("key-not-synced")
	sabotageSweepFromStart      = sabotaged("sweep-from-first-key")
	sabotageUnlinkAtFirstSweep  = sabotaged("unlink-runs-at-first-sweep")
	sabotageSpillTwice          = sabotaged("spill-twice")
	sabotageFreeBeforeRun       = sabotaged("free-slot-before-run")
	sabotageCutsLost            = sabotaged("size-cuts-lost-over-checkpoint")
)

func sabotaged(name string) bool { return os.Getenv("HYDRANT_SABOTAGE") == name }
