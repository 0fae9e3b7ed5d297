//go:build sabotage

package buffer

// The faults of lane_sabotage_off.go; HYDRANT_SABOTAGE names the one that is on.
var (
	sabotageDeliveredEarly   = sabotaged("lanes-delivered-early")
	sabotageLanesAhead       = sabotaged("lane-positions-ahead")
	sabotageLanesLost        = sabotaged("lanes-lost-over-checkpoint")
	sabotageVoidKept         = sabotaged("released-rows-kept")
	sabotageSplitLaneRows    = sabotaged("lane-rows-split")
	sabotageCutAlone         = sabotaged("lane-rows-cut-alone")
	sabotageProvisionalDraws = sabotaged("provisional-accepted")
)
