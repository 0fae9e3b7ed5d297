package prefix

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A datePattern is a compiled pattern of Java's DateTimeFormatter, as of Java 17 with Locale.US: English
// texts, weeks that begin on Sunday, and a first week that has at least one day of its year. For instants
// that have a zone the formatter never lacks a field, so optional sections are always printed.
type datePattern struct {
	items []dateItem
	unit  unit
	min   int // fewest characters to which it evaluates
}

// dateItem is a literal, or a field where print is not nil.
type dateItem struct {
	literal string
	print   printer
}

// printer appends one field of a date.
type printer func(dst []byte, c *civil) []byte

func (d *datePattern) append(dst []byte, c *civil) []byte {
	for i := range d.items {
		if d.items[i].print != nil {
			dst = d.items[i].print(dst, c)
		} else {
			dst = append(dst, d.items[i].literal...)
		}
	}
	return dst
}

// patternError is a fault in a pattern.
type patternError struct {
	offset int // byte of the pattern
	detail string
}

func (e *patternError) Error() string { return e.detail }

// refusedLetters are the letters that the service does not take: those that Java does not know, and V and
// p, which it does.
const refusedLetters = "CIJPRTUVbfijloprt"

// compileDate checks a pattern and compiles it.
func compileDate(pattern string) (*datePattern, *patternError) {
	d := &datePattern{}
	literal := func(s string) {
		d.min += utf16Length(s)
		if n := len(d.items); n > 0 && d.items[n-1].print == nil {
			d.items[n-1].literal += s
			return
		}
		d.items = append(d.items, dateItem{literal: s})
	}
	fail := func(at int, detail string, args ...any) (*datePattern, *patternError) {
		return nil, &patternError{at, fmt.Sprintf(detail, args...)}
	}
	sections := 0 // optional sections that are open
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			count := 1
			for i+count < len(pattern) && pattern[i+count] == c {
				count++
			}
			if strings.IndexByte(refusedLetters, c) >= 0 {
				return fail(i, "%q is not a pattern letter; text stands in single quotes", c)
			}
			f, ok := compileField(c, count)
			if !ok {
				return fail(i, "%q cannot stand %d times in a row", c, count)
			}
			d.items = append(d.items, dateItem{print: f.print})
			d.unit = max(d.unit, f.unit)
			d.min += f.min
			i += count
		case c == '\'':
			text, size, ok := quoted(pattern[i:])
			if !ok {
				return fail(i, "the quoted text is not closed")
			}
			literal(text)
			i += size
		case c == '[':
			sections++
			i++
		case c == ']':
			if sections == 0 {
				return fail(i, "] has no [ before it")
			}
			sections--
			i++
		case c == '{' || c == '}' || c == '#':
			return fail(i, "%q is reserved; text stands in single quotes", c)
		default:
			_, size := utf8.DecodeRuneInString(pattern[i:])
			literal(pattern[i : i+size])
			i += size
		}
	}
	return d, nil
}

// quoted reads the quoted text at the beginning of s and returns it with the number of bytes it took.
// Two quotes are one quote, inside and alone.
func quoted(s string) (text string, size int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		if i == 1 {
			return "'", 2, true
		}
		return b.String(), i + 1, true
	}
	return "", 0, false
}

// field is a compiled run of one letter.
type field struct {
	print printer
	unit  unit
	min   int
}

// compileField compiles count letters c in a row; not ok where Java refuses them, be it when the formatter
// is made or when it prints.
func compileField(c byte, count int) (f field, ok bool) {
	switch c {
	case 'y', 'u', 'Y':
		year := map[byte]func(*civil) int64{'y': (*civil).yearOfEra, 'u': (*civil).year64, 'Y': (*civil).weekYear}[c]
		unit := unitYear
		if c == 'Y' {
			unit = unitDay
		}
		// From 11 letters on Java fails as it prints, by a slip of its own, but for 19. Week-based years
		// are not held to 19, and print nevertheless.
		if count > 10 && count < 19 || count > 19 && c != 'Y' {
			return field{}, false
		}
		switch {
		case count == 2:
			return field{twoDigits(year), unit, 2}, true
		case count < 4:
			return field{number(year, count), unit, count}, true
		}
		return field{signedYear(year, count), unit, count}, true
	case 'M', 'L':
		return text12(count, (*civil).month64, unitMonth, monthNames[:], shortMonths[:], narrowMonths[:])
	case 'Q', 'q':
		return text12(count, (*civil).quarter, unitMonth, quarterNames[:], shortQuarters[:], narrowQuarters[:])
	case 'D':
		return numeric(count, 3, (*civil).yearDay, unitDay)
	case 'd':
		return numeric(count, 2, (*civil).day64, unitDay)
	case 'F':
		return numeric(count, 1, (*civil).dayOfWeekInMonth, unitDay)
	case 'W':
		return numeric(count, 1, (*civil).weekOfMonth, unitDay)
	case 'w':
		return numeric(count, 2, (*civil).weekOfWeekYear, unitDay)
	case 'E':
		return text12(max(count, 3), (*civil).weekday64, unitDay, dayNames[:], shortDays[:], narrowDays[:])
	case 'e':
		return text12(count, (*civil).weekday64, unitDay, dayNames[:], shortDays[:], narrowDays[:])
	case 'c':
		if count == 2 {
			return field{}, false
		}
		return text12(count, (*civil).weekday64, unitDay, dayNames[:], shortDays[:], narrowDays[:])
	case 'G':
		return text12(max(count, 3), (*civil).era, unitYear, eraNames[:], shortEras[:], narrowEras[:])
	case 'g':
		if count > 19 {
			return field{}, false
		}
		return field{number((*civil).modifiedJulianDay, count), unitDay, count}, true
	case 'a':
		if count != 1 {
			return field{}, false
		}
		return field{words((*civil).half, halves[:]), unitHour, 2}, true
	case 'B':
		return dayPeriodField(count)
	case 'H':
		return numeric(count, 2, (*civil).hour64, unitHour)
	case 'k':
		return numeric(count, 2, (*civil).clockHour, unitHour)
	case 'K':
		return numeric(count, 2, (*civil).hourOfHalf, unitHour)
	case 'h':
		return numeric(count, 2, (*civil).clockHourOfHalf, unitHour)
	case 'm':
		return numeric(count, 2, (*civil).minute64, unitMinute)
	case 's':
		return numeric(count, 2, (*civil).second64, unitSecond)
	case 'S':
		if count > 9 {
			return field{}, false
		}
		return field{fraction(count), unitSecond, count}, true
	case 'n':
		return numeric(count, 19, (*civil).nano64, unitSecond)
	case 'A':
		return numeric(count, 19, (*civil).milliOfDay, unitSecond)
	case 'N':
		return numeric(count, 19, (*civil).nanoOfDay, unitSecond)
	case 'z', 'v', 'Z', 'O', 'X', 'x':
		return zoneField(c, count)
	}
	return field{}, false
}

// numeric is a number of at least count digits, where count may be up to most.
func numeric(count, most int, get func(*civil) int64, u unit) (field, bool) {
	if count > most {
		return field{}, false
	}
	return field{number(get, count), u, count}, true
}

// text12 is what letters do that are a number once or twice and words from three times on: short, full,
// narrow. The first word belongs to 1.
func text12(count int, get func(*civil) int64, u unit, full, short, narrow []string) (field, bool) {
	switch count {
	case 1, 2:
		return field{number(get, count), u, count}, true
	case 3:
		return field{words(get, short), u, shortest(short)}, true
	case 4:
		return field{words(get, full), u, shortest(full)}, true
	case 5:
		return field{words(get, narrow), u, shortest(narrow)}, true
	}
	return field{}, false
}

func shortest(words []string) int {
	n := len(words[0])
	for _, w := range words {
		n = min(n, len(w))
	}
	return n
}

// dayPeriodField is the part of the day in words.
func dayPeriodField(count int) (field, bool) {
	switch count {
	case 1, 4:
		return field{words((*civil).dayPeriod, dayPeriods[:]), unitMinute, shortest(dayPeriods[:])}, true
	case 5:
		return field{words((*civil).dayPeriod, narrowDayPeriods[:]), unitMinute, shortest(narrowDayPeriods[:])}, true
	}
	return field{}, false
}
