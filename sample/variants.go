package sample

import "bytes"

// VariantRecords is how many records of the click stream the variants are made of.
const VariantRecords = 60_000

// Shuffled is a record with the members of each of its objects in a random order: what a parser that expects
// the keys in the order of the last record does worst with. The record is compact JSON.
func Shuffled(seed, i uint64, record []byte) []byte {
	d := draws{mix(seed ^ (i+1)*golden)}
	out, _ := d.shuffle(make([]byte, 0, len(record)), record)
	return out
}

// shuffle adds the JSON value at the start of in to dst and returns how long it was.
func (d *draws) shuffle(dst, in []byte) ([]byte, int) {
	switch in[0] {
	case '{', '[':
	default:
		n := scalar(in)
		return append(dst, in[:n]...), n
	}
	var members [][]byte
	off := 1
	for closing := in[0] + 2; in[off] != closing; { // ] and } follow [ and { by two
		if in[off] == ',' {
			off++
		}
		var member []byte
		if in[0] == '{' {
			n := scalar(in[off:]) + 1
			member = append(member, in[off:off+n]...)
			off += n
		}
		var n int
		member, n = d.shuffle(member, in[off:])
		off += n
		members = append(members, member)
	}
	if in[0] == '{' {
		for k := len(members) - 1; k > 0; k-- {
			j := d.below(uint64(k + 1))
			members[k], members[j] = members[j], members[k]
		}
	}
	dst = append(dst, in[0])
	dst = append(dst, bytes.Join(members, []byte{','})...)
	return append(dst, in[0]+2), off + 1
}

// scalar is the length of the string, number or word at the start of in.
func scalar(in []byte) int {
	if in[0] != '"' {
		if n := bytes.IndexAny(in, ",]}"); n >= 0 {
			return n
		}
		return len(in)
	}
	for i := 1; ; i++ {
		switch in[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// Spaced is a record with one blank after each colon and comma between its tokens.
func Spaced(record []byte) []byte {
	out := make([]byte, 0, len(record)+len(record)/8)
	for i := 0; i < len(record); {
		if record[i] == '"' {
			n := scalar(record[i:])
			out = append(out, record[i:i+n]...)
			i += n
			continue
		}
		out = append(out, record[i])
		if record[i] == ':' || record[i] == ',' {
			out = append(out, ' ')
		}
		i++
	}
	return out
}

// Fault is a way in which a record of the clickstream is broken.
type Fault int

// The faults, in the order in which they take turns.
const (
	Sound            Fault = iota // not broken
	LastByteCut                   // the closing brace is missing
	ControlCharacter              // a raw 0x01 in a string
	InvalidUTF8                   // the byte 0xFF in a string
	LeadingZero                   // 01 as a number
	ExtraBrace                    // a lone } after the record
	StatusIsString                // valid JSON; status is a string that is no number
	TagsIsObject                  // valid JSON; tags is an object
	faults
)

// BrokenEvery is the distance between broken records.
const BrokenEvery = 1000

// FaultOf tells what is wrong with record i of the broken variant: with the last of each thousand, one fault
// after the other.
func FaultOf(i uint64) Fault {
	if i%BrokenEvery != BrokenEvery-1 {
		return Sound
	}
	return 1 + Fault(i/BrokenEvery%uint64(faults-1))
}

// Broken is record i with its fault.
func Broken(i uint64, record []byte) []byte {
	replace := func(old, new string) []byte { return bytes.Replace(record, []byte(old), []byte(new), 1) }
	member := func(name, value string) []byte {
		at := bytes.Index(record, []byte(`"`+name+`":`)) + len(name) + 3
		d := draws{}
		_, n := d.shuffle(nil, record[at:])
		return append(append(append([]byte(nil), record[:at]...), value...), record[at+n:]...)
	}
	switch FaultOf(i) {
	case LastByteCut:
		return record[:len(record)-1]
	case ControlCharacter:
		return replace(`"title":"`, "\"title\":\"\x01")
	case InvalidUTF8:
		return replace(`"title":"`, "\"title\":\"\xff")
	case LeadingZero:
		return member("status", "01")
	case ExtraBrace:
		return append(append([]byte(nil), record...), '}')
	case StatusIsString:
		return member("status", `"fine"`)
	case TagsIsObject:
		return member("tags", `{"promo":true}`)
	}
	return record
}
