//go:build sabotage

package buffer

// The faults of pack_sabotage_off.go; HYDRANT_SABOTAGE names the one that is on.
var (
	sabotagePackNoSync     = sabotaged("pack-no-sync")
	sabotagePackNoDirSync  = sabotaged("pack-no-dir-sync")
	sabotageAbortKept      = sabotaged("abort-kept")
	sabotageNoReserve      = sabotaged("no-reserve")
	sabotageKeepReserve    = sabotaged("keep-reserve")
	sabotagePublishEarly   = sabotaged("publish-early")
	sabotageDropNothing    = sabotaged("drop-nothing")
	sabotageForgetDoubt    = sabotaged("forget-doubt")
	sabotageRemoveReadPack = sabotaged("remove-read-pack")
)
