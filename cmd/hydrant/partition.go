package main

import (
	"errors"
	"strings"
	"time"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/partition"
	"hydrant/prefix"
)

// routing is what a stream's partition block is compiled with.
type routing struct {
	at       string           // path of the destination that the prefix is of, like destination.s3
	template *prefix.Template // its prefix, parsed as prefix.PartitionedPrefix
	location *time.Location   // its time_zone
	hooks    bool             // transform has an entry whose answers may carry partition keys
	check    func(prefix string) error
	cache    int // bytes
}

// minRouteMemory is the least that a stream's prefixes may take.
const minRouteMemory = 256 << 10

// partition makes the part of a pipeline that says where rows go.
func (p *parts) partition(pipe *delivery.Pipeline, s *config.Stream) []flaw {
	at := "destination.file"
	if s.Destination.S3 != nil {
		at = "destination.s3"
	}
	made, flaws := scheme(s.Partition, routing{
		at: at, template: pipe.Prefix, location: pipe.TimeZone, hooks: len(pipe.Hooks) > 0,
		check: func(text string) error { return pipe.CheckPrefix(s.Name, text) },
		cache: int(p.routeMemory),
	})
	if made != nil {
		pipe.Scheme = delivery.Partitioned(made)
		pipe.MaxActive, pipe.Hard = int(s.Partition.MaxActive), s.Partition.Hard
		if pipe.Markers = s.Partition.Markers; pipe.Markers {
			flaws = append(flaws, markerFlaws(at, pipe.Prefix)...)
		}
		if n := len(pipe.Hooks); n > 0 { // the last one, as what it says counts
			for _, k := range pipe.Prefix.Keys() {
				if k.Namespace == prefix.FromLambda {
					pipe.Hooks[n-1].PartitionKeys = append(pipe.Hooks[n-1].PartitionKeys, k.Name)
				}
			}
		}
	}
	return flaws
}

// markerFlaws tells why directories under a prefix cannot get markers.
func markerFlaws(at string, t *prefix.Template) (flaws []flaw) {
	values := prefix.Values{Time: time.Unix(0, 0).UTC(), Keys: make([]string, len(t.Keys()))}
	for i := range values.Keys {
		values.Keys[i] = "x"
	}
	text := t.Route(values)
	flawed := func(problem, remedy string) {
		flaws = append(flaws, flaw{at + ".prefix", t.String(), "has no directories that markers can be of: " + problem, remedy})
	}
	if !t.HasTime() {
		flawed("it prints no time, so that they are never complete", "add !{timestamp:...}, or take partition.markers out")
	}
	if strings.Contains(text, "!{firehose:random-string}") {
		flawed("it has a random string, so that each object has one of its own", "take it out, or partition.markers")
	} else if !strings.HasSuffix(text, "/") {
		flawed("it does not end with a slash", "add one")
	}
	return flaws
}

// scheme compiles a partition block.
func scheme(c *config.Partition, r routing) (*partition.Scheme, []flaw) {
	o := partition.Options{Prefix: r.template, Location: r.location, Keys: c.Keys, Hooks: r.hooks, Check: r.check, CacheBytes: r.cache}
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
