package partition

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"hydrant/record"
)

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestEventTime(t *testing.T) {
	f := func(formats, zone, value, want string) { // want: RFC 3339 in UTC, or what is wrong
		t.Helper()
		s := scheme(t, Options{Prefix: template(t, "!{timestamp:yyyy-MM-dd'T'HH:mm:ss}"), EventTime: &EventTime{Field: ".m.t", Formats: strings.Split(formats, ","), Location: location(t, zone)}})
		for _, data := range []string{`{"m":{"t":` + value + `}}`, `{"m":{"\u0074":` + value + `}}`} { // the quick way, and the full parse
			placed, failure := s.NewRouter(Mark{}).Route(row(data), nil)
			got := ""
			switch {
			case failure != nil && (failure.Type != "metadata-extraction-failed" || failure.Code != "Hydrant.EventTime"):
				t.Errorf("%s: %+v", data, failure)
			case failure != nil:
				got = failure.Message
			default:
				at := time.UnixMicro(placed.Time).UTC()
				got = at.Format("2006-01-02T15:04:05.999999Z07:00")
				if want := at.Format("2006-01-02T15:04:05"); placed.Prefix != want {
					t.Errorf("%s: prefix %q, want %q", data, placed.Prefix, want)
				}
			}
			if got != want {
				t.Errorf("%s with %s in %s:\n got %s\nwant %s", data, formats, zone, got, want)
			}
		}
	}
	bad := func(formats, value string) {
		t.Helper()
		text := strings.Trim(value, `"`)
		f(formats, "UTC", value, `The event time .m.t is "`+text+`", which none of these formats reads as a time of the years 1 to 9999: `+strings.ReplaceAll(formats, ",", ", ")+".")
	}
	good := func(format, value, want string) { t.Helper(); f(format, "UTC", value, want) }
	good("rfc3339", `"2026-07-13T14:05:09Z"`, "2026-07-13T14:05:09Z")
	good("rfc3339", `"2026-07-13t14:05:09.123456789z"`, "2026-07-13T14:05:09.123456Z")
	good("rfc3339", `"2026-07-13 14:05:09.1+02:30"`, "2026-07-13T11:35:09.1Z")
	good("rfc3339", `"2026-07-13T14:05:09-00:00"`, "2026-07-13T14:05:09Z")
	good("rfc3339", `"2016-12-31T23:59:60Z"`, "2017-01-01T00:00:00Z")
	good("rfc3339", `"2016-12-31T18:59:60-05:00"`, "2017-01-01T00:00:00Z")
	good("rfc3339", `"2026-07-13\u005414:05:09Z"`, "2026-07-13T14:05:09Z")
	good("rfc3339", `"0001-01-01T00:00:00Z"`, "0001-01-01T00:00:00Z")
	good("rfc3339", `"9999-12-31T23:59:59.9999999Z"`, "9999-12-31T23:59:59.999999Z")
	for _, v := range []string{"", "2026-07-13", "2026-07-13T14:05:09", "2026-07-13T14:05Z", "2026-13-13T14:05:09Z", "2026-02-29T14:05:09Z", "2026-07-13T24:05:09Z", "2026-07-13T14:60:09Z",
		"2026-07-13T14:05:60Z", "2026-07-13T14:05:61Z", "2026-07-13T14:05:09.Z", "2026-07-13T14:05:09.1", "2026-07-13T14:05:09+0200", "2026-07-13T14:05:09+24:00", "2026-07-13T14:05:09+02:60",
		"2026-07-13T14:05:09ZZ", "2026-07-13T14:05:09+02:00x", "+026-07-13T14:05:09Z", "0000-07-13T14:05:09Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "1783951509"} {
		bad("rfc3339", `"`+v+`"`)
	}
	bad("rfc3339", `1783951509`)
	good("unix_s", `1783951509`, "2026-07-13T14:05:09Z")
	good("unix_s", `"1783951509"`, "2026-07-13T14:05:09Z")
	good("unix_s", `1783951509.1234567`, "2026-07-13T14:05:09.123456Z")
	good("unix_s", `1.783951509E9`, "2026-07-13T14:05:09Z")
	good("unix_s", `-0.0000001`, "1969-12-31T23:59:59.999999Z")
	good("unix_s", `-1`, "1969-12-31T23:59:59Z")
	good("unix_s", `0`, "1970-01-01T00:00:00Z")
	good("unix_s", `0e5`, "1970-01-01T00:00:00Z")
	good("unix_s", `-62135596800`, "0001-01-01T00:00:00Z")
	good("unix_s", `253402300799`, "9999-12-31T23:59:59Z")
	for _, v := range []string{"-62135596801", "253402300800", "1e300", "99999999999999999999999", "-1e18"} {
		bad("unix_s", v)
	}
	for _, v := range []string{"", "-", "+5", "1_0", "0x10", "1e", "1e+", ".5", "5.", "1.2.3", " 5", "NaN", "1e5x"} {
		bad("unix_s", `"`+v+`"`)
	}
	good("unix_ms", `1783951509123`, "2026-07-13T14:05:09.123Z")
	good("unix_ms", `1783951509123.4567`, "2026-07-13T14:05:09.123456Z")
	good("unix_us", `1783951509123456`, "2026-07-13T14:05:09.123456Z")
	good("unix_ns", `1783951509123456789`, "2026-07-13T14:05:09.123456Z")
	good("unix_ns", `-1`, "1969-12-31T23:59:59.999999Z")
	good("unix_ns", `1783951509123456789.999999999999999999999`, "2026-07-13T14:05:09.123456Z")
	// In order.
	good("rfc3339,unix_ms", `1783951509123`, "2026-07-13T14:05:09.123Z")
	good("rfc3339,unix_ms", `"2026-07-13T14:05:09Z"`, "2026-07-13T14:05:09Z")
	bad("rfc3339,unix_ms", `"today"`)
	good("yyyy,unix_s", `"2026"`, "2026-01-01T00:00:00Z")
	good("unix_s,yyyy", `"2026"`, "1970-01-01T00:33:46Z")
	good("yyyy,unix_s", `2026`, "1970-01-01T00:33:46Z") // patterns are of strings
	// Zones.
	f("yyyy/MM/dd HH:mm", "UTC", `"2001/01/01 00:47"`, "2001-01-01T00:47:00Z")
	f("yyyy/MM/dd HH:mm", "America/New_York", `"2001/01/01 00:47"`, "2001-01-01T05:47:00Z")
	f("yyyy/MM/dd HH:mm", "Europe/Berlin", `"2026/03/29 02:30"`, "2026-03-29T01:30:00Z") // left out: 03:30 +02:00
	f("yyyy/MM/dd HH:mm", "Europe/Berlin", `"2026/10/25 02:30"`, "2026-10-25T00:30:00Z") // twice: the earlier
	f("yyyy/MM/dd HH:mm", "Europe/Berlin", `"2026/10/25 03:00"`, "2026-10-25T02:00:00Z")
	f("yyyy-MM-dd HH:mm XXX", "Europe/Berlin", `"2026-10-25 02:30 +05:00"`, "2026-10-24T21:30:00Z")
	// What is no time.
	for value, what := range map[string]string{"null": "missing or null", "true": "a boolean, a string or a number is needed", "{}": "an object, a string or a number is needed", "[1]": "an array, a string or a number is needed"} {
		f("unix_s", "UTC", value, "The event time .m.t is "+what+".")
	}
	r := scheme(t, Options{Prefix: template(t, "a"), EventTime: &EventTime{Field: "m.t", Formats: []string{"unix_s"}}}).NewRouter(Mark{})
	for _, data := range []string{`{}`, `{"m":5}`, `[]`, `5`, `{"m":null}`, `{"m":[{"t":5}]}`} {
		if _, failure := r.Route(row(data), nil); failure == nil || failure.Error() != "Hydrant.EventTime: The event time m.t is missing or null." {
			t.Errorf("%s: %v", data, failure)
		}
	}
	if _, failure := r.Route(row(`{`), nil); failure == nil || failure.Code != codeExtraction {
		t.Errorf("got %v", failure)
	}
}

// TestZone: every local time of a zone's changes, in any order, against a search for the instants that show it.
func TestZone(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu", "America/Sao_Paulo"} {
		z, loc := zone{location: location(t, name)}, location(t, name)
		for at := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC).Unix(); at < time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC).Unix(); at += 7 * 900 {
			local := at
			got := local - int64(z.offset(local))
			var shows []int64
			for _, off := range []int64{-15 * 3600, -12 * 3600, 0, 12 * 3600, 15 * 3600} {
				_, o := time.Unix(local-off, 0).In(loc).Zone()
				instant := local - int64(o)
				if _, back := time.Unix(instant, 0).In(loc).Zone(); back == o {
					shows = append(shows, instant)
				}
			}
			if len(shows) == 0 { // left out: Java goes on with the offset before
				_, o := time.Unix(local-86400, 0).In(loc).Zone()
				shows = append(shows, local-int64(o))
			}
			want := shows[0]
			for _, s := range shows {
				want = min(want, s)
			}
			if got != want {
				t.Fatalf("%s %s: got %d, want %d", name, time.Unix(local, 0).UTC().Format("2006-01-02T15:04:05"), got, want)
			}
		}
	}
}

// TestWatermark tells a story of arrivals, in seconds.
func TestWatermark(t *testing.T) {
	const t0 = 1_700_000_000
	s := scheme(t, Options{Prefix: template(t, "!{timestamp:HH}/"), EventTime: &EventTime{Field: "t", Formats: []string{"unix_s"}, AllowedLateness: 100 * time.Second, Quarantine: true}})
	r := s.NewRouter(Mark{})
	watermark := func(now int64, want int64) {
		t.Helper()
		got, ok := s.Watermark(r.Mark(), (t0+now)*1e6)
		if ok != (want != -1) || ok && got != (t0+want)*1e6 {
			t.Errorf("at %d: watermark %d, %v, want %d", now, got/1e6-t0, ok, want)
		}
	}
	put := func(arrived, event int64, late bool) {
		t.Helper()
		data := new(big.Int).SetInt64(t0+event).Append([]byte(`{"t":`), 10)
		_, failure := r.Route(record.Row{Arrived: (t0 + arrived) * 1e6, Data: append(data, '}')}, nil)
		if (failure != nil) != late || failure != nil && (failure.Type != "late" || failure.Code != "Hydrant.Late") {
			t.Errorf("%d at %d: %v, want late %v", event, arrived, failure, late)
		}
	}
	watermark(0, -1)
	put(0, 1_000_000, false) // the clock of a producer is wrong
	watermark(0, -1)
	put(0, -1000, false) // the first row decides
	watermark(0, -1100)
	put(1, -10, false)
	watermark(1, -110)
	put(2, -110, false) // just not late
	put(2, -111, true)  // late
	watermark(2, -110)
	put(3, 303, false) // 5 minutes ahead: it counts as its arrival
	watermark(3, -97)
	put(4, 305, false) // a second more: it is delivered and left aside
	watermark(4, -97)
	put(4, -98, true)
	put(10, 8, false)
	// Nobody writes. For a minute nothing happens; then the watermark goes as the clock does.
	watermark(70, -92)
	watermark(71, -91)
	watermark(370, 208)
	put(370, 207, true) // too late, after it went on
	put(370, 208, false)
	watermark(370, 208)
	// Late rows do not hold it up.
	put(400, 0, true)
	watermark(430, 208)
	watermark(431, 209)
	// What idling brought stays.
	put(431, 400, false)
	watermark(431, 300)
	put(432, 300, false)
	watermark(432, 300)
	// Our own clock jumps by a year and back.
	put(31_536_000, 500, true)
	put(31_536_000, 31_536_000, false)
	watermark(31_536_000, 31_535_900)
	put(433, 332, true)
	put(433, 333, false)
	watermark(31_536_000, 31_535_900)
	// Rewound, the same rows have the same answers.
	mark := r.Mark()
	put(31_536_001, 31_536_050, false)
	put(31_536_001, 31_535_900, true)
	r.Rewind(mark)
	put(31_536_001, 31_535_900, false)

	// Another process goes on from the watermark alone.
	at, _ := s.Watermark(r.Mark(), (t0+31_536_001)*1e6)
	resumed := s.Resume(at, (t0+31_540_000)*1e6)
	if again, ok := s.Watermark(resumed, (t0+31_540_060)*1e6); !ok || again != at {
		t.Errorf("resumed at %d, %v, want %d", again, ok, at)
	}
	if again, _ := s.Watermark(resumed, (t0+31_540_061)*1e6); again != at+1e6 {
		t.Errorf("resumed at %d, want %d", again, at+1e6)
	}
	plain := scheme(t, Options{Prefix: template(t, "!{partitionKeyFromLambda:x}"), Hooks: true})
	if _, ok := plain.Watermark(Mark{Event: 1, Seen: 1}, 5); ok || plain.Resume(5, 5) != (Mark{}) {
		t.Error("a watermark without event time")
	}
}

func TestLateIsDelivered(t *testing.T) {
	s := scheme(t, Options{Prefix: template(t, "!{timestamp:yyyy/MM/dd/HH}/"), EventTime: &EventTime{Field: "t", Formats: []string{"rfc3339"}}})
	r := s.NewRouter(Mark{})
	if p, failure := r.Route(row(`{"t":"2026-07-13T13:59:59Z"}`), nil); failure != nil || p.Late || p.Prefix != "2026/07/13/13/" {
		t.Errorf("got %+v, %v", p, failure)
	}
	mark := r.Mark()
	if p, failure := r.Route(row(`{"t":"2026-07-13T12:59:59Z"}`), nil); failure != nil || !p.Late || p.Prefix != "2026/07/13/12/" {
		t.Errorf("got %+v, %v", p, failure)
	}
	if r.Mark() != mark {
		t.Errorf("a late row moved the mark to %+v", r.Mark())
	}
	quarantine := scheme(t, Options{Prefix: template(t, "!{timestamp:yyyy/MM/dd/HH}/"), EventTime: &EventTime{Field: "t", Formats: []string{"rfc3339"}, Quarantine: true, AllowedLateness: time.Minute}})
	_, failure := quarantine.NewRouter(mark).Route(row(`{"t":"2026-07-13T12:59:59.5Z"}`), nil)
	if want := "Hydrant.Late: The event time 2026-07-13T12:59:59.5Z is before the watermark, 2026-07-13T13:58:59Z: it came later than allowed_lateness allows, 1m0s."; failure == nil || failure.Error() != want {
		t.Errorf("got %v", failure)
	}
}

// FuzzUnix holds readUnix against exact arithmetic.
func FuzzUnix(f *testing.F) {
	for _, n := range []string{"1783951509.1234567", "-0.5", "1e-400", "-99999999999999999999e-12", "0.0000000000000000000000000000001e31", "18446744073709551615", "-1e-30", "253402300799999999999"} {
		f.Add(n, 0)
	}
	f.Fuzz(func(t *testing.T, text string, unit int) {
		scale := []int{18, 15, 12, 9}[unit&3]
		at, ok := readUnix([]byte(text), scale)
		if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 5 || strings.ContainsAny(text, "_xXbBoO/pP+ ") && !strings.Contains(strings.ToLower(text), "e+") {
			return
		}
		exact, valid := new(big.Rat).SetString(text)
		if !ok || !valid {
			return
		}
		exact.Mul(exact, new(big.Rat).SetFrac(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil), big.NewInt(1e12)))
		floor := new(big.Int).Div(exact.Num(), exact.Denom()) // Euclidean: rounds down for a positive divisor
		if floor.Cmp(big.NewInt(at)) != 0 {
			t.Errorf("%s × 10^%d: got %d, want %s", text, scale-12, at, floor)
		}
	})
}

// FuzzRFC3339 holds readRFC3339 against the standard library.
func FuzzRFC3339(f *testing.F) {
	f.Add("2026-07-13T14:05:09.123456789+02:30")
	f.Add("2016-12-31t23:59:60z")
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := readRFC3339([]byte(text))
		want, err := time.Parse(time.RFC3339Nano, text)
		switch {
		case err == nil && want.Year() > 0 && !strings.Contains(text, ",") && text[13] == ':' && !strings.Contains(text, ":60") && !strings.Contains(text[13:], "24:"): // it takes a comma, hours of one digit, and offsets of 24 hours or 60 minutes
			if !ok || micros(s) != want.UnixMicro() {
				t.Errorf("%q: got %+v, %v, want %s", text, s, ok, want)
			}
		case ok && !strings.Contains(text, ":60") && !strings.ContainsAny(text, "tz ") && len(text) < 30:
			t.Errorf("%q is taken: %+v; the library says %v", text, s, err)
		}
	})
}
