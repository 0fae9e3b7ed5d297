//go:build sabotage

package buffer

import "os"

// The faults of pack_sabotage_off.go; HYDRANT_SABOTAGE names the one that is on.
var (
	sabotagePackNoSync     = sabotageIs("pack-no-sync")
	sabotagePackNoDirSync  = sabotageIs("pack-no-dir-sync")
	sabotageAbortKept      = sabotageIs("abort-kept")
	sabotageNoReserve      = sabotageIs("no-reserve")
	sabotageKeepReserve    = sabotageIs("keep-reserve")
	sabotagePublishEarly   = sabotageIs("publish-early")
	sabotageDropNothing    = sabotageIs("drop-nothing")
	sabotageRemoveReadPack = sabotageIs("remove-read-pack")
)

func sabotageIs(name string) bool { return os.Getenv("HYDRANT_SABOTAGE") == name }
