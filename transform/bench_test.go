package transform_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hydrant/record"
	"hydrant/sample"
	"hydrant/transform"
	"hydrant/transform/deaggregate"
	"hydrant/transform/decompress"
	"hydrant/transform/delimiter"
	"hydrant/transform/flatten"
	"hydrant/transform/jq"
	"hydrant/transform/lookup"
	"hydrant/transform/redact"
	"hydrant/transform/remove"
	"hydrant/transform/rename"
	"hydrant/transform/set"
)

func made[P transform.Processor](b *testing.B) func(p P, err error) transform.Processor {
	return func(p P, err error) transform.Processor {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
}

// BenchmarkProcessor runs click records through each processor alone, and through chains. Bytes are those that come in.
func BenchmarkProcessor(b *testing.B) {
	var clicks [][]byte
	for _, r := range (sample.Clickstream{Seed: sample.DefaultSeed}).All(0, 1000) {
		clicks = append(clicks, bytes.Clone(r))
	}
	var zipped, tens [][]byte
	for i := 0; i+10 <= len(clicks); i += 10 {
		ten := bytes.Join(clicks[i:i+10], []byte("\n"))
		tens = append(tens, ten)
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(ten)
		w.Close()
		zipped = append(zipped, z.Bytes())
	}
	file := filepath.Join(b.TempDir(), "t.csv")
	table := "code,name\n"
	for _, c := range []string{"DE", "US", "FR", "GB", "IN", "BR", "JP"} {
		table += c + ",name of " + c + "\n"
	}
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		b.Fatal(err)
	}
	jqs := func(text string) transform.Processor {
		return made[*jq.JQ](b)(jq.New(jq.Options{Expression: text}))
	}
	filters := func(text string) transform.Processor {
		return made[*jq.Filter](b)(jq.NewFilter(jq.Options{Expression: text}))
	}
	dropMembers := made[*remove.Remove](b)(remove.New(remove.Options{Paths: []string{"user_agent", "geo.lat"}}))
	renamed := made[*rename.Rename](b)(rename.New(rename.Options{Pairs: []rename.Pair{{From: "event_id", To: "id"}, {From: "geo.country", To: "country"}}}))
	added := made[*set.Set](b)(set.New(set.Options{Pairs: []set.Pair{{Path: "source", Value: "web"}}}))
	hidden := made[*redact.Redact](b)(redact.New(redact.Options{Fields: []string{"user_id"}, With: redact.SHA256}))
	newline := made[*delimiter.Delimiter](b)(delimiter.New(delimiter.Options{Text: "\n"}))
	apart := made[*deaggregate.Deaggregate](b)(deaggregate.New(deaggregate.Options{}))
	for _, c := range []struct {
		name  string
		in    [][]byte
		chain []transform.Processor
	}{
		{"none", clicks, nil},
		{"append_delimiter", clicks, []transform.Processor{newline}},
		{"deaggregate", tens, []transform.Processor{apart}},
		{"deaggregate_delimited", tens, []transform.Processor{made[*deaggregate.Deaggregate](b)(deaggregate.New(deaggregate.Options{Delimiter: "Cg=="}))}},
		{"decompress", zipped, []transform.Processor{made[*decompress.Decompress](b)(decompress.New(decompress.Options{Format: decompress.Gzip}))}},
		{"filter", clicks, []transform.Processor{filters(`.event_type != "heartbeat"`)}},
		{"filter_gojq", clicks, []transform.Processor{filters(`.event_type | startswith("heart") | not`)}},
		{"jq_assign", clicks, []transform.Processor{jqs(`.source = "web"`)}},
		{"jq_path", clicks, []transform.Processor{jqs(`.geo`)}},
		{"jq_gojq", clicks, []transform.Processor{jqs(`.user_id |= ascii_downcase`)}},
		{"rename", clicks, []transform.Processor{renamed}},
		{"set", clicks, []transform.Processor{added}},
		{"remove", clicks, []transform.Processor{dropMembers}},
		{"flatten", clicks, []transform.Processor{made[*flatten.Flatten](b)(flatten.New(flatten.Options{Separator: "_"}))}},
		{"redact_sha256", clicks, []transform.Processor{hidden}},
		{"lookup", clicks, []transform.Processor{made[*lookup.Lookup](b)(lookup.New(lookup.Options{File: file, Key: "geo.country", Into: "country_name", Refresh: 1 << 40}))}},
		{"chain_of_five", clicks, []transform.Processor{filters(`.event_type != "heartbeat"`), renamed, added, dropMembers, newline}},
		{"chain_of_five_apart", tens, []transform.Processor{apart, filters(`.event_type != "heartbeat"`), renamed, dropMembers, newline}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var o transform.Options
			for i, p := range c.chain {
				o.Stages = append(o.Stages, transform.Stage{Name: fmt.Sprint(i), Processor: p})
			}
			steps, err := transform.New(o)
			if err != nil {
				b.Fatal(err)
			}
			size := 0
			for _, r := range c.in {
				size += len(r)
			}
			out := 0
			emit := func(r transform.Result) error {
				if r.Outcome == transform.Failed {
					b.Fatal(r.Failure)
				}
				out += len(r.Row.Data)
				return nil
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for i, data := range c.in {
					if _, err := steps.Apply(record.Row{Seq: uint64(i + 1), Data: data}, emit); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N*len(c.in))/b.Elapsed().Seconds(), "records/s")
		})
	}
}
