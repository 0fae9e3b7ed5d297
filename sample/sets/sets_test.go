package sets_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"strings"
	"testing"

	"hydrant/e2e/parts"
	"hydrant/format"
	"hydrant/sample/sets"
)

// slow is set where the race detector makes a set take ten times as long.
var slow bool

// The large sets are made whole, byte for byte, unless -short is given or the race detector is on.
func TestSetsAreThePublishedBytes(t *testing.T) {
	for _, s := range sets.All() {
		t.Run(s.Name, func(t *testing.T) {
			if (testing.Short() || slow) && s.Bytes > 4<<20 {
				t.Skip("large, and -short or the race detector is on: TestSetsStartAsPublished looks at their first bytes")
			}
			modules := ""
			if !strings.HasPrefix(s.Name, "click") {
				modules = parts.NodeModules(t)
			}
			if err := s.Write(io.Discard, modules); err != nil {
				t.Error(err)
			}
		})
	}
}

var errEnough = errors.New("enough")

// prefix takes so many bytes and then fails.
type prefix struct {
	hash hash.Hash
	left int
}

func (p *prefix) Write(b []byte) (int, error) {
	n := min(len(b), p.left)
	p.hash.Write(b[:n])
	if p.left -= n; p.left == 0 {
		return n, errEnough
	}
	return n, nil
}

// The hashes were taken from files whose whole hash was the published one.
func TestSetsStartAsPublished(t *testing.T) {
	for name, want := range map[string]string{
		"octokit":   "3fa16e7ee88fc86257f61d17e76071d3ae87bf90a45a0bda17e7f49d7730242d",
		"flights":   "4e8f89511f6e75b23cf8c66b73f023681bb233024f66147e1d688d269db8b6e1",
		"click250k": "f29033a0830ede482ddbd03fce625697e96b050f7b3158f7e68324ae8a105225",
		"clickshuf": "100e11ff57f18ac764df52e44fa7f7ce2141b082a64c82a6fa2d0f38e5256310",
	} {
		t.Run(name, func(t *testing.T) {
			modules := ""
			if !strings.HasPrefix(name, "click") {
				modules = parts.NodeModules(t)
			}
			s, err := sets.Named(name)
			if err != nil {
				t.Fatal(err)
			}
			p := &prefix{hash: sha256.New(), left: 8_000_000}
			if err := s.Write(p, modules); !errors.Is(err, errEnough) {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(p.hash.Sum(nil)); got != want {
				t.Errorf("the first 8,000,000 bytes have SHA-256 %s, want %s", got, want)
			}
		})
	}
}

func TestSchemasHoldAsManyColumnsAsPublished(t *testing.T) {
	for name, leaves := range map[string]int{"click1k": 30, "octokit": 132, "flights": 5} {
		s, err := sets.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		schema, err := format.ParseDDL(s.Schema)
		if err != nil {
			t.Fatalf("schema of %s: %v", name, err)
		}
		if got := schema.Leaves(); got != leaves {
			t.Errorf("schema of %s has %d columns with values, want %d", name, got, leaves)
		}
	}
	if _, err := sets.Named("clicks"); err == nil {
		t.Error("a set that does not exist was found")
	}
}

func TestFileIsMadeOnceAndMendedWhenCut(t *testing.T) {
	s, err := sets.Named("click1k")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := s.File(dir+"/data", "")
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil || before.Size() != s.Bytes {
		t.Fatalf("file of %d bytes, %v", before.Size(), err)
	}
	if _, err := s.File(dir+"/data", ""); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Error("the file was made again though it was there")
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := s.File(dir+"/data", ""); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); after.Size() != s.Bytes {
		t.Errorf("a cut file was kept: %d bytes", after.Size())
	}
	entries, err := os.ReadDir(dir + "/data")
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files in the folder, want one; %v", len(entries), err)
	}
}

func TestMissingPackageIsTold(t *testing.T) {
	for _, name := range []string{"octokit329", "octokit", "flights"} {
		s, err := sets.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := s.File(dir, dir+"/node_modules"); !errors.Is(err, sets.ErrMissing) {
			t.Errorf("%s without its package: %v", name, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("%s without its package left %d files", name, len(entries))
		}
	}
}
