//go:build unix

package parquet_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/record"
	"hydrant/sample/sets"
)

// peerGoal is how many times less CPU than DuckDB a conversion with zstd must take, file to file.
const peerGoal = 1.5

// peerRounds is how often each contender runs; the median counts.
const peerRounds = 5

// BenchmarkPeerDuckDB converts whole data sets from file to file, here and in DuckDB with one thread, in turn
// in one run, and compares the CPU time, user and system, that the two processes used: other work on the
// machine disturbs both alike. It first checks that both made the same rows. MB are 10^6 bytes of JSON.
//
//	MB/s/core       this package
//	peer-MB/s/core  DuckDB's COPY with the same compression at its default level
//	x-peer          the ratio; below peerGoal the benchmark fails with zstd
//	size/peer       of the files
func BenchmarkPeerDuckDB(b *testing.B) {
	for _, name := range []string{"click250k", "flights", "octokit"} {
		for _, c := range []struct {
			compression parquet.Compression
			encodings   parquet.Encodings
		}{
			{parquet.Zstd, parquet.Modern}, {parquet.Zstd, parquet.Compatible}, {parquet.Snappy, parquet.Compatible},
		} {
			b.Run(fmt.Sprintf("%s/%s/%s", name, c.compression, c.encodings), func(b *testing.B) {
				peer(b, name, c.compression, c.encodings)
			})
		}
	}
}

func peer(b *testing.B, name string, compression parquet.Compression, encodings parquet.Encodings) {
	in := parts.Data(b, name)
	set, err := sets.Named(name)
	if err != nil {
		b.Fatal(err)
	}
	schema := schemaOf(b, set.Schema)
	f, err := parquet.New(parquet.Options{Schema: schema, Compression: compression, Encodings: encodings})
	if err != nil {
		b.Fatal(err)
	}
	enc := f.NewEncoder()
	duck := oneThread(b)
	dir := b.TempDir()
	mine, theirs := filepath.Join(dir, "mine.parquet"), filepath.Join(dir, "theirs.parquet")
	source := jsonTable(schema, in)
	copySQL := fmt.Sprintf("copy (select * from %s) to %s (format parquet, compression %s)", source, parts.SQL(theirs), compression)

	// Once for warmth, and to see that both do the job.
	duck.Ask(copySQL)
	if err := convertFile(enc, in, mine); err != nil {
		b.Fatal(err)
	}
	sameRows(b, duck, parquetTable(schema, mine), parquetTable(schema, theirs))
	if b.Failed() {
		return
	}

	var own, other []float64
	for b.Loop() {
		for range peerRounds {
			other = append(other, duck.Ask(copySQL).CPU.Seconds())
			start := cpuTime(b)
			if err := convertFile(enc, in, mine); err != nil {
				b.Fatal(err)
			}
			own = append(own, (cpuTime(b) - start).Seconds())
		}
	}
	size := float64(set.Bytes) / 1e6
	ratio := median(other) / median(own)
	b.ReportMetric(size/median(own), "MB/s/core")
	b.ReportMetric(size/median(other), "peer-MB/s/core")
	b.ReportMetric(ratio, "x-peer")
	b.ReportMetric(float64(fileSize(b, mine))/float64(fileSize(b, theirs)), "size/peer")
	b.ReportMetric(0, "ns/op") // a round has two contenders: the time says nothing
	if compression == parquet.Zstd && ratio < peerGoal {
		b.Errorf("%.2f times DuckDB per core, want at least %.1f", ratio, peerGoal)
	}
}

// convertFile reads newline-delimited JSON and writes a Parquet file, as the daemon does but for the journal.
func convertFile(enc format.Encoder, in, out string) error {
	r, err := os.Open(in)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(out)
	if err != nil {
		return err
	}
	defer w.Close()
	buffered := bufio.NewWriterSize(w, 1<<20)
	enc.Reset(buffered)
	buf := make([]byte, 1<<20)
	row := record.Row{}
	for have := 0; ; {
		n, err := r.Read(buf[have:])
		have += n
		rest := buf[:have]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			row.Seq++
			row.Data = rest[:end]
			if err := enc.Append(row); err != nil {
				return fmt.Errorf("line %d: %w", row.Seq, err)
			}
			rest = rest[end+1:]
		}
		have = copy(buf, rest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if have == len(buf) {
			return fmt.Errorf("line %d is longer than %d bytes", row.Seq+1, len(buf))
		}
	}
	if _, err := enc.Close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return w.Close()
}

// cpuTime is what this process has used so far, on all threads.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func fileSize(b *testing.B, path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}
