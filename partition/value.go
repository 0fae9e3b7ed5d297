package partition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"hydrant/transform"
)

// value is the text of a key, as the prefix prints it but for what it does to make it safe. problem says why there is
// none; null is "".
//
// Strings are themselves. Numbers are printed by their value, so that 1, 1.0 and 1e0 are one partition and no two numbers
// are, however many digits they have. Booleans are true and false.
func (s *scanner) value(v view) (text, problem string) {
	switch v.kind {
	case transform.String:
		raw := s.text[v.start:v.end]
		if v.escaped {
			return string(transform.AppendUnescaped(nil, raw)), ""
		}
		return string(raw), ""
	case transform.Number:
		return string(appendNumber(nil, s.text[v.start:v.end])), ""
	case transform.True:
		return "true", ""
	case transform.False:
		return "false", ""
	case transform.Null:
		return "", ""
	}
	return "", "is " + v.kind.String()
}

// valueOf is value of what a jq expression gives.
func valueOf(v any) (text, problem string) {
	switch v := v.(type) {
	case nil:
		return "", ""
	case string:
		return v, ""
	case bool:
		return strconv.FormatBool(v), ""
	case int:
		return strconv.Itoa(v), ""
	case *big.Int:
		return string(appendNumber(nil, v.Append(nil, 10))), ""
	case json.Number:
		return string(appendNumber(nil, []byte(v))), ""
	case float64:
		switch {
		case math.IsNaN(v):
			return "", "" // jq's nan is null where it is written
		case math.IsInf(v, 0):
			v = math.Copysign(math.MaxFloat64, v)
		}
		return string(appendNumber(nil, strconv.AppendFloat(nil, v, 'e', -1, 64))), ""
	case []any:
		return "", "is " + transform.Array.String()
	case map[string]any:
		return "", "is " + transform.Object.String()
	}
	return "", fmt.Sprintf("is a %T", v)
}

// maxPlain is how many digits a number may have that is written without an exponent.
const maxPlain = 40

// appendNumber writes a JSON number by its value.
func appendNumber(dst, text []byte) []byte {
	if plainInteger(text) {
		return append(dst, text...)
	}
	mantissa, exponent, _ := bytes.Cut(bytes.Replace(text, []byte("E"), []byte("e"), 1), []byte("e"))
	negative := mantissa[0] == '-'
	whole, fraction, _ := bytes.Cut(bytes.TrimPrefix(mantissa, []byte("-")), []byte("."))
	digits := append(append(make([]byte, 0, len(whole)+len(fraction)), whole...), fraction...)
	point := len(whole) // the value is 0.digits × 10^point
	for len(digits) > 0 && digits[0] == '0' {
		digits = digits[1:]
		point--
	}
	digits = bytes.TrimRight(digits, "0")
	if len(digits) == 0 {
		return append(dst, '0')
	}
	if len(exponent) > 0 {
		e, err := strconv.ParseInt(string(exponent), 10, 64)
		if err != nil || e > 1e15 || e < -1e15 {
			return append(dst, text...) // of no use to anybody, and different from all others
		}
		point += int(e)
	}
	if negative {
		dst = append(dst, '-')
	}
	switch {
	case point > 0 && max(point, len(digits)) <= maxPlain:
		if len(digits) <= point {
			return append(append(dst, digits...), bytes.Repeat([]byte("0"), point-len(digits))...)
		}
		return append(append(append(dst, digits[:point]...), '.'), digits[point:]...)
	case point <= 0 && len(digits)-point < maxPlain:
		return append(append(append(dst, "0."...), bytes.Repeat([]byte("0"), -point)...), digits...)
	}
	dst = append(dst, digits[0])
	if len(digits) > 1 {
		dst = append(append(dst, '.'), digits[1:]...)
	}
	return strconv.AppendInt(append(dst, 'e'), int64(point-1), 10)
}

// plainInteger tells whether a number is printed as it is written.
func plainInteger(text []byte) bool {
	digits := bytes.TrimPrefix(text, []byte("-"))
	if len(digits) > maxPlain || digits[0] == '0' && len(text) > 1 {
		return false
	}
	for _, c := range digits {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}
