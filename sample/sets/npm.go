package sets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
)

const (
	webhooks      = 329         // examples in the package
	webhooksBytes = 209_715_200 // the large set ends with the line that reaches this
	flights       = 1_500_000   // of the 3,000,000 in the package
)

// open opens a file of an npm package.
func open(nodeModules string, path ...string) (*os.File, error) {
	f, err := os.Open(filepath.Join(append([]string{nodeModules}, path...)...))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return f, err
}

// Webhooks are real payloads of GitHub's webhooks, one of each kind and action that the package
// @octokit/webhooks-examples has: 329 of 914 to 26,934 bytes, white space outside strings removed and nothing
// else changed.
func Webhooks(nodeModules string) ([][]byte, error) {
	f, err := open(nodeModules, "@octokit", "webhooks-examples", "api.github.com", "index.json")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var events []struct{ Examples []json.RawMessage }
	if err := json.NewDecoder(f).Decode(&events); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	var out [][]byte
	for _, e := range events {
		for _, x := range e.Examples {
			var b bytes.Buffer
			if err := json.Compact(&b, x); err != nil {
				return nil, fmt.Errorf("read %s: %w", f.Name(), err)
			}
			out = append(out, b.Bytes())
		}
	}
	return out, nil
}

func writeWebhooksOnce(w io.Writer, nodeModules string) error {
	lines, err := Webhooks(nodeModules)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func writeWebhooks(w io.Writer, nodeModules string) error {
	lines, err := Webhooks(nodeModules)
	if err != nil {
		return err
	}
	var buf []byte
	for total, round := 0, uint64(0); ; round++ {
		for j, line := range lines {
			buf = append(buf[:0], line...)
			if round > 0 {
				mutate(buf, round, uint64(j))
			}
			n, err := w.Write(append(buf, '\n'))
			if err != nil {
				return err
			}
			if total += n; total >= webhooksBytes {
				return nil
			}
		}
	}
}

// mutate changes the digits of every run of six or more but the first one: ids, hashes and times, so that
// repeated lines are not the same for a dictionary.
func mutate(line []byte, round, j uint64) {
	const shortest = 6
	state := mix(round<<20 ^ j)
	next := func() uint64 {
		state += 0x9E3779B97F4A7C15
		return mix(state)
	}
	for i := 0; i < len(line); i++ {
		end := i
		for end < len(line) && '0' <= line[end] && line[end] <= '9' {
			end++
		}
		if end-i < shortest {
			i = end
			continue
		}
		x := next()
		for i++; i < end; i++ {
			line[i] = '0' + byte(x%10)
			if x /= 10; x == 0 {
				x = next()
			}
		}
	}
}

// mix is the hash of the generated sets, written down with them.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// writeFlights writes the first flights of the package vega-datasets: real ones, in the United States in 2001.
func writeFlights(w io.Writer, nodeModules string) error {
	f, err := open(nodeModules, "vega-datasets", "data", "flights-3m.parquet")
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	left := flights
	var buf []byte
	for _, group := range file.RowGroups() {
		if left == 0 {
			break
		}
		rows := group.Rows()
		batch := make([]parquet.Row, 4096)
		for left > 0 {
			n, err := rows.ReadRows(batch[:min(len(batch), left)])
			for _, row := range batch[:n] {
				buf = appendFlight(buf[:0], row)
				if _, err := w.Write(buf); err != nil {
					rows.Close()
					return err
				}
			}
			left -= n
			if err == io.EOF {
				break
			}
			if err != nil {
				rows.Close()
				return fmt.Errorf("read %s: %w", f.Name(), err)
			}
		}
		if err := rows.Close(); err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
	}
	if left > 0 {
		return fmt.Errorf("read %s: %d rows too few", f.Name(), left)
	}
	return nil
}

// appendFlight adds a line made of date (µs since the epoch), delay, distance, origin and destination.
func appendFlight(dst []byte, row parquet.Row) []byte {
	dst = append(dst, `{"date":"`...)
	dst = time.UnixMicro(row[0].Int64()).UTC().AppendFormat(dst, "2006/01/02 15:04")
	dst = append(dst, `","delay":`...)
	dst = strconv.AppendInt(dst, row[1].Int64(), 10)
	dst = append(dst, `,"distance":`...)
	dst = strconv.AppendInt(dst, row[2].Int64(), 10)
	dst = append(dst, `,"origin":"`...)
	dst = append(dst, row[3].ByteArray()...)
	dst = append(dst, `","destination":"`...)
	dst = append(dst, row[4].ByteArray()...)
	return append(dst, "\"}\n"...)
}
