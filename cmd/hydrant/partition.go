package main

import (
	"errors"
	"strings"
	"time"

	"hydrant/config"
	"hydrant/partition"
	"hydrant/prefix"
)

// routing is what a stream's partition block is compiled with.
type routing struct {
	at       string           // path of the destination that the prefix is of, like destination.s3
	template *prefix.Template // its prefix, parsed as prefix.PartitionedPrefix
	location *time.Location   // its time_zone
	hooks    bool             // transform has an entry whose answers may carry partition keys
	trusting bool             // the format parses every row strictly
	check    func(prefix string) error
}

// scheme compiles a partition block.
func scheme(c *config.Partition, r routing) (*partition.Scheme, []flaw) {
	o := partition.Options{Prefix: r.template, Location: r.location, Keys: c.Keys, Hooks: r.hooks, Trusting: r.trusting, Check: r.check}
	if t := c.EventTime; t != nil {
		zone, err := time.LoadLocation(t.TimeZone)
		if err != nil {
			return nil, []flaw{{"partition.event_time.time_zone", t.TimeZone, err.Error(), "write an IANA name, like UTC or Europe/Berlin"}}
		}
		o.EventTime = &partition.EventTime{Field: t.Field, Formats: t.Formats, Location: zone, AllowedLateness: time.Duration(t.AllowedLateness), Quarantine: t.Late == "quarantine"}
	}
	s, err := partition.New(o)
	if err == nil {
		return s, nil
	}
	var flaws []flaw
	faults, _ := errors.AsType[partition.Faults](err)
	for _, f := range faults {
		path := strings.TrimSuffix("partition."+f.Field, ".")
		if f.Field == "prefix" {
			path = r.at + ".prefix"
		}
		flaws = append(flaws, flaw{path, f.Value, f.Problem, f.Remedy})
	}
	return nil, flaws
}
