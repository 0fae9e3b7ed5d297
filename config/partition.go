package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Partition is dynamic partitioning.
type Partition struct {
	// Partition keys: name to a jq expression, each shown in the prefix as `!{partitionKeyFromQuery:NAME}`. A string, a
	// number or a boolean is a value; records without one go to the error output.
	Keys map[string]string `key:"keys"`
	// The time that records say themselves. It stands in for the arrival in the prefix's `!{timestamp:...}`.
	EventTime *EventTime `key:"event_time"`
	// Partitions with waiting records above which everything that waits is delivered early.
	MaxActive Count `key:"max_active" default:"10000" min:"1" max:"1000000"`
	// With `true` records that would open a partition above max_active go to the error output instead, as in Firehose.
	Hard bool `key:"hard" default:"false"`
	// With `true` each directory gets a `_SUCCESS.json` when the watermark has passed its time, with the objects that are in
	// it and what became of its records. Needs event_time and a prefix that prints time and ends with a slash.
	Markers bool `key:"markers" default:"false" spec:"changed"`
}

// EventTime is how records say when what they are about happened.
type EventTime struct {
	// Path of the time in a record.
	Field string `key:"field" required:"true"`
	// Formats that are tried in order: `rfc3339`, `unix_s`, `unix_ms`, `unix_us`, `unix_ns` (numbers, or texts of them), or a
	// pattern of Java's DateTimeFormatter such as `yyyy/MM/dd HH:mm`. rfc3339 and unix_ms where none is given.
	Formats []string `key:"formats"`
	// IANA time zone of times that do not say theirs.
	TimeZone string `key:"time_zone" default:"UTC" zone:"true"`
	// How far behind the latest event time an event time may be before its record is late.
	AllowedLateness Duration `key:"allowed_lateness" default:"1h" min:"0s" max:"8784h"`
	// What becomes of late records: `deliver` puts them where their time says, `quarantine` into the error output as type
	// `late`.
	Late string `key:"late" default:"deliver" enum:"deliver|quarantine"`
}

// defaultFormats are the formats of event times where the file gives none.
var defaultFormats = []string{"rfc3339", "unix_ms"}

// Bounds of what a partition says; the number of keys and the length of an expression are Firehose's.
const (
	maxKeys       = 50
	maxKeyName    = 256
	maxFormats    = 16
	maxExpression = 5120
)

// partition looks at what the tags cannot say and what needs no prefix to be parsed.
func (d *decoder) partition(s *Stream, path string) {
	p := s.Partition
	if p == nil {
		return
	}
	if s.Destination.File == nil && s.Destination.S3 == nil && (s.Destination != Destination{}) {
		d.faultAt(path, "", "is of streams whose destination is file or s3", "take it out: this destination has no prefix")
	}
	if len(p.Keys) > maxKeys {
		d.faultAt(child(path, "keys"), "", fmt.Sprintf("has %d keys", len(p.Keys)), fmt.Sprintf("at most %d", maxKeys))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		at, text := child(path, "keys")+"."+name, p.Keys[name]
		if name == "" || len(name) > maxKeyName || strings.ContainsAny(name, "{}") {
			d.faultAt(at, name, "is no name that can stand in a prefix", fmt.Sprintf("1 to %d bytes without braces", maxKeyName))
		}
		if strings.TrimSpace(text) == "" || len(text) > maxExpression {
			d.faultAt(at, text, "is no jq expression", fmt.Sprintf("write 1 to %d bytes, like .customer_id", maxExpression))
		}
	}
	if p.Markers && p.EventTime == nil {
		d.faultAt(child(path, "markers"), "true", "needs event_time, whose watermark says when a directory is complete", "add partition.event_time, or take markers out")
	}
	if t := p.EventTime; t != nil {
		if len(t.Formats) == 0 {
			t.Formats = slices.Clone(defaultFormats)
		}
		if len(t.Formats) > maxFormats {
			d.faultAt(child(path, "event_time.formats"), "", fmt.Sprintf("has %d formats", len(t.Formats)), fmt.Sprintf("at most %d", maxFormats))
		}
	}
}
