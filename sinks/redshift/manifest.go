package redshift

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"strings"
	"time"

	"hydrant/sinks"
)

// maxManifest bounds a manifest that is read, in bytes.
const maxManifest = 64 << 20

type manifestJSON struct {
	Entries []entryJSON `json:"entries"`
}

type entryJSON struct {
	URL       string   `json:"url"`
	Mandatory bool     `json:"mandatory"`
	Meta      metaJSON `json:"meta"`
}

type metaJSON struct {
	Length int64 `json:"content_length"`
}

// Manifest is the COPY manifest of the parts, each of which must be there with its exact length. The same parts in the
// same order make the same bytes.
func (s *Sink) Manifest(parts []sinks.Part) []byte {
	m := manifestJSON{Entries: make([]entryJSON, len(parts))}
	for i, p := range parts {
		m.Entries[i] = entryJSON{s.url(p.Key), true, metaJSON{p.Size}}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic("bug: a manifest of texts and numbers cannot be encoded: " + err.Error())
	}
	return append(b, '\n')
}

func (s *Sink) url(key string) string { return "s3://" + s.o.Bucket + "/" + key }

// SkippedKey is the key of the manifest of what was given up, named as Firehose names it. at is when the oldest record
// arrived, and id is drawn once.
func SkippedKey(prefix, stream string, at time.Time, id string) string {
	at = at.UTC()
	return prefix + "errors/manifests/" + at.Format("2006/01/02/15/") + stream + "-" + at.Format("2006-01-02-15-04-05-") + id
}

// parseManifest reads the keys and lengths of a manifest, whose objects all lie in this bucket.
func parseManifest(bucket string, b []byte) ([]sinks.Part, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes; at most %d", len(b), maxManifest)
	}
	var m manifestJSON
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	if len(m.Entries) == 0 {
		return nil, errors.New("the manifest names no object")
	}
	parts := make([]sinks.Part, len(m.Entries))
	seen := map[string]bool{}
	for i, e := range m.Entries {
		key, ok := strings.CutPrefix(e.URL, "s3://"+bucket+"/")
		switch {
		case !ok || !objectPattern.MatchString(key):
			return nil, fmt.Errorf("entry %d of the manifest, %q, is no object of the bucket %q", i+1, e.URL, bucket)
		case seen[key]:
			return nil, fmt.Errorf("entry %d of the manifest, %q, is there twice", i+1, e.URL)
		case e.Meta.Length < 0:
			return nil, fmt.Errorf("entry %d of the manifest, %q, has a length of %d", i+1, e.URL, e.Meta.Length)
		}
		seen[key] = true
		parts[i] = sinks.Part{Key: key, Size: e.Meta.Length, Records: -1}
	}
	return parts, nil
}

var nvme = crc64.MakeTable(sinks.CRC64NVME)

// stage stores the manifest of the parts and returns its URL.
func (s *Sink) stage(ctx context.Context, parts []sinks.Part) (string, error) {
	b := s.Manifest(parts)
	sum := sha256.Sum256(b)
	key := s.manifestKey(b)
	o := sinks.Object{
		Key: key, Size: int64(len(b)), SHA256: sum, CRC64NVME: crc64.Checksum(b, nvme), ContentType: "application/json",
		Meta: map[string]string{
			sinks.MetaManifestID: hex.EncodeToString(sum[:16]), sinks.MetaSHA256: hex.EncodeToString(sum[:]), sinks.MetaStream: s.o.Stream,
		},
		ReaderAt: bytes.NewReader(b),
	}
	if err := s.o.Staging.Put(ctx, o); err != nil {
		return "", fmt.Errorf("stage the manifest of COPY %q: %w", key, err)
	}
	return s.url(key), nil
}
