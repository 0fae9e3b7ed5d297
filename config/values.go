package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size, written with KiB, MiB or GiB.
type Bytes int64

// Units of sizes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// ParseBytes reads what String prints: a whole number with KiB, MiB or GiB, or 0.
func ParseBytes(s string) (Bytes, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, errors.New("write a whole number with KiB, MiB or GiB, like 64MiB")
	}
	var u Bytes
	switch unit {
	case "KiB":
		u = KiB
	case "MiB":
		u = MiB
	case "GiB":
		u = GiB
	case "":
		if n == 0 {
			return 0, nil
		}
		return 0, errors.New("a size needs a unit: KiB, MiB or GiB")
	default:
		if u := strings.ToUpper(unit[:1]); strings.Contains("KMG", u) && len(unit) <= 3 {
			return 0, fmt.Errorf("did you mean %s%siB? The units are KiB, MiB and GiB", digits, u)
		}
		return 0, errors.New("the units are KiB, MiB and GiB")
	}
	if n > math.MaxInt64/uint64(u) {
		return 0, errors.New("too large")
	}
	return Bytes(n) * u, nil
}

// String prints the size in the largest unit that divides it.
func (b Bytes) String() string {
	switch {
	case b == 0:
		return "0"
	case b%GiB == 0:
		return strconv.FormatInt(int64(b/GiB), 10) + "GiB"
	case b%MiB == 0:
		return strconv.FormatInt(int64(b/MiB), 10) + "MiB"
	case b%KiB == 0:
		return strconv.FormatInt(int64(b/KiB), 10) + "KiB"
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// Count is a whole number.
type Count int64

// ParseCount reads what String prints.
func ParseCount(s string) (Count, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, errors.New("write a whole number, like 1000")
	}
	return Count(n), nil
}

func (c Count) String() string { return strconv.FormatInt(int64(c), 10) }

// Duration is a time span, written with h, m, s and ms.
type Duration time.Duration

// ParseDuration reads what String prints: numbers with h, m, s or ms, or 0.
func ParseDuration(s string) (Duration, error) {
	const want = "write numbers with h, m, s or ms, like 300s, 5m or 1h30m"
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && len(s) > 0 && strings.Trim(s, "0123456789") == "":
		return 0, errors.New("a duration needs a unit: did you mean " + s + "s?")
	case err != nil, strings.ContainsAny(s, "nuµμ+"):
		return 0, errors.New(want)
	case d < 0:
		return 0, errors.New("a duration cannot be negative")
	case d%time.Millisecond != 0:
		return 0, errors.New("the smallest unit is ms")
	}
	return Duration(d), nil
}

// String prints the span in the largest unit that divides it.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t%time.Hour == 0 && t != 0:
		return strconv.FormatInt(int64(t/time.Hour), 10) + "h"
	case t%time.Minute == 0 && t != 0:
		return strconv.FormatInt(int64(t/time.Minute), 10) + "m"
	case t%time.Second == 0:
		return strconv.FormatInt(int64(t/time.Second), 10) + "s"
	}
	return strconv.FormatInt(int64(t/time.Millisecond), 10) + "ms"
}

// Redacted is what a Secret prints.
const Redacted = "**redacted**"

// Secret is a text that is never printed: it stands in the file itself (or in the environment), or in a
// file of its own that the key with `_file` appended names. The zero Secret is not configured.
type Secret struct {
	value string
	file  string
	set   bool
	gone  bool // parsed from a Spec: it was configured, and its value is not known here
}

// NewSecret returns a secret of this value.
func NewSecret(value string) Secret { return Secret{value: value, set: true} }

// SecretFile returns a secret that is read from a file.
func SecretFile(name string) Secret { return Secret{file: name, set: true} }

// IsSet tells whether the secret is configured.
func (s Secret) IsSet() bool { return s.set }

// maxSecret bounds what is read from a secret's file.
const maxSecret = 64 << 10

// Value returns the secret. One that stands in a file is read now, so that a file that was replaced gives
// its new value; one newline at the end is cut off. It is "" where nothing is configured.
func (s Secret) Value() (string, error) {
	switch {
	case s.gone:
		return "", errors.New("the secret of an older version of the stream is not in the present configuration")
	case s.file == "":
		return s.value, nil
	}
	f, err := os.Open(s.file)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if len(data) > maxSecret {
		return "", fmt.Errorf("read secret: %s is larger than %d bytes", s.file, maxSecret)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("read secret: %s is empty", s.file)
	}
	return text, nil
}

func (s Secret) String() string {
	if !s.set {
		return ""
	}
	return Redacted
}

// Format, MarshalText and LogValue keep the value out of every way of printing, also with a wrong verb.
func (s Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, s.String()) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(s.String()) }

// Listen is one or more addresses, host:port or unix:/path.
type Listen []string

func (l *Listen) decode(d *decoder, n *node, path string) {
	*l = nil
	switch n.kind {
	case scalar:
		*l = Listen{n.text}
	case list:
		if len(n.items) == 0 {
			d.fault(n, path, "needs at least one address", "")
		}
		for i, item := range n.items {
			p := index(path, i)
			d.at(p, item)
			if d.wantScalar(item, p, "an address, host:port or unix:/path") {
				*l = append(*l, item.text)
			}
		}
	default:
		d.fault(n, path, "is not an address or a list of addresses", "write it like 127.0.0.1:4573")
	}
}

func (l Listen) encode() any {
	items := make([]any, len(l))
	for i, a := range l {
		items[i] = a
	}
	return items
}

// RetryDuration is how long a refusing destination is tried; 0 is for ever.
type RetryDuration Duration

const forever = "forever"

func (r *RetryDuration) decode(d *decoder, n *node, path string) {
	*r = 0
	if !d.wantScalar(n, path, forever) || n.text == forever {
		return
	}
	if _, err := ParseDuration(n.text); err == nil {
		d.fault(n, path, "a finite time is not supported yet", "the only value at present is "+forever)
		return
	}
	d.fault(n, path, "is not "+forever, "the only value at present is "+forever)
}

func (r RetryDuration) encode() any {
	if r == 0 {
		return forever
	}
	return Duration(r).String()
}
