package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// partitionOf decodes a partition block by itself and looks at it as a part of a stream.
func partitionOf(t *testing.T, text string, s Stream) (*Partition, []string) {
	t.Helper()
	root, faults := parseYAML([]byte(text), noEnv)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	d := &decoder{places: map[string]pos{}}
	s.Partition = &Partition{}
	d.decode(reflect.ValueOf(s.Partition).Elem(), root, "partition", &field{})
	d.partition(&s, "partition")
	var got []string
	for _, f := range d.faults {
		f.Line, f.Column = 0, 0
		got = append(got, f.String())
	}
	return s.Partition, got
}

func TestPartition(t *testing.T) {
	file := Stream{Destination: Destination{File: &FileDestination{}}}
	f := func(text string, want Partition) {
		t.Helper()
		got, faults := partitionOf(t, text, file)
		if len(faults) > 0 || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v, %q\nwant %+v", text, *got, faults, want)
		}
	}
	f("keys: { customer: .customer_id }", Partition{Keys: map[string]string{"customer": ".customer_id"}, MaxActive: 10_000})
	f("{ max_active: 1, hard: true }", Partition{MaxActive: 1, Hard: true})
	f("markers: false", Partition{MaxActive: 10_000})
	f("{ markers: true, event_time: { field: ts } }", Partition{MaxActive: 10_000, Markers: true,
		EventTime: &EventTime{Field: "ts", Formats: []string{"rfc3339", "unix_ms"}, TimeZone: "UTC", AllowedLateness: Duration(time.Hour), Late: "deliver"}})
	f("event_time: { field: ts }", Partition{MaxActive: 10_000,
		EventTime: &EventTime{Field: "ts", Formats: []string{"rfc3339", "unix_ms"}, TimeZone: "UTC", AllowedLateness: Duration(time.Hour), Late: "deliver"}})
	f("event_time: { field: a.b, formats: ['yyyy/MM/dd HH:mm'], time_zone: Europe/Berlin, allowed_lateness: 0s, late: quarantine }", Partition{MaxActive: 10_000,
		EventTime: &EventTime{Field: "a.b", Formats: []string{"yyyy/MM/dd HH:mm"}, TimeZone: "Europe/Berlin", Late: "quarantine"}})
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "  k%d: .a\n", i)
		}
		return "keys:\n" + b.String()
	}
	if _, faults := partitionOf(t, keys(50), file); len(faults) > 0 {
		t.Error(faults)
	}

	bad := func(text string, s Stream, want string) {
		t.Helper()
		if _, faults := partitionOf(t, text, s); len(faults) != 1 || !strings.HasSuffix(faults[0], want) {
			t.Errorf("%s:\n got %q\nwant %s", text, faults, want)
		}
	}
	bad(keys(51), file, `partition.keys: has 51 keys (at most 50)`)
	bad("keys: { 'a}': .a }", file, `partition.keys.a}: is no name that can stand in a prefix: "a}" (1 to 256 bytes without braces)`)
	bad("keys: { a: ' ' }", file, `partition.keys.a: is no jq expression: " " (write 1 to 5120 bytes, like .customer_id)`)
	bad("keys: { a: [1] }", file, `partition.keys.a: wants a text, not a list`)
	bad("max_active: 0", file, `partition.max_active: is below the least, 1: "0" (allowed: from 1 to 1000000)`)
	bad("max_active: 1000001", file, `partition.max_active: is above the most, 1000000: "1000001" (allowed: from 1 to 1000000)`)
	bad("markers: true", file, `partition.markers: needs event_time, whose watermark says when a directory is complete: "true" (add partition.event_time, or take markers out)`)
	bad("markers: sometimes", file, `partition.markers: is not true or false: "sometimes"`)
	bad("event_time: { formats: [rfc3339] }", file, `partition.event_time.field: is required`)
	bad("event_time: { field: a, late: drop }", file, `partition.event_time.late: is not deliver or quarantine: "drop" (write deliver or quarantine)`)
	bad("event_time: { field: a, allowed_lateness: 8785h }", file, `partition.event_time.allowed_lateness: is above the most, 8784h: "8785h" (allowed: from 0s to 8784h)`)
	bad("event_time: { field: a, formats: ["+strings.Repeat("y,", 17)+"] }", file, `partition.event_time.formats: has 17 formats (at most 16)`)
	bad("event_time: { field: a, time_zone: Mars/Olympus }", file, `partition.event_time.time_zone: is not a known time zone: "Mars/Olympus" (write an IANA name, like UTC or Europe/Berlin)`)
	bad("keys: { a: .a }", Stream{Destination: Destination{HTTP: &HTTPDestination{}}}, `partition: is of streams whose destination is file or s3 (take it out: this destination has no prefix)`)
}

// A stream's partition is in its spec, whole, and comes back from there; without one there is no trace of it.
func TestPartitionInSpec(t *testing.T) {
	const text = `streams:
  - name: s
    partition:
      keys: { b: .b, a: ".a | tostring" }
      event_time: { field: ts, formats: [unix_s, "yyyy/MM/dd HH:mm"], time_zone: Europe/Berlin, allowed_lateness: 90m, late: quarantine }
      max_active: 7
      hard: true
    destination: { file: { path: /l, prefix: "!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:b}/" } }
`
	s := &decode(t, text).Config.Streams[0]
	spec := s.Spec()
	const want = `"partition":{"keys":{"a":".a | tostring","b":".b"},"event_time":{"field":"ts","formats":["unix_s","yyyy/MM/dd HH:mm"],"time_zone":"Europe/Berlin","allowed_lateness":"90m","late":"quarantine"},"max_active":"7","hard":true}`
	if !strings.Contains(string(spec), want) {
		t.Errorf("spec %s\nwant %s", spec, want)
	}
	back, err := ParseSpec("s", spec)
	if err != nil || !reflect.DeepEqual(back.Partition, s.Partition) || string(back.Spec()) != string(spec) {
		t.Errorf("got %+v, %v\nwant %+v", back, err, s.Partition)
	}
	s.Partition.Markers = true // and only then it is in the spec, which data directories of before do not have
	if spec := string(s.Spec()); !strings.Contains(spec, `"hard":true,"markers":true}`) {
		t.Errorf("spec %s", spec)
	}
	if spec := string(decode(t, smallest).Config.Streams[0].Spec()); strings.Contains(spec, "partition") {
		t.Errorf("spec %s", spec)
	}
}
