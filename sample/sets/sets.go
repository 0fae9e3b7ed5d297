// Package sets keeps the named data sets as files: generated ones, and real ones made from npm packages. A
// name and the folder of the packages flow in; the path of a file of newline-delimited JSON flows out, whose
// size and hash are those that every published figure refers to. A file appears whole or not at all: it is
// written under another name, hashed on the way and renamed, so a crash leaves at most a file that nobody
// looks at.
package sets

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hydrant/sample"
)

// ErrMissing is in the chain of an error when a package that a set is made from is not installed.
var ErrMissing = errors.New("the npm package is not installed")

// Set is a named data set. Two sets with the same name hold the same bytes.
type Set struct {
	Name    string
	Records int64
	Bytes   int64
	SHA256  string // of the file, in hexadecimal
	Schema  string // its declared schema, as DDL

	write func(w io.Writer, nodeModules string) error
}

// All are the sets, small ones first. The variants of the clickstream have no published hash: those here only
// tell that they did not change.
func All() []Set {
	clicks := func(n uint64) func(io.Writer, string) error {
		return func(w io.Writer, _ string) error { return sample.Clickstream{Seed: sample.DefaultSeed}.Write(w, 0, n) }
	}
	return []Set{
		{"click1k", 1000, 867_271, "6929735eb339be0828bf96ecdbb6927a37c27cf90a0508e41b04f6acc18be725", sample.ClicksSchema, clicks(1000)},
		{"octokit329", webhooks, 3_253_128, "e7199a17842f9911d5574fabcce3fdf4f796e2b77545cf2e11a151c567d0be8b", sample.WebhooksSchema, writeWebhooksOnce},
		{"clickshuf", sample.VariantRecords, 52_150_057, "f89283b085eb1994ae01bf94ddcea23d4fbba2cbd6228df9006350a12bf57848", sample.ClicksSchema, variant(func(i uint64, r []byte) []byte { return sample.Shuffled(sample.DefaultSeed, i, r) })},
		{"clickws", sample.VariantRecords, 55_882_488, "2a2a6db42500fef1b8415ec7391e65a1d38f955e403a4edea032ec26f6ff4702", sample.ClicksSchema, variant(func(_ uint64, r []byte) []byte { return sample.Spaced(r) })},
		{"clickbad", sample.VariantRecords, 52_149_991, "c0534b9eb3f97ac15be192488aab16d38993b2c633917b9d6a26c9483e048ae2", sample.ClicksSchema, variant(sample.Broken)},
		{"flights", flights, 133_873_262, "69a17f3aa9401e53c60124ad3e634f9bd38a45133c462c326af55f131a8c5307", sample.FlightsSchema, writeFlights},
		{"octokit", 21_239, 209_715_754, "01c0e1b0ff800730c5c573ad5f7de64e42b3df3e6753ff8ee5edccbdd7406773", sample.WebhooksSchema, writeWebhooks},
		{"click250k", 250_000, 217_248_220, "748474e5cfea333f74b125d0cabd9f805a916470ed7ccc5ee32054e7750c0b65", sample.ClicksSchema, clicks(250_000)},
		{"click1m", 1_000_000, 869_008_685, "ee64ba25565223443916b68e372ec653556b16ad214c0248eda5cc5d2a9ef39d", sample.ClicksSchema, clicks(1_000_000)},
	}
}

// Named is the set with this name.
func Named(name string) (Set, error) {
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
	}
	return Set{}, fmt.Errorf("no data set %q", name)
}

func variant(change func(i uint64, record []byte) []byte) func(io.Writer, string) error {
	return func(w io.Writer, _ string) error {
		for i, r := range (sample.Clickstream{Seed: sample.DefaultSeed}).All(0, sample.VariantRecords) {
			if _, err := w.Write(append(change(i, r), '\n')); err != nil {
				return err
			}
		}
		return nil
	}
}

// File is the path of the set's file in dir, which it makes when there is none of the right size. NodeModules
// is the folder of the npm packages; the generated sets do without.
func (s Set) File(dir, nodeModules string) (string, error) {
	path := filepath.Join(dir, s.Name+".ndjson")
	if info, err := os.Stat(path); err == nil && info.Size() == s.Bytes {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", fmt.Errorf("make the folder of data set %s: %w", s.Name, err)
	}
	temp, err := os.CreateTemp(dir, s.Name+"-*.new")
	if err != nil {
		return "", fmt.Errorf("make data set %s: %w", s.Name, err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := s.Write(temp, nodeModules); err != nil {
		return "", fmt.Errorf("make %s: %w", path, err)
	}
	if err := temp.Close(); err != nil {
		return "", fmt.Errorf("make %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return "", fmt.Errorf("make %s: %w", path, err)
	}
	return path, nil
}

// Write writes the set to w. It fails, at the end, when what it wrote is not the published set.
func (s Set) Write(w io.Writer, nodeModules string) error {
	hash := sha256.New()
	n := new(counter)
	b := bufio.NewWriterSize(io.MultiWriter(w, hash, n), 1<<20)
	if err := s.write(b, nodeModules); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); int64(*n) != s.Bytes || got != s.SHA256 {
		return fmt.Errorf("data set %s came out as %d bytes with SHA-256 %s, want %d with %s", s.Name, *n, got, s.Bytes, s.SHA256)
	}
	return nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
