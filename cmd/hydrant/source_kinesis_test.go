package main

import (
	"fmt"
	"strings"
	"testing"

	"hydrant/config"
	"hydrant/sources/kinesis"
)

// Streams that read from Kinesis share one part of the memory, however many there are, down to the least that one can do with.
func TestKinesisMemory(t *testing.T) {
	const stream = `
  - name: s%d
    source: { kinesis: { stream: s%d } }
    format: { text: {} }
    destination: { file: { path: /lake } }
`
	const gib = 1 << 30
	for _, c := range []struct {
		memory, streams int64
		want            int64 // bytes for each
	}{{4 * gib, 0, 256 << 20}, {4 * gib, 1, 256 << 20}, {4 * gib, 4, 64 << 20}, {4 * gib, 5, 256 << 20 / 5}, {4 * gib, 6, kinesis.MinMemory}, {gib, 1, 64 << 20}, {gib, 2, kinesis.MinMemory}} {
		var text strings.Builder
		text.WriteString(twoStreams)
		for i := range c.streams {
			fmt.Fprintf(&text, stream, i, i)
		}
		conf := decoded(t, text.String())
		conf.Limits.Memory = config.Bytes(c.memory)
		if got := newParts(conf, nil).kinesisMemory; got != c.want {
			t.Errorf("%d streams: %d bytes for each, want %d", c.streams, got, c.want)
		}
	}
}
