package prefix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// zeros draws random strings of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// counting draws a different string each time: 00010203040, 06070809..., and so on.
type counting struct{ next byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.next
		c.next++
	}
	return len(p), nil
}

var julyAfternoon = time.Date(2026, 7, 13, 14, 5, 9, 123456789, time.UTC)

func TestEval(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	f := func(kind Kind, text string, at time.Time, want string) {
		t.Helper()
		p, err := Parse(text, kind)
		if err != nil {
			t.Errorf("%s %q: %v", kind, text, err)
			return
		}
		got, err := p.Eval(Values{Time: at, ErrorOutputType: "processing-failed"}, &counting{})
		if err != nil || got != want {
			t.Errorf("%s %q: got %q, %v, want %q", kind, text, got, err, want)
		}
		if p.String() != text {
			t.Errorf("String: got %q, want %q", p.String(), text)
		}
		if has := strings.Contains(text, "!{"); p.HasExpressions() != has {
			t.Errorf("%q: HasExpressions %v, want %v", text, !has, has)
		}
	}
	// The date is appended only where there is no expression, and no slash is put between.
	f(Prefix, "", julyAfternoon, "2026/07/13/14/")
	f(Prefix, "logs/", julyAfternoon, "logs/2026/07/13/14/")
	f(Prefix, "legacy", julyAfternoon, "legacy2026/07/13/14/")
	f(Prefix, "a!b{c}d", julyAfternoon, "a!b{c}d2026/07/13/14/")
	f(Prefix, "x/!{firehose:random-string}/", julyAfternoon, "x/00010203040/")
	f(Prefix, "!{firehose:random-string}!{firehose:random-string}", julyAfternoon, "00010203040"+"060708090a0")
	f(Prefix, "!{timestamp:'const'}", julyAfternoon, "const")
	f(Prefix, "clicks/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/", julyAfternoon, "clicks/dt=2026-07-13/hour=14/")
	f(Prefix, "!{timestamp:'year='yyyy'/month='MM'/day='dd'/hour='HH'/'}", julyAfternoon, "year=2026/month=07/day=13/hour=14/")
	f(Prefix, "!{timestamp:'{'HH}", julyAfternoon, "{14")
	// One time zone for everything, and a resolution of a second.
	f(Prefix, "!{timestamp:yyyy-MM-dd'T'HH:mm:ss.SSSXXX}", julyAfternoon.In(berlin), "2026-07-13T16:05:09.000+02:00")
	f(Prefix, "!{timestamp:A}/!{timestamp:n}/!{timestamp:SSS}", julyAfternoon, "50709000/0/000")
	f(Prefix, "", time.Date(2026, 7, 13, 23, 30, 0, 0, time.UTC).In(berlin), "2026/07/14/01/")
	f(Prefix, "!{timestamp:YYYY}/!{timestamp:yyyy}", time.Date(2024, 12, 30, 0, 0, 0, 0, time.UTC), "2025/2024")
	// Error prefixes.
	f(ErrorOutputPrefix, "", julyAfternoon, "processing-failed/2026/07/13/14/")
	f(ErrorOutputPrefix, "bad/", julyAfternoon, "bad/processing-failed/2026/07/13/14/")
	f(ErrorOutputPrefix, "errors/!{firehose:error-output-type}/", julyAfternoon, "errors/processing-failed/")
	f(ErrorOutputPrefix, "!{firehose:error-output-type}/!{timestamp:yyyy}/!{firehose:error-output-type}", julyAfternoon, "processing-failed/2026/processing-failed")
}

func TestParseRefuses(t *testing.T) {
	const (
		usage      = "Invalid expression usage"
		conversion = "Invalid conversion character used in the value of the expression in Prefix"
		errConv    = "Invalid conversion character used in the value of the expression in ErrorOutputPrefix"
	)
	f := func(kind Kind, text, message string, offset int) {
		t.Helper()
		_, err := Parse(text, kind)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s %q: got %v, want message %q", kind, text, err, message)
			return
		}
		if e.Message != message || e.Offset != offset || e.Kind != kind {
			t.Errorf("%s %q: got %q at %d, want %q at %d", kind, text, e.Message, e.Offset, message, offset)
		}
		if !strings.HasPrefix(e.Error(), fmt.Sprintf("%s (at byte %d", message, offset)) {
			t.Errorf("%s %q: Error() is %q", kind, text, e.Error())
		}
	}
	f(Prefix, "a/!{", usage, 2)
	f(Prefix, "a/!{timestamp:yyyy", usage, 2)
	f(Prefix, "!{}", usage, 0)
	f(Prefix, "!{timestamp}", usage, 0)
	f(Prefix, "!{timestamp:}", usage, 12)
	f(Prefix, "x!{timestamp:!{timestamp:yyyy}}", usage, 13)
	f(Prefix, "!{foo:x}", "Namespace to the left of colon (foo) is an invalid keyword!", 2)
	f(Prefix, "a!{:x}", "Namespace to the left of colon () is an invalid keyword!", 3)
	f(Prefix, "!{ timestamp:yyyy}", "Namespace to the left of colon ( timestamp) is an invalid keyword!", 2)
	f(Prefix, "!{Timestamp:yyyy}", "Namespace to the left of colon (Timestamp) is an invalid keyword!", 2)
	f(Prefix, "!{firehose:foo}", conversion, 11)
	f(Prefix, "!{firehose:}", conversion, 11)
	f(Prefix, "!{firehose:Random-String}", conversion, 11)
	f(ErrorOutputPrefix, "!{firehose:error-output-type}!{firehose:foo}", errConv, 40)
	for _, letter := range "CIJPRTUVbfijloprt" { // those that the service refuses by itself
		f(Prefix, fmt.Sprintf("!{timestamp:yyyy%c}", letter), conversion, 16)
		f(Prefix, fmt.Sprintf("!{timestamp:yyyy%c%[1]cH}", letter), conversion, 16)
	}
	f(Prefix, "!{timestamp:HHH}", conversion, 12)
	f(Prefix, "!{timestamp:yyyy'}", conversion, 16)
	f(Prefix, "!{timestamp:'}'}", conversion, 12) // the first brace ends the expression
	f(Prefix, "!{timestamp:yyyy]}", conversion, 16)
	f(Prefix, "!{timestamp:yyyy#}", conversion, 16)
	f(Prefix, "!{timestamp:y{}", conversion, 13)
	f(ErrorOutputPrefix, "!{timestamp:HHH}", errConv, 12)
	f(Prefix, "e/!{firehose:error-output-type}/", "Prefix must not contain any occurrence of !{firehose:error-output-type}", 2)
	f(ErrorOutputPrefix, "e/!{timestamp:yyyy}", "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}", 0)
	f(ErrorOutputPrefix, "e/!{firehose:random-string}", "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}", 0)
	f(ErrorOutputPrefix, "!{firehose:error-output-type}!{partitionKeyFromQuery:k}", "Dynamic Partitioning Namespaces can't be part of an error prefix expression", 29)
	f(ErrorOutputPrefix, "!{partitionKeyFromLambda:k}", "Dynamic Partitioning Namespaces can't be part of an error prefix expression", 0)
	f(Prefix, "c=!{partitionKeyFromQuery:customer}/", "!{partitionKeyFromQuery:customer} is known where objects are partitioned only", 2)
	f(Prefix, "!{partitionKeyFromLambda:x}/", "!{partitionKeyFromLambda:x} is known where objects are partitioned only", 0)
	f(Prefix, "!{partitionKeyFromQuery:}", usage, 24)
	f(Prefix, "ab\xff", "Prefix must be valid UTF-8", 2)
	f(Prefix, "a\uFFFDb\xc3", "Prefix must be valid UTF-8", 5)
	f(Prefix, strings.Repeat("x", 513), "Length of evaluated prefix cannot be greater than 512", 0)
	f(ErrorOutputPrefix, strings.Repeat("x", 513), "Length of evaluated ErrorOutputPrefix cannot be greater than 512", 0)
	f(Prefix, strings.Repeat("x", 509)+"!{timestamp:yyyy}", "Length of evaluated prefix cannot be greater than 512", 0)
	f(Prefix, strings.Repeat("x", 502)+"!{firehose:random-string}", "Length of evaluated prefix cannot be greater than 512", 0)
}

// TestLength: 512 characters are taken, and a date that is appended by rule does not count. Characters are
// UTF-16 code units.
func TestLength(t *testing.T) {
	f := func(kind Kind, text string, ok bool) {
		t.Helper()
		p, err := Parse(text, kind)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Eval(Values{Time: julyAfternoon, ErrorOutputType: strings.Repeat("e", 12)}, zeros{})
		if ok != (err == nil) {
			t.Errorf("%q: got %v, want ok %v", text, err, ok)
		}
		if e, is := errors.AsType[*Error](err); err != nil && (!is || !strings.HasPrefix(e.Message, "Length of evaluated ")) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	f(Prefix, x(512), true)
	f(ErrorOutputPrefix, x(512), true)
	f(Prefix, strings.Repeat("é", 512), true)
	f(Prefix, strings.Repeat("😀", 256), true)
	f(Prefix, strings.Repeat("😀", 250)+"!{firehose:random-string}x", true) // 500 + 11 + 1
	f(Prefix, x(508)+"!{timestamp:yyyy}", true)
	f(Prefix, x(508)+"!{timestamp:MMM}", true)
	f(Prefix, x(510)+"!{timestamp:y}", false)      // "2026", known when it is evaluated
	f(Prefix, x(508)+"!{timestamp:MMMM}", true)    // July
	f(Prefix, x(505)+"!{timestamp:'9'EEEE}", true) // Monday
	f(ErrorOutputPrefix, x(500)+"!{firehose:error-output-type}", true)
	f(ErrorOutputPrefix, x(501)+"!{firehose:error-output-type}", false)
	if _, err := Parse(strings.Repeat("😀", 257), Prefix); err == nil {
		t.Error("514 UTF-16 code units were taken")
	}
}

func TestEvalReportsRandomSource(t *testing.T) {
	p, err := Parse("!{firehose:random-string}", Prefix)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Eval(Values{}, bytes.NewReader([]byte{1, 2})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestRoute(t *testing.T) {
	f := func(kind Kind, text, want string) {
		t.Helper()
		p, err := Parse(text, kind)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Route(Values{Time: julyAfternoon, ErrorOutputType: "late"}); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	f(Prefix, "", "2026/07/13/14/")
	f(Prefix, "a/!{firehose:random-string}/!{timestamp:HH}", "a/!{firehose:random-string}/14")
	f(ErrorOutputPrefix, "!{firehose:error-output-type}/!{timestamp:HH}", "late/14")
}

// TestSameRoute: exact spans where they matter.
func TestSameRoute(t *testing.T) {
	berlin, newYork, lordHowe := zone(t, "Europe/Berlin"), zone(t, "America/New_York"), zone(t, "Australia/Lord_Howe")
	f := func(text string, at time.Time, from, until string) {
		t.Helper()
		p, err := Parse(text, Prefix)
		if err != nil {
			t.Fatal(err)
		}
		gotFrom, gotUntil := p.SameRoute(Values{Time: at})
		if got := gotFrom.Format(time.RFC3339Nano); got != from {
			t.Errorf("%q at %s: from %s, want %s", text, at, got, from)
		}
		if got := gotUntil.Format(time.RFC3339Nano); got != until {
			t.Errorf("%q at %s: until %s, want %s", text, at, got, until)
		}
	}
	f("", julyAfternoon, "2026-07-13T14:00:00Z", "2026-07-13T15:00:00Z")
	f("!{timestamp:yyyy}", julyAfternoon, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
	f("!{timestamp:MMM}", julyAfternoon, "2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z")
	f("!{timestamp:dd}", julyAfternoon, "2026-07-13T00:00:00Z", "2026-07-14T00:00:00Z")
	f("!{timestamp:mm}", julyAfternoon, "2026-07-13T14:05:00Z", "2026-07-13T14:06:00Z")
	f("!{timestamp:ss}", julyAfternoon, "2026-07-13T14:05:09Z", "2026-07-13T14:05:10Z")
	f("!{timestamp:SSS}", julyAfternoon, "2026-07-13T14:05:09Z", "2026-07-13T14:05:10Z")
	f("!{timestamp:dd}/!{timestamp:HH}/!{timestamp:MM}", julyAfternoon, "2026-07-13T14:00:00Z", "2026-07-13T15:00:00Z")
	// The first day of summer time has 23 hours: the span ends at the change, which is allowed.
	f("!{timestamp:dd}", time.Date(2026, 3, 29, 1, 30, 0, 0, berlin), "2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00")
	f("!{timestamp:dd}", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), "2026-03-29T03:00:00+02:00", "2026-03-30T00:00:00+02:00")
	// An hour that comes twice is one text, in two spans.
	f("!{timestamp:HH}", time.Unix(1793511000, 0).In(newYork), "2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00")
	f("!{timestamp:HH}", time.Unix(1793514600, 0).In(newYork), "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00")
	// A change by half an hour.
	f("!{timestamp:HH}", time.Date(2026, 4, 5, 1, 45, 0, 0, lordHowe), "2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30")
	f("!{timestamp:z}", time.Date(2026, 7, 1, 0, 0, 0, 0, berlin), "2026-03-29T03:00:00+02:00", "2026-10-25T02:00:00+01:00")

	p, err := Parse("a/!{firehose:random-string}", Prefix)
	if err != nil {
		t.Fatal(err)
	}
	from, until := p.SameRoute(Values{Time: julyAfternoon.In(berlin)})
	if from.UnixMicro() > math.MinInt64+1e6 || until.UnixMicro() < math.MaxInt64-1e6 {
		t.Errorf("a text without time: from %v until %v", from, until)
	}
	p, err = Parse("!{timestamp:XXX}", Prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 3600), time.FixedZone("", -3600)} {
		from, until = p.SameRoute(Values{Time: julyAfternoon.In(zone)})
		if from.UnixMicro() > math.MinInt64+1e12 || until.UnixMicro() < math.MaxInt64-1e12 {
			t.Errorf("offset only, in %v: from %d until %d", zone, from.UnixMicro(), until.UnixMicro())
		}
	}
}

// TestSameRouteHolds: whatever the pattern, zone and instant, the route inside the span is that of the
// instant, also at its ends and around changes of the zone's rules.
func TestSameRouteHolds(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, seed))
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca",
		"Europe/Dublin", "Pacific/Apia", "America/Sao_Paulo", "Asia/Pyongyang", "Antarctica/Troll"}
	patterns := []string{"yyyy", "YYYY", "QQQ", "MM", "ww", "W", "dd", "DDD", "e", "F", "a", "B", "HH", "k", "mm", "ss", "SSS", "A", "n", "N",
		"z", "v", "zzzz", "O", "XXX", "Z", "g", "G", "u", "'x'", "yyyy/MM/dd/HH", "yyyy-MM", "HH'h'mm", "EEEE"}
	for range 4000 {
		pattern := patterns[rng.IntN(len(patterns))]
		p, err := Parse("!{timestamp:"+pattern+"}", Prefix)
		if err != nil {
			t.Fatal(err)
		}
		loc := zone(t, zones[rng.IntN(len(zones))])
		at := time.Unix(rng.Int64N(2_000_000_000), rng.Int64N(1e9)).In(loc)
		if _, end := at.ZoneBounds(); rng.IntN(2) == 0 && !end.IsZero() { // near a change
			at = end.Add(time.Duration(rng.Int64N(int64(4*time.Hour))) - 2*time.Hour)
		}
		want := p.Route(Values{Time: at})
		from, until := p.SameRoute(Values{Time: at})
		if second := at.Truncate(time.Second); from.After(second) || until.Before(second.Add(time.Second)) {
			t.Fatalf("%s in %s at %s: span %s to %s lacks its second", pattern, loc, at, from, until)
		}
		last := until.Add(-time.Nanosecond)
		for _, in := range []time.Time{from, last, from.Add(time.Duration(rng.Int64N(max(1, int64(last.Sub(from)))))), at.Add(max(-2*time.Hour, from.Sub(at))), at.Add(min(time.Hour, last.Sub(at)))} {
			if got := p.Route(Values{Time: in}); got != want {
				t.Fatalf("%s in %s at %s: route %q, but %q at %s within %s to %s", pattern, loc, at, want, got, in, from, until)
			}
		}
	}
}

func TestValidatePair(t *testing.T) {
	const missing = "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions"
	f := func(prefix, errorOutputPrefix string, strict bool, message string) {
		t.Helper()
		err := ValidatePair(prefix, errorOutputPrefix, strict)
		got := ""
		if e, ok := errors.AsType[*Error](err); ok {
			got = e.Message
		}
		if got != message || (err == nil) != (message == "") {
			t.Errorf("%q, %q, strict %v: got %v, want %q", prefix, errorOutputPrefix, strict, err, message)
		}
	}
	f("", "", true, "")
	f("a/", "", true, "")
	f("a/", "e/", true, "")
	f("!{timestamp:yyyy}/", "", true, missing)
	f("!{timestamp:yyyy}/", "", false, "")
	f("!{timestamp:yyyy}/", "e/", true, "")
	f("!{timestamp:yyyy}/", "e/!{firehose:error-output-type}", true, "")
	f("!{timestamp:yyyy}/", "e/!{timestamp:yyyy}", true, "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}")
	f("!{x:yyyy}/", "e/!{y:yyyy}", true, "Namespace to the left of colon (x) is an invalid keyword!")
}

func TestParsePair(t *testing.T) {
	v := Values{Time: julyAfternoon, ErrorOutputType: "late"}
	f := func(prefix, errorOutputPrefix, wantData, wantError string) {
		t.Helper()
		data, bad, err := ParsePair(prefix, errorOutputPrefix)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := data.Eval(v, zeros{}); err != nil || got != wantData {
			t.Errorf("%q, %q: data %q, %v, want %q", prefix, errorOutputPrefix, got, err, wantData)
		}
		if got, err := bad.Eval(v, zeros{}); err != nil || got != wantError {
			t.Errorf("%q, %q: error %q, %v, want %q", prefix, errorOutputPrefix, got, err, wantError)
		}
	}
	f("", "", "2026/07/13/14/", "late/2026/07/13/14/")
	f("my", "", "my2026/07/13/14/", "mylate/2026/07/13/14/")
	f("my/", "e/", "my/2026/07/13/14/", "e/late/2026/07/13/14/")
	f("!{timestamp:HH}/", "", "14/", "errors/late/")
	f("!{timestamp:HH}/", "e/!{firehose:error-output-type}/!{timestamp:HH}/", "14/", "e/late/14/")
	if _, _, err := ParsePair("!{", ""); err == nil {
		t.Error("a wrong prefix was taken")
	}
}

// FuzzParse: nothing panics, an accepted text evaluates at any time or is too long, and its route is the
// same over the span that SameRoute gives.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "logs/", "a!{", "!{timestamp:yyyy-MM-dd}/!{timestamp:HH}/", "!{firehose:random-string}", "!{firehose:error-output-type}/x",
		"!{timestamp:'it''s' [EEE]}", "!{timestamp:zzzz v O X x Z}", "!{partitionKeyFromQuery:k}", "!{foo:bar}", "é!{timestamp:YYYY'W'ww}😀", "!{timestamp:nANSg}"} {
		f.Add(text, int64(1783951509), 0)
	}
	zones := []*time.Location{time.UTC, time.FixedZone("x", 5400), time.Local}
	for _, name := range []string{"Europe/Berlin", "Pacific/Apia"} {
		loc, err := time.LoadLocation(name)
		if err != nil {
			f.Fatal(err)
		}
		zones = append(zones, loc)
	}
	f.Fuzz(func(t *testing.T, text string, seconds int64, zone int) {
		v := Values{Time: time.Unix(seconds%1e12, 1).In(zones[uint(zone)%uint(len(zones))]), ErrorOutputType: "late"}
		for _, kind := range []Kind{Prefix, ErrorOutputPrefix} {
			p, err := Parse(text, kind)
			if err != nil {
				if e, ok := errors.AsType[*Error](err); !ok || e.Offset < 0 || e.Offset > len(text) || e.Message == "" {
					t.Fatalf("error %#v", err)
				}
				continue
			}
			got, err := p.Eval(v, zeros{})
			if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.Message != tooLongMessage(kind)) {
				t.Fatalf("eval of %q: %v", text, err)
			}
			route := p.Route(v)
			if err == nil && strings.ReplaceAll(route, "!{firehose:random-string}", "00000000000") != got {
				t.Fatalf("route %q, text %q", route, got)
			}
			from, until := p.SameRoute(v)
			for _, at := range []time.Time{from, until.Add(-1)} {
				if same := p.Route(Values{Time: at, ErrorOutputType: "late"}); same != route {
					t.Fatalf("%q: route %q at %s, %q at %s", text, route, v.Time, same, at)
				}
			}
		}
	})
}

func BenchmarkEval(b *testing.B) {
	for _, text := range []string{"logs/", "clicks/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/", "!{timestamp:EEE, d MMM yyyy zzzz}/!{firehose:random-string}"} {
		p, err := Parse(text, Prefix)
		if err != nil {
			b.Fatal(err)
		}
		v := Values{Time: julyAfternoon}
		b.Run("eval/"+text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Eval(v, zeros{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("route/"+text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Route(v)
			}
		})
		b.Run("same/"+text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.SameRoute(v)
			}
		})
	}
}
