package sinks

import "context"

// Level of a finding.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // works, and is not what one would want
	Failed  Level = "failed"  // objects will not be delivered
)

// Finding is what a probe saw of one thing.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Key    string `json:"key,omitempty"` // of the configuration, below the destination's; "": none would change it
	Remedy string `json:"remedy,omitempty"`
}

// Prober is a sink that can tell in advance whether it will work, and if not, why. Safe for concurrent use.
type Prober interface {
	// Probe does to the destination what Put does, under names that begin with prefix and are gone afterwards; a
	// finding names what could not be taken away. It never returns secrets.
	Probe(ctx context.Context, prefix string) []Finding
}
