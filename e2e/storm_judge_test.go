package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydrant/e2e/parts"
)

// verdict is what is in the destinations, held against what producers know. Records.
type verdict struct {
	sent, acked int64
	delivered   int64 // in data objects, once each
	failed      int64 // in the error output, once each
	lost        int64 // acknowledged and nowhere
	duplicated  int64 // there more than once
	foreign     int64 // there and never sent, or of an earlier season, or in another stream's objects
	damaged     int64 // with other content than was sent
	misplaced   int64 // in another partition than its key and time say, or in time and in the output of late ones, or the other way round
	disorder    int64 // after a later record of its producer in the same object
	objects     int64
}

func (v *verdict) add(w verdict) {
	v.sent += w.sent
	v.acked += w.acked
	v.delivered += w.delivered
	v.failed += w.failed
	v.lost += w.lost
	v.duplicated += w.duplicated
	v.foreign += w.foreign
	v.damaged += w.damaged
	v.misplaced += w.misplaced
	v.disorder += w.disorder
	v.objects += w.objects
}

// clean tells whether every acknowledged record is there once and nothing else is.
func (v *verdict) clean() bool {
	return v.lost == 0 && v.duplicated == 0 && v.foreign == 0 && v.damaged == 0 && v.misplaced == 0 && v.disorder == 0
}

func (v *verdict) String() string {
	return fmt.Sprintf("sent %d · acknowledged %d · delivered %d · in the error output %d · lost %d · duplicated %d · never sent %d · damaged %d · in a wrong partition %d · out of order %d",
		v.sent, v.acked, v.delivered, v.failed, v.lost, v.duplicated, v.foreign, v.damaged, v.misplaced, v.disorder)
}

// place is where one stream's objects are, as files.
type place struct {
	stream  string
	data    []string // objects of the destination
	parquet bool
	gzip    bool     // of text
	keyed   bool     // rows have a partition; Parquet
	joined  bool     // records of text stand one behind the other, without newlines
	errors  []string // objects of error records
	refused []string // objects of the destination that went to the error output whole
}

// placeOf sorts the files of a stream whose prefixes are <stream>/ and errors/<stream>/.
func placeOf(t testing.TB, dir, stream string, parquet, gzip bool) place {
	p := place{stream: stream, parquet: parquet, gzip: gzip, data: walk(t, filepath.Join(dir, stream))}
	for _, path := range walk(t, filepath.Join(dir, "errors", stream)) {
		if strings.Contains(path, "/delivery-failed/") {
			p.refused = append(p.refused, path)
		} else {
			p.errors = append(p.errors, path)
		}
	}
	return p
}

// judge counts with DuckDB. sent and acked are files of stream, producer and number. It also returns how many
// records of each stream it found.
func judge(t testing.TB, duck *parts.Duck, sent, acked string, places []place) (v verdict, found map[string]int64) {
	t.Helper()
	duck.Query(fmt.Sprintf(`
		create or replace table sent as select * from read_csv(%s, header=false, columns={stream:'VARCHAR', producer:'BIGINT', n:'BIGINT'});
		create or replace table acked as select * from read_csv(%s, header=false, columns={stream:'VARCHAR', producer:'BIGINT', n:'BIGINT'});
		create or replace table found (stream VARCHAR, error BOOLEAN, producer BIGINT, n BIGINT, sound BOOLEAN, file VARCHAR, pos BIGINT)`,
		parts.SQL(sent), parts.SQL(acked)))
	count := func(from string) int64 {
		return duck.Query("select count(*)::BIGINT as n from (" + from + ")")[0]["n"].(int64)
	}
	bad := func(what, from string) int64 {
		n := count(from)
		if n > 0 {
			t.Logf("%s: %d, of which %v", what, n, duck.Query("select * from ("+from+") limit 5"))
		}
		return n
	}
	for _, p := range places {
		v.objects += int64(len(p.data) + len(p.errors) + len(p.refused))
		load(duck, p, p.data, false)
		load(duck, p, p.refused, true)
		if len(p.errors) > 0 {
			duck.Query(fmt.Sprintf(`create or replace table refused as
				select regexp_extract(raw, %[1]s, 1)::BIGINT producer, regexp_extract(raw, %[1]s, 2)::BIGINT n, raw like 'misfit%%' misfit, raw, file
				from (select decode(from_base64("rawData")) as raw, filename as file
					from read_json(%[2]s, format='newline_delimited', columns={"rawData":'VARCHAR'}, filename=true))`,
				parts.SQL(`^(?:misfit |\{"producer":)(\d+)(?:-|,"n":)(\d+)`), list(p.errors)))
			duck.Query(fmt.Sprintf(`insert into found select %s, true, producer, n,
				case when misfit then regexp_matches(raw, '^misfit \d+-\d+$') else md5(producer || '-' || n || '-' || (raw->>'pad')) = (raw->>'sum') end, file, NULL from refused`, parts.SQL(p.stream)))
			if p.keyed {
				v.misplaced += bad("in a wrong error output", `select producer, n, misfit, file from refused
					where not contains(file, case when misfit then '/metadata-extraction-failed/' else '/late/' end) or not misfit and not coalesce((raw->>'late')::BOOLEAN, false)`)
			}
		}
		if p.keyed && len(p.data) > 0 {
			v.misplaced += bad("in a wrong partition", fmt.Sprintf(`select producer, n, k, ts, late, filename from read_parquet(%s, filename=true, hive_partitioning=false)
				where coalesce(late, true) or not contains(filename, '/k=' || k || '/h=' || strftime(to_timestamp(ts / 1000) at time zone 'UTC', '%%Y-%%m-%%d-%%H') || '/')`, list(p.data)))
		}
	}
	v.sent, v.acked = count("from sent"), count("from acked")
	v.delivered = count("select distinct stream, producer, n from found where not error")
	v.failed = count("select distinct stream, producer, n from found where error")
	v.lost = bad("acknowledged and lost", "select * from acked a anti join found f using (stream, producer, n)")
	v.duplicated = bad("more than once", "select stream, producer, n, count(*)::INTEGER times, list(file) files from found group by all having count(*) > 1")
	v.foreign = bad("never sent", "select stream, producer, n, file from found f anti join sent s using (stream, producer, n)")
	v.damaged = bad("of other content", "select * from found where not coalesce(sound, false)")
	v.disorder = bad("out of order", `select * from (select *, lag(n) over (partition by file, producer order by pos) as prev from found where pos is not null) where prev > n`)
	found = map[string]int64{}
	for _, row := range duck.Query("select stream, count(*)::BIGINT as n from found group by stream") {
		found[row["stream"].(string)] = row["n"].(int64)
	}
	return v, found
}

// load reads data objects. Parquet gives rows their place in the file.
func load(duck *parts.Duck, p place, files []string, refused bool) {
	if len(files) == 0 {
		return
	}
	from, pos := "", "NULL"
	if p.parquet {
		from = fmt.Sprintf("read_parquet(%s, filename=true, file_row_number=true, hive_partitioning=false)", list(files))
		pos = "file_row_number"
	} else {
		compression := "uncompressed"
		if p.gzip {
			compression = "gzip"
		}
		form := "newline_delimited"
		if p.joined {
			form = "unstructured"
		}
		from = fmt.Sprintf(`read_json(%s, format=%s, compression=%s, filename=true, hive_partitioning=false,
			columns={producer:'BIGINT', n:'BIGINT', pad:'VARCHAR', sum:'VARCHAR'})`, list(files), parts.SQL(form), parts.SQL(compression))
	}
	duck.Query(fmt.Sprintf(`insert into found select %s, %t, producer, n, md5(producer || '-' || n || '-' || pad) = sum, filename, %s from %s`,
		parts.SQL(p.stream), refused, pos, from))
}

// list is a list of texts in SQL.
func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, s := range texts {
		quoted[i] = parts.SQL(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// TestJudgeSeesEveryFault: a judge that is always content proves nothing.
func TestJudgeSeesEveryFault(t *testing.T) {
	duck := parts.DuckDB(t)
	p := &producer{number: 3, stream: "s"}
	line := func(n int64) string { return string(p.record(n, []byte("pad"), nil)) }
	for _, c := range []struct {
		name  string
		lines []string
		error string
		want  verdict
	}{
		{"sound", []string{line(1), line(2)}, "misfit 3-3", verdict{delivered: 2, failed: 1}},
		{"lost", []string{line(1)}, "misfit 3-3", verdict{delivered: 1, failed: 1, lost: 1}},
		{"in the error output only", nil, "misfit 3-2", verdict{failed: 1, lost: 1}},
		{"twice", []string{line(1), line(2), line(1)}, "", verdict{delivered: 2, duplicated: 1}},
		{"delivered and failed", []string{line(1), line(2)}, "misfit 3-2", verdict{delivered: 2, failed: 1, duplicated: 1}},
		{"never sent", []string{line(1), line(2), line(7)}, "", verdict{delivered: 3, foreign: 1}},
		{"damaged", []string{line(1), strings.Replace(line(2), "pad\"", "bad\"", 2)}, "", verdict{delivered: 2, damaged: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string, lines ...string) string {
				path := filepath.Join(dir, name)
				writeLines(t, path, lines)
				return path
			}
			objects := place{stream: "s"}
			if len(c.lines) > 0 {
				objects.data = []string{path("data", c.lines...)}
			}
			if c.error != "" {
				objects.errors = []string{path("errors", fmt.Sprintf(`{"attemptsMade":1,"rawData":"%s"}`, base64.StdEncoding.EncodeToString([]byte(c.error))))}
			}
			got, _ := judge(quiet{t}, duck, path("sent", "s,3,1", "s,3,2", "s,3,3"), path("acked", "s,3,1", "s,3,2"), []place{objects})
			c.want.sent, c.want.acked, c.want.objects = 3, 2, got.objects
			if got != c.want {
				t.Errorf("got  %s\nwant %s", &got, &c.want)
			}
			if got.clean() != (c.name == "sound") {
				t.Errorf("clean: %t", got.clean())
			}
		})
	}
}

// TestJudgeSeesRowsOutOfOrder: only Parquet has places for its rows.
func TestJudgeSeesRowsOutOfOrder(t *testing.T) {
	duck, dir := parts.DuckDB(t), t.TempDir()
	var known []string
	for n := range 4 {
		known = append(known, fmt.Sprintf("s,3,%d", n))
	}
	log := filepath.Join(dir, "log")
	writeLines(t, log, known)
	for order, want := range map[string]int64{"n": 0, "n desc": 3, "n % 3, n": 1} {
		file := filepath.Join(dir, "rows.parquet")
		duck.Query(fmt.Sprintf(`copy (select 3::BIGINT producer, n, 'pad' pad, md5('3-' || n || '-pad') sum from range(4) r(n) order by %s) to %s (format parquet)`, order, parts.SQL(file)))
		got, _ := judge(quiet{t}, duck, log, log, []place{{stream: "s", parquet: true, data: []string{file}}})
		if want := (verdict{sent: 4, acked: 4, delivered: 4, disorder: want, objects: 1}); got != want {
			t.Errorf("rows by %s:\ngot  %s\nwant %s", order, &got, &want)
		}
	}
}

// TestJudgeSeesWrongPartitions: each row lies where its key and its time say, and late ones in their error output.
func TestJudgeSeesWrongPartitions(t *testing.T) {
	duck := parts.DuckDB(t)
	p := &producer{number: 3, stream: "s", keys: 5}
	at := time.Date(2026, 7, 13, 14, 30, 0, 0, time.UTC).UnixMilli()
	record := func(late bool) string {
		return fmt.Sprintf(`{"producer":3,"n":1,"pad":"pad","sum":"%s","k":"c7","ts":%d,"late":%t}`, p.sum(1, []byte("pad")), at, late)
	}
	misfit := "misfit 3-1"
	for _, c := range []struct {
		name   string
		folder string // of the object, or of the error output
		record string
		want   int64
	}{
		{"where it belongs", "s/k=c7/h=2026-07-13-14", record(false), 0},
		{"another key", "s/k=c8/h=2026-07-13-14", record(false), 1},
		{"an hour later", "s/k=c7/h=2026-07-13-15", record(false), 1},
		{"no partition", "s", record(false), 1},
		{"late and delivered", "s/k=c7/h=2026-07-13-14", record(true), 1},
		{"late", "errors/s/late", record(true), 0},
		{"in time and taken for late", "errors/s/late", record(false), 1},
		{"late, for another reason", "errors/s/metadata-extraction-failed", record(true), 1},
		{"misfit", "errors/s/metadata-extraction-failed", misfit, 0},
		{"misfit, for another reason", "errors/s/late", misfit, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			folder := filepath.Join(dir, filepath.FromSlash(c.folder))
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			want := verdict{sent: 1, acked: 1, objects: 1, misplaced: c.want}
			if strings.HasPrefix(c.folder, "errors") {
				want.failed = 1
				writeLines(t, filepath.Join(folder, "lines"), []string{fmt.Sprintf(`{"rawData":"%s"}`, base64.StdEncoding.EncodeToString([]byte(c.record)))})
			} else {
				want.delivered = 1
				writeLines(t, filepath.Join(dir, "rows"), []string{c.record})
				duck.Query(fmt.Sprintf("copy (select * from read_json(%s, format='newline_delimited')) to %s (format parquet)", parts.SQL(filepath.Join(dir, "rows")), parts.SQL(filepath.Join(folder, "rows.parquet"))))
			}
			log := filepath.Join(dir, "log")
			writeLines(t, log, []string{"s,3,1"})
			objects := placeOf(t, dir, "s", true, false)
			objects.keyed = true
			got, _ := judge(quiet{t}, duck, log, log, []place{objects})
			if got != want || got.clean() != (c.want == 0) {
				t.Errorf("\ngot  %s (clean: %t)\nwant %s", &got, got.clean(), &want)
			}
		})
	}
}

// quiet keeps what the judge says of faults that are wanted to itself.
type quiet struct{ testing.TB }

func (quiet) Logf(string, ...any) {}
