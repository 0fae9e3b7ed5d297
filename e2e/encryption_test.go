package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// encrypt makes the next start encrypt under the key of this name, "" to leave new files in clear, and know the
// others for reading. Keys are made where they are missing.
func (d *daemon) encrypt(name string, previous ...string) {
	d.t.Helper()
	file := func(name string) string {
		path := filepath.Join(d.dir, "key-"+name)
		if _, err := os.Stat(path); err != nil {
			if err := os.WriteFile(path, []byte(fmt.Sprintf("%064x\n", name+"-0123456789abcdef")[:65]), 0o600); err != nil {
				d.t.Fatal(err)
			}
		}
		return path
	}
	line := "encryption: { "
	if name != "" {
		line += "key_file: " + file(name) + ", "
	}
	var list []string
	for _, p := range previous {
		list = append(list, file(p))
	}
	line += "previous_key_files: [ " + strings.Join(list, ", ") + " ] }\n"
	text := regexp.MustCompile(`(?m)^encryption:.*\n`).ReplaceAll(read(d.t, d.config), nil)
	if err := os.WriteFile(d.config, append([]byte(line), text...), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// slowText keeps records waiting until somebody flushes.
var slowText = strings.Replace(textStream, "interval: 1s", "interval: 15m", 1)

// found are the files of the data directory that hold some text.
func (d *daemon) found(text string) (files []string) {
	d.t.Helper()
	for _, path := range walk(d.t, d.data) {
		if bytes.Contains(read(d.t, path), []byte(text)) {
			files = append(files, path)
		}
	}
	return files
}

var keyIDs = regexp.MustCompile(`under key ([0-9a-f]{16})`)

// TestEncryption goes through the life of an encrypted data directory: kill -9, a start without its key, a change
// of the key, and the end of the old one.
func TestEncryption(t *testing.T) {
	d := configure(t, slowText)
	d.encrypt("one")
	d.start()
	d.mustPut("s", "canary-one")
	d.kill()
	if files := d.found("canary"); len(files) > 0 {
		t.Errorf("in clear: %v", files)
	}

	// without the key, and with another one
	before := treeSum(t, d.data)
	for _, name := range []string{"", "two"} {
		d.encrypt(name)
		d.launch()
		if code := d.wait(20 * time.Second); code != 1 {
			t.Errorf("exit code %d", code)
		}
		said := tail(d.log.String(), 1000)
		for _, want := range []string{"encryption.key_file", "encryption.previous_key_files", "is encrypted under key "} {
			if !strings.Contains(said, want) {
				t.Errorf("no %q in what a start without the key says:\n%s", want, said)
			}
		}
	}
	if after := treeSum(t, d.data); after != before {
		t.Errorf("the refused start changed the data directory:\n%s\nwas\n%s", after, before)
	}
	d.encrypt("bad")
	if err := os.WriteFile(filepath.Join(d.dir, "key-bad"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.launch()
	if code := d.wait(20 * time.Second); code != 1 || !strings.Contains(tail(d.log.String(), 1000), "encryption.key_file: read key from") {
		t.Errorf("a bad key file: exit code %d\n%s", code, tail(d.log.String(), 1000))
	}

	// another key
	d.encrypt("two", "one")
	d.start()
	d.mustPut("s", "canary-two")
	shown := d.cli(0, nil, "inspect", "journal", filepath.Join(d.data, "journal"), "-c", d.config)
	ids := keyIDs.FindAllStringSubmatch(shown, -1)
	if len(ids) == 0 || !strings.Contains(shown, `STREAM`) || !strings.Contains(shown, `"s" version 1 active`) {
		t.Fatalf("inspect shows\n%s", shown)
	}
	two := ids[len(ids)-1][1]
	if n := d.counter(fmt.Sprintf(`hydrant_encryption_files{key_id=%q,kind="journal"}`, two)); n != 1 {
		t.Errorf("%d segments under the new key", n)
	}
	if blind := d.cli(0, nil, "inspect", "journal", filepath.Join(d.data, "journal")); !strings.Contains(blind, "encrypted") || strings.Contains(blind, `"s" version`) {
		t.Errorf("inspect without the key shows\n%s", blind)
	}
	d.flush("s")
	for _, want := range []string{"canary-one", "canary-two"} {
		if n := strings.Count(delivered(t, lake(d)), want); n != 1 {
			t.Errorf("%s was delivered %d times", want, n)
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if files := d.found("canary"); len(files) > 0 {
		t.Errorf("in clear: %v", files)
	}

	// nothing is left that needs the old key; then it is turned off, and nothing needs any
	d.encrypt("two")
	d.start()
	d.mustPut("s", "canary-three")
	d.kill()
	d.encrypt("", "two")
	d.start()
	d.mustPut("s", "canary-four")
	d.flush("s")
	d.stop()
	d.encrypt("")
	d.start()
	d.balance("s", 4, 0)
}

// TestEncryptedPack: packs that wait for a destination are encrypted, survive kill -9, and are delivered byte for
// byte; inspect reads them with the key alone.
func TestEncryptedPack(t *testing.T) {
	d := configure(t, slowText)
	d.encrypt("one")
	if err := os.WriteFile(lake(d), []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.mustPut("s", "canary-packed")
	d.call("POST", d.admin+"/v1/streams/s/flush?timeout=1ms", "")
	var packs []string
	eventually(t, "a pack waits", func() bool {
		packs, _ = filepath.Glob(filepath.Join(d.data, "packs", "*.pack"))
		return len(packs) == 1 && d.counter(`hydrant_outstanding_manifests`) == 1
	})
	d.kill()
	if files := d.found("canary"); len(files) > 0 {
		t.Errorf("in clear: %v", files)
	}
	if said := d.cli(1, nil, "inspect", "pack", packs[0]); !strings.Contains(said, "is encrypted under key ") || !strings.Contains(said, "--key-file") {
		t.Errorf("without the key: %s", said)
	}
	if said := d.cli(0, nil, "inspect", "pack", packs[0], "--verify", "--key-file", filepath.Join(d.dir, "key-one")); !strings.Contains(said, "every object matches its hashes") {
		t.Errorf("with the key: %s", said)
	}
	if err := os.Remove(lake(d)); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.flush("s")
	if got := delivered(t, lake(d)); strings.Count(got, "canary-packed") != 1 {
		t.Errorf("delivered %q", got)
	}
}
