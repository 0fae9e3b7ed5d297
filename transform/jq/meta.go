package jq

import (
	"strings"

	"hydrant/record"
)

// variables are what an expression may ask of where a record came from. All are null for a record that was put; $key also
// where the source has none.
var variables = []string{
	"$key",       // a string
	"$headers",   // an object of strings and nulls by name; of several with one name the last
	"$topic",     // a string; of Kinesis the stream
	"$lane",      // a string; the partition or shard
	"$partition", // the same
	"$offset",    // a string, since those of Kinesis are no numbers; with ".<n>" for a part of an aggregate
	"$timestamp", // milliseconds since 1970
}

// asks tells whether an expression may use any of them.
func asks(text string) bool {
	for _, name := range variables {
		if strings.Contains(text, name) {
			return true
		}
	}
	return false
}

// valuesOf are the values of variables for a record with this metadata, in that order.
func valuesOf(meta []byte) []any {
	values := make([]any, len(variables))
	if len(meta) == 0 {
		return values
	}
	m, err := record.ParseMeta(meta)
	if err != nil {
		return values
	}
	if m.Key != nil {
		values[0] = valid(m.Key)
	}
	headers := make(map[string]any, len(m.Headers))
	for _, h := range m.Headers {
		headers[valid(h.Key)] = nil
		if h.Value != nil {
			headers[valid(h.Key)] = valid(h.Value)
		}
	}
	values[1] = headers
	values[2], values[3], values[4], values[5] = valid(m.Topic), valid(m.Lane), valid(m.Lane), valid(m.Offset)
	values[6] = int(m.Timestamp)
	return values
}

// valid is text as jq takes it: what is not UTF-8 is replaced.
func valid[T string | []byte](b T) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
