package text

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/sample"
)

// readerScripts read an object from a file and write what is in it, each with a library that is not ours and
// not Go's.
var readerScripts = map[Compression]struct{ module, script string }{
	CompressionGzip: {"gzip", `import gzip; out.write(gzip.open(path).read())`},
	CompressionZip: {"zipfile", `
import zipfile
z = zipfile.ZipFile(path)
assert z.testzip() is None and len(z.namelist()) == 1
out.write(z.read(z.namelist()[0]))`},
	// Blocks of C++ snappy, in snappy-java's frames.
	CompressionSnappy: {"snappy", `
import snappy, struct
b = open(path, 'rb').read()
assert b[:8] == b'\x82SNAPPY\x00' and struct.unpack('>ii', b[8:16]) == (1, 1)
at = 16
while at < len(b):
    n, = struct.unpack_from('>i', b, at)
    out.write(snappy.uncompress(b[at + 4:at + 4 + n]))
    at += 4 + n
assert at == len(b)`},
	CompressionHadoopSnappy: {"snappy", `
from snappy import hadoop_snappy
d = hadoop_snappy.StreamDecompressor()
out.write(d.decompress(open(path, 'rb').read()) + (d.flush() or b''))`},
	CompressionZstd: {"zstandard", `
import zstandard
f = open(path, 'rb').read()
d = zstandard.ZstdDecompressor().decompressobj()
out.write(d.decompress(f))
assert not d.unused_data and zstandard.get_frame_parameters(f).has_checksum`},
}

// Readers that are not ours find the records in every compression.
func TestIndependentReaders(t *testing.T) {
	rows := strings.SplitAfter(string(sample.Clicks(sample.DefaultSeed, 0, 2000)), "\n")
	whole := []byte(strings.Join(rows, ""))
	for _, c := range all {
		reader, ok := readerScripts[c]
		if !ok {
			continue
		}
		t.Run(string(c), func(t *testing.T) {
			python := parts.Python(t, reader.module)
			path := filepath.Join(t.TempDir(), "object")
			if err := os.WriteFile(path, encode(t, encoderOf(t, Options{Compression: c}), rows), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, python, "-c", "import sys\npath, out = sys.argv[1], sys.stdout.buffer\n"+reader.script, path)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.Bytes())
			}
			if !bytes.Equal(got, whole) {
				t.Errorf("%d bytes were read, and %d written, or others", len(got), len(whole))
			}
		})
	}
}

// Archives of equal records are equal, and archives of others do not overwrite each other when they are
// unpacked.
func TestZipEntriesHaveNamesOfTheirOwn(t *testing.T) {
	name := func(first uint64, row string) string {
		t.Helper()
		e := encoderOf(t, Options{Compression: CompressionZip})
		var b bytes.Buffer
		e.Reset(&b)
		for i := range 3 {
			if err := e.Append(rowOf(first+uint64(i), row)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.Close(); err != nil {
			t.Fatal(err)
		}
		return string(b.Bytes()[30 : 30+entryName])
	}
	seen := map[string]bool{name(1, "a"): true, name(2, "a"): true, name(1, "b"): true, name(1, ""): true, name(2, ""): true}
	if len(seen) != 5 {
		t.Errorf("names %v", seen)
	}
	if again := name(1, "a"); !seen[again] {
		t.Errorf("equal records under another name, %s", again)
	}
}
