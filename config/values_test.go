package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		want Bytes
		out  string
	}{
		{"0", 0, "0"}, {"0MiB", 0, "0"}, {"1KiB", KiB, "1KiB"}, {"1 KiB", KiB, "1KiB"}, {"1024KiB", MiB, "1MiB"}, {"1536MiB", 1536 * MiB, "1536MiB"}, {"20GiB", 20 * GiB, "20GiB"},
		{"8589934591GiB", 8589934591 * GiB, "8589934591GiB"},
	} {
		got, err := ParseBytes(c.text)
		if err != nil || got != c.want || got.String() != c.out {
			t.Errorf("ParseBytes(%q) = %d (%s), %v; want %d (%s)", c.text, got, got, err, c.want, c.out)
		}
	}
	for _, text := range []string{"", "KiB", "1", "1B", "1KB", "1kib", "-1KiB", "1.5GiB", "1e3KiB", "8589934592GiB", "99999999999999999999KiB", "1KiB1", "0x1KiB", "1 K iB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d", text, got)
		}
	}
}

func TestCount(t *testing.T) {
	for _, n := range []Count{0, 1, 1000, 1<<63 - 1} {
		if got, err := ParseCount(n.String()); err != nil || got != n {
			t.Errorf("%s: got %d, %v", n, got, err)
		}
	}
	for _, text := range []string{"", "-1", "+1", "1.0", "1e3", "1_000", " 1", "9223372036854775808", "0x10"} {
		if got, err := ParseCount(text); err == nil {
			t.Errorf("ParseCount(%q) = %d", text, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct{ text, out string }{
		{"0", "0s"}, {"0s", "0s"}, {"1ms", "1ms"}, {"1500ms", "1500ms"}, {"1.5s", "1500ms"}, {"300s", "5m"}, {"90s", "90s"}, {"1h30m", "90m"}, {"24h", "24h"},
	} {
		got, err := ParseDuration(c.text)
		if err != nil || got.String() != c.out {
			t.Errorf("ParseDuration(%q) = %s, %v; want %s", c.text, got, err, c.out)
		}
		if again, err := ParseDuration(got.String()); err != nil || again != got {
			t.Errorf("%s reads back as %s, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "1", "s", "-1s", "+1s", "1us", "1µs", "1ns", "1d", "1 s", "0.1ms", "5 minutes", "99999999h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %s", text, got)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := NewSecret("hunter2")
	v := struct{ Password Secret }{s}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q %d %x\n", v, v, v, s, s, s, s)
	fmt.Fprintln(&out, v, &v, s, &s, []Secret{s}, map[string]Secret{"k": s})
	if err := json.NewEncoder(&out).Encode(v); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "secret", s, "struct", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "secret", s, "struct", v)
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e74657232") {
		t.Errorf("printed:\n%s", out.String())
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Errorf("no %s in\n%s", Redacted, out.String())
	}
	if got := (Secret{}).String(); got != "" {
		t.Errorf("a secret that is not configured prints %q", got)
	}
}

func TestSecretFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := SecretFile(name)
	if _, err := s.Value(); err == nil {
		t.Error("a missing file has a value")
	}
	for _, c := range []struct{ text, want string }{{"one", "one"}, {"two\n", "two"}, {"three\r\n", "three"}, {"fo\nur\n\n", "fo\nur\n"}, {strings.Repeat("x", maxSecret), strings.Repeat("x", maxSecret)}} {
		write(c.text)
		if got, err := s.Value(); err != nil || got != c.want {
			t.Errorf("value %.20q, %v; want %.20q", got, err, c.want)
		}
	}
	for _, text := range []string{"", "\n", strings.Repeat("x", maxSecret+1)} {
		write(text)
		if got, err := s.Value(); err == nil {
			t.Errorf("a file with %d bytes has the value %.20q", len(text), got)
		}
	}

	// The same through a configuration, and as a fault where the file is not there.
	text := "streams: [ { name: s, destination: { s3: { bucket: lake, credentials: { access_key_id: a, secret_access_key_file: " + name + " } } } } ]\n"
	write("in a file")
	f := decode(t, text)
	if got, err := f.Config.Streams[0].Destination.S3.Credentials.SecretAccessKey.Value(); err != nil || got != "in a file" {
		t.Errorf("value %q, %v", got, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if got := faults(t, text, noEnv); !strings.HasPrefix(got, "1:115: streams[0].destination.s3.credentials.secret_access_key_file: read secret: open ") {
		t.Errorf("a missing file: %s", got)
	}
}
