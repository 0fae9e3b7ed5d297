package transform

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"hydrant/record"
)

// does is a processor for tests.
type does func(d *Document) (Verdict, *Failure)

func (f does) Process(d *Document) (Verdict, *Failure) { return f(d) }

// apply runs one record and prints its results.
func apply(t testing.TB, c *Chain, data string) []string {
	t.Helper()
	var out []string
	var sum Summary
	got, err := c.Apply(record.Row{Seq: 7, Arrived: 9, Data: []byte(data)}, func(r Result) error {
		if r.Row.Seq != 7 || r.Row.Arrived != 9 || int(r.Row.Sub) != len(out) {
			t.Errorf("identity %d.%d at %d", r.Row.Seq, r.Row.Sub, r.Row.Arrived)
		}
		line := fmt.Sprintf("%s %s", r.Outcome, r.Row.Data)
		switch r.Outcome {
		case Ok:
			sum.Ok++
		case Dropped:
			sum.Dropped++
		case Failed:
			sum.Failed++
			line += " | " + r.Failure.Type + " " + r.Failure.Error()
		}
		out = append(out, line)
		return nil
	})
	if err != nil || got != sum {
		t.Errorf("%v, %v, want %v", got, err, sum)
	}
	return out
}

func chain(t testing.TB, steps ...does) *Chain {
	t.Helper()
	var o Options
	for i, s := range steps {
		o.Stages = append(o.Stages, Stage{Name: fmt.Sprintf("step%d", i), Processor: s})
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	splitJSON = does(func(d *Document) (Verdict, *Failure) {
		if err := d.Values(func(v Ref) error { d.AddPart(v); return nil }); err != nil {
			return 0, Failf("Split", "%v", err)
		}
		return Split, nil
	})
	splitComma = does(func(d *Document) (Verdict, *Failure) {
		for _, p := range bytes.Split(d.Data(), []byte(",")) {
			d.AddPartData(p)
		}
		return Split, nil
	})
	// mark sets .m; it drops records that have .drop and fails those that have .fail, after a change.
	mark = does(func(d *Document) (Verdict, *Failure) {
		root, failure := d.Object("Mark")
		if failure != nil {
			return 0, failure
		}
		d.Append(root, "m", d.NewScalar(Number, "1"))
		if d.Member(root, "drop") != 0 {
			return Drop, nil
		}
		if d.Member(root, "fail") != 0 {
			return 0, Failf("Mark", "as told")
		}
		return Keep, nil
	})
	newline = does(func(d *Document) (Verdict, *Failure) {
		d.SetOwned(append(d.AppendData(d.Scratch()), '\n'))
		return Keep, nil
	})
	unmark = does(func(d *Document) (Verdict, *Failure) {
		root, failure := d.Object("Unmark")
		if failure != nil {
			return 0, failure
		}
		d.Remove(d.Member(root, "m"))
		return Keep, nil
	})
	broken = does(func(d *Document) (Verdict, *Failure) { panic("index out of range") })
)

func TestFirst(t *testing.T) {
	for want, c := range map[string]*Chain{`Ok {"m":1}`: nil, "Ok {\"m\":1}\n": chain(t, newline)} {
		c, err := First(Stage{Name: "mark", Processor: mark}, c)
		if err != nil {
			t.Fatal(err)
		}
		if got := apply(t, c, `{}`); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := First(Stage{Name: "none"}, nil); err == nil {
		t.Error("a stage without a processor was taken")
	}
}

func TestChain(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []does
		in    string
		want  []string
	}{
		{"none", nil, "any bytes \xff", []string{"Ok any bytes \xff"}},
		{"one", []does{mark}, ` {"a":1} `, []string{`Ok  {"a":1,"m":1} `}},
		{"a change and its opposite", []does{mark, unmark}, ` {"a" : 1} `, []string{`Ok  {"a" : 1} `}},
		{"the text between is parsed again", []does{mark, newline, unmark, newline}, `{"a" : 1}`, []string{"Ok {\"a\" : 1}\n\n"}},
		{"dropped", []does{mark, newline}, `{"drop":1}`, []string{`Dropped `}},
		{"failed", []does{newline, mark}, `{"fail":1}`, []string{`ProcessingFailed {"fail":1} | processing-failed Hydrant.Mark: as told`}},
		{"not JSON", []does{mark}, `{`, []string{`ProcessingFailed { | processing-failed Hydrant.Mark: The record is not a JSON object: it ends at byte 1 where a member's name is expected.`}},
		{"no object", []does{mark}, `[1]`, []string{`ProcessingFailed [1] | processing-failed Hydrant.Mark: The record is an array, a JSON object is needed.`}},
		{"parts", []does{splitJSON, mark, newline}, `{"a":1} {"drop":2}{"fail":3}
			{"b":4}`, []string{"Ok {\"a\":1,\"m\":1}\n", "Dropped ", `ProcessingFailed {"fail":3} | processing-failed Hydrant.Mark: as told`, "Ok {\"b\":4,\"m\":1}\n"}},
		{"one part gives back the whole", []does{splitJSON, mark}, ` {"fail":1} `, []string{`ProcessingFailed  {"fail":1}  | processing-failed Hydrant.Mark: as told`}},
		{"no parts", []does{splitJSON}, "  ", []string{"Dropped "}},
		{"nothing of a record is passed on when its end is bad", []does{splitJSON, mark}, `{} {]`, []string{`ProcessingFailed {} {] | processing-failed Hydrant.Split: found ']' at byte 4 where a member's name is expected`}},
		{"pieces", []does{splitComma, newline}, "a,b,,c", []string{"Ok a\n", "Ok b\n", "Ok \n", "Ok c\n"}},
		{"pieces of what was written", []does{newline, splitComma, newline, newline}, "a,b", []string{"Ok a\n\n", "Ok b\n\n\n"}},
		{"parts of parts", []does{splitComma, splitJSON, mark, newline, unmark}, `{"a":1}{},{"fail":1} {"b":2},{}`, []string{
			"Ok {\"a\":1}\n", "Ok {}\n", `ProcessingFailed {"fail":1} | processing-failed Hydrant.Mark: as told`, "Ok {\"b\":2}\n", "Ok {}\n"}},
		{"pieces of values", []does{splitJSON, newline, splitComma, newline}, `{"a":1,"b":2}{}`, []string{"Ok {\"a\":1\n", "Ok \"b\":2}\n\n", "Ok {}\n\n"}},
	} {
		if got := apply(t, chain(t, c.steps...), c.in); strings.Join(got, "¶") != strings.Join(c.want, "¶") {
			t.Errorf("%s\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// A processor that breaks fails the record, and the next record is none the wiser.
func TestChainContainsAPanic(t *testing.T) {
	c := chain(t, splitJSON, mark, does(func(d *Document) (Verdict, *Failure) {
		if root, _ := d.Root(); d.Member(root, "break") != 0 {
			return broken(d)
		}
		return Keep, nil
	}))
	got := apply(t, c, `{"a":1}{"break":1}{"b":1}`)
	if len(got) != 3 || got[0] != `Ok {"a":1,"m":1}` || got[2] != `Ok {"b":1,"m":1}` ||
		!strings.HasPrefix(got[1], `ProcessingFailed {"break":1} | processing-failed Hydrant.Panic: The processor step2 broke on this record: index out of range.`) {
		t.Errorf("%q", got)
	}
}

func TestChainBoundsARecord(t *testing.T) {
	grow := func(n int) does {
		return func(d *Document) (Verdict, *Failure) {
			d.SetOwned(append(d.Scratch(), make([]byte, n)...))
			return Keep, nil
		}
	}
	if got := apply(t, chain(t, grow(MaxData)), "x"); !strings.HasPrefix(got[0], "Ok ") {
		t.Errorf("%.80q", got)
	}
	if got := apply(t, chain(t, grow(MaxData+1)), "x"); got[0] != "ProcessingFailed x | processing-failed Hydrant.Transform: After step0 the record has more than 16777216 bytes." {
		t.Errorf("%.80q", got)
	}
}

func TestChainReturnsTheErrorOfEmit(t *testing.T) {
	stop, n := errors.New("stop"), 0
	_, err := chain(t, splitComma).Apply(record.Row{Data: []byte("a,b,c")}, func(Result) error {
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	if err != stop || n != 2 {
		t.Errorf("%v after %d", err, n)
	}
	if _, err := New(Options{Stages: []Stage{{Name: "x"}}}); err == nil {
		t.Error("a stage without a processor was taken")
	}
}

func TestChainConcurrently(t *testing.T) {
	c := chain(t, splitJSON, mark, newline)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				in := fmt.Sprintf(`{"g":%d}{"i":%d}`, g, i)
				want := fmt.Sprintf("Ok {\"g\":%d,\"m\":1}\n¶Ok {\"i\":%d,\"m\":1}\n", g, i)
				if got := strings.Join(apply(t, c, in), "¶"); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
}

// A result says what can be put again in its place: the record, or the part as it was split off.
func TestResultsTellWhatTheyWere(t *testing.T) {
	double := does(func(d *Document) (Verdict, *Failure) {
		if bytes.HasPrefix(d.Data(), []byte("drop")) {
			return Drop, nil
		}
		if bytes.HasPrefix(d.Data(), []byte("fail")) {
			return 0, Failf("Double", "no")
		}
		d.SetOwned(append(append(d.Scratch(), d.Data()...), d.Data()...))
		return Keep, nil
	})
	for _, c := range []struct {
		steps []does
		in    string
		want  string
	}{
		{[]does{double}, "ab", "abab of ab true"},
		{[]does{double, splitComma, double}, "ab", "abababab of ab true"},
		{[]does{splitComma, double}, "a,drop,fail,b", "aa of a false; of drop false; fail of fail false; bb of b false"},
		{[]does{splitComma, splitComma, double}, "a", "aa of a true"},
		{[]does{double, splitComma, double}, "x,y", "xx of x false; yxyx of yx false; yy of y false"},
	} {
		var got []string
		_, err := chain(t, c.steps...).Apply(record.Row{Seq: 7, Data: []byte(c.in)}, func(r Result) error {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s of %s %t", r.Row.Data, r.Raw, r.Whole)))
			return nil
		})
		if text := strings.Join(got, "; "); err != nil || text != c.want {
			t.Errorf("%q became\n%s, %v, want\n%s", c.in, text, err, c.want)
		}
	}
}
