package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/delivery"
	"hydrant/format"
	"hydrant/sinks/http"
)

// An http destination becomes a pipeline with its pace and a backup, and its secrets are those of the configuration in
// force, read anew for each request.
func TestEndpointPipeline(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("t1")
	load := func(key, retry string) *config.Config {
		t.Helper()
		f, err := config.Decode("hydrant.yaml", []byte("streams:\n  - name: web\n    destination: { http: { url: 'http://h/x', access_key: "+key+", headers: { A_file: "+token+
			" }, max_in_flight: 3, retry_duration: "+retry+" } }\n    backup: { file: { path: "+filepath.Join(dir, "b")+", time_zone: Europe/Berlin } }\n"), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		return f.Config
	}
	c := load("k1", "0s")
	p := newParts(c, slog.New(slog.DiscardHandler))
	version := buffer.Stream{Name: "web", Version: 1, Spec: c.Streams[0].Spec()}
	pipe, err := p.open(version)
	if err != nil {
		t.Fatal(err)
	}
	defer closeSinks(pipe)
	d := pipe.Destination
	if want := (delivery.Pace{InFlight: 3, Base: time.Second, Cap: 2 * time.Minute, GivesUp: true}); d.ID != "web/data/http" || d.Kind != "http" || d.Place != "http://h/x" || !d.AtLeastOnce || d.Pace != want {
		t.Errorf("destination %+v", d)
	}
	if pipe.Errors.ID != "web/backup/file" || pipe.Errors.AtLeastOnce || pipe.ErrorZone.String() != "Europe/Berlin" || pipe.ErrorFormat.Extension() != ".gz" {
		t.Errorf("errors go to %+v in %s", pipe.Errors, pipe.ErrorZone)
	}
	if _, ok := pipe.Format.(format.Requests); !ok || pipe.Format.ContentEncoding() != "gzip" {
		t.Errorf("format %T", pipe.Format)
	}
	secrets := func(want http.Secrets) {
		t.Helper()
		s, err := config.ParseSpec("web", version.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.endpointSecrets("web", s.Destination.HTTP); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("secrets %+v, %v; want %+v", got, err, want)
		}
	}
	secrets(http.Secrets{AccessKey: "k1", Headers: [][2]string{{"A", "t1"}}})
	write("t2")
	p.renew(load("k2", "0s"), func(string) bool { return true })
	secrets(http.Secrets{AccessKey: "k2", Headers: [][2]string{{"A", "t2"}}})

	forever := load("k1", "forever")
	pipe, err = p.open(buffer.Stream{Name: "web", Version: 2, Spec: forever.Streams[0].Spec()})
	if err != nil || pipe.Destination.Pace.GivesUp {
		t.Errorf("%v, for ever: %+v", err, pipe.Destination.Pace)
	}
	closeSinks(pipe)
}
