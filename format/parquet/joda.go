package parquet

import (
	"errors"
	"fmt"
	"strings"
)

// A jodaFormat reads timestamps in a pattern of the Joda library, as Hive's deserializer does: letters stand
// for fields, text in single quotes and all that is no letter stands for itself. Fields that the pattern
// lacks are those of 1970-01-01T00:00:00Z.
//
// The letters y, Y, M, d, D, E, a, H, k, K, h, m, s, S, z and Z are known, with Joda's meaning but for two
// things: a fraction keeps 9 digits where Joda keeps 3, and years of two digits are 1970 to 2069, where
// Joda asks what year it is.
type jodaFormat struct {
	millis bool // no pattern but the number of milliseconds since 1970
	fields []jodaField
}

// jodaField is a letter with the number of digits that it takes at most, or text.
type jodaField struct {
	letter byte
	count  int
	digits int
	text   string
}

func compileJoda(pattern string) (f jodaFormat, err error) {
	if pattern == "millis" {
		return jodaFormat{millis: true}, nil
	}
	if pattern == "" {
		return f, errors.New("it is empty")
	}
	literal := func(s string) {
		if k := len(f.fields) - 1; k >= 0 && f.fields[k].letter == 0 {
			f.fields[k].text += s
			return
		}
		f.fields = append(f.fields, jodaField{text: s})
	}
	for i := 0; i < len(pattern); {
		c := pattern[i]
		if c == '\'' {
			if strings.HasPrefix(pattern[i:], "''") {
				literal("'")
				i += 2
				continue
			}
			text, n, ok := quoted(pattern[i+1:])
			if !ok {
				return f, errors.New("a quote is not closed")
			}
			literal(text)
			i += n + 1
			continue
		}
		if c|0x20 < 'a' || c|0x20 > 'z' {
			literal(string(pattern[i : i+1]))
			i++
			continue
		}
		n := 1
		for i+n < len(pattern) && pattern[i+n] == c {
			n++
		}
		i += n
		field := jodaField{letter: c, count: n}
		switch c {
		case 'y', 'Y':
			field.digits = 9
		case 'M', 'd', 'H', 'k', 'K', 'h', 'm', 's':
			field.digits = 2
		case 'D':
			field.digits = 3
		case 'S':
			if field.digits = n; n > 9 {
				return f, fmt.Errorf("it has %d digits of fraction, at most 9 are kept", n)
			}
		case 'E', 'a', 'z':
		case 'Z':
			if n > 2 {
				return f, errors.New("names of time zones (ZZZ) are not read; use Z for an offset")
			}
		default:
			return f, fmt.Errorf("the letter %c is not known", c)
		}
		f.fields = append(f.fields, field)
	}
	// A number that is followed by another has exactly the digits that its letters say.
	for i := range f.fields {
		a := &f.fields[i]
		if a.numeric() && i+1 < len(f.fields) && f.fields[i+1].numeric() {
			a.digits = a.count
		}
	}
	return f, nil
}

// quoted reads text up to its closing quote and returns the length with that; two quotes stand for one.
func quoted(s string) (text string, n int, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), i + 1, true
	}
	return "", 0, false
}

func (f *jodaField) numeric() bool {
	return f.digits > 0 && (f.letter != 'M' || f.count < 3)
}

// jodaText tries the configured formats in turn, then JDBC's.
func (s *shredder) jodaText(text []byte) (t instant, why string) {
	for i := range s.joda {
		if t, ok := s.joda[i].parse(text); ok {
			return t, ""
		}
	}
	if t, ok := isoText(text, false); ok {
		return t, ""
	}
	return t, notTime
}

// civil is what a pattern's fields say.
type civil struct {
	year, month, day, yearDay    int
	hour, minute, second, offset int
	nanos                        int32
	half                         int // 0 before noon, 1 after, -1 not said
	weekDay                      int // 0 Sunday, -1 not said
}

func (f *jodaFormat) parse(text []byte) (t instant, ok bool) {
	if f.millis {
		d, ok := parseNumber(text)
		if !ok {
			return t, false
		}
		t.sec, t.nanos, ok = d.instant(3)
		return t, ok
	}
	c := civil{year: 1970, month: 1, day: 1, half: -1, weekDay: -1}
	for i := range f.fields {
		n, ok := f.fields[i].parse(text, &c)
		if !ok {
			return t, false
		}
		text = text[n:]
	}
	if len(text) > 0 || c.month < 1 || c.month > 12 || c.day < 1 || c.day > monthDays(c.year, c.month) ||
		c.hour > 23 || c.minute > 59 || c.second > 59 {
		return t, false
	}
	if c.half >= 0 {
		c.hour = c.hour%12 + 12*c.half
	}
	day := daysFrom(c.year, c.month, c.day)
	if c.yearDay > 0 {
		day = daysFrom(c.year, 1, 1) + int64(c.yearDay) - 1
		if day >= daysFrom(c.year+1, 1, 1) {
			return t, false
		}
	}
	if c.weekDay >= 0 && ((day+4)%7+7)%7 != int64(c.weekDay) { // day 0 was a Thursday
		return t, false
	}
	t.sec = day*daySeconds + int64(c.hour*3600+c.minute*60+c.second-c.offset)
	t.nanos = c.nanos
	return t, true
}

var (
	monthNames = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
	dayNames   = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
	halfNames  = []string{"AM", "PM"}
)

// jodaZones are the names that Joda reads for z, with their hours from UTC.
var jodaZones = map[string]int{
	"UT": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}

// parse reads the field at the start of text into c and returns its length.
func (f *jodaField) parse(text []byte, c *civil) (n int, ok bool) {
	switch {
	case f.letter == 0:
		return len(f.text), len(text) >= len(f.text) && strings.EqualFold(string(text[:len(f.text)]), f.text)
	case f.numeric():
		v := 0
		neg := (f.letter == 'y' || f.letter == 'Y') && len(text) > 0 && text[0] == '-'
		if neg {
			n = 1
		}
		first := n
		for n < len(text) && n-first < f.digits && text[n]-'0' <= 9 {
			v = v*10 + int(text[n]-'0')
			n++
		}
		if n == first {
			return 0, false
		}
		if neg {
			v = -v
		}
		return n, f.set(v, n-first, c)
	}
	switch f.letter {
	case 'M':
		k, n := named(text, monthNames)
		c.month = k + 1
		return n, n > 0
	case 'E':
		c.weekDay, n = named(text, dayNames)
		return n, n > 0
	case 'a':
		c.half, n = named(text, halfNames)
		return n, n > 0
	case 'z':
		for n < len(text) && text[n] >= 'A' && text[n] <= 'Z' {
			n++
		}
		hours, ok := jodaZones[string(text[:n])]
		c.offset = hours * 3600
		return n, ok
	}
	// Z: as long as it goes on.
	if len(text) > 0 && text[0] == 'Z' {
		return 1, true
	}
	for _, n := range []int{6, 5, 3} {
		if len(text) >= n {
			if offset, ok := zoneText(text[:n]); ok {
				c.offset = offset
				return n, true
			}
		}
	}
	return 0, false
}

// set takes a number of so many digits.
func (f *jodaField) set(v, digits int, c *civil) bool {
	switch f.letter {
	case 'y', 'Y':
		if f.count == 2 && digits == 2 && v >= 0 {
			if v += 1900; v < 1970 {
				v += 100
			}
		}
		c.year = v
		return v >= -9999 && v <= 9999
	case 'M':
		c.month = v
	case 'd':
		c.day = v
	case 'D':
		c.yearDay = v
		return v > 0
	case 'H':
		c.hour = v
	case 'k':
		c.hour = v % 24
		return v >= 1 && v <= 24
	case 'K':
		c.hour = v
		return v <= 11
	case 'h':
		c.hour = v % 12
		return v >= 1 && v <= 12
	case 'm':
		c.minute = v
	case 's':
		c.second = v
	case 'S':
		c.nanos = int32(v) * scales[digits]
	}
	return true
}

// named finds which of the names, or its first three letters, text starts with, in any case.
func named(text []byte, names []string) (index, n int) {
	for i, name := range names {
		for _, want := range []string{name, name[:min(3, len(name))]} {
			if len(text) >= len(want) && strings.EqualFold(string(text[:len(want)]), want) {
				return i, len(want)
			}
		}
	}
	return 0, 0
}
