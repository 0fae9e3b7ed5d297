package partition

import (
	"math"
	"math/bits"
	"strings"
	"time"

	"hydrant/prefix"
)

// timeFormat reads event times.
type timeFormat struct {
	name    string
	rfc3339 bool
	scale   int // of a number: 12 and the power of ten that makes µs of its unit; 0: it reads no numbers
	pattern *prefix.TimeReader
}

func (f *timeFormat) unix() bool { return f.scale > 0 }

// The formats that are not patterns.
const (
	formatRFC3339 = "rfc3339"
	formatUnixS   = "unix_s"
	formatUnixMS  = "unix_ms"
	formatUnixUS  = "unix_us"
	formatUnixNS  = "unix_ns"
)

func newTimeFormat(text string) (timeFormat, error) {
	f := timeFormat{name: text}
	switch text {
	case formatRFC3339:
		f.rfc3339 = true
	case formatUnixS:
		f.scale = 18
	case formatUnixMS:
		f.scale = 15
	case formatUnixUS:
		f.scale = 12
	case formatUnixNS:
		f.scale = 9
	default:
		var err error
		if f.pattern, err = prefix.ReadTimes(text); err != nil {
			return timeFormat{}, err
		}
	}
	return f, nil
}

// The event times that there are: from year 1 to year 9999, in µs since 1970.
var (
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	latest   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

// read is the time that text says, in µs since 1970. number: it is a JSON number and no string.
func (t *eventTime) read(text []byte, number bool, z *zone) (at int64, ok bool) {
	for i := range t.formats {
		f := &t.formats[i]
		var s prefix.Stamp
		switch {
		case f.unix():
			at, ok = readUnix(text, f.scale)
		case number:
			continue
		case f.rfc3339:
			s, ok = readRFC3339(text)
			at = micros(s)
		default:
			if s, ok = f.pattern.Read(text); ok && !s.Zoned {
				s.Offset = z.offset(s.Local)
			}
			at = micros(s)
		}
		if ok && at >= earliest && at <= latest {
			return at, true
		}
	}
	return 0, false
}

func micros(s prefix.Stamp) int64 { return (s.Local-int64(s.Offset))*1e6 + int64(s.Nano)/1e3 }

// names lists the formats, for messages.
func (t *eventTime) names() string {
	names := make([]string, len(t.formats))
	for i := range t.formats {
		names[i] = t.formats[i].name
	}
	return strings.Join(names, ", ")
}

// readUnix reads a decimal number of units since 1970 and returns µs, rounded down. It is exact: the number is never a
// binary fraction. scale is timeFormat's.
func readUnix(text []byte, scale int) (at int64, ok bool) {
	i, negative := 0, false
	if len(text) > 0 && text[0] == '-' {
		i, negative = 1, true
	}
	if i == len(text) || text[i]-'0' > 9 {
		return 0, false
	}
	// mantissa × 10^exponent, with what does not fit into the mantissa in rest.
	mantissa, exponent, rest := uint64(0), 0, false
	point := false
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' && !point && i+1 < len(text) && text[i+1]-'0' <= 9 {
			point = true
			continue
		}
		if c -= '0'; c > 9 {
			break
		}
		if mantissa < math.MaxUint64/10-1 {
			mantissa = mantissa*10 + uint64(c)
			if point {
				exponent--
			}
			continue
		}
		rest = rest || c > 0
		if !point {
			exponent++
		}
	}
	if i < len(text) {
		if text[i]|0x20 != 'e' {
			return 0, false
		}
		i++
		minus := i < len(text) && text[i] == '-'
		if minus || i < len(text) && text[i] == '+' {
			i++
		}
		if i == len(text) {
			return 0, false
		}
		e := 0
		for ; i < len(text); i++ {
			c := text[i] - '0'
			if c > 9 {
				return 0, false
			}
			if e < 1e8 { // texts are shorter
				e = e*10 + int(c)
			}
		}
		if minus {
			e = -e
		}
		exponent += e
	}
	if mantissa == 0 {
		return 0, true
	}
	shift := exponent + scale - 12 // µs are mantissa × 10^shift
	for ; shift > 0; shift-- {
		hi, lo := bits.Mul64(mantissa, 10)
		if hi != 0 {
			return 0, false
		}
		mantissa = lo
	}
	for ; shift < 0; shift++ {
		if mantissa == 0 {
			rest = true
			break
		}
		rest = rest || mantissa%10 > 0
		mantissa /= 10
	}
	if mantissa > math.MaxInt64-1 {
		return 0, false
	}
	if at = int64(mantissa); !negative {
		return at, true
	}
	if rest {
		at++
	}
	return -at, true
}

// readRFC3339 reads a date, T or t or a space, and a time with an offset. Seconds may have any number of decimals. A leap
// second counts as the second after it.
func readRFC3339(text []byte) (s prefix.Stamp, ok bool) {
	const least = len("2006-01-02T15:04:05Z")
	if len(text) < least || text[4] != '-' || text[7] != '-' || text[10]|0x20 != 't' && text[10] != ' ' || text[13] != ':' || text[16] != ':' {
		return s, false
	}
	two := func(i int) int64 {
		a, b := text[i]-'0', text[i+1]-'0'
		if a > 9 || b > 9 {
			return 1000
		}
		return int64(a)*10 + int64(b)
	}
	century, year := two(0), two(2)
	hour, minute, second := two(11), two(14), two(17)
	if century > 99 || year > 99 || hour > 23 || minute > 59 || second > 60 {
		return s, false
	}
	days, ok := prefix.Days(century*100+year, two(5), two(8))
	if !ok {
		return s, false
	}
	i := 19
	if text[i] == '.' {
		i++
		scale, start := 100_000_000, i
		for ; i < len(text) && text[i]-'0' <= 9; i++ {
			s.Nano += int(text[i]-'0') * scale
			scale /= 10
		}
		if i == start || i == len(text) {
			return s, false
		}
	}
	switch c := text[i]; {
	case c|0x20 == 'z':
		i++
	case (c == '+' || c == '-') && len(text) == i+6 && text[i+3] == ':':
		h, m := two(i+1), two(i+4)
		if h > 23 || m > 59 {
			return s, false
		}
		if s.Offset = int(h*3600 + m*60); c == '-' {
			s.Offset = -s.Offset
		}
		i += 6
	default:
		return s, false
	}
	s.Local, s.Zoned = ((days*24+hour)*60+minute)*60+second, true
	if second == 60 && (s.Local-int64(s.Offset))%86400 != 0 {
		return s, false // leap seconds end a day
	}
	return s, i == len(text)
}

// zone finds the offset of times on a clock of a location, as Java does: where summer time ends the earlier of two
// instants, and where it begins the clock goes on by the offset before. Not safe for concurrent use.
type zone struct {
	location *time.Location
	// Clocks in [from, until) have this offset.
	from, until int64
	known       int
}

// offset in seconds east of UTC at a time of the location's clock, in seconds since 1970 there.
func (z *zone) offset(local int64) int {
	if local >= z.from && local < z.until {
		return z.known
	}
	// No two changes are within a day of each other.
	_, before := time.Unix(local-86400, 0).In(z.location).Zone()
	_, after := time.Unix(local+86400, 0).In(z.location).Zone()
	at := time.Unix(local-int64(before), 0).In(z.location)
	if _, off := at.Zone(); off == before || before == after {
		begin, end := at.ZoneBounds()
		z.known, z.from, z.until = off, math.MinInt64, math.MaxInt64
		if !begin.IsZero() {
			z.from = begin.Unix() + 2*86400
		}
		if !end.IsZero() {
			z.until = end.Unix() - 2*86400
		}
		return off
	}
	if _, off := time.Unix(local-int64(after), 0).In(z.location).Zone(); off == after {
		return after
	}
	return before // a time that the clock leaves out
}
