package parquet

import (
	"encoding/binary"
	"math"
)

// Timestamps and dates. With OpenX a timestamp is
//
//	a string  yyyy-[M]M-[d]d, then T or a blank, then HH:mm:ss, up to 9 digits of fraction, and Z, an offset
//	          (+02:00, +0200, +02) or nothing, which means UTC;
//	a number  seconds since 1970 when it is less than 10^12 in magnitude, milliseconds otherwise, either
//	          with a fraction; or a string that holds such a number.
//
// With Hive's deserializer it is a string or a number in one of the configured formats, or a string
// yyyy-[M]M-[d]d HH:mm:ss[.f], always UTC. A date is a string yyyy-[M]M-[d]d with both. Days that the
// calendar does not have, hours from 24 and seconds from 60 are refused.

// instant is a point in time: seconds since 1970 in UTC, and nanoseconds from 0 to 10^9-1.
type instant struct {
	sec   int64
	nanos int32
}

const (
	notTime    = "it is no timestamp in a known form"
	notDate    = "it is no date of the form yyyy-MM-dd"
	badTime    = "it is beyond the range of timestamps"
	daySeconds = 86400
)

// clock remembers the last date that was read: records come at about the same time.
type clock struct {
	word uint64 // yyyy-MM-
	tail uint16 // dd
	day  int64
	ok   bool
}

func (s *shredder) timestamp(n *node, i int, rep uint8) int {
	b := s.b
	if b[i] == '"' {
		if !s.strict {
			if end := s.quick(n, i+1, rep); end > 0 {
				return end
			}
		}
		end, escaped := s.stringEnd(i + 1)
		if end < 0 {
			return end
		}
		text := b[i+1 : end]
		if escaped {
			s.unescape(i+1, end)
			text = s.tmp
		}
		if why := s.fromText(n, text, rep); why != "" {
			return s.mismatch(n, i, why)
		}
		return end + 1
	}
	if c := b[i]; c != '-' && c-'0' > 9 {
		return s.other(n, i, rep)
	}
	end := s.numberEnd(i)
	if end < 0 {
		return end
	}
	var t instant
	var why string
	if s.strict {
		t, why = s.jodaText(b[i:end])
	} else {
		t, why = epoch(b[i:end])
	}
	if why == "" {
		why = s.addInstant(n, t, rep)
	}
	if why != "" {
		return s.mismatch(n, i, why)
	}
	return end
}

// quick reads the form in which machines write timestamps, yyyy-MM-ddTHH:mm:ss[.f]Z, at i. It returns the
// index after the closing quote, or 0 for everything else, wrong or not.
func (s *shredder) quick(n *node, i int, rep uint8) (next int) {
	b := s.b
	if i+32 > len(b) {
		return 0
	}
	word, tail := load8(b, i), binary.LittleEndian.Uint16(b[i+8:])
	day := s.clock.day
	if word != s.clock.word || tail != s.clock.tail || !s.clock.ok {
		if !digitsAt(word, 0xff0000ff00000000, 0x2d00002d00000000) {
			return 0
		}
		d, ok := civilDay(b[i : i+10])
		if !ok {
			return 0
		}
		s.clock = clock{word, tail, d, true}
		day = d
	}
	if b[i+10] != 'T' {
		return 0
	}
	hms := load8(b, i+11)
	if !digitsAt(hms, 0x0000ff0000ff0000, 0x00003a00003a0000) {
		return 0
	}
	hms -= 0x3030003030003030
	hour := int64(hms&0xf)*10 + int64(hms>>8&0xf)
	minute := int64(hms>>24&0xf)*10 + int64(hms>>32&0xf)
	second := int64(hms>>48&0xf)*10 + int64(hms>>56)
	if hour > 23 || minute > 59 || second > 59 {
		return 0
	}
	nanos := int32(0)
	j := i + 19
	if b[j] == '.' {
		j++
		at := j
		for {
			d := b[j] - '0'
			if d > 9 || j-at == 9 {
				break
			}
			nanos = nanos*10 + int32(d)
			j++
		}
		if j == at {
			return 0
		}
		nanos *= scales[j-at]
	}
	if b[j] != 'Z' || b[j+1] != '"' {
		return 0
	}
	if s.addInstant(n, instant{day*daySeconds + hour*3600 + minute*60 + second, nanos}, rep) != "" {
		return 0
	}
	return j + 2
}

// scales brings a fraction of so many digits to nanoseconds.
var scales = [10]int32{1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0}

// digitsAt reports whether the bytes of w under mask are those of other and all else are digits.
func digitsAt(w, mask, other uint64) bool {
	if w&mask != other {
		return false
	}
	d := (w&^mask | mask&(ones*'0')) ^ ones*'0'
	return (d|(d+ones*0x76))&highs == 0
}

// addInstant writes a timestamp in the column's unit.
func (s *shredder) addInstant(n *node, t instant, rep uint8) (why string) {
	var v int64
	switch s.unit {
	case Micros:
		if t.sec > math.MaxInt64/1_000_000-1 || t.sec < math.MinInt64/1_000_000+1 {
			return badTime
		}
		v = t.sec*1e6 + int64(t.nanos)/1e3
	case Millis:
		if t.sec > math.MaxInt64/1000-1 || t.sec < math.MinInt64/1000+1 {
			return badTime
		}
		v = t.sec*1e3 + int64(t.nanos)/1e6
	default:
		day := t.sec / daySeconds
		sec := t.sec % daySeconds
		if sec < 0 {
			day, sec = day-1, sec+daySeconds
		}
		day += julianEpoch
		if day > math.MaxInt32 || day < math.MinInt32 {
			return badTime
		}
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:], uint64(sec)*1e9+uint64(t.nanos))
		binary.LittleEndian.PutUint32(b[8:], uint32(day))
		n.col.present(s.row, rep)
		n.col.addFixed(b[:12])
		return ""
	}
	n.col.present(s.row, rep)
	n.col.add64(v)
	return ""
}

// julianEpoch is the Julian day of 1970-01-01.
const julianEpoch = 2440588

// instantText reads a timestamp from a string.
func (s *shredder) instantText(text []byte) (t instant, why string) {
	if s.strict {
		return s.jodaText(text)
	}
	t, ok := isoText(text, true)
	if ok {
		return t, ""
	}
	return epoch(text)
}

// isoText reads yyyy-[M]M-[d]d, T or a blank, HH:mm:ss[.f], and with zoned a T and a zone are allowed.
func isoText(text []byte, zoned bool) (t instant, ok bool) {
	day, n, ok := dateStart(text)
	if !ok || n+9 > len(text) {
		return t, false
	}
	if text[n] != ' ' && !(zoned && text[n] == 'T') {
		return t, false
	}
	hour, ok1 := twoDigits(text[n+1:])
	minute, ok2 := twoDigits(text[n+4:])
	second, ok3 := twoDigits(text[n+7:])
	if !ok1 || !ok2 || !ok3 || text[n+3] != ':' || text[n+6] != ':' || hour > 23 || minute > 59 || second > 59 {
		return t, false
	}
	text = text[n+9:]
	if len(text) > 0 && text[0] == '.' {
		k := 1
		for k < len(text) && text[k]-'0' <= 9 && k <= 9 {
			t.nanos = t.nanos*10 + int32(text[k]-'0')
			k++
		}
		if k == 1 {
			return t, false
		}
		t.nanos *= scales[k-1]
		text = text[k:]
	}
	offset := 0
	if zoned && len(text) > 0 {
		if offset, ok = zoneText(text); !ok {
			return t, false
		}
	} else if len(text) > 0 {
		return t, false
	}
	t.sec = day*daySeconds + int64(hour*3600+minute*60+second-offset)
	return t, true
}

// zoneText reads Z, +hh:mm, +hhmm or +hh, as seconds east of UTC.
func zoneText(text []byte) (offset int, ok bool) {
	if len(text) == 1 {
		return 0, text[0] == 'Z'
	}
	if text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	hour, ok1 := twoDigits(text[1:])
	minute, ok2 := 0, true
	switch {
	case len(text) == 5:
		minute, ok2 = twoDigits(text[3:])
	case len(text) == 6 && text[3] == ':':
		minute, ok2 = twoDigits(text[4:])
	case len(text) != 3:
		return 0, false
	}
	if !ok1 || !ok2 || hour > 18 || minute > 59 { // java.time ends at 18 hours
		return 0, false
	}
	offset = hour*3600 + minute*60
	if text[0] == '-' {
		offset = -offset
	}
	return offset, true
}

func twoDigits(text []byte) (v int, ok bool) {
	if len(text) < 2 || text[0]-'0' > 9 || text[1]-'0' > 9 {
		return 0, false
	}
	return int(text[0]-'0')*10 + int(text[1]-'0'), true
}

// dateStart reads yyyy-[M]M-[d]d at the start of text, as days since 1970, and returns its length.
func dateStart(text []byte) (day int64, n int, ok bool) {
	if len(text) < 8 || text[4] != '-' {
		return 0, 0, false
	}
	year := 0
	for _, c := range text[:4] {
		if c-'0' > 9 {
			return 0, 0, false
		}
		year = year*10 + int(c-'0')
	}
	month, i, ok := oneOrTwo(text, 5)
	if !ok || i >= len(text) || text[i] != '-' {
		return 0, 0, false
	}
	d, i, ok := oneOrTwo(text, i+1)
	if !ok || month < 1 || month > 12 || d < 1 || d > monthDays(year, month) {
		return 0, 0, false
	}
	return daysFrom(year, month, d), i, true
}

func oneOrTwo(text []byte, i int) (v, next int, ok bool) {
	if i >= len(text) || text[i]-'0' > 9 {
		return 0, i, false
	}
	v = int(text[i] - '0')
	i++
	if i < len(text) && text[i]-'0' <= 9 {
		v = v*10 + int(text[i]-'0')
		i++
	}
	return v, i, true
}

// civilDay reads yyyy-MM-dd, nothing less and nothing more.
func civilDay(text []byte) (day int64, ok bool) {
	day, n, ok := dateStart(text)
	return day, ok && n == len(text) && n == 10
}

// dateText reads a date.
func dateText(text []byte) (day int64, ok bool) {
	day, n, ok := dateStart(text)
	return day, ok && n == len(text)
}

func monthDays(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysFrom is the days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years are counted
// from March, so that the day that comes and goes is the last of them.
func daysFrom(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	if year < 0 {
		era = (year - 399) / 400
	}
	inEra := year - era*400
	inYear := (153*(month-3)+2)/5 + day - 1
	return int64(era)*146097 + int64(inEra*365+inEra/4-inEra/100+inYear) - 719468
}

// epoch reads a number: seconds below 10^12 in magnitude, milliseconds otherwise.
func epoch(text []byte) (t instant, why string) {
	d, ok := parseNumber(text)
	if !ok {
		return t, notTime
	}
	unit := 0
	if d.atLeast(12) {
		unit = 3
	}
	t.sec, t.nanos, ok = d.instant(unit)
	if !ok {
		return t, badTime
	}
	return t, ""
}

// atLeast reports whether |n| ≥ 10^e, for 0 ≤ e ≤ 38.
func (n *number) atLeast(e int) bool {
	if n.zero() {
		return false
	}
	k := 0 // digits of the coefficient
	for k <= maxDigits && !less(n.hi, n.lo, pow10[k][0], pow10[k][1]) {
		k++
	}
	return k+n.exp > e
}

func (s *shredder) date(n *node, i int, rep uint8) int {
	if s.b[i] != '"' {
		return s.other(n, i, rep)
	}
	end, escaped := s.stringEnd(i + 1)
	if end < 0 {
		return end
	}
	text := s.b[i+1 : end]
	if escaped {
		s.unescape(i+1, end)
		text = s.tmp
	}
	if why := s.fromText(n, text, rep); why != "" {
		return s.mismatch(n, i, why)
	}
	return end + 1
}
