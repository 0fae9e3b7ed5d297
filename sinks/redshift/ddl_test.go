package redshift

import (
	"strings"
	"testing"

	"hydrant/format"
	"hydrant/format/ddl"
	"hydrant/sinks/redshift/redshifttest"
)

// The table that is printed is made by the warehouse, and takes what the encoder writes by the same schema. The ledger that
// is printed is the one that the sink uses.
func TestPrintedTable(t *testing.T) {
	var seen script
	w := newWorld(t, memoryStore(t), redshifttest.Options{On: seen.on})
	s := w.open(nil)
	sc, err := format.ParseDDL(everyType + ", nested struct<a:int>, lists array<int>, m map<string,int>")
	if err != nil {
		t.Fatal(err)
	}
	table, err := ParseName("public.clicks")
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := LedgerName(table, "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := ddl.Write(ddl.Redshift, ddl.Table{Name: "public.clicks", Schema: sc, Ledger: LedgerDDL(ledger)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(text, ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if _, err := e.conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	e.close()
	var columns []string
	for _, f := range sc.Fields {
		columns = append(columns, f.Name)
	}
	s = w.open(func(o *Options) { o.Columns, o.Format, o.Nested = columns, Parquet, true })
	seen.arm("", 0, redshifttest.Pass)
	w.finish(s, w.put(s, "m/0", "clicks/0.parquet", encode(t, sc.String(), `{"b":true,"i":1,"s":2,"n":3,"l":4,"f":1,"d":2,"p":1.25,"q":3,"v":"v","t":"t","c":"c","x":"AA==","day":"2026-01-01","at":"2026-01-01T00:00:00Z","nested":{"a":1},"lists":[1],"m":{"k":1}}`), 1))
	if got := w.ask("SELECT i, s, n, l, p::text, t, nested->>'a' FROM clicks"); got != "1 2 3 4 1.25 t 1" {
		t.Errorf("the table has %s", got)
	}
	if _, statements := seen.take(); strings.Contains(strings.Join(statements, "\n"), "CREATE TABLE") {
		t.Errorf("the sink made a ledger of its own: %q", statements)
	}
}
