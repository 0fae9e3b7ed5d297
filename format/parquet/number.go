package parquet

import "math/bits"

// number is a decimal number as it was written: coefficient × 10^exp, with the digits after the 38th left
// out of the coefficient except for the first of them.
type number struct {
	neg    bool
	hi, lo uint64 // coefficient, less than 10^38
	exp    int
	next   byte // the digit after the coefficient's last, 0 if it has all
	rest   bool // digits other than 0 were left out, next included
}

const (
	maxDigits = 38
	maxExp    = 1 << 20 // exponents are as good as infinite from here on
	tooLarge  = "it is too large"
)

// parseNumber reads a number in JSON's grammar, or in the wider one of strings: with a plus sign, leading
// zeros, or digits on one side of the point only.
func parseNumber(text []byte) (n number, ok bool) {
	i := 0
	if i < len(text) && (text[i] == '-' || text[i] == '+') {
		n.neg = text[i] == '-'
		i++
	}
	digits, seen, point := 0, false, false
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' && !point {
			point = true
			continue
		}
		d := c - '0'
		if d > 9 {
			break
		}
		seen = true
		switch {
		case digits == 0 && d == 0:
			if point {
				n.exp--
			}
		case digits < maxDigits:
			digits++
			n.hi, n.lo = times10(n.hi, n.lo, d)
			if point {
				n.exp--
			}
		default:
			if digits == maxDigits {
				n.next = d
			}
			digits++
			n.rest = n.rest || d != 0
			if !point {
				n.exp++
			}
		}
	}
	if !seen {
		return n, false
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		neg := false
		if i < len(text) && (text[i] == '-' || text[i] == '+') {
			neg = text[i] == '-'
			i++
		}
		if i == len(text) {
			return n, false
		}
		e := 0
		for ; i < len(text); i++ {
			d := text[i] - '0'
			if d > 9 {
				return n, false
			}
			e = min(e*10+int(d), maxExp)
		}
		if neg {
			e = -e
		}
		n.exp += e
	}
	return n, i == len(text)
}

func times10(hi, lo uint64, add byte) (uint64, uint64) {
	carry, low := bits.Mul64(lo, 10)
	low, c := bits.Add64(low, uint64(add), 0)
	return hi*10 + carry + c, low
}

func (n *number) zero() bool { return n.hi|n.lo == 0 && !n.rest }

// pow10 as 128-bit numbers, up to 10^38.
var pow10 = func() (t [maxDigits + 1][2]uint64) {
	t[0][1] = 1
	for i := 1; i < len(t); i++ {
		t[i][0], t[i][1] = times10(t[i-1][0], t[i-1][1], 0)
	}
	return t
}()

func less(xh, xl, yh, yl uint64) bool { return xh < yh || xh == yh && xl < yl }

// div10 divides by 10.
func div10(hi, lo uint64) (qh, ql uint64, digit byte) {
	qh = hi / 10
	ql, r := bits.Div64(hi%10, lo, 10)
	return qh, ql, byte(r)
}

// scaled returns |n| × 10^scale as a whole number, rounded half up. It is not ok when that has more than
// precision digits.
func (n *number) scaled(scale, precision int) (hi, lo uint64, ok bool) {
	hi, lo = n.hi, n.lo
	if n.zero() {
		return 0, 0, true
	}
	shift := n.exp + scale
	last := n.next // the digit after the last that is kept
	switch {
	case shift > maxDigits:
		return 0, 0, false
	case shift > 0:
		if n.rest { // 38 digits and more to come
			return 0, 0, false
		}
		for ; shift > 0; shift-- {
			if hi, lo = times10(hi, lo, 0); !less(hi, lo, pow10[maxDigits][0], pow10[maxDigits][1]) {
				return 0, 0, false
			}
		}
	case shift < -maxDigits:
		return 0, 0, true
	default:
		for ; shift < 0; shift++ {
			hi, lo, last = div10(hi, lo)
		}
	}
	if last >= 5 {
		var c uint64
		lo, c = bits.Add64(lo, 1, 0)
		hi += c
	}
	limit := pow10[precision]
	return hi, lo, less(hi, lo, limit[0], limit[1])
}

// integer returns n as an integer, or why it is none.
func (n *number) integer() (v int64, why string) {
	hi, lo := n.hi, n.lo
	if n.zero() {
		return 0, ""
	}
	if n.rest && n.exp <= 0 || n.exp < -maxDigits {
		if n.exp > -maxDigits/2 {
			return 0, tooLarge
		}
		return 0, "it has a fraction"
	}
	for e := n.exp; e < 0; e++ {
		var digit byte
		if hi, lo, digit = div10(hi, lo); digit != 0 {
			return 0, "it has a fraction"
		}
	}
	for e := n.exp; e > 0; e-- {
		if hi != 0 || e > 19 {
			return 0, tooLarge
		}
		hi, lo = times10(hi, lo, 0)
	}
	switch {
	case hi != 0 || lo > 1<<63 || lo == 1<<63 && !n.neg:
		return 0, tooLarge
	case n.neg:
		return -int64(lo), ""
	}
	return int64(lo), ""
}

// instant returns n × 10^-unit seconds as seconds and nanoseconds, rounded down. It is not ok when the
// seconds do not fit.
func (n *number) instant(unit int) (sec int64, nanos int32, ok bool) {
	if n.zero() {
		return 0, 0, true
	}
	hi, lo := n.hi, n.lo
	shift := n.exp + 9 - unit // to nanoseconds
	lost := n.rest
	switch {
	case shift > maxDigits:
		return 0, 0, false
	case shift > 0 && n.rest:
		return 0, 0, false
	case shift < -maxDigits-1:
		hi, lo, lost = 0, 0, true
	}
	for ; shift > 0; shift-- {
		if hi >= 1<<58 {
			return 0, 0, false
		}
		hi, lo = times10(hi, lo, 0)
	}
	for ; shift < 0 && hi|lo != 0; shift++ {
		var digit byte
		hi, lo, digit = div10(hi, lo)
		lost = lost || digit != 0
	}
	if hi >= 1e9>>1 { // more than 2^63 seconds
		return 0, 0, false
	}
	q, r := bits.Div64(hi, lo, 1e9)
	if q >= 1<<62 {
		return 0, 0, false
	}
	sec, nanos = int64(q), int32(r)
	if n.neg {
		if lost {
			if nanos++; nanos == 1e9 {
				sec, nanos = sec+1, 0
			}
		}
		sec = -sec
		if nanos > 0 {
			sec, nanos = sec-1, 1e9-nanos
		}
	}
	return sec, nanos, true
}
