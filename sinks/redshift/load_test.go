package redshift

import (
	"testing"

	"hydrant/sinks/redshift/redshifttest"
)

func TestLoads(t *testing.T) {
	w := newWorld(t, minio(t), redshifttest.Options{}, clicks)
	s := w.open(func(o *Options) { o.Compression = "gzip" })
	defer s.Close()
	a := w.put(s, "aa/0", "clicks/a.gz", zipped("{\"id\":1,\"NAME\":\"x\\\\y'z\"}\n{\"id\":2}{\"id\":\"3\",\"name\":\"\"}"), 3)
	b := w.put(s, "aa/1", "clicks/b.gz", zipped(`{"id":4,"name":"é"}`), 1)
	w.finish(s, a, b)
	w.finish(s, a, b) // once more is nothing more
	w.finish(s, b)
	want := "1 x\\y'z\n2 <nil>\n3 \n4 é"
	if got := w.ask("SELECT id, name FROM clicks ORDER BY id"); got != want {
		t.Errorf("the table has\n%s\nwant\n%s", got, want)
	}
	if got := w.ask("SELECT id, stream, object_key, row_count, state FROM hydrant_ledger ORDER BY id"); got != "aa/0 clicks clicks/a.gz 3 loaded\naa/1 clicks clicks/b.gz 1 loaded" {
		t.Errorf("the ledger has\n%s", got)
	}
	if err := s.Forget(t.Context(), []string{"aa/0", "aa/1"}); err != nil {
		t.Error(err)
	}
	if got := w.ask("SELECT count(*) FROM hydrant_ledger"); got != "0" {
		t.Errorf("%s rows are left in the ledger", got)
	}
}
