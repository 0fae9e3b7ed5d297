package prefix

import (
	"bytes"
	"encoding/binary"
)

// word is eight bytes of a text, the first one lowest.
type word struct {
	at      int
	want    uint64 // literals in their places, '0' where there are digits
	literal uint64 // all bits of the places of literals
	digit   uint64 // and of digits
}

// fix finds the places.
func (t *TimeReader) fix() {
	for i := range t.at {
		t.at[i] = -1
	}
	var text, digit []byte // an example, and 0xFF where it has a digit
	for _, i := range t.items {
		switch {
		case i.literal != "":
			text = append(text, i.literal...)
			digit = append(digit, make([]byte, len(i.literal))...)
			continue
		case i.least == 0 || i.least != i.most:
			return
		}
		switch i.field {
		case yearField:
			if i.least != 4 {
				return
			}
		case monthField, dayField, hourField, minuteField, secondField:
			if i.least != 2 {
				return
			}
		case fractionField:
			t.digits, t.unit = i.least, 1
			for range 9 - i.least {
				t.unit *= 10
			}
		default:
			return
		}
		if t.at[i.field] >= 0 {
			return
		}
		t.at[i.field] = len(text)
		text = append(text, bytes.Repeat([]byte("0"), i.least)...)
		digit = append(digit, bytes.Repeat([]byte{0xFF}, i.least)...)
	}
	t.length = len(text)
	for at := 0; ; at += 8 {
		at = max(0, min(at, t.length-8)) // the last two overlap
		w := word{at: at, want: loadWord(text[at:]), digit: loadWord(digit[at:])}
		w.literal = ^w.digit // zeros after the end are as literals
		t.words = append(t.words, w)
		if at+8 >= t.length {
			return
		}
	}
}

// loadWord is the first eight bytes of b, or zeros after its end.
func loadWord(b []byte) uint64 {
	if len(b) < 8 {
		var padded [8]byte
		copy(padded[:], b)
		b = padded[:]
	}
	return binary.LittleEndian.Uint64(b)
}

// readWords is Read of a text of the right length where there are words.
func (t *TimeReader) readWords(text []byte) (s Stamp, ok bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	wrong := uint64(0)
	for i := range t.words {
		w := &t.words[i]
		other := loadWord(text[w.at:]) ^ w.want
		digits := other & w.digit // at most 9 each, or the high bit of one gets set
		wrong |= other&w.literal | ((digits+ones*(0x80-10))|digits)&highs
	}
	if wrong != 0 {
		return s, false
	}
	two := func(at int) int64 { return int64(text[at]-'0')*10 + int64(text[at+1]-'0') }
	year, month, day := two(t.at[yearField])*100+two(t.at[yearField]+2), int64(1), int64(1)
	if at := t.at[monthField]; at >= 0 {
		month = two(at)
	}
	if at := t.at[dayField]; at >= 0 {
		day = two(at)
	}
	days, ok := Days(year, month, day)
	if !ok {
		return s, false
	}
	var hour, minute, second int64
	if at := t.at[hourField]; at >= 0 {
		hour = two(at)
	}
	if at := t.at[minuteField]; at >= 0 {
		minute = two(at)
	}
	if at := t.at[secondField]; at >= 0 {
		second = two(at)
	}
	if hour > 23 || minute > 59 || second > 59 {
		return s, false
	}
	if at := t.at[fractionField]; at >= 0 {
		for _, c := range text[at : at+t.digits] {
			s.Nano = s.Nano*10 + int(c-'0')
		}
		s.Nano *= t.unit
	}
	s.Local = days*secondsPerDay + (hour*60+minute)*60 + second
	return s, true
}
