//go:build !sabotage

package buffer

// Faults around lanes, as those in sabotage_off.go.
const (
	sabotageDeliveredEarly   = false // call rows of a lane delivered as soon as a manifest has them
	sabotageLanesAhead       = false // a frame has the positions of all rows that were appended, not of those that it takes
	sabotageLanesLost        = false // the checkpoint forgets the positions of lanes
	sabotageVoidKept         = false // rows of a lane that was let go are delivered all the same
	sabotageSplitLaneRows    = false // a claim ends inside rows that were appended together
	sabotageCutAlone         = false // of two consumers one cuts rows of lanes from memory
	sabotageProvisionalDraws = false // rows of lanes count as accepted before they are durable
)
