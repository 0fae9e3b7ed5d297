package prefix

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestReadTimes(t *testing.T) {
	f := func(pattern, text, want string) { // want: RFC 3339 of the local time, then the offset in seconds if any; "" is not read
		t.Helper()
		r, err := ReadTimes(pattern)
		if err != nil {
			t.Error(err)
			return
		}
		s, ok := r.Read([]byte(text))
		got := ""
		if ok {
			got = time.Unix(s.Local, int64(s.Nano)).UTC().Format("2006-01-02T15:04:05.999999999")
			if s.Zoned {
				got += time.Unix(0, 0).In(time.FixedZone("", s.Offset)).Format("-07:00:00")
			}
		}
		if got != want {
			t.Errorf("%s of %q: got %q, want %q", pattern, text, got, want)
		}
	}
	f("yyyy/MM/dd HH:mm", "2001/01/01 00:47", "2001-01-01T00:47:00")
	f("yyyy/MM/dd HH:mm", "2001/12/31 23:59", "2001-12-31T23:59:00")
	for _, bad := range []string{"", "2001/1/01 00:47", "2001/01/01 0:47", "2001/01/01 00:47 ", " 2001/01/01 00:47", "2001/01/01 00:4", "2001/01/01 00:477",
		"2001/01/01T00:47", "2001/00/01 00:47", "2001/13/01 00:47", "2001/01/00 00:47", "2001/01/32 00:47", "2001/02/29 00:47", "2001/01/01 24:00",
		"2001/01/01 00:60", "0000/01/01 00:00", "+001/01/01 00:47", "2001/-1/01 00:47", "２００１/01/01 00:47"} {
		f("yyyy/MM/dd HH:mm", bad, "")
	}
	f("yyyy/MM/dd", "2000/02/29", "2000-02-29T00:00:00")
	f("yyyy/MM/dd", "1900/02/29", "")
	f("yyyy/MM/dd", "2024/04/31", "")
	f("yyyy/MM/dd", "0001/01/01", "0001-01-01T00:00:00")
	f("yyyy/MM/dd", "9999/12/31", "9999-12-31T00:00:00")
	f("yyyy-MM", "2024-05", "2024-05-01T00:00:00")
	f("yyyyMMdd'T'HHmmssX", "20240512T010203Z", "2024-05-12T01:02:03+00:00:00")
	f("yyyyMMddHHmmssSSS", "20240512010203987", "2024-05-12T01:02:03.987")
	f("y-M-d H:m:s", "2024-5-2 1:2:3", "2024-05-02T01:02:03")
	f("y-M-d H:m:s", "2024-05-02 01:02:03", "2024-05-02T01:02:03")
	f("y-M-d", "12024-05-02", "")
	f("yy-DDD", "24-366", "2024-12-31T00:00:00")
	f("yy-DDD", "23-366", "")
	f("yy-DDD", "23-000", "")
	f("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00:00")
	f("dd/MMM/yyyy:HH:mm:ss Z", "10/oct/2000:13:55:36 -0700", "")
	f("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -07", "")
	f("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -1801", "")
	f("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 +1800", "2000-10-10T13:55:36+18:00:00")
	f("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 +0060", "")
	f("EEE, d MMMM yyyy h:mm a", "Mon, 13 July 2026 2:05 PM", "2026-07-13T14:05:00")
	f("EEE, d MMMM yyyy h:mm a", "Mon, 13 July 2026 12:05 AM", "2026-07-13T00:05:00")
	f("EEE, d MMMM yyyy h:mm a", "Tue, 13 July 2026 2:05 PM", "")
	f("EEE, d MMMM yyyy h:mm a", "Mon, 13 July 2026 13:05 PM", "")
	f("EEEE yyyy-MM-dd", "Thursday 1970-01-01", "1970-01-01T00:00:00")
	f("yyyy-MM-dd kk:mm", "2024-05-02 24:01", "2024-05-02T00:01:00")
	f("yyyy-MM-dd kk:mm", "2024-05-02 00:01", "")
	f("yyyy-MM-dd K a", "2024-05-02 11 PM", "2024-05-02T23:00:00")
	f("yyyy-MM-dd K a", "2024-05-02 12 PM", "")
	f("yyyy-MM-dd'T'HH:mm[:ss[.SSS]][XXX]", "2024-05-02T03:04", "2024-05-02T03:04:00")
	f("yyyy-MM-dd'T'HH:mm[:ss[.SSS]][XXX]", "2024-05-02T03:04:05", "2024-05-02T03:04:05")
	f("yyyy-MM-dd'T'HH:mm[:ss[.SSS]][XXX]", "2024-05-02T03:04:05.006+01:30", "2024-05-02T03:04:05.006+01:30:00")
	f("yyyy-MM-dd'T'HH:mm[:ss[.SSS]][XXX]", "2024-05-02T03:04:05.06+01:30", "")
	f("yyyy-MM-dd A", "2024-05-02 86399999", "2024-05-02T23:59:59.999")
	f("yyyy-MM-dd A", "2024-05-02 86400000", "")
	f("yyyy-MM-dd N", "2024-05-02 1", "2024-05-02T00:00:00.000000001")
	f("yyyy-MM-dd HH:mm:ss.n", "2024-05-02 00:00:00.5", "2024-05-02T00:00:00.000000005")
	f("yyyyX", "2024+01", "2024-01-01T00:00:00+01:00:00")
	f("yyyyX", "2024+0130", "2024-01-01T00:00:00+01:30:00")
	f("yyyyXXXXX", "2024+01:30:15", "2024-01-01T00:00:00+01:30:15")
	f("yyyyxxx", "2024Z", "")
	f("'it''s' yyyy", "it's 2024", "2024-01-01T00:00:00")
}

func TestReadTimesRefuses(t *testing.T) {
	f := func(pattern, want string) {
		t.Helper()
		if _, err := ReadTimes(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", pattern, err, want)
		}
	}
	f("", "has no year")
	f("HH:mm", "has no year")
	f("yyyy-dd", "no month")
	f("yyyy-MM HH", "no day")
	f("yyyy-MM-dd mm", "no hour")
	f("yyyy-MM-dd HH:ss", "no minutes")
	f("yyyy-MM-dd HH:mm SSS", "no seconds")
	f("yyyy-MM-dd hh:mm", "go together")
	f("yyyy-MM-dd HH:mm a", "go together")
	f("yyyy-MM-dd HH kk", "hour twice")
	f("yyyy-MM-dd HH A", "hour twice")
	f("yyyy-MM-dd HH:mm:ss.SSS n", "fraction of a second twice")
	f("yyyy-MM-dd DDD", "beside month")
	f("yyyy yy", "two years")
	f("yyyy yyyy", "already")
	f("yMMdd", "length is not fixed")
	f("yyy", "a year is read with")
	f("YYYY-'W'ww", `"YYYY" can be printed and not read`)
	f("yyyy-MM-dd z", "name of a time zone")
	f("yyyy MMMMM", "can be printed and not read")
	f("yyyy-MM-dd[ HH", "not closed")
	f("yyyy-MM-dd'T", "not closed")
	f("unix", "not a pattern letter")
	f("yyyy-MM-ddTHH", "not a pattern letter")
}

// readable are patterns that print everything that they are about.
var readable = []string{"yyyy-MM-dd'T'HH:mm:ss.SSSSSSSSSXXXXX", "yyyyDDDHHmmss", "yyyy/MM/dd HH:mm", "yyyyMMddHHmmssSSS", "y/M/d H:m:s", "EEEE d MMMM yyyy K:mm:ss.n a", "dd/MMM/yyyy:HH:mm:ss Z", "yyyyMMdd N",
	"yyyy-MM-dd[ kk[:mm]]", "yyyy MM", "yy.MM.dd hh'h'mm a xx"}

// TestReadWhatIsPrinted: what a pattern prints it reads, as the time that it printed.
func TestReadWhatIsPrinted(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 5000 {
		pattern := readable[rng.IntN(len(readable))]
		lo, hi := civilDays(1, 1, 2)*secondsPerDay, civilDays(9999, 12, 30)*secondsPerDay
		if strings.HasPrefix(pattern, "yy.") {
			lo, hi = civilDays(2000, 1, 2)*secondsPerDay, civilDays(2099, 12, 30)*secondsPerDay
		}
		at := time.Unix(lo+rng.Int64N(hi-lo), rng.Int64N(1e9)).In(time.FixedZone("", 60*(rng.IntN(36*60)-18*60)))
		r, err := ReadTimes(pattern)
		if err != nil {
			t.Fatal(err)
		}
		d, bad := compileDate(pattern)
		if bad != nil {
			t.Fatal(bad)
		}
		c := exactCivilOf(at)
		text := d.append(nil, &c)
		s, ok := r.Read(text)
		if slow, _ := r.readItems(text); slow != s {
			t.Fatalf("%q of %q: %+v, item by item %+v", pattern, text, s, slow)
		}
		if !ok {
			t.Fatalf("%q does not read its own %q", pattern, text)
		}
		back := exactCivilOf(time.Unix(s.Local-int64(s.Offset), int64(s.Nano)).In(time.FixedZone("", s.Offset)))
		if !s.Zoned {
			back.offset = c.offset
		}
		if again := d.append(nil, &back); string(again) != string(text) {
			t.Fatalf("%q: %q was read as %q", pattern, text, again)
		}
	}
}

// TestReadTimesWords: a text in which one byte is another is read as item by item.
func TestReadTimesWords(t *testing.T) {
	for _, test := range [][2]string{{"yyyy", "2024"}, {"yyyy-MM", "2024-05"}, {"yyyyMMdd", "20240512"}, {"MM.yyyyé", "05.2024é"}, {"yyyy/MM/dd HH:mm", "2001/01/01 00:47"},
		{"yyyyMMddHHmmssS", "202405120102039"}, {"ss.SSSSSSSSS HH:mm dd-MM-yyyy", "59.123456789 23:00 29-02-2000"}} {
		r, err := ReadTimes(test[0])
		if err != nil {
			t.Fatal(err)
		}
		if r.words == nil {
			t.Errorf("%s is read item by item", test[0])
		}
		for i := range test[1] {
			for c := range 256 {
				text := []byte(test[1])
				text[i] = byte(c)
				got, ok := r.Read(text)
				if want, also := r.readItems(text); got != want || ok != also {
					t.Fatalf("%s of %q: %+v, %v, item by item %+v, %v", test[0], text, got, ok, want, also)
				}
			}
		}
	}
}

// FuzzReadTimes: no pattern and no text is too much; what is read is a time of the years 1 to 9999.
func FuzzReadTimes(f *testing.F) {
	for _, p := range readable {
		f.Add(p, "2024-05-02T03:04:05.006007008+01:30:00")
	}
	f.Add("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -0700")
	f.Add("yyyy-MM-dd[ kk[:mm]]", "2024-05-02 24:01")
	f.Add("yyyy/MM/dd HH:mm", "2001/01/01 00:47")
	f.Add("yyyyMMddHHmmssSSS", "20240512010203987")
	f.Add("yyyyMM", "202413")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		r, err := ReadTimes(pattern)
		if err != nil {
			return
		}
		s, ok := r.Read([]byte(text))
		if slow, also := r.readItems([]byte(text)); slow != s || also != ok { // by words and item by item
			t.Fatalf("%q of %q: %+v, %v, item by item %+v, %v", pattern, text, s, ok, slow, also)
		}
		if !ok {
			return
		}
		if y := time.Unix(s.Local, 0).UTC().Year(); y < 1 || y > 9999 || s.Nano < 0 || s.Nano > 999_999_999 || s.Offset < -64800 || s.Offset > 64800 {
			t.Errorf("%q of %q: %+v", pattern, text, s)
		}
	})
}

func BenchmarkReadTimes(b *testing.B) {
	r, err := ReadTimes("yyyy/MM/dd HH:mm")
	if err != nil {
		b.Fatal(err)
	}
	text := []byte("2001/01/01 00:47")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.Read(text); !ok {
			b.Fatal("not read")
		}
	}
}
