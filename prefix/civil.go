package prefix

import (
	"math"
	"strconv"
	"time"
)

// civil is an instant as a calendar and a clock of its zone show it, in whole seconds unless made by
// exactCivilOf.
type civil struct {
	t                    time.Time
	year                 int
	month                time.Month
	day                  int
	hour, minute, second int
	nano                 int
	offset               int // seconds east of UTC
}

// civilOf drops what is below a second.
func civilOf(t time.Time) civil {
	c := exactCivilOf(t)
	c.nano = 0
	return c
}

func exactCivilOf(t time.Time) civil {
	c := civil{t: t, nano: t.Nanosecond()}
	c.year, c.month, c.day = t.Date()
	c.hour, c.minute, c.second = t.Clock()
	_, c.offset = t.Zone()
	return c
}

// The fields of a civil date that patterns print. Months, quarters, eras, days and their parts count from
// 1, so that they index their words.

func (c *civil) year64() int64 { return int64(c.year) }

func (c *civil) yearOfEra() int64 {
	if c.year > 0 {
		return int64(c.year)
	}
	return 1 - int64(c.year)
}

func (c *civil) era() int64 {
	if c.year > 0 {
		return 2
	}
	return 1
}

func (c *civil) month64() int64  { return int64(c.month) }
func (c *civil) quarter() int64  { return int64(c.month+2) / 3 }
func (c *civil) day64() int64    { return int64(c.day) }
func (c *civil) yearDay() int64  { return int64(c.t.YearDay()) }
func (c *civil) hour64() int64   { return int64(c.hour) }
func (c *civil) minute64() int64 { return int64(c.minute) }
func (c *civil) second64() int64 { return int64(c.second) }
func (c *civil) nano64() int64   { return int64(c.nano) }

// weekday64 counts from Sunday, the first day of the week in the United States.
func (c *civil) weekday64() int64 { return int64(c.t.Weekday()) + 1 }

// dayOfWeekInMonth is what F is in Java 17. (Later Javas print the week of the month, counted from the 1st.)
func (c *civil) dayOfWeekInMonth() int64 { return int64(c.day-1)%7 + 1 }

// weekOfMonth counts weeks from Sunday; the one with the 1st is the first.
func (c *civil) weekOfMonth() int64 { return week(c.day, c.t.Weekday()) }

// week of the day-th day of a month or year, when that day is a w: the week with day 1 is the first.
func week(day int, w time.Weekday) int64 {
	// Days before the first Sunday, which make the first week short.
	lead := ((day-1-int(w))%7 + 7) % 7
	return int64((day-1-lead+7)/7) + boolInt(lead > 0)
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// weekYear is the year that owns the week: the week with January 1st is the first of its year.
func (c *civil) weekYear() int64 {
	if c.startsNextYear() {
		return int64(c.year) + 1
	}
	return int64(c.year)
}

func (c *civil) weekOfWeekYear() int64 {
	if c.startsNextYear() {
		return 1
	}
	return week(c.t.YearDay(), c.t.Weekday())
}

// startsNextYear tells whether January 1st of the next year is in this week.
func (c *civil) startsNextYear() bool {
	return c.month == time.December && c.day+int(time.Saturday-c.t.Weekday()) > 31
}

// modifiedJulianDay counts days from November 17th 1858.
func (c *civil) modifiedJulianDay() int64 {
	return floorDiv(c.t.Unix()+int64(c.offset), secondsPerDay) + 40587
}

func (c *civil) half() int64 { return int64(c.hour/12) + 1 }

func (c *civil) clockHour() int64 { // 1 to 24
	if c.hour == 0 {
		return 24
	}
	return int64(c.hour)
}

func (c *civil) hourOfHalf() int64 { return int64(c.hour % 12) }

func (c *civil) clockHourOfHalf() int64 { // 1 to 12
	if c.hour%12 == 0 {
		return 12
	}
	return int64(c.hour % 12)
}

func (c *civil) secondOfDay() int64 {
	return int64(c.hour)*3600 + int64(c.minute)*60 + int64(c.second)
}

func (c *civil) milliOfDay() int64 { return c.secondOfDay()*1e3 + int64(c.nano)/1e6 }
func (c *civil) nanoOfDay() int64  { return c.secondOfDay()*1e9 + int64(c.nano) }

// dayPeriod indexes dayPeriods. Midnight and noon last a minute.
func (c *civil) dayPeriod() int64 {
	switch {
	case c.hour == 0 && c.minute == 0:
		return 1
	case c.hour == 12 && c.minute == 0:
		return 2
	case c.hour < 6 || c.hour >= 21:
		return 6
	case c.hour < 12:
		return 3
	case c.hour < 18:
		return 4
	}
	return 5
}

// English words, the first for 1. Where Java has no narrow form of its own, it is the long one.
var (
	monthNames       = [...]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
	shortMonths      = [...]string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
	narrowMonths     = [...]string{"J", "F", "M", "A", "M", "J", "J", "A", "S", "O", "N", "D"}
	quarterNames     = [...]string{"1st quarter", "2nd quarter", "3rd quarter", "4th quarter"}
	shortQuarters    = [...]string{"Q1", "Q2", "Q3", "Q4"}
	narrowQuarters   = [...]string{"1", "2", "3", "4"}
	dayNames         = [...]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
	shortDays        = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	narrowDays       = [...]string{"S", "M", "T", "W", "T", "F", "S"}
	eraNames         = [...]string{"Before Christ", "Anno Domini"}
	shortEras        = [...]string{"BC", "AD"}
	narrowEras       = [...]string{"B", "A"}
	halves           = [...]string{"AM", "PM"}
	dayPeriods       = [...]string{"midnight", "noon", "in the morning", "in the afternoon", "in the evening", "at night"}
	narrowDayPeriods = [...]string{"mi", "n", "in the morning", "in the afternoon", "in the evening", "at night"}
)

func words(get func(*civil) int64, names []string) printer {
	return func(dst []byte, c *civil) []byte { return append(dst, names[get(c)-1]...) }
}

// number prints at least width digits, with a minus where it is negative.
func number(get func(*civil) int64, width int) printer {
	return func(dst []byte, c *civil) []byte { return appendPadded(dst, get(c), width) }
}

func appendPadded(dst []byte, n int64, width int) []byte {
	if n < 0 {
		dst = append(dst, '-')
		n = -n
	}
	digits := 1
	for m := n; m >= 10; m /= 10 {
		digits++
	}
	for ; digits < width; digits++ {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, n, 10)
}

// twoDigits prints the last two digits.
func twoDigits(get func(*civil) int64) printer {
	return func(dst []byte, c *civil) []byte {
		n := get(c) % 100
		return appendPadded(dst, max(n, -n), 2)
	}
}

// signedYear prints a plus before years that need more than width digits.
func signedYear(get func(*civil) int64, width int) printer {
	limit := int64(math.MaxInt64)
	if width < 19 {
		limit = 1
		for range width {
			limit *= 10
		}
	}
	return func(dst []byte, c *civil) []byte {
		n := get(c)
		if n >= limit {
			dst = append(dst, '+')
		}
		return appendPadded(dst, n, width)
	}
}

// fraction prints the first digits of the fraction of a second.
func fraction(digits int) printer {
	scale := 1
	for range 9 - digits {
		scale *= 10
	}
	return func(dst []byte, c *civil) []byte { return appendPadded(dst, int64(c.nano/scale), digits) }
}

// unit is a span of time in whose every instant an evaluated text is the same; finer ones are greater.
type unit uint8

const (
	unitForever unit = iota
	unitRules        // as long as the zone's rules stay the same
	unitYear
	unitMonth
	unitDay
	unitHour
	unitMinute
	unitSecond
)

const secondsPerDay = 24 * 60 * 60

// span is the unit around an instant, both in seconds of local time since 1970 as if that were UTC.
func (u unit) span(local int64) (from, until int64) {
	length := int64(1)
	switch u {
	case unitForever, unitRules:
		return firstSecond, lastSecond
	case unitYear:
		year := time.Unix(local, 0).UTC().Year()
		return time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(year+1, time.January, 1, 0, 0, 0, 0, time.UTC).Unix()
	case unitMonth:
		year, month, _ := time.Unix(local, 0).UTC().Date()
		return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Unix()
	case unitDay:
		length = secondsPerDay
	case unitHour:
		length = 60 * 60
	case unitMinute:
		length = 60
	}
	from = floorDiv(local, length) * length
	return from, from + length
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
