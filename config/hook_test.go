package config

import (
	"fmt"
	"strings"
	"testing"
)

func hookStream(t *testing.T, entry string) *Stream {
	t.Helper()
	return &decode(t, "streams: [ { name: s, destination: { file: { path: /l } }, transform: [ { jq: . }, { "+entry+" } ] } ]").Config.Streams[0]
}

// The defaults are Firehose's, but for the interval of functions at a URL.
func TestHookDefaults(t *testing.T) {
	h := hookStream(t, "http: { url: 'http://h/f' }").Transform[1].HTTP
	if got := fmt.Sprintf("%v %v %v %v %v", h.Timeout, h.Retries, h.Concurrency, h.Buffer.Size, h.Buffer.Interval); got != "1m 3 4 1MiB 1s" {
		t.Errorf("http: %s", got)
	}
	l := hookStream(t, "lambda: { function: f, retries: 0, buffer: { size: 3MiB, interval: 0s } }").Transform[1].Lambda
	if got := fmt.Sprintf("%v %v %v %v %v", l.Timeout, l.Retries, l.Concurrency, l.Buffer.Size, l.Buffer.Interval); got != "1m 0 4 3MiB 0s" {
		t.Errorf("lambda: %s", got)
	}
	if l := hookStream(t, "lambda: { function: f }").Transform[1].Lambda; l.Buffer.Interval.String() != "1m" {
		t.Errorf("lambda waits %v", l.Buffer.Interval)
	}
}

// Values of headers are not in the spec: they are taken from the configuration in force, for the same URL.
func TestHookSecrets(t *testing.T) {
	with := hookStream(t, "http: { url: 'http://h/f', headers: { Authorization: secret } }")
	rotated := hookStream(t, "http: { url: 'http://h/f', headers: { Authorization: newer } }")
	elsewhere := hookStream(t, "http: { url: 'http://h/g', headers: { Authorization: other } }")
	bare := hookStream(t, "http: { url: 'http://h/f' }")
	if spec := string(with.Spec()); strings.Contains(spec, "secret") || spec != string(rotated.Spec()) || spec == string(bare.Spec()) {
		t.Errorf("spec %s", spec)
	}
	for _, c := range []struct {
		name         string
		old, present *Stream
		want         string
		fails        bool
	}{
		{"the same", with, with, "secret", false},
		{"rotated", with, rotated, "newer", false},
		{"no headers any more", with, bare, "", false},
		{"another URL", with, elsewhere, "", true},
		{"gone", with, nil, "", true},
		{"never any", bare, nil, "", false},
	} {
		got, err := ParseSpec("s", c.old.Spec())
		if err != nil {
			t.Fatal(err)
		}
		if err := got.TakeSecrets(c.present); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text := ""
		if h := got.Transform[1].HTTP.Headers; !c.fails && len(h) > 0 {
			if text, err = h[0].Value.Value(); err != nil {
				t.Error(err)
			}
		}
		if text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
}
