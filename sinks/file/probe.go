package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hydrant/sinks"
)

var _ sinks.Prober = (*Sink)(nil)

// Probe stores a file and removes it. Directories that it had to make stay.
func (s *Sink) Probe(ctx context.Context, prefix string) []sinks.Finding {
	var id [8]byte
	rand.Read(id[:]) // never fails
	body := []byte("hydrant doctor stored this, and takes it away again\n")
	o := sinks.Object{Key: prefix + "hydrant-probe-" + hex.EncodeToString(id[:]), Size: int64(len(body)), SHA256: sha256.Sum256(body), ReaderAt: bytes.NewReader(body)}
	began := time.Now()
	if err := s.Put(ctx, o); err != nil {
		return []sinks.Finding{{Check: "put", Level: sinks.Failed, Found: err.Error(), Key: "path", Remedy: "name a directory that this user may write to"}}
	}
	out := []sinks.Finding{{Check: "put", Level: sinks.OK, Found: fmt.Sprintf("written and synced in %s, in %v", s.path, time.Since(began).Round(time.Millisecond))}}
	if err := s.Verify(ctx, o); err != nil {
		out = append(out, sinks.Finding{Check: "verify", Level: sinks.Failed, Found: err.Error(), Key: "path", Remedy: "name a directory whose files can be read back"})
	}
	if err := os.Remove(filepath.Join(s.path, filepath.FromSlash(fileName(o.Key)))); err != nil {
		out = append(out, sinks.Finding{Check: "delete", Level: sinks.Warning, Found: err.Error(), Remedy: "remove the file yourself; deliveries need no right to delete"})
	}
	return out
}
