//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	endian "encoding/binary" // binary is the daemon
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

var update = flag.Bool("update", false, "write the data directory of the present format version anew, with the binary of this tree")

// A golden data directory is testdata/upgrade/v<format version>/backlog.tar.gz:
//
//	data/          the data directory, as kill -9 left it
//	streams.yaml   the configuration that the last process had, without directories and listeners
//	acked.csv      stream, producer and number of each record that was acknowledged
//
// It holds what an upgrade may meet: packs that were never sent, of a stream as it is and of an older version
// of one, of a stream that the configuration no longer has, and of one whose records partly do not fit the
// schema; rows that nobody has cut; a stream that is paused; deliveries that have ended. It was written by the
// program of that time and is never changed, only added to when the format gets another version.
const goldenData = "testdata/upgrade"

// upgradeStreams of the first process, and of the second. A data directory remembers the absolute paths of
// destinations; this one is another place in each test.
func upgradeStreams(second bool) string {
	var y strings.Builder
	y.WriteString("limits: { memory: 128MiB, disk: 128MiB }\nstreams:\n")
	stream := func(name, format, interval, path, prefix string) {
		fmt.Fprintf(&y, `  - name: %[1]s
    format: %[2]s
    buffer: { size: 64KiB, interval: %[3]s }
    destination: { file: { path: /proc/self/cwd/%[4]s, prefix: %[5]q, error_output_prefix: "errors/%[1]s/!{firehose:error-output-type}/" } }
`, name, format, interval, path, prefix)
	}
	const text = "{ text: { delimiter: after, compression: gzip } }"
	stream("packed", `{ parquet: { schema: "producer bigint, n bigint, pad string, sum string", compression: snappy } }`, "1s", "blocked", "packed/d=!{timestamp:dd}/")
	if second {
		stream("changed", text, "1s", "blocked", "changed/second/")
	} else {
		stream("changed", text, "1s", "blocked", "changed/first/")
		stream("removed", text, "1s", "blocked", "removed/")
	}
	stream("raw", text, "3600s", "lake", "raw/")
	stream("paused", text, "1s", "lake", "paused/")
	stream("half", text, "3600s", "lake", "half/")
	return y.String()
}

// upgradePlaces are the streams with where their objects are.
func upgradePlaces(t testing.TB, dir string) (places []place) {
	for _, s := range []struct{ stream, path string }{{"packed", "blocked"}, {"changed", "blocked"}, {"removed", "blocked"}, {"raw", "lake"}, {"paused", "lake"}, {"half", "lake"}} {
		places = append(places, placeOf(t, filepath.Join(dir, s.path), s.stream, s.stream == "packed", true))
	}
	return places
}

// filler puts numbered records and keeps their names.
type filler struct {
	d     *daemon
	p     map[string]*producer
	acked bytes.Buffer
}

func (f *filler) put(stream string, n int) {
	f.d.t.Helper()
	p := f.p[stream]
	if p == nil {
		p = &producer{number: len(f.p), stream: stream, misfits: stream == "packed"}
		f.p[stream] = p
	}
	random := rand.New(rand.NewPCG(uint64(p.number), uint64(p.next)))
	records := make([]types.Record, n)
	for i := range records {
		pad := strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(60))
		records[i].Data = p.record(p.next, []byte(pad), random)
		fmt.Fprintf(&f.acked, "%s,%d,%d\n", stream, p.number, p.next)
		p.next++
	}
	out, err := firehoseClient(f.d.api, 3).PutRecordBatch(context.Background(), &firehose.PutRecordBatchInput{DeliveryStreamName: &stream, Records: records})
	if err != nil || aws.ToInt32(out.FailedPutCount) != 0 {
		f.d.t.Fatalf("put to %s: %v", stream, err)
	}
}

// writeGolden makes a data directory full of backlog with the binary of this tree.
func writeGolden(t *testing.T) {
	d := configure(t, upgradeStreams(false))
	writeLines(t, filepath.Join(d.dir, "blocked"), []string{"a file where a directory would have to be"})
	d.start()
	f := &filler{d: d, p: map[string]*producer{}}
	if code, body := d.call("POST", d.admin+"/v1/streams/paused/pause", ""); code != 200 {
		t.Fatalf("pause: %d %s", code, body)
	}
	outstanding := func(streams ...string) {
		for _, s := range streams {
			eventually(t, "packs of "+s, func() bool {
				return d.metric(fmt.Sprintf("hydrant_outstanding_batches{stream=%q}", s)) != "0" && d.metric(fmt.Sprintf("hydrant_active_partitions{stream=%q}", s)) == "0"
			})
		}
	}
	for _, s := range []string{"packed", "changed", "removed", "raw", "paused", "half"} {
		f.put(s, 200)
	}
	d.flush("half")
	outstanding("packed", "changed", "removed")
	f.put("half", 50)
	d.kill()
	d.rewrite(upgradeStreams(true))
	d.start()
	for _, s := range []string{"packed", "changed", "raw", "paused", "half"} {
		f.put(s, 150)
	}
	outstanding("packed", "changed")
	f.put("raw", 30)
	d.kill()

	version := endian.LittleEndian.Uint32(read(t, filepath.Join(d.data, "IDENT"))[8:])
	path := filepath.Join(goldenData, fmt.Sprintf("v%d", version), "backlog.tar.gz")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w := tar.NewWriter(z)
	add := func(name string, content []byte) {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), Format: tar.FormatPAX})
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("streams.yaml", []byte(upgradeStreams(true)))
	add("acked.csv", f.acked.Bytes())
	for _, p := range walk(t, d.data) {
		name, err := filepath.Rel(d.dir, p)
		if err != nil {
			t.Fatal(err)
		}
		add(filepath.ToSlash(name), read(t, p))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 2<<20 {
		t.Errorf("%s would have %d bytes, more than 2 MiB", path, b.Len())
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", path, b.Len())
}

// rewrite gives the daemon another configuration, from its next start on.
func (d *daemon) rewrite(streams string) {
	d.t.Helper()
	b := read(d.t, d.config)
	head, _, _ := bytes.Cut(b, []byte("limits:"))
	if err := os.WriteFile(d.config, append(head, streams...), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden unpacks a golden data directory. Zeros become holes.
func golden(t testing.TB, archive string) (d *daemon, acked string) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if !filepath.IsLocal(h.Name) {
			t.Fatalf("the archive has a file %q", h.Name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unpack(r, path, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	d = configureAt(t, dir, filepath.Join(dir, "data"), string(read(t, filepath.Join(dir, "streams.yaml"))))
	return d, filepath.Join(dir, "acked.csv")
}

func unpack(r io.Reader, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	zero := make([]byte, 64<<10)
	chunk := make([]byte, len(zero))
	for off := int64(0); off < size; {
		n, err := io.ReadFull(r, chunk[:min(int64(len(chunk)), size-off)])
		if err != nil {
			return err
		}
		if !bytes.Equal(chunk[:n], zero[:n]) {
			if _, err := f.WriteAt(chunk[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
	}
	return f.Truncate(size)
}

// goldens are all golden data directories, of every format version that there has been.
func goldens(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(goldenData, "v*", "backlog.tar.gz"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no data directories under %s: %v", goldenData, err)
	}
	return all
}

// judgeGolden delivers what a golden data directory holds and counts it.
func judgeGolden(t *testing.T, d *daemon, acked string) {
	t.Helper()
	duck := parts.DuckDB(t)
	if s := d.status("paused"); s.State != "paused" || s.Backlog != 350 {
		t.Errorf("the paused stream: %+v, want paused with a backlog of 350", s)
	}
	if code, body := d.call("POST", d.admin+"/v1/streams/paused/resume", ""); code != 200 {
		t.Fatalf("resume: %d %s", code, body)
	}
	for _, s := range []string{"packed", "changed", "raw", "paused"} {
		d.flush(s)
	}
	// The first 200 records of half were delivered by the program that wrote the archive, which has not its objects.
	d.flush("half")
	eventually(t, "the removed stream is delivered", func() bool { return len(walk(t, filepath.Join(d.dir, "blocked", "removed"))) > 0 })
	earlier := filepath.Join(t.TempDir(), "expected.csv")
	var expected []string
	for line := range strings.Lines(string(read(t, acked))) {
		if stream, rest, _ := strings.Cut(strings.TrimSpace(line), ","); stream == "half" {
			if _, n, _ := strings.Cut(rest, ","); len(n) < 3 || n < "200" {
				continue
			}
		}
		expected = append(expected, strings.TrimSpace(line))
	}
	writeLines(t, earlier, expected)
	v, found := judge(t, duck, earlier, earlier, upgradePlaces(t, d.dir))
	t.Log(v.String())
	if !v.clean() || v.failed == 0 {
		t.Errorf("after the upgrade: %s", &v)
	}
	for stream, want := range map[string]status{
		"packed": {Accepted: 350}, "changed": {Accepted: 350}, "raw": {Accepted: 380}, "paused": {Accepted: 350}, "half": {Accepted: 400},
	} {
		got := d.status(stream)
		want.State, want.Delivered, want.Failed = "active", want.Accepted-got.Failed, got.Failed
		if got != want {
			t.Errorf("counters of %s: %+v, want %+v", stream, got, want)
		}
		if n := found[stream]; stream != "half" && n != got.Accepted {
			t.Errorf("%d records of %s were found, %d accepted", n, stream, got.Accepted)
		}
	}
	if len(walk(t, filepath.Join(d.dir, "blocked", "changed", "first"))) == 0 || len(walk(t, filepath.Join(d.dir, "blocked", "changed", "second"))) == 0 {
		t.Error("what was cut under the older version of the stream changed does not stand under its prefix, or what came later not under the new one")
	}
}

// TestUpgrade: what an earlier program left is delivered by this one, every record once.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	if *update {
		writeGolden(t)
	}
	for _, archive := range goldens(t) {
		t.Run(filepath.Base(filepath.Dir(archive)), func(t *testing.T) {
			d, acked := golden(t, archive)
			d.start()
			judgeGolden(t, d, acked)
			d.mustPut("raw", `{"producer":99,"n":1,"pad":"","sum":"x"}`)
			if code := d.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// TestUpgradeAndEncrypt: encryption may be turned on by the very start that is an upgrade, and changed by the next,
// and what the older program left in clear is delivered all the same.
func TestUpgradeAndEncrypt(t *testing.T) {
	t.Parallel()
	archives := goldens(t)
	d, acked := golden(t, archives[len(archives)-1])
	d.encrypt("one")
	d.start()
	d.kill()
	d.encrypt("two", "one")
	d.start()
	judgeGolden(t, d, acked)
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// patch overwrites bytes of a file, and returns how to put back what was there.
func patch(t testing.TB, path string, off int64, b []byte) (undo func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old := make([]byte, len(b))
	if _, err := f.ReadAt(old, off); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	return func() { patch(t, path, off, old) }
}

// newer gives a header at the start of a file another format version, with a sum that is right.
func newer(t testing.TB, path string, version, sum int64, to uint32) (undo func()) {
	t.Helper()
	head := bytes.Clone(read(t, path)[:sum+4])
	le := endian.LittleEndian
	le.PutUint32(head[version:], to)
	le.PutUint32(head[sum:], crc32.Checksum(head[:sum], crc32.MakeTable(crc32.Castagnoli)))
	return patch(t, path, 0, head)
}

// TestNewerDataDirIsRefused: a program that is older than the data says so and touches nothing.
func TestNewerDataDirIsRefused(t *testing.T) {
	t.Parallel()
	archives := goldens(t)
	d, acked := golden(t, archives[len(archives)-1])
	for _, c := range []struct {
		pattern      string
		version, sum int64
		known        uint32
	}{
		{"IDENT", 8, 60, 1},
		{"journal/j-*", 8, 508, 2},
		{"packs/*.pack", 4, 252, 2},
	} {
		files, err := filepath.Glob(filepath.Join(d.data, filepath.FromSlash(c.pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s in the data directory: %v", c.pattern, err)
		}
		undo := newer(t, files[0], c.version, c.sum, c.known+1)
		before := treeSum(t, d.data)
		d.launch()
		if code := d.wait(20 * time.Second); code != 1 {
			t.Errorf("%s of a newer version: exit code %d, want 1", c.pattern, code)
		}
		for _, want := range []string{files[0], fmt.Sprintf("has format version %d, this program reads up to %d", c.known+1, c.known), "use the version that wrote it or a later one"} {
			if !strings.Contains(tail(d.log.String(), 2000), want) {
				t.Errorf("%s of a newer version: no %q in the message:\n%s", c.pattern, want, tail(d.log.String(), 2000))
			}
		}
		if after := treeSum(t, d.data); after != before {
			t.Errorf("%s of a newer version: the refused start changed the data directory:\n%s\nwas\n%s", c.pattern, after, before)
		}
		undo()
	}
	d.start() // as if nothing had been
	judgeGolden(t, d, acked)
}

// treeSum is one line for each file: its name, size and CRC.
func treeSum(t testing.TB, dir string) string {
	t.Helper()
	var s strings.Builder
	for _, path := range walk(t, dir) {
		b := read(t, path)
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&s, "%s %d %08x\n", name, len(b), crc32.ChecksumIEEE(b))
	}
	return s.String()
}

// inJournal finds bytes of a record in the journal. A record may be there several times: copies count too.
func inJournal(t testing.TB, d *daemon, needle string) (path string, off int64) {
	t.Helper()
	for _, p := range withPrefix(walk(t, filepath.Join(d.data, "journal")), "j-") {
		if at := bytes.LastIndex(read(t, p), []byte(needle)); at >= 0 {
			path, off = p, int64(at)
		}
	}
	if path == "" {
		t.Fatalf("%q is not in the journal", needle)
	}
	return path, off
}

func withPrefix(paths []string, prefix string) (list []string) {
	for _, p := range paths {
		if strings.HasPrefix(filepath.Base(p), prefix) {
			list = append(list, p)
		}
	}
	return list
}

// TestTornTail: what a power cut left of the last write is no damage. Nobody had got an answer for it.
func TestTornTail(t *testing.T) {
	t.Parallel()
	d := configure(t, "on_damage: stop\n"+strings.Replace(textStream, "interval: 1s", "interval: 300s", 1)).start()
	for i := range 20 {
		d.mustPut("s", fmt.Sprintf("row-%02d", i))
	}
	d.kill()
	path, _ := inJournal(t, d, "row-19")
	b := read(t, path)
	end := len(b) - 4096 // the last block is the header again
	for end > 0 && b[end-1] == 0 {
		end--
	}
	end = (end + 4095) &^ 4095
	torn := make([]byte, 12288)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(torn)
	copy(torn, b[end-4096:end-3584]) // a sector of an older block, then noise
	patch(t, path, int64(end), torn)
	d.start()
	d.mustPut("s", "row-20")
	d.flush("s")
	for _, want := range numbered("row-%02d\n", 21) {
		if n := strings.Count(delivered(t, lake(d)), want); n != 1 {
			t.Errorf("%q was delivered %d times", want, n)
		}
	}
	d.balance("s", 21, 0)
	if files := walk(t, filepath.Join(d.data, "quarantine")); len(files) > 0 {
		t.Errorf("a torn tail was set aside as damage: %v", files)
	}
}

// TestDamageToAcknowledgedBytes: one bit of one acknowledged record has changed on disk. The daemon stops with a
// report that names the place and changes nothing, or it keeps the bytes, counts the record as lost and goes
// on, as the configuration says.
func TestDamageToAcknowledgedBytes(t *testing.T) {
	t.Parallel()
	// DATA frames are written once and are not touched by the rows' waiting: the interval is long.
	stream := strings.Replace(textStream, "interval: 1s", "interval: 300s", 1)
	d := configure(t, "limits: { memory: 128MiB }\non_damage: stop\n"+stream).start()
	for i := range 10 {
		d.mustPut("s", fmt.Sprintf("row-%02d", i))
	}
	d.kill()
	path, off := inJournal(t, d, "row-04")
	patch(t, path, off, []byte("rOw"))
	before := treeSum(t, d.data)
	d.launch()
	if code := d.wait(20 * time.Second); code != 1 {
		t.Errorf("on_damage: stop ended with code %d, want 1", code)
	}
	for _, want := range []string{path, "acknowledged bytes are damaged in 1 place", "at byte", "DATA frame", "sequences [5, 6)"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("on_damage: stop says nothing of %q:\n%s", want, tail(d.log.String(), 3000))
		}
	}
	if after := treeSum(t, d.data); after != before {
		t.Errorf("on_damage: stop changed the data directory:\n%s\nwas\n%s", after, before)
	}

	d.rewrite("limits: { memory: 128MiB }\non_damage: quarantine\n" + stream)
	for life := range 2 { // the loss is still known to the second process, and not counted again
		d.start()
		if got := d.counter(`hydrant_unaccounted_records{stream="s"}`); got != 1 {
			t.Errorf("life %d: hydrant_unaccounted_records is %d, want 1", life, got)
		}
		d.mustPut("s", fmt.Sprintf("after-%d", life))
		d.flush("s")
		d.kill()
	}
	kept := false
	for _, p := range walk(t, filepath.Join(d.data, "quarantine")) {
		kept = kept || bytes.Contains(read(t, p), []byte("rOw-04"))
	}
	if !kept {
		t.Errorf("the damaged bytes are not in quarantine/: %v", walk(t, filepath.Join(d.data, "quarantine")))
	}
	if !strings.Contains(d.log.String(), "level=ERROR") || !strings.Contains(d.log.String(), "quarantine") {
		t.Errorf("the log does not say what was lost and where it is kept:\n%s", tail(d.log.String(), 3000))
	}
	all := delivered(t, lake(d))
	for i, want := range append(numbered("row-%02d\n", 10), numbered("after-%d\n", 2)...) {
		wanted := 1
		if i == 4 {
			wanted = 0
		}
		if n := strings.Count(all, want); n != wanted {
			t.Errorf("%q was delivered %d times, want %d", want, n, wanted)
		}
	}
	if strings.Contains(all, "rOw") {
		t.Error("the damaged record was delivered as if it were sound")
	}
	d.start()
	want := status{State: "active", Accepted: 12, Delivered: 11, Unaccounted: 1}
	// The kill may have come before the last delivery was written down; then the object is put again and found.
	eventually(t, fmt.Sprintf("counters of %+v", want), func() bool { return d.status("s") == want })
}
