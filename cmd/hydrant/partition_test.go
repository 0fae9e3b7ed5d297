package main

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hydrant/config"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/record"
)

func TestScheme(t *testing.T) {
	at := func(text string) routing {
		t.Helper()
		p, err := prefix.Parse(text, prefix.PartitionedPrefix)
		if err != nil {
			t.Fatal(err)
		}
		return routing{at: "destination.s3", template: p}
	}
	f := func(c config.Partition, r routing, want ...flaw) {
		t.Helper()
		if _, got := scheme(&c, r); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	ts := &config.EventTime{Field: "ts", Formats: []string{"rfc3339"}, TimeZone: "UTC"}
	f(config.Partition{EventTime: ts}, at("a/"))
	f(config.Partition{}, at("a/"), flaw{"partition", "", "says nothing", "give keys that the prefix shows, or event_time"})
	f(config.Partition{Keys: map[string]string{"a": ".a"}}, at("!{timestamp:HH}"), flaw{"partition.keys.a", ".a", "is not in the prefix", "put !{partitionKeyFromQuery:a} there, or take the key out"})
	f(config.Partition{EventTime: ts}, at("!{partitionKeyFromQuery:a}"),
		flaw{"destination.s3.prefix", "!{partitionKeyFromQuery:a}", "is a key that partition.keys does not have", "add a there with a jq expression"})
	f(config.Partition{EventTime: &config.EventTime{Field: "ts", Formats: []string{"HH"}, TimeZone: "UTC"}}, at("a/"),
		flaw{"partition.event_time.formats[0]", "HH", `is no format of times: pattern "HH": it has no year (y)`, "formats are rfc3339, unix_s, unix_ms, unix_us, unix_ns, or a pattern like yyyy/MM/dd HH:mm"})
	f(config.Partition{EventTime: &config.EventTime{Field: "ts", Formats: []string{"rfc3339"}, TimeZone: "Mars"}}, at("a/"),
		flaw{"partition.event_time.time_zone", "Mars", "unknown time zone Mars", "write an IANA name, like UTC or Europe/Berlin"})

	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	r := at("c=!{partitionKeyFromQuery:c}/!{partitionKeyFromLambda:l}/!{timestamp:yyyy-MM-dd-HH}/")
	r.location, r.hooks = berlin, true
	s, flaws := scheme(&config.Partition{Keys: map[string]string{"c": ".c"},
		EventTime: &config.EventTime{Field: "d", Formats: []string{"yyyy/MM/dd HH:mm"}, TimeZone: "America/New_York", AllowedLateness: config.Duration(time.Hour), Late: "quarantine"}}, r)
	if len(flaws) > 0 {
		t.Fatal(flaws)
	}
	router := s.NewRouter(partition.Mark{Event: 1e15, Seen: 1e15})
	placed, failure := router.Route(record.Row{Arrived: 1e15, Data: []byte(`{"c":1,"d":"2001/09/09 01:00"}`)}, map[string]string{"l": "x"})
	if failure != nil || placed.Prefix != "c=1/x/2001-09-09-07/" {
		t.Errorf("got %+v, %v", placed, failure)
	}
	if _, failure = router.Route(record.Row{Arrived: 1e15, Data: []byte(`{"c":1,"d":"2001/09/08 20:46"}`)}, map[string]string{"l": "x"}); failure == nil || failure.Type != partition.Late {
		t.Errorf("got %v", failure)
	}
}

// Markers need directories of a time.
func TestMarkerFlaws(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		p, err := prefix.Parse(text, prefix.PartitionedPrefix)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range markerFlaws("destination.s3", p) {
			if w.path != "destination.s3.prefix" || w.value != text || w.remedy == "" {
				t.Errorf("%+v", w)
			}
			got = append(got, strings.TrimPrefix(w.problem, "has no directories that markers can be of: "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	const slash, time, random = "it does not end with a slash", "it prints no time, so that they are never complete", "it has a random string, so that each object has one of its own"
	f("")
	f("a/!{timestamp:yyyy}/!{partitionKeyFromQuery:a}/")
	f("!{timestamp:yyyy/MM/}")
	f("a/!{timestamp:yyyy}", slash)
	f("!{timestamp:yyyy}/!{partitionKeyFromQuery:a}", slash)
	f("a/") // which has the hour behind it
	f("!{partitionKeyFromQuery:a}/", time)
	f("!{partitionKeyFromQuery:a}", time, slash)
	f("!{timestamp:yyyy}/!{firehose:random-string}/", random)
}

// The example says what it makes of its sample, late and unreadable times included.
func TestPartitionsExample(t *testing.T) {
	const dir = "../../examples/partitions/"
	sample, err := os.Open(dir + "sample.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer sample.Close()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"plan", "-c", dir + "hydrant.yaml"}, sample, &out, &errs); code != 1 {
		t.Errorf("exit code %d: %s", code, &errs)
	}
	for _, want := range []string{"3 delivered, 0 dropped, 2 to the error output", " flights/from=DTW/day=2001-01-01/", " flights/from=DTW/day=2001-01-02/", " flights/from=HNL/day=2001-01-01/",
		" errors/late/", " errors/metadata-extraction-failed/", "Hydrant.Late", "Hydrant.EventTime"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

// The last function of a stream is asked for the keys that the prefix takes from functions.
func TestKeysFromFunctions(t *testing.T) {
	f, faults := config.Decode("hydrant.yaml", []byte(`streams:
  - name: s
    transform:
      - http: { url: "http://127.0.0.1:1/a" }
      - http: { url: "http://127.0.0.1:1/b" }
    partition: { keys: { q: .q } }
    destination: { file: { path: /l, prefix: "!{partitionKeyFromLambda:x}/!{partitionKeyFromQuery:q}/!{partitionKeyFromLambda:y}/" } }
`), func(string) (string, bool) { return "", false })
	if faults != nil {
		t.Fatal(faults)
	}
	p := newParts(f.Config, slog.New(slog.DiscardHandler))
	pipe, flaws := p.pipeline(p.now.Load(), "", &f.Config.Streams[0])
	if len(flaws) > 0 {
		t.Fatal(flaws)
	}
	defer closeSinks(pipe)
	defer closeHooks(pipe)
	if pipe.Hooks[0].PartitionKeys != nil || !slices.Equal(pipe.Hooks[1].PartitionKeys, []string{"x", "y"}) || pipe.MaxActive != 10_000 || pipe.Hard {
		t.Errorf("keys %q and %q, %d partitions, hard %v", pipe.Hooks[0].PartitionKeys, pipe.Hooks[1].PartitionKeys, pipe.MaxActive, pipe.Hard)
	}
}
