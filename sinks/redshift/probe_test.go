package redshift

import (
	"fmt"
	"strings"
	"testing"

	"hydrant/sinks"
	"hydrant/sinks/redshift/redshifttest"
)

// A probe says of each thing that is wrong which key or which GRANT changes it, and leaves nothing in the warehouse.
func TestProbe(t *testing.T) {
	check := func(w *world, name string, change func(*Options), want ...string) {
		t.Helper()
		var lines []string
		for _, f := range w.open(change).Probe(t.Context(), "clicks/") {
			lines = append(lines, fmt.Sprintf("%s %s: %s [%s %s]", f.Level, f.Check, f.Found, f.Key, f.Remedy))
			if f.Level == sinks.Failed && f.Remedy == "" {
				t.Errorf("%s: no remedy: %s", name, lines[len(lines)-1])
			}
		}
		text := strings.Join(lines, "\n")
		for _, want := range want {
			begin, part, _ := strings.Cut(want, ": ")
			found := false
			for _, line := range lines {
				found = found || strings.HasPrefix(line, begin+":") && strings.Contains(line, part)
			}
			if !found {
				t.Errorf("%s: %q is not in\n%s", name, want, text)
			}
		}
	}
	w := newWorld(t, memoryStore(t), redshifttest.Options{}, clicks)
	check(w, "before the first load", nil, "ok staging bucket", "ok connect", "ok table", "ok rights", "ok ledger: not there yet")
	if got := w.ask("SELECT count(*) FROM information_schema.tables WHERE table_name = 'hydrant_ledger'"); got != "0" {
		t.Error("the probe has left a ledger")
	}
	check(w, "no column", func(o *Options) { o.Columns = []string{"id", "nothing"} }, "failed table: has no column nothing")
	check(w, "no table", func(o *Options) { o.Table = "nowhere" }, "failed table: is not there", "ok ledger")
	check(w, "nobody listens", func(o *Options) { o.Address.Port = 1 }, "failed connect")
	s := w.open(nil)
	w.finish(s, w.put(s, "m/0", "clicks/0", `{"id":1}`, 1))
	check(w, "all is there", nil, "ok table", "ok ledger: can be locked")
	if got := w.ask("SELECT count(*) FROM hydrant_ledger"); got != "1" {
		t.Errorf("the ledger has %s rows after a probe", got)
	}

	poor := newWorld(t, memoryStore(t), redshifttest.Options{As: "poor"}, clicks,
		"CREATE ROLE poor LOGIN", "GRANT SELECT ON clicks TO poor", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	check(poor, "rights are missing", nil, "failed rights: no INSERT", "failed ledger: permission denied")
	poor.exec("GRANT INSERT ON clicks TO poor")
	check(poor, "merge needs more", func(o *Options) { o.MergeOn = []string{"id"} }, "failed rights: no UPDATE")
}

// Text is loaded into all columns of the table where none are named.
func TestColumnsOfTheTable(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{}, clicks)
	s := w.open(func(o *Options) { o.Columns = nil })
	w.finish(s, w.put(s, "m/0", "clicks/0", `{"name":"a","id":1}`, 1))
	if got := w.ask("SELECT id, name FROM clicks"); got != "1 a" {
		t.Errorf("the table has %s", got)
	}
	for _, change := range []func(*Options){func(o *Options) { o.Format = Parquet }, func(o *Options) { o.MergeOn = []string{"id"} }} {
		o := w.options()
		o.Columns = nil
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "columns are missing") {
			t.Errorf("without columns: %v", err)
		}
	}
}
