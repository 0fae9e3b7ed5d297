package partition

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydrant/record"
	"hydrant/sample"
)

// cpuClock is the CPU time of this process, where the system tells it.
var cpuClock func() time.Duration

// measure runs f over records. MB/s counts bytes of JSON; cpu-MB/s counts the time in which the process ran, and is the
// one to compare on a busy machine.
func measure(b *testing.B, records [][]byte, f func(data []byte)) {
	size := 0
	for _, data := range records {
		size += len(data)
		f(data)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var used time.Duration
	if cpuClock != nil {
		used = -cpuClock()
	}
	for b.Loop() {
		for _, data := range records {
			f(data)
		}
	}
	if cpuClock != nil {
		used += cpuClock()
		b.ReportMetric(float64(size)*float64(b.N)/1e6/used.Seconds(), "cpu-MB/s")
		b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*len(records)), "cpu-ns/record")
	}
}

// lines are the records of a file of real data.
func lines(tb testing.TB, name string) [][]byte {
	tb.Helper()
	f, err := os.Open(filepath.Join("..", "e2e", "testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]byte
	in := bufio.NewScanner(z)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		out = append(out, bytes.Clone(in.Bytes()))
	}
	if err := in.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// set is data with what routes it. late is the key whose value stands near the end of a record.
type set struct {
	name, prefix string
	keys         map[string]string
	time         *EventTime
	records      func(testing.TB) [][]byte
}

var sets = []set{
	{"clicks", "type=!{partitionKeyFromQuery:type}/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/", map[string]string{"type": ".event_type"},
		&EventTime{Field: "event_time", Formats: []string{"rfc3339"}}, clicks},
	{"clicks-nested", "country=!{partitionKeyFromQuery:country}/dt=!{timestamp:yyyy-MM-dd}/", map[string]string{"country": ".geo.country"},
		&EventTime{Field: "event_time", Formats: []string{"rfc3339"}}, clicks},
	{"flights", "from=!{partitionKeyFromQuery:origin}/!{timestamp:yyyy/MM}/", map[string]string{"origin": ".origin"},
		&EventTime{Field: "date", Formats: []string{"yyyy/MM/dd HH:mm"}}, func(tb testing.TB) [][]byte { return lines(tb, "flights-20k.ndjson.gz") }},
	{"github", "event=!{partitionKeyFromQuery:event}/who=!{partitionKeyFromQuery:who}/dt=!{timestamp:yyyy-MM-dd}/", map[string]string{"event": ".event", "who": ".payload.sender.login"}, nil, webhooks},
}

func clicks(testing.TB) (out [][]byte) {
	for _, r := range (sample.Clickstream{Seed: sample.DefaultSeed}).All(0, 20_000) {
		out = append(out, bytes.Clone(r))
	}
	return out
}

// webhooks are the ones that somebody has sent.
func webhooks(tb testing.TB) (out [][]byte) {
	for _, r := range lines(tb, "github-webhooks.ndjson.gz") {
		if bytes.Contains(r, []byte(`"sender":{`)) {
			out = append(out, r)
		}
	}
	return out
}

// BenchmarkRoute places the rows of a set. strict and trusting are plain paths; jq has an expression that is none.
func BenchmarkRoute(b *testing.B) {
	for _, set := range sets {
		for _, mode := range []string{"strict", "trusting", "jq"} {
			b.Run(set.name+"/"+mode, func(b *testing.B) {
				o := Options{Prefix: template(b, set.prefix), Keys: map[string]string{}, EventTime: set.time, Trusting: mode == "trusting"}
				for name, text := range set.keys {
					if mode == "jq" {
						text += " | ascii_downcase"
					}
					o.Keys[name] = text
				}
				r := scheme(b, o).NewRouter(Mark{})
				measure(b, set.records(b), func(data []byte) {
					if _, failure := r.Route(record.Row{Arrived: arrival.UnixMicro(), Data: data}, nil); failure != nil {
						b.Fatal(failure)
					}
				})
			})
		}
	}
}

// BenchmarkScan is the two ways of finding values, without what is done with them.
func BenchmarkScan(b *testing.B) {
	for _, set := range sets {
		for _, mode := range []string{"strict", "trusting"} {
			b.Run(set.name+"/"+mode, func(b *testing.B) {
				r := scheme(b, Options{Prefix: template(b, set.prefix), Keys: set.keys, EventTime: set.time}).NewRouter(Mark{})
				find := r.scan.scan
				if mode == "trusting" {
					find = r.scan.skim
				}
				measure(b, set.records(b), func(data []byte) {
					if !find(data) {
						b.Fatalf("left to the full parse: %.200s", data)
					}
				})
			})
		}
	}
}

// BenchmarkStray finds a value in small records whose names are not those of the records before.
func BenchmarkStray(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, set := range []struct {
		name   string
		record func(i int) []byte
	}{
		{"new names", func(i int) []byte {
			return fmt.Appendf(nil, `{"a%d":1,"b%d":2,"c%d":3,"k":"x","d%d":4,"e%d":5}`, i, i, i, i, i)
		}},
		{"any order", func(int) []byte {
			members := []string{`"date":"2001/01/01 00:47"`, `"delay":66`, `"distance":1750`, `"k":"DTW"`, `"destination":"LAS"`}
			rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
			return []byte("{" + strings.Join(members, ",") + "}")
		}},
		{"some absent", func(int) []byte {
			out := []byte(`{"k":"x"`)
			for i, name := range []string{"date", "delay", "distance", "origin", "destination", "carrier", "tail_number"} {
				if rng.IntN(2) == 0 {
					out = fmt.Appendf(out, `,"%s":%d`, name, i)
				}
			}
			return append(out, '}')
		}},
	} {
		b.Run(set.name, func(b *testing.B) {
			var records [][]byte
			for i := range 20_000 {
				records = append(records, set.record(i))
			}
			r := query(b, ".k", false)
			measure(b, records, func(data []byte) {
				if !r.scan.scan(data) {
					b.Fatalf("left to the full parse: %s", data)
				}
			})
		})
	}
}

// BenchmarkManyPartitions places rows in 100,000 partitions, by turns, which a router does not remember.
func BenchmarkManyPartitions(b *testing.B) {
	r := query(b, ".k", false)
	var records [][]byte
	for i := range 100_000 {
		records = append(records, fmt.Appendf(nil, `{"event":"page_view","k":"customer-%d","n":1}`, i))
	}
	measure(b, records, func(data []byte) {
		if _, failure := r.Route(record.Row{Arrived: arrival.UnixMicro(), Data: data}, nil); failure != nil {
			b.Fatal(failure)
		}
	})
}
