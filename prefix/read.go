package prefix

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A TimeReader reads times that were written by a pattern, which is the pattern language of !{timestamp:...} in the
// other direction. It is stricter than Java: letters that stand n times take exactly n digits (one letter takes one
// digit or as many as the field can have), days must exist in their month, words are English in the spelling in
// which they are printed, and nothing may be left over. What stands in [ ] may be absent. A pattern without month,
// day, hour, minute or second means their beginning. Immutable, safe for concurrent use.
type TimeReader struct {
	pattern string
	items   []readItem
	zoned   bool // the pattern has an offset outside of optional sections
	// words are items where these are literals and numbers of fixed width only, which nearly all patterns are: then every
	// field stands in its place (at, or -1), and length is that of every text. nil elsewhere.
	words  []word
	length int
	at     [fractionField + 1]int
	digits int // of a fraction
	unit   int // what one of its units is in nanoseconds
}

// Stamp is what a text says.
type Stamp struct {
	Local  int64 // seconds since 1970 on a clock that stands at the place of the text
	Nano   int   // below a second
	Offset int   // seconds east of UTC, where the text has an offset
	Zoned  bool  // it has one
}

// readItem is a literal, an optional section, or a field.
type readItem struct {
	literal  string
	optional []readItem
	field    readField
	least    int      // digits of a number
	most     int      //
	words    []string // of a field in words, the first for 1
	offset   offsetForm
}

type readField uint8

const (
	noField readField = iota
	yearField
	shortYear // two digits from 2000 on
	monthField
	dayField
	yearDayField
	weekdayField
	hourField
	clockHourField // 1 to 24
	halfHourField  // 0 to 11
	clockHalfField // 1 to 12
	halfField
	minuteField
	secondField
	fractionField
	nanoField
	milliOfDayField
	nanoOfDayField
	offsetField
	fieldCount
)

// offsetForm says how an offset is written.
type offsetForm struct {
	zulu    bool // Z is none
	colon   bool
	minutes int8 // 0: may be absent
	seconds bool // may be there
}

// read is what has been read.
type read struct {
	value [fieldCount]int64
	seen  uint32 // bit by field
}

func (r *read) has(f readField) bool { return r.seen>>f&1 != 0 }

// ReadTimes compiles a pattern. Its errors say which letter is wrong.
func ReadTimes(pattern string) (*TimeReader, error) {
	if _, err := compileDate(pattern); err != nil {
		return nil, fmt.Errorf("pattern %q, byte %d: %s", pattern, err.offset, err.detail)
	}
	c := readCompiler{pattern: pattern}
	items, err := c.items(0)
	if err != nil {
		return nil, fmt.Errorf("pattern %q, byte %d: %w", pattern, c.at, err)
	}
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	t := &TimeReader{pattern: pattern, items: items}
	for _, i := range items {
		t.zoned = t.zoned || i.field == offsetField
	}
	t.fix()
	return t, nil
}

// String is the pattern.
func (t *TimeReader) String() string { return t.pattern }

// Zoned tells whether every text that the pattern reads has its own offset.
func (t *TimeReader) Zoned() bool { return t.zoned }

type readCompiler struct {
	pattern string
	at      int
	seen    uint32 // fields, also those of optional sections
}

// items compiles up to the end of the pattern or of an optional section. The pattern is known to be one that prints.
func (c *readCompiler) items(depth int) ([]readItem, error) {
	var items []readItem
	var numberEnd = -1 // where a number of no fixed width ended
	literal := func(s string) {
		if n := len(items); n > 0 && items[n-1].literal != "" {
			items[n-1].literal += s
			return
		}
		items = append(items, readItem{literal: s})
	}
	for c.at < len(c.pattern) {
		b := c.pattern[c.at]
		switch {
		case b == '\'':
			text, size, _ := quoted(c.pattern[c.at:])
			literal(text)
			c.at += size
		case b == '[':
			c.at++
			inner, err := c.items(depth + 1)
			if err != nil {
				return nil, err
			}
			items = append(items, readItem{optional: inner})
		case b == ']':
			c.at++
			return items, nil
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z':
			count := 1
			for c.at+count < len(c.pattern) && c.pattern[c.at+count] == b {
				count++
			}
			item, err := compileRead(b, count)
			if err != nil {
				return nil, err
			}
			if numberEnd == c.at && item.most > 0 {
				return nil, fmt.Errorf("the number %q follows one whose length is not fixed", strings.Repeat(string(b), count))
			}
			if c.seen>>item.field&1 != 0 && depth == 0 {
				return nil, fmt.Errorf("%q says what another letter says already", b)
			}
			c.seen |= 1 << item.field
			items = append(items, item)
			c.at += count
			if item.most > item.least {
				numberEnd = c.at
			}
		default:
			_, size := utf8.DecodeRuneInString(c.pattern[c.at:])
			literal(c.pattern[c.at : c.at+size])
			c.at += size
		}
	}
	if depth > 0 {
		return nil, fmt.Errorf("[ is not closed")
	}
	return items, nil
}

// complete tells what the pattern lacks.
func (c *readCompiler) complete() error {
	has := func(fields ...readField) bool {
		for _, f := range fields {
			if c.seen>>f&1 != 0 {
				return true
			}
		}
		return false
	}
	switch {
	case !has(yearField, shortYear):
		return fmt.Errorf("it has no year (y)")
	case has(yearField) && has(shortYear):
		return fmt.Errorf("it has two years")
	case has(dayField) && !has(monthField):
		return fmt.Errorf("it has a day of the month (d) and no month (M)")
	case has(yearDayField) && has(monthField, dayField):
		return fmt.Errorf("it has a day of the year (D) beside month or day of the month")
	case has(halfHourField, clockHalfField) != has(halfField):
		return fmt.Errorf("hours of half a day (h, K) and a go together")
	}
	hours := 0
	for _, f := range []readField{hourField, clockHourField, halfHourField, clockHalfField, milliOfDayField, nanoOfDayField} {
		if has(f) {
			hours++
		}
	}
	switch {
	case hours > 1:
		return fmt.Errorf("it has the hour twice")
	case hours == 1 && !has(yearDayField, dayField):
		return fmt.Errorf("it has an hour and no day (d)")
	case has(minuteField) && (hours == 0 || has(milliOfDayField, nanoOfDayField)):
		return fmt.Errorf("it has minutes (m) and no hour (H)")
	case has(secondField) && !has(minuteField):
		return fmt.Errorf("it has seconds (s) and no minutes (m)")
	case has(fractionField, nanoField) && !has(secondField):
		return fmt.Errorf("it has a fraction of a second (S) and no seconds (s)")
	case has(fractionField) && has(nanoField):
		return fmt.Errorf("it has the fraction of a second twice")
	}
	return nil
}

// compileRead compiles count letters c in a row.
func compileRead(c byte, count int) (readItem, error) {
	number := func(f readField, most int) (readItem, error) {
		if count == 1 {
			return readItem{field: f, least: 1, most: most}, nil
		}
		return readItem{field: f, least: count, most: count}, nil
	}
	words := func(f readField, names []string) (readItem, error) { return readItem{field: f, words: names}, nil }
	switch c {
	case 'y', 'u':
		switch count {
		case 1:
			return readItem{field: yearField, least: 1, most: 4}, nil
		case 2:
			return readItem{field: shortYear, least: 2, most: 2}, nil
		case 4:
			return readItem{field: yearField, least: 4, most: 4}, nil
		}
		return readItem{}, fmt.Errorf("a year is read with %s, %s or %s", strings.Repeat(string(c), 4), strings.Repeat(string(c), 2), string(c))
	case 'M', 'L':
		switch count {
		case 3:
			return words(monthField, shortMonths[:])
		case 4:
			return words(monthField, monthNames[:])
		case 1, 2:
			return number(monthField, 2)
		}
	case 'd':
		return number(dayField, 2)
	case 'D':
		if count != 2 {
			return number(yearDayField, 3)
		}
	case 'E':
		switch count {
		case 1, 2, 3:
			return words(weekdayField, shortDays[:])
		case 4:
			return words(weekdayField, dayNames[:])
		}
	case 'H':
		return number(hourField, 2)
	case 'k':
		return number(clockHourField, 2)
	case 'K':
		return number(halfHourField, 2)
	case 'h':
		return number(clockHalfField, 2)
	case 'a':
		return words(halfField, halves[:])
	case 'm':
		return number(minuteField, 2)
	case 's':
		return number(secondField, 2)
	case 'S':
		return readItem{field: fractionField, least: count, most: count}, nil
	case 'n':
		return number(nanoField, 9)
	case 'A':
		return number(milliOfDayField, 8)
	case 'N':
		return number(nanoOfDayField, 14)
	case 'X', 'x':
		o := [...]offsetForm{{}, {}, {minutes: 1}, {minutes: 1, colon: true}, {minutes: 1, seconds: true}, {minutes: 1, colon: true, seconds: true}}[count]
		o.zulu = c == 'X'
		return readItem{field: offsetField, offset: o}, nil
	case 'Z':
		switch {
		case count < 4:
			return readItem{field: offsetField, offset: offsetForm{minutes: 1}}, nil
		case count == 5:
			return readItem{field: offsetField, offset: offsetForm{minutes: 1, colon: true, seconds: true, zulu: true}}, nil
		}
	case 'z', 'v':
		return readItem{}, fmt.Errorf("the name of a time zone (%q) cannot be read: say time_zone, or quote a name that is always the same", c)
	}
	return readItem{}, fmt.Errorf("%q can be printed and not read", strings.Repeat(string(c), count))
}

// Read reads a text; not ok where it is not of the pattern, or names a day or time that does not exist.
func (t *TimeReader) Read(text []byte) (s Stamp, ok bool) {
	if t.words != nil {
		if len(text) != t.length {
			return s, false
		}
		return t.readWords(text)
	}
	return t.readItems(text)
}

func (t *TimeReader) readItems(text []byte) (s Stamp, ok bool) {
	var r read
	rest, ok := readItems(text, t.items, &r)
	if !ok || len(rest) > 0 {
		return Stamp{}, false
	}
	return r.stamp()
}

func readItems(text []byte, items []readItem, r *read) ([]byte, bool) {
	for i := range items {
		it := &items[i]
		switch {
		case it.literal != "":
			if len(text) < len(it.literal) || string(text[:len(it.literal)]) != it.literal {
				return nil, false
			}
			text = text[len(it.literal):]
			continue
		case it.field == noField:
			before := *r
			if rest, ok := readItems(text, it.optional, r); ok {
				text = rest
			} else {
				*r = before
			}
			continue
		}
		var n int64
		var ok bool
		switch {
		case it.words != nil:
			n, text, ok = readWord(text, it.words)
		case it.field == offsetField:
			n, text, ok = readOffset(text, it.offset)
		default:
			n, text, ok = readNumber(text, it.least, it.most)
			if it.field == fractionField {
				for range 9 - it.least {
					n *= 10
				}
			}
		}
		if !ok || r.has(it.field) && r.value[it.field] != n {
			return nil, false
		}
		r.value[it.field] = n
		r.seen |= 1 << it.field
	}
	return text, true
}

func readNumber(text []byte, least, most int) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(text) && i < most && text[i]-'0' <= 9 {
		n = n*10 + int64(text[i]-'0')
		i++
	}
	return n, text[i:], i >= least
}

// readWord takes the longest word that fits.
func readWord(text []byte, words []string) (n int64, rest []byte, ok bool) {
	best := 0
	for i, w := range words {
		if len(w) > best && len(text) >= len(w) && string(text[:len(w)]) == w {
			n, best = int64(i+1), len(w)
		}
	}
	return n, text[best:], best > 0
}

// readOffset reads seconds east of UTC.
func readOffset(text []byte, f offsetForm) (n int64, rest []byte, ok bool) {
	if f.zulu && len(text) > 0 && text[0] == 'Z' {
		return 0, text[1:], true
	}
	if len(text) < 3 || text[0] != '+' && text[0] != '-' {
		return 0, nil, false
	}
	sign := int64(1)
	if text[0] == '-' {
		sign = -1
	}
	h, rest, ok := readNumber(text[1:], 2, 2)
	if !ok || h > 18 {
		return 0, nil, false
	}
	n = h * 3600
	for unit := int64(60); unit > 0; unit /= 60 {
		if unit == 1 && !f.seconds {
			break
		}
		part := rest
		if f.colon {
			if len(part) == 0 || part[0] != ':' {
				part = nil
			} else {
				part = part[1:]
			}
		}
		m, after, ok := readNumber(part, 2, 2)
		if !ok {
			if unit == 60 && f.minutes > 0 {
				return 0, nil, false
			}
			break
		}
		if m > 59 {
			return 0, nil, false
		}
		n += m * unit
		rest = after
	}
	return sign * n, rest, n <= 18*3600
}

// stamp puts the fields together.
func (r *read) stamp() (s Stamp, ok bool) {
	year, month, day := r.value[yearField], int64(1), int64(1)
	if r.has(shortYear) {
		year = 2000 + r.value[shortYear]
	}
	if r.has(monthField) {
		month = r.value[monthField]
	}
	if r.has(dayField) {
		day = r.value[dayField]
	}
	if year < 1 || month < 1 || month > 12 || day < 1 || day > int64(daysIn(year, month)) {
		return s, false
	}
	days := civilDays(year, month, day)
	if r.has(yearDayField) {
		n := r.value[yearDayField]
		if n < 1 || n > civilDays(year+1, 1, 1)-days {
			return s, false
		}
		days += n - 1
	}
	if r.has(weekdayField) && r.value[weekdayField] != floorMod(days+4, 7)+1 {
		return s, false
	}
	hour := r.value[hourField]
	switch {
	case r.has(clockHourField):
		if hour = r.value[clockHourField]; hour < 1 || hour > 24 {
			return s, false
		}
		hour %= 24
	case r.has(halfHourField), r.has(clockHalfField):
		if r.has(clockHalfField) {
			if hour = r.value[clockHalfField]; hour < 1 || hour > 12 {
				return s, false
			}
			hour %= 12
		} else if hour = r.value[halfHourField]; hour > 11 {
			return s, false
		}
		hour += 12 * (r.value[halfField] - 1)
	}
	minute, second := r.value[minuteField], r.value[secondField]
	if hour > 23 || minute > 59 || second > 59 {
		return s, false
	}
	nano := r.value[fractionField] + r.value[nanoField]
	ofDay := (hour*60+minute)*60 + second
	if r.has(milliOfDayField) {
		ofDay, nano = r.value[milliOfDayField]/1e3, r.value[milliOfDayField]%1e3*1e6
	}
	if r.has(nanoOfDayField) {
		ofDay, nano = r.value[nanoOfDayField]/1e9, r.value[nanoOfDayField]%1e9
	}
	if ofDay >= secondsPerDay {
		return s, false
	}
	return Stamp{Local: days*secondsPerDay + ofDay, Nano: int(nano), Offset: int(r.value[offsetField]), Zoned: r.has(offsetField)}, true
}

// civilDays counts days from 1970-01-01 to a date of the Gregorian calendar from year 1 on.
func civilDays(year, month, day int64) int64 {
	if month < 3 {
		year--
		month += 12
	}
	// Years that begin in March have the leap day at their end.
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
}

func daysIn(year, month int64) int {
	switch time.Month(month) {
	case time.February:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case time.April, time.June, time.September, time.November:
		return 30
	}
	return 31
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }

// Days counts days from 1970-01-01 to a date of the years 1 to 9999; not ok where there is no such day.
func Days(year, month, day int64) (days int64, ok bool) {
	if year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > 28 && day > int64(daysIn(year, month)) {
		return 0, false
	}
	return civilDays(year, month, day), true
}
