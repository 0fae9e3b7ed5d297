package parquet

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

func TestDaysFrom(t *testing.T) {
	for day := daysFrom(-400, 1, 1); day <= daysFrom(9999, 12, 31); day += 17 {
		d := time.Unix(day*daySeconds, 0).UTC()
		if got := daysFrom(d.Year(), int(d.Month()), d.Day()); got != day {
			t.Fatalf("daysFrom(%s) = %d, want %d", d.Format(time.DateOnly), got, day)
		}
	}
}

func TestMonthDays(t *testing.T) {
	for _, year := range []int{1900, 2000, 2023, 2024, 2100} {
		for month := 1; month <= 12; month++ {
			want := time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
			if got := monthDays(year, month); got != want {
				t.Errorf("monthDays(%d, %d) = %d, want %d", year, month, got, want)
			}
		}
	}
}

func TestJoda(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          string // RFC 3339; empty: not taken
	}{
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2025-03-01T01:02:03.456+0130", "2025-02-28T23:32:03.456Z"},
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2025-03-01T01:02:03.456-01:30", "2025-03-01T02:32:03.456Z"},
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2025-03-01T01:02:03.456Z", "2025-03-01T01:02:03.456Z"},
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2025-03-01T01:02:03.456", ""},
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "2025-03-01T01:02:03.4+02", "2025-02-28T23:02:03.4Z"},
		{"yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "2025-03-01 01:02:03.123456789", "2025-03-01T01:02:03.123456789Z"},
		{"yyyy-MM-dd HH:mm:ss.SSS", "2025-03-01 01:02:03.1234", ""},
		{"dd/MMM/yyyy:HH:mm:ss Z", "01/Mar/2025:12:00:00 +0000", "2025-03-01T12:00:00Z"},
		{"d MMMM yyyy", "1 march 2025", "2025-03-01T00:00:00Z"},
		{"d MMMM yyyy", "1 Mar 2025", "2025-03-01T00:00:00Z"},
		{"d MMMM yyyy", "1 Mrz 2025", ""},
		{"EEE, d MMM yyyy", "Sat, 1 Mar 2025", "2025-03-01T00:00:00Z"},
		{"EEE, d MMM yyyy", "Sunday, 2 Mar 2025", "2025-03-02T00:00:00Z"},
		{"EEE, d MMM yyyy", "Sun, 1 Mar 2025", ""},
		{"EEE d MMM yyyy", "Wed 31 Dec 1969", "1969-12-31T00:00:00Z"},
		{"M/d/yy h:mm a", "3/1/25 12:05 AM", "2025-03-01T00:05:00Z"},
		{"M/d/yy h:mm a", "3/1/25 12:05 pm", "2025-03-01T12:05:00Z"},
		{"M/d/yy h:mm a", "3/1/70 1:05 pm", "1970-03-01T13:05:00Z"},
		{"M/d/yy h:mm a", "3/1/69 11:05 PM", "2069-03-01T23:05:00Z"},
		{"M/d/yy h:mm a", "3/1/25 13:05 PM", ""},
		{"M/d/yy h:mm a", "3/1/25 0:05 AM", ""},
		{"yy", "1925", "1925-01-01T00:00:00Z"},
		{"K a", "0 PM", "1970-01-01T12:00:00Z"},
		{"K a", "12 PM", ""},
		{"k", "24", "1970-01-01T00:00:00Z"},
		{"k", "0", ""},
		{"H", "24", ""},
		{"HH:mm", "23:60", ""},
		{"yyyyMMddHHmmss", "20250301010203", "2025-03-01T01:02:03Z"},
		{"yyyyMMdd", "2025031", "2025-03-01T00:00:00Z"},
		{"yyyyDDD", "2025060", "2025-03-01T00:00:00Z"},
		{"yyyyDDD", "2024366", "2024-12-31T00:00:00Z"},
		{"yyyyDDD", "2025366", ""},
		{"yyyyDDD", "2025000", ""},
		{"yyyy-MM-dd", "2025-02-29", ""},
		{"yyyy-MM-dd", "2025-13-01", ""},
		{"yyyy-MM-dd", "-044-03-15", "-0044-03-15T00:00:00Z"},
		{"yyyy-MM-dd", "2025-03-01 ", ""},
		{"yyyy-MM-dd z", "2025-03-01 PST", "2025-03-01T08:00:00Z"},
		{"yyyy-MM-dd z", "2025-03-01 CET", ""},
		{"'T'''yyyy''", "t'2025'", "2025-01-01T00:00:00Z"},
		{"millis", "-1", "1969-12-31T23:59:59.999Z"},
		{"millis", "x", ""},
	} {
		f, err := compileJoda(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		got := ""
		if at, ok := f.parse([]byte(c.text)); ok {
			got = time.Unix(at.sec, int64(at.nanos)).UTC().Format(time.RFC3339Nano)
		}
		if got != c.want {
			t.Errorf("%q in %s = %q, want %q", c.text, c.pattern, got, c.want)
		}
	}
	for pattern, want := range map[string]string{
		"":                   "it is empty",
		"yyyy'":              "a quote is not closed",
		"yyyy G":             "the letter G is not known",
		"yyyy-MM-dd ZZZ":     "names of time zones (ZZZ) are not read; use Z for an offset",
		"ss.SSSSSSSSSS":      "it has 10 digits of fraction, at most 9 are kept",
		"yyyy-MM-dd'T'HH:XX": "the letter X is not known",
	} {
		if _, err := compileJoda(pattern); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", pattern, err, want)
		}
	}
}

// TestDoubles compares numbers of every length with strconv.
func TestDoubles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var in, want []string
	for range 30_000 {
		digits := fmt.Sprintf("%020d", rnd.Uint64())[:1+rnd.IntN(20)]
		s := "0." + digits
		if k := rnd.IntN(len(digits) + 1); k > 0 && digits[0] != '0' {
			s = digits[:k]
			if k < len(digits) {
				s += "." + digits[k:]
			}
		}
		if rnd.IntN(3) == 0 {
			s = "-" + s
		}
		if rnd.IntN(5) == 0 {
			s += fmt.Sprintf("e%d", rnd.IntN(40)-30)
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		g, err := strconv.ParseFloat(s, 32)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, `{"d":`+s+`,"f":`+s+`}`)
		want = append(want, `{"d":`+string(appendReal(nil, f, 64))+`,"f":`+string(appendReal(nil, g, 32))+`}`)
	}
	w := convert(t, Options{Schema: mustSchema(t, "d double, f float")}, in...)
	if len(w.rows) != len(want) {
		t.Fatalf("%d rows, want %d: %v", len(w.rows), len(want), w.fails)
	}
	for i := range want {
		if w.rows[i] != want[i] {
			t.Fatalf("%s = %s, want %s", in[i], w.rows[i], want[i])
		}
	}
}
