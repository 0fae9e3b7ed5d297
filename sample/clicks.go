// Package sample makes events that look like a web shop's clickstream: 20 fields, some nested, with the
// skew, the nulls, the escapes and the late arrivals of real ones, about 868 bytes each. Numbers flow in (a
// seed and an index), lines of JSON flow out, the same ones on every machine: the sets that the project's
// figures are measured on are named slices of this stream, and the demo sends it as if it happened now. What
// is made is never stored here, so nothing of it survives a crash, nor has to.
package sample

import (
	"io"
	"iter"
	"math/bits"
	"strconv"
	"time"
)

// DefaultSeed is the seed of every named set.
const DefaultSeed = 42

// defaultStart is the event time of record 0 of the named sets, before its random share:
// 2025-03-01T00:00:00Z, in milliseconds since the Unix epoch.
const defaultStart = 1_740_787_200_000

// defaultStep is the milliseconds of event time from one record to the next.
const defaultStep = 22

// Clickstream is an endless stream of events, each made from its index alone. The zero value with Seed set to
// DefaultSeed gives the named sets. Safe for concurrent use.
type Clickstream struct {
	Seed uint64
	// Start is the event time of record 0, and Step the event time between two records; a record's own time is
	// up to five seconds later, and one record in a hundred is up to two hours late. Zero means those of the
	// named sets: 2025-03-01 and 22 ms.
	Start time.Time
	Step  time.Duration
}

// Clicks is n lines of the named sets' stream from record from on, each with its LF.
func Clicks(seed, from, n uint64) []byte {
	return Clickstream{Seed: seed}.Lines(from, n)
}

// Lines is n lines from record from on, each with its LF.
func (c Clickstream) Lines(from, n uint64) []byte {
	dst := make([]byte, 0, n*900)
	for i := from; i < from+n; i++ {
		dst = append(c.Append(dst, i), '\n')
	}
	return dst
}

// All yields n records from record from on, with their indexes and without LF. A record is valid until the
// next one is asked for.
func (c Clickstream) All(from, n uint64) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		var buf []byte
		for i := from; i < from+n; i++ {
			buf = c.Append(buf[:0], i)
			if !yield(i, buf) {
				return
			}
		}
	}
}

// Write writes n lines from record from on, each with its LF.
func (c Clickstream) Write(w io.Writer, from, n uint64) error {
	const flush = 1 << 20
	buf := make([]byte, 0, flush+4096)
	for i := from; i < from+n; i++ {
		buf = append(c.Append(buf, i), '\n')
		if len(buf) >= flush {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err := w.Write(buf)
	return err
}

// draws is a stream of random numbers: a counter that is hashed.
type draws struct{ state uint64 }

const golden = 0x9E3779B97F4A7C15

// mix is a bijection whose output bits all depend on all input bits.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (d *draws) next() uint64 {
	d.state += golden
	return mix(d.state)
}

// below is a number from 0 to n-1, all equally likely.
func (d *draws) below(n uint64) uint64 {
	high, _ := bits.Mul64(d.next(), n)
	return high
}

// low is a number from 0 to n-1, small ones more likely.
func (d *draws) low(n uint64) uint64 { return min(d.below(n), d.below(n)) }

// low3 is low, more so.
func (d *draws) low3(n uint64) uint64 { return min(d.below(n), d.below(n), d.below(n)) }

// Salts give each attribute of a user or a product a hash of its own.
const (
	saltUser    = 0x1000000
	saltIP      = 0x2000000
	saltAgent   = 0x3000000
	saltProduct = 0x4000000
	saltDevice  = 0x5000000
	saltPlace   = 0x6000000
	saltPrice   = 0x7000000
)

const (
	users        = 500_000
	products     = 40_000
	firstProduct = 100_000         // products are numbered from here
	session      = 1_800_000       // ms; a user's events within one such slot are one session
	sessionShift = 20              // the slot takes the low bits of what is hashed
	latest       = 2 * 3600 * 1000 // ms that a late event is late at most
)

// Append adds record i, without LF, to dst.
//
// Every draw happens in the order of the fields: what stands between two draws may be rearranged, the draws
// themselves may not.
func (c Clickstream) Append(dst []byte, i uint64) []byte {
	d := draws{mix(c.Seed ^ (i+1)*0xD1342543DE82EF95)}

	high, low := d.next(), d.next()
	dst = append(dst, `{"event_id":"`...)
	dst = appendHex(dst, high>>32, 8)
	dst = append(dst, '-')
	dst = appendHex(dst, high>>16, 4)
	dst = append(dst, '-', '4')
	dst = appendHex(dst, high, 3)
	dst = append(dst, '-', "89ab"[low>>62])
	dst = appendHex(dst, low>>48, 3)
	dst = append(dst, '-')
	dst = appendHex(dst, low, 12)

	dst = append(dst, `","event_type":"`...)
	for w, k := d.below(1000), 0; ; k++ {
		if w < eventTypes[k].weight {
			dst = append(dst, eventTypes[k].name...)
			break
		}
		w -= eventTypes[k].weight
	}

	start, step := int64(defaultStart), int64(defaultStep)
	if !c.Start.IsZero() {
		start = c.Start.UnixMilli()
	}
	at := start + step*int64(i)
	if c.Step != 0 {
		at = start + time.Duration(int64(c.Step)*int64(i)).Milliseconds()
	}
	at += int64(d.below(5000))
	if d.below(100) == 0 {
		at -= int64(d.below(latest))
	}
	dst = append(dst, `","event_time":"`...)
	dst = time.UnixMilli(at).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, `","received_at":"`...)
	dst = time.UnixMicro(at*1000+20_000+int64(d.below(1_980_000))).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")

	rank := d.low(users)
	dst = append(dst, `","user_id":"u_`...)
	for u, j := mix(rank+saltUser), 0; j < 10; j++ {
		dst = append(dst, "abcdefghijklmnopqrstuvwxyz234567"[u>>(5*j)&31])
	}
	v := mix(rank<<sessionShift ^ uint64(at/session))
	dst = append(dst, `","session_id":"`...)
	dst = appendHex(dst, v, 16)
	dst = appendHex(dst, mix(v), 16)
	dst = append(dst, `","is_bot":`...)
	dst = strconv.AppendBool(dst, d.below(100) < 3)

	dst = append(dst, `,"ip":"`...)
	for v, j := mix(rank+saltIP), 0; j < 4; j++ {
		if j > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendUint(dst, 1+v>>(8*j)&255%254, 10)
	}
	dst = append(dst, `","user_agent":"`...)
	dst = append(dst, userAgent[mix(rank+saltAgent)%userAgents]...)

	section, product := d.low(uint64(len(sections))), d.low(products)
	m := mix(product + saltProduct)
	dst = append(dst, `","url":"https://shop.example.com/`...)
	dst = append(dst, sections[section]...)
	dst = append(dst, '/')
	dst = append(dst, words[m%asciiWords]...)
	dst = append(dst, '-')
	dst = append(dst, words[m>>8%asciiWords]...)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, firstProduct+product, 10)
	dst = append(dst, `?pos=`...)
	dst = strconv.AppendUint(dst, d.below(60), 10)
	dst = append(dst, `&sid=`...)
	dst = appendHex(dst, d.next()>>32, 8)

	if d.below(100) < 35 {
		dst = append(dst, `","referrer":null,"title":"`...)
	} else {
		dst = append(dst, `","referrer":"https://www.ref`...)
		dst = strconv.AppendUint(dst, d.low(200), 10)
		dst = append(dst, `.example.org/","title":"`...)
	}
	n, escapes := 3+d.below(8), d.below(100) < 4
	for k := range n {
		if k > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, words[d.below(uint64(len(words)))]...)
	}
	if escapes {
		dst = append(dst, ` \"12\u2033\" \\ a\/b`...)
	}

	dst = append(dst, `","status":`...)
	switch t := d.below(100); {
	case t == 99:
		dst = append(dst, "500"...)
	case t >= 97:
		dst = append(dst, "404"...)
	case t >= 94:
		dst = append(dst, "304"...)
	case t >= 91:
		dst = append(dst, "302"...)
	default:
		dst = append(dst, "200"...)
	}
	dst = append(dst, `,"latency_ms":`...)
	dst = appendDecimal(dst, int64(1+d.low3(900_000)), 3)
	dst = append(dst, `,"bytes_sent":`...)
	dst = strconv.AppendUint(dst, 200+d.low(2_000_000), 10)
	if d.below(100) < 20 {
		dst = append(dst, `,"revenue":`...)
		dst = appendDecimal(dst, int64(99+d.below(50_000)), 2)
	}

	v = mix(rank + saltDevice)
	dst = append(dst, `,"device":{"type":"`...)
	dst = append(dst, deviceTypes[v%uint64(len(deviceTypes))]...)
	dst = append(dst, `","os":"`...)
	dst = append(dst, systems[v>>4%uint64(len(systems))]...)
	dst = append(dst, `","os_version":"`...)
	dst = strconv.AppendUint(dst, 10+v>>8%8, 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, v>>12%6, 10)
	screen := resolutions[v>>16%uint64(len(resolutions))]
	dst = append(dst, `","screen":{"w":`...)
	dst = strconv.AppendUint(dst, screen[0], 10)
	dst = append(dst, `,"h":`...)
	dst = strconv.AppendUint(dst, screen[1], 10)
	dst = append(dst, `},"dpr":`...)
	dst = appendDecimal(dst, int64(10+5*(v>>20%5)), 1)

	v = mix(rank + saltPlace)
	city := cities[min(v%uint64(len(cities)), v>>8%uint64(len(cities)))]
	dst = append(dst, `},"geo":{"country":"`...)
	dst = append(dst, city.country...)
	dst = append(dst, `","city":"`...)
	dst = append(dst, city.name...)
	dst = append(dst, `","lat":`...)
	dst = appendDecimal(dst, int64(d.below(180_000_000))-90_000_000, 6)
	dst = append(dst, `,"lon":`...)
	dst = appendDecimal(dst, int64(d.below(360_000_000))-180_000_000, 6)

	dst = append(dst, `},"tags":[`...)
	for k := range d.below(6) {
		if k > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, tags[d.low(uint64(len(tags)))]...)
		dst = append(dst, '"')
	}
	dst = append(dst, `],"items":[`...)
	n = d.below(8)
	if n > 3 {
		n = 0
	}
	for k := range n {
		if k > 0 {
			dst = append(dst, ',')
		}
		p := d.low(products)
		dst = append(dst, `{"sku":"SKU-`...)
		dst = strconv.AppendUint(dst, firstProduct+p, 10)
		dst = append(dst, `","qty":`...)
		dst = strconv.AppendUint(dst, 1+d.below(5), 10)
		dst = append(dst, `,"price":`...)
		dst = appendDecimal(dst, int64(99+mix(p+saltPrice)%30_000), 2)
		dst = append(dst, '}')
	}
	return append(dst, ']', '}')
}

// appendHex adds the low 4n bits of v as n hexadecimal digits.
func appendHex(dst []byte, v uint64, n int) []byte {
	for n--; n >= 0; n-- {
		dst = append(dst, "0123456789abcdef"[v>>(4*n)&15])
	}
	return dst
}

// appendDecimal adds v / 10^digits with exactly that many digits after the point.
func appendDecimal(dst []byte, v int64, digits int) []byte {
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	scale := int64(1)
	for range digits {
		scale *= 10
	}
	dst = strconv.AppendInt(dst, v/scale, 10)
	dst = append(dst, '.')
	for rest := v % scale; scale > 1; rest %= scale {
		scale /= 10
		dst = append(dst, byte('0'+rest/scale))
	}
	return dst
}
