package prefix

import (
	_ "embed"
	"strings"
	"sync"
)

// zoneNamesText holds the English names of zones; testdata/ZoneNames.java prints it.
//
//go:embed zonenames.txt
var zoneNamesText string

// zoneNames are the texts of one zone.
type zoneNames struct {
	short, long, shortSummer, longSummer, shortGeneric, longGeneric string
}

// zoneTable maps the IANA name of a zone to its texts. It is read when the first pattern needs it, since
// hardly any does.
var zoneTable = sync.OnceValue(func() map[string]*zoneNames {
	table := make(map[string]*zoneNames, 700)
	for line := range strings.Lines(zoneNamesText) {
		texts, zones, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok { // the heading
			continue
		}
		t := strings.Split(texts, "|")
		if len(t) != 6 {
			panic("bug: zonenames.txt: " + line)
		}
		names := &zoneNames{t[0], t[1], t[2], t[3], t[4], t[5]}
		for zone := range strings.FieldsSeq(zones) {
			table[zone] = names
		}
	}
	return table
})

// namesOf returns the texts of the zone of c. A zone that the table does not know is called by its IANA
// name, and a bare offset by that, as Java does.
func namesOf(c *civil) zoneNames {
	id := c.t.Location().String()
	if names, ok := zoneTable()[id]; ok {
		return *names
	}
	if !strings.Contains(id, "/") {
		id = string(appendOffset(nil, c.offset, 5, "Z"))
	}
	return zoneNames{id, id, id, id, id, id}
}

// summer tells whether Java takes c's offset for daylight saving time. The time zone data that Go reads
// know zones whose winter time is a saving of less than nothing; Java's have that turned round.
func summer(c *civil) bool {
	dst := c.t.IsDST()
	for _, n := range negativeSavings {
		if n.zone == c.t.Location().String() && c.t.Unix() >= n.from {
			return !dst
		}
	}
	return dst
}

// negativeSavings are the zones and times of which summer speaks, in seconds since 1970.
var negativeSavings = [...]struct {
	zone string
	from int64
}{
	{"Europe/Dublin", -37242000}, // since October 1968
	{"Eire", -37242000},
	{"Africa/Casablanca", 1540692000}, // since October 2018
	{"Africa/El_Aaiun", 1540692000},
	{"Africa/Windhoek", 637970400}, // since March 1990; that today's time is a saving is Java's own mistake
}

// zoneField compiles the letters that print the zone.
func zoneField(c byte, count int) (field, bool) {
	switch c {
	case 'z':
		if count > 4 {
			return field{}, false
		}
		return field{func(dst []byte, c *civil) []byte {
			names := namesOf(c)
			switch s := summer(c); {
			case s && count == 4:
				return append(dst, names.longSummer...)
			case s:
				return append(dst, names.shortSummer...)
			case count == 4:
				return append(dst, names.long...)
			}
			return append(dst, names.short...)
		}, unitRules, 1}, true
	case 'v':
		if count != 1 && count != 4 {
			return field{}, false
		}
		return field{func(dst []byte, c *civil) []byte {
			if count == 4 {
				return append(dst, namesOf(c).longGeneric...)
			}
			return append(dst, namesOf(c).shortGeneric...)
		}, unitRules, 1}, true
	case 'O':
		if count != 1 && count != 4 {
			return field{}, false
		}
		return field{func(dst []byte, c *civil) []byte { return appendGMT(dst, c.offset, count == 4) }, unitRules, 3}, true
	case 'Z':
		switch {
		case count < 4:
			return offset(2, "+0000")
		case count == 4:
			return zoneField('O', 4)
		case count == 5:
			return offset(5, "Z")
		}
		return field{}, false
	case 'X':
		return offset(count, "Z")
	case 'x':
		if count == 1 {
			return offset(count, "+00")
		}
		return offset(count, [...]string{"+0000", "+00:00"}[count%2])
	}
	return field{}, false
}

func offset(form int, zero string) (field, bool) {
	if form > 5 {
		return field{}, false
	}
	return field{func(dst []byte, c *civil) []byte { return appendOffset(dst, c.offset, form, zero) }, unitRules, 1}, true
}

// appendOffset prints seconds east of UTC in one of five forms: 1 +HH with minutes where there are any,
// 2 +HHMM, 3 +HH:MM, 4 and 5 the same with seconds where there are any. zero stands for what would print
// zeros only.
func appendOffset(dst []byte, seconds, form int, zero string) []byte {
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	h, m, s := int64(seconds/3600), int64(seconds/60%60), int64(seconds%60)
	if form < 4 {
		s = 0
	}
	if h == 0 && m == 0 && s == 0 {
		return append(dst, zero...)
	}
	dst = appendPadded(append(dst, sign), h, 2)
	separate := func() {
		if form == 3 || form == 5 {
			dst = append(dst, ':')
		}
	}
	if form > 1 || m > 0 {
		separate()
		dst = appendPadded(dst, m, 2)
	}
	if s > 0 {
		separate()
		dst = appendPadded(dst, s, 2)
	}
	return dst
}

// appendGMT prints seconds east of UTC as GMT+1, GMT+5:30, or in full as GMT+01:00.
func appendGMT(dst []byte, seconds int, full bool) []byte {
	dst = append(dst, "GMT"...)
	if seconds == 0 {
		return dst
	}
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	dst = append(dst, sign)
	h, m, s := int64(seconds/3600), int64(seconds/60%60), int64(seconds%60)
	if full {
		dst = appendPadded(dst, h, 2)
	} else {
		dst = appendPadded(dst, h, 1)
	}
	if full || m > 0 || s > 0 {
		dst = appendPadded(append(dst, ':'), m, 2)
	}
	if s > 0 {
		dst = appendPadded(append(dst, ':'), s, 2)
	}
	return dst
}
