//go:build !sabotage

package buffer

// Faults that the sabotage build can switch on one by one: each must fail a test. Here they are constants
// and cost nothing.
const (
	sabotagePackNoSync     = false // seal without syncing the file
	sabotagePackNoDirSync  = false // seal without syncing the directory
	sabotageAbortKept      = false // abort removes a pack that a frame may name
	sabotageNoReserve      = false // every call is admitted
	sabotageKeepReserve    = false // refused and failed calls keep what they had reserved
	sabotagePublishEarly   = false // rows can be taken before they are durable
	sabotageDropNothing    = false // rows of a group that was not stored can be taken
	sabotageForgetDoubt    = false // a REPLACE that could not be stored is as if it had never been
	sabotageRemoveReadPack = false // a pack goes while an object of it is being read
)
