package parts

import (
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

func TestDuckDBValuesAreExact(t *testing.T) {
	d := DuckDB(t)
	big1, _ := new(big.Int).SetString("18446744073709551615", 10)
	f := func(sql string, want any) {
		t.Helper()
		rows := d.Query("select " + sql + " as v")
		if len(rows) != 1 || !reflect.DeepEqual(rows[0]["v"], want) {
			t.Errorf("%s = %#v, want %#v", sql, rows, want)
		}
	}
	f("9007199254740993::bigint", int64(9007199254740993))
	f("-7::tinyint", int64(-7))
	f("18446744073709551615::ubigint", big1)
	f("1::double", float64(1))
	f("1e300", 1e300)
	f("'-inf'::double", math.Inf(-1))
	f("1.50::decimal(9,2)", "1.50")
	f("null::int", nil)
	f("true", true)
	f("'é\"\n'", "é\"\n")
	f("'\\x00\\xFFa'::blob", []byte{0, 255, 'a'})
	f("timestamp '2025-03-01 00:00:03.25'", "2025-03-01 00:00:03.25")
	f("timestamptz '2025-03-01 02:00:03.25+02'", "2025-03-01 00:00:03.25+00")
	f("date '2025-03-01'", "2025-03-01")
	f("{'a': [1, null], 'b': {'c': 1.5::double}}", map[string]any{"a": []any{int64(1), nil}, "b": map[string]any{"c": 1.5}})
	f("map {'k': 1::bigint}", []any{map[string]any{"key": "k", "value": int64(1)}})
}

func TestDuckDBRunsManyQueries(t *testing.T) {
	d := DuckDB(t)
	if !strings.HasPrefix(d.Version(), "v1.") {
		t.Errorf("version %q", d.Version())
	}
	if _, err := d.Try("select * from no_such_table"); err == nil || !strings.Contains(err.Error(), "no_such_table") {
		t.Errorf("error of a bad query: %v", err)
	}
	d.Query("create table t (a int); insert into t select range from range(100000)")
	a := d.Ask("select a, a as b from t order by a")
	if len(a.Rows) != 100000 || a.Rows[99999]["b"] != int64(99999) || a.CPU <= 0 {
		t.Errorf("%d rows, last %v, %v of CPU", len(a.Rows), a.Rows[len(a.Rows)-1], a.CPU)
	}
	if want := []Column{{"a", "INTEGER"}, {"b", "INTEGER"}}; !reflect.DeepEqual(a.Columns, want) {
		t.Errorf("columns %v, want %v", a.Columns, want)
	}
	if got := d.Query("select " + SQL("it's") + " v")[0]["v"]; got != "it's" {
		t.Errorf("quoted text came back as %q", got)
	}
}

// recorder sees how a test would have ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, _ ...any) {
	r.ended = "failed"
	panic(r)
}
func (r *recorder) Skipf(format string, _ ...any) {
	r.ended = "skipped"
	panic(r)
}

func TestMissingPartSkipsButFailsInCI(t *testing.T) {
	for ci, want := range map[string]string{"": "skipped", "true": "failed"} {
		t.Setenv("CI", ci)
		r := &recorder{TB: t}
		func() {
			defer func() { recover() }()
			need(r, t.TempDir()+"/absent", makeTools)
		}()
		if r.ended != want {
			t.Errorf("CI=%q: the test was %s, want %s", ci, r.ended, want)
		}
	}
}
