package jq

import (
	"testing"

	"hydrant/record"
	"hydrant/transform"
)

// What the source knows of a record is in variables; of records that were put they are null.
func TestVariables(t *testing.T) {
	kafka := record.AppendMeta(nil, &record.Meta{
		Topic: "clicks", Lane: "7", Offset: "12345678901", Timestamp: 1510772160123, Key: []byte("user\xff"),
		Headers: []record.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}},
	})
	bare := record.AppendMeta(nil, &record.Meta{})
	for _, c := range []struct {
		expression string
		meta       []byte
		want       string // "": dropped
	}{
		{`.k = $key`, kafka, `{"n":1,"k":"user` + "\uFFFD" + `"}`},
		{`.h = $headers`, kafka, `{"n":1,"h":{"a":"2","b":null}}`},
		{`.h = $headers.a`, kafka, `{"n":1,"h":"2"}`},
		{`.t = $topic`, kafka, `{"n":1,"t":"clicks"}`},
		{`.p = [$lane, $partition]`, kafka, `{"n":1,"p":["7","7"]}`},
		{`.o = $offset`, kafka, `{"n":1,"o":"12345678901"}`},
		{`.t = $timestamp`, kafka, `{"n":1,"t":1510772160123}`},
		{`select($key == "other")`, kafka, ``},
		{`.k = $key`, bare, `{"n":1,"k":null}`},
		{`.h = $headers`, bare, `{"n":1,"h":{}}`},
		{`.k = [$key, $headers, $topic, $lane, $partition, $offset, $timestamp]`, nil, `{"n":1,"k":[null,null,null,null,null,null,null]}`},
		{`.k = $key`, []byte("no metadata"), `{"n":1,"k":null}`},
		{`.n as $key | $key`, kafka, `1`},
	} {
		p, err := New(Options{Expression: c.expression})
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		chain, err := transform.New(transform.Options{Stages: []transform.Stage{{Name: "jq", Processor: p}}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		_, err = chain.Apply(record.Row{Data: []byte(`{"n":1}`), Meta: c.meta}, func(r transform.Result) error {
			if r.Outcome == transform.Failed {
				t.Errorf("%s: %v", c.expression, r.Failure)
			}
			if r.Outcome == transform.Ok {
				got = string(r.Row.Data)
				if string(r.Row.Meta) != string(c.meta) {
					t.Errorf("%s: the metadata became %q", c.expression, r.Row.Meta)
				}
			}
			return nil
		})
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.expression, got, err, c.want)
		}
		q, err := NewQuery(Options{Expression: c.expression})
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
		} else if _, plain := q.Path(); plain {
			t.Errorf("%s is taken for a path", c.expression)
		}
	}
	f, err := NewFilter(Options{Expression: `$topic == "clicks"`})
	if err != nil {
		t.Fatal(err)
	}
	var d transform.Document
	for meta, want := range map[string]transform.Verdict{string(kafka): transform.Keep, string(bare): transform.Drop, "": transform.Drop} {
		d.Reset([]byte("{}"))
		d.SetMeta([]byte(meta))
		if got, failure := f.Process(&d); got != want || failure != nil {
			t.Errorf("filter of %q: %v, %v; want %v", meta, got, failure, want)
		}
	}
	if _, err := New(Options{Expression: `$other`}); err == nil {
		t.Error("a variable that there is not")
	}
}
