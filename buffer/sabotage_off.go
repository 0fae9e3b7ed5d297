//go:build !sabotage

package buffer

// Faults that a build with the tag "sabotage" can switch on, to show that the tests notice them. Here they
// are constants, so nothing of them is left in the program.
const (
	sabotageAckBeforeSync       = false // answer before the group is synced
	sabotageSkipDirSync         = false // do not sync directories
	sabotageRetrySync           = false // sync a file again after a failure and believe the second answer
	sabotageAppendOldTail       = false // go on in the segment from before the crash
	sabotageIgnoreDurable       = false // take every damage in the last segment for its torn end
	sabotageReuseSequence       = false // forget at a start which sequences were given out since the checkpoint
	sabotageReuseSlotEarly      = false // reuse a slot whose rows nobody has covered
	sabotageFreeWhenMainCovered = false // ask main alone whether a slot's rows are covered
	sabotageReplayFromStart     = false // replay ledger frames from before the checkpoint's LSN
	sabotageResidueTwice        = false // count copies of rows as rows of their own
	sabotageSlotBeforeIDs       = false // reuse a slot before its invocation ids are synced
	sabotageLedgerDamage        = false // pass over damaged ledger frames
	sabotageProgressLost        = false // leave confirmations out of checkpoints
	sabotageUnlinkBeforeCommit  = false // remove packs before the COMMIT is durable
	sabotageReuseNonce          = false // seal several pieces under one nonce
	sabotageKeyLater            = false // write the wrapped data key after what makes the file valid was synced
	sabotageSweepFromStart      = false // the checkpoint forgets how far an epoch is swept
	sabotageUnlinkAtFirstSweep  = false // the first sweep of an epoch ends its runs
	sabotageSpillTwice          = false // rows that were spilled stay in the front
	sabotageFreeBeforeRun       = false // a slot counts as covered as soon as a spill begins
	sabotageCutsLost            = false // the checkpoint forgets which keys were cut alone
)
