//go:build !sabotage

package buffer

// Faults of runs, as those of packs are in pack_sabotage_off.go.
const (
	sabotageIgnoreSizeCuts = false // a sweep takes the rows that size cuts have taken
)
