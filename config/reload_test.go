package config

import (
	"path/filepath"
	"reflect"
	"testing"
)

func TestKeepUntilRestart(t *testing.T) {
	running := decode(t, "data_dir: a\nlimits: { memory: 256MiB, disk: 1GiB }\napi: { listen: '127.0.0.1:1' }\nadmin: { listen: '127.0.0.1:2' }\nstreams: []\n").Config
	f := func(text string, ignored []string, want func(c *Config)) {
		t.Helper()
		next := decode(t, text)
		expected := decode(t, text).Config
		expected.DataDir, expected.OnDamage, expected.Limits, expected.Admin, expected.API = running.DataDir, running.OnDamage, running.Limits, running.Admin, running.API
		want(expected)
		if got := next.KeepUntilRestart(running); !reflect.DeepEqual(got, ignored) {
			t.Errorf("of %q\nignored %q\nwant    %q", text, got, ignored)
		}
		if !reflect.DeepEqual(next.Config, expected) {
			t.Errorf("of %q\ngot  %+v\nwant %+v", text, next.Config, expected)
		}
		if got := next.KeepUntilRestart(running); got != nil {
			t.Errorf("of %q, again: %q", text, got)
		}
	}
	none := func(*Config) {}
	const same = "data_dir: a\nlimits: { memory: 256MiB, disk: 1GiB }\napi: { listen: '127.0.0.1:1' }\nadmin: { listen: ['127.0.0.1:2'] }\n"
	f(same+"streams: []\n", nil, none)
	// What has no such tag is the next file's.
	f(same+"watch: true\nlog: { level: debug, format: json }\nstop: { drain: 5s }\naws: { region: eu-west-1, account_id: '123456789012', endpoints: { s3: 'http://x' } }\nstreams:\n  - { name: s, tags: { a: b }, buffer: { interval: 1s }, destination: { file: { path: /lake } } }\n",
		nil, none)
	f("streams: []\n", []string{"data_dir", "limits.memory", "limits.disk", "api.listen", "admin.listen"}, none)
	f("data_dir: b\non_damage: stop\nlimits: { memory: 256MiB, disk: 2GiB }\napi: { listen: '127.0.0.1:1', control_plane: read_only }\nadmin: { listen: '127.0.0.1:3' }\nstreams: []\n",
		[]string{"data_dir", "on_damage", "limits.disk", "api.control_plane", "admin.listen"}, none)
}

// A destination below the directory in use is refused, whatever data_dir the file has by now.
func TestCheckDataDir(t *testing.T) {
	dir := t.TempDir()
	f := decode(t, "data_dir: /elsewhere\nstreams:\n  - { name: a, destination: { file: { path: '"+filepath.Join(dir, "lake")+"' } } }\n  - { name: b, destination: { file: { path: '"+dir+"' } } }\n"+
		"  - { name: c, destination: { s3: { bucket: lake } } }\n")
	got := f.CheckDataDir(dir)
	if len(got) != 2 || got[0].Path != "streams[0].destination.file.path" || got[0].Line != 3 || got[1].Path != "streams[1].destination.file.path" {
		t.Errorf("%+v", got)
	}
	if got := f.CheckDataDir(filepath.Join(dir, "data")); got != nil {
		t.Errorf("beside it: %+v", got)
	}
	if got := f.CheckDataDir(filepath.Join(dir, "lak")); got != nil {
		t.Errorf("a name that begins alike: %+v", got)
	}
}
