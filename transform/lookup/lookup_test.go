package lookup

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/transform/transformtest"
)

func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t testing.TB, o Options) *Lookup {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLookup(t *testing.T) {
	countries := file(t, "countries.csv", "\ufeffcode,name\nDE,\"Germany, the \"\"Federal\"\"\"\nFR,France\n42,<answer>\n")
	transformtest.Run(t, must(t, Options{File: countries, Key: ".country", Into: "country_name"}), [][]string{
		{`{"country":"DE","x":1.0}`, `{"country":"DE","x":1.0,"country_name":"Germany, the \"Federal\""}`},
		{`{"country":"\u0046R"}`, `{"country":"\u0046R","country_name":"France"}`},
		{`{"country":42}`, `{"country":42,"country_name":"<answer>"}`},
		{`{"country_name" :"France","country":"FR"}`, `{"country_name" :"France","country":"FR"}`},
		{`{"country_name" :"?","country":"FR"}`, `{"country_name":"France","country":"FR"}`},
		{`{ "country" : "XX" }`, `{ "country" : "XX" }`},
		{`{ "country" : null }`, `{ "country" : null }`},
		{`{ "country" : ["FR"] }`, `{ "country" : ["FR"] }`},
		{`{ }`, `{ }`},
		{`x`, "Hydrant.Lookup: The record is not a JSON object: found 'x' at byte 0 where a value is expected."},
	})
	many := file(t, "many.csv", "id,a,b\n1,x,y\n")
	transformtest.Run(t, must(t, Options{File: many, Key: "user.id", Into: "user.more"}), [][]string{
		{`{"user":{"id":1}}`, `{"user":{"id":1,"more":{"a":"x","b":"y"}}}`},
	})
	transformtest.Run(t, must(t, Options{File: many, Key: "id", Into: "user.more"}), [][]string{
		{`{"id":1,"user":"u"}`, "Hydrant.Lookup: user.more cannot be set: user is a string."},
	})
	lines := file(t, "t.NDJSON", "{\"k\":\"a\",\"v\":[1, 2]}\n\n{\"k\":true,\"v\":1,\"w\":null}\n{\"k\":1.50,\"v\":1}")
	transformtest.Run(t, must(t, Options{File: lines, Key: "k", Into: "v"}), [][]string{
		{`{"k":"a"}`, `{"k":"a","v":[1, 2]}`},
		{`{"k":true}`, `{"k":true,"v":{"v":1,"w":null}}`},
		{`{"k":1.50}`, `{"k":1.50,"v":1}`},
		{`{"k":1.5}`, `{"k":1.5}`},
	})
}

func TestTablesThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"t.csv", "", "it has no header"},
		{"t.csv", "a\n1\n", "line 1: the header has one column; a key and at least one more are wanted"},
		{"t.csv", "a,b,b\n", `line 1: the column "b" is there twice`},
		{"t.csv", "a,b\n1,2\n1,3\n", `line 3: the key "1" is there twice`},
		{"t.csv", "a,b\n1\n", "record on line 2: wrong number of fields"},
		{"t.jsonl", `{"a":1}`, "line 1: a key and at least one member more are wanted"},
		{"t.jsonl", `[1]`, "line 1: it is an array, a JSON object is needed"},
		{"t.jsonl", "{\"a\":1,\"b\":2}\n{", "line 2: it ends at byte 1 where a member's name is expected"},
		{"t.jsonl", `{"a":null,"b":1}`, "line 1: the key a is null; a string, a number or a boolean is wanted"},
		{"t.jsonl", "{\"a\":1,\"b\":2}\n{\"a\":\"1\",\"b\":2}", `line 2: the key "1" is there twice`},
		{"t.jsonl", strings.Repeat(" ", maxLine+1) + "\n", "a line has more than 1048576 bytes: bufio.Scanner: token too long"},
		{"t.txt", "a,b\n", `the extension ".txt" is none of .csv, .ndjson and .jsonl`},
	} {
		path := file(t, c.name, c.text)
		if _, err := New(Options{File: path, Key: "a", Into: "b"}); err == nil || err.Error() != "file: "+path+": "+c.want {
			t.Errorf("%s %.40q: %v\nwant %s", c.name, c.text, err, c.want)
		}
	}
	good := file(t, "t.csv", "a,b\n")
	for _, o := range []Options{{Key: "a", Into: "b"}, {File: good, Into: "b"}, {File: good, Key: "a"}, {File: good, Key: "a[]", Into: "b"}, {File: good, Key: "a", Into: "b[]"}, {File: good + "x", Key: "a", Into: "b"}, {File: t.TempDir(), Key: "a", Into: "b"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%v was taken", o)
		}
	}
	big := file(t, "big.csv", "a,b\n"+strings.Repeat("1234567,1234567\n", MaxFile/16)+"0,0\n")
	if _, err := New(Options{File: big, Key: "a", Into: "b"}); err == nil || !strings.HasSuffix(err.Error(), "has more than 67108864 bytes") {
		t.Error(err)
	}
}

// A file that changed is in force after refresh; one that cannot be read changes nothing, warns once, and is forgotten when it
// can be read again.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t, "t.csv", "k,v\na,1\n")
		var log bytes.Buffer
		p := must(t, Options{File: path, Key: "k", Into: "v", Refresh: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
		c := transformtest.Chain(t, p)
		check := func(step, want string, warnings int) {
			t.Helper()
			if got := transformtest.Apply(t, c, `{"k":"a"}`); !slices.Equal(got, []string{`{"k":"a","v":"` + want + `"}`}) {
				t.Errorf("%s: %q, want %s", step, got, want)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != warnings {
				t.Errorf("%s: %d warnings, want %d\n%s", step, n, warnings, log.String())
			}
		}
		replace := func(text string) {
			t.Helper()
			if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}
		check("at first", "1", 0)
		replace("k,v\na,2\n")
		time.Sleep(time.Minute - 1)
		check("before it is due", "1", 0)
		time.Sleep(time.Nanosecond)
		check("when it is due", "2", 0)
		replace("k,v\na,3\na,4\n")
		time.Sleep(time.Minute)
		check("a broken file", "2", 1)
		time.Sleep(time.Minute)
		check("the same broken file", "2", 1)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		check("no file", "2", 2)
		replace("k,v\na,5\n")
		time.Sleep(time.Minute)
		check("a good file", "5", 2)
	})
}

func TestNoRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t, "t.csv", "k,v\na,1\n")
		c := transformtest.Chain(t, must(t, Options{File: path, Key: "k", Into: "v"}))
		if err := os.WriteFile(path, []byte("k,v\na,22\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1000 * time.Hour)
		if got := transformtest.Apply(t, c, `{"k":"a"}`); got[0] != `{"k":"a","v":"1"}` {
			t.Errorf("%q", got)
		}
	})
}

// Whatever a table's text is, its rows are JSON.
func FuzzTable(f *testing.F) {
	f.Add(true, []byte("a,b\n1,\"x\n\"\n"))
	f.Add(true, []byte("a,b,c\n\xff,\xfe,\n"))
	f.Add(false, []byte(`{"a":1,"b":{"c":[]}}`+"\n"+`{"a":2,"b":3,"c":4}`))
	f.Fuzz(func(t *testing.T, isCSV bool, data []byte) {
		extension := ".jsonl"
		if isCSV {
			extension = ".csv"
		}
		rows, err := parse(extension, data)
		if err != nil && rows != nil {
			t.Fatalf("both rows and an error: %v", err)
		}
		for k, v := range rows {
			if !json.Valid(v) {
				t.Fatalf("%q stands for %q", k, v)
			}
		}
	})
}
