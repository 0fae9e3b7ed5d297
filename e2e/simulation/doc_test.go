// Package simulation runs whole lives of the daemon's core, buffer and delivery together, and judges what
// arrives. A seed decides everything: streams and their settings, clients that retry as SDKs do, what an
// operator does, when disks fail or fill up, when clocks are set, how destinations behave, and at which
// operation the power goes, perhaps again during the recovery from that.
//
// In flows a seed; out flow broken promises, none where all is well. A life runs in a testing/synctest bubble on
// a disk that forgets what was not synced, before a store whose memory outlives every process. Nothing is kept:
// the same seed lives the same life again, but for what testdata/seeds.txt and TestDeterminism say about that.
//
// TestEveryOperation is exhaustive where seeds are random: short lives, with a power cut at every operation.
//
// The store checks each request when it comes: one key has one content, nothing is sent before its manifest
// would survive a power cut, nothing again that is known to be there. It judges each object when it lands.
// After everything has been healed and drained, what was acknowledged has to be there, once.
package simulation
