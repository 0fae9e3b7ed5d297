package sources

import (
	"errors"
	"testing"

	"hydrant/record"
)

// budget is a Memory of so many bytes.
type budget struct{ all, used int64 }

func (b *budget) BodyBudget() int64 { return b.all }

func (b *budget) AdmitBody(n int64) (func(), error) {
	if b.used+n > b.all {
		return nil, &record.Refusal{Reason: "memory", Message: "full"}
	}
	b.used += n
	return func() { b.used -= n }, nil
}

// TestShares has 800 bytes, of which one address gets 700.
func TestShares(t *testing.T) {
	m := &budget{all: 800}
	s := NewShares(m)
	const a, b = "10.0.0.1:1", "10.0.0.2:1"
	var releases []func()
	admit := func(from string, n int64, want bool) func() {
		t.Helper()
		release, err := s.AdmitBody(from, n)
		if (err == nil) != want {
			t.Fatalf("%d bytes of %s: %v, want them to be admitted: %v", n, from, err, want)
		}
		if err != nil {
			if refusal, ok := errors.AsType[*record.Refusal](err); !ok || refusal.Reason != "memory" {
				t.Fatalf("%v", err)
			}
			return nil
		}
		releases = append(releases, release)
		return release
	}
	first := admit(a, 600, true)
	admit(a, 100, true)
	admit("10.0.0.1:2", 1, false) // another port of the same address
	admit(b, 101, false)          // there is no more
	admit(b, 100, true)
	first()
	first() // gives it back once
	if m.used != 200 {
		t.Fatalf("%d bytes are used, want 200", m.used)
	}
	admit(a, 600, true)
	admit(a, 1, false)
	for _, f := range releases {
		f()
	}
	whole := admit(a, 5000, true) // the only one of its address
	admit(a, 1, false)
	admit(b, 101, false)
	admit(b, 100, true)() // the others' part is theirs all the same
	whole()
	admit("[2001:db8::1]:1", 700, true)
	admit("[2001:db8::2]:1", 1, false) // the same network
	admit("[2001:db8:0:1::1]:1", 100, true)
	for _, f := range releases {
		f()
	}
	admit("@", 700, true) // a socket has no address
	admit("", 1, false)
	for _, f := range releases {
		f()
	}
	if m.used != 0 || len(s.held) > 0 {
		t.Errorf("%d bytes and %v are left", m.used, s.held)
	}
}
