package main

import (
	"hydrant/config"
	"hydrant/sources/throttle"
)

// applyLimits makes the streams' own limits of a configuration those that are in force. They need no version of a
// stream, and hold for streams that are made later.
func (d *daemon) applyLimits(c *config.Config) {
	rates, disk := map[string]throttle.Limits{}, map[string]int64{}
	for i := range c.Streams {
		s := &c.Streams[i]
		rates[s.Name] = throttle.Limits{Records: int64(s.Limits.RecordsPerSecond), Bytes: int64(s.Limits.BytesPerSecond)}
		disk[s.Name] = int64(s.Limits.Disk)
	}
	d.limits.Set(rates)
	d.buffer.LimitDisk(disk)
}
