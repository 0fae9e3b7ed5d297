package delivery

// gate is a mutex that may be held while its holder waits for the disk. Those who wait for it wait on a
// channel, as for any other event, so the clock of a testing/synctest bubble does not stand still meanwhile.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// Lock waits for the gate and takes it.
func (g gate) Lock() { g <- struct{}{} }

// Unlock gives it back.
func (g gate) Unlock() { <-g }
