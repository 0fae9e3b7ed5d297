package main

import (
	"fmt"
	"strings"
	"testing"

	"hydrant/sources/kafka"
)

// Streams that read from Kafka share one part of the memory, however many there are, down to the least that one can do with.
func TestKafkaMemory(t *testing.T) {
	const stream = `
  - name: s%d
    source: { kafka: { brokers: ["b:9092"], topics: [t], group: g%d } }
    format: { text: {} }
    destination: { file: { path: /lake } }
`
	for _, c := range []struct {
		streams int
		want    int64 // bytes for each; the whole part is 64 MiB
	}{{0, 64 << 20}, {1, 64 << 20}, {2, 32 << 20}, {16, 4 << 20}, {17, kafka.MinMemory}} {
		var text strings.Builder
		text.WriteString(twoStreams)
		for i := range c.streams {
			fmt.Fprintf(&text, stream, i, i)
		}
		if got := newParts(decoded(t, text.String()), nil).kafkaMemory; got != c.want {
			t.Errorf("%d streams: %d bytes for each, want %d", c.streams, got, c.want)
		}
	}
}
