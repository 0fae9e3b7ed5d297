//go:build sabotage

package buffer

// The faults of run_sabotage_off.go; HYDRANT_SABOTAGE names the one that is on.
var (
	sabotageIgnoreSizeCuts = sabotaged("ignore-size-cuts")
)
