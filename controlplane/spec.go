package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// The specification of a stream that was made over the API, as a data directory keeps it:
//
//	{"firehose": document, "secret": id, "config": specification of config.Stream}
//
// One of the configuration file is the latter alone, which has no member of that name, so the first member
// tells which it is. The document is what Describe and the next update start from; the configuration is what
// delivers, and is kept beside it so that an older version goes on delivering to where it did whatever this
// program makes of documents by then. A stream that waits for a version that can deliver it has none (waiting.go),
// and one without password and access key names no secret.
const specHead = `{"firehose":`

// storedSpec is a specification that was read.
type storedSpec struct {
	document *firehose.Document
	secret   string // id; "": none
	config   []byte // nil: the stream waits
}

// Owns tells whether a stream was made over the API. The others are the configuration file's.
func Owns(s buffer.Stream) bool { return bytes.HasPrefix(s.Spec, []byte(specHead)) }

// ConfigSpec is the part of any stream's specification that config.ParseSpec reads. The error is a *WaitingError
// where there is none.
func ConfigSpec(spec []byte) ([]byte, error) {
	if !bytes.HasPrefix(spec, []byte(specHead)) {
		return spec, nil
	}
	stored, err := readSpec(spec)
	if err == nil {
		err = stored.waiting()
	}
	return stored.config, err
}

// readSpec reads what draft.spec wrote.
func readSpec(spec []byte) (s storedSpec, err error) {
	var wire struct {
		Firehose *firehose.Document
		Secret   string
		Config   json.RawMessage
	}
	if err := json.Unmarshal(spec, &wire); err != nil {
		return s, fmt.Errorf("stored specification of a stream that was created over the API: %w", err)
	}
	if wire.Firehose == nil {
		return s, errors.New("stored specification of a stream that was created over the API: it has no document")
	}
	return storedSpec{wire.Firehose, wire.Secret, wire.Config}, nil
}

// maxSpec is the longest specification that is kept, in bytes; the rest of a definition is for tags.
const maxSpec = 48 << 10

// draft is a specification before it is known what its secrets are kept as.
type draft struct {
	document, config []byte // config is nil where the stream is to wait
	keepsAll         bool   // all its source records go to a backup as well
}

// consumers of the stream's rows.
func (d draft) consumers() []uint8 {
	if d.keepsAll {
		return []uint8{buffer.Main, buffer.Backup}
	}
	return []uint8{buffer.Main}
}

// spec makes the draft of a document and refuses what this daemon cannot deliver, unless the stream may wait. now is
// what is stored of it, nil of one that is being created; schema is what was read of its table.
func (p *Plane) spec(name string, now *storedSpec, d *firehose.Document, secrets firehose.Secrets, aws config.AWS, schema config.Schema) (out draft, err error) {
	stream, err := p.configOf(name, d, aws, schema)
	if err == nil {
		secrets.Into(stream)
		err = p.o.Check(stream)
	}
	undeliverable, waits := errors.AsType[*firehose.NotDeliverable](err)
	if waits {
		err = now.mayWait(undeliverable)
	}
	if err != nil {
		if _, ok := errors.AsType[*firehose.Error](err); ok {
			return out, err
		}
		return out, invalid("The stream cannot be delivered: %v.", err)
	}
	if out.document, err = d.MarshalJSON(); err != nil {
		return out, fmt.Errorf("encode the document of stream %q: %w", name, err)
	}
	if !waits {
		out.keepsAll = stream.KeepsAll()
		out.config = stream.Spec()
	}
	if n := len(out.spec(strings.Repeat("0", idLength))); n > maxSpec {
		return out, invalid("The configuration takes %d bytes when it is stored, at most %d are kept: shorten its texts.", n, maxSpec)
	}
	return out, nil
}

// idLength is that of the ids of secrets.
const idLength = 32

// spec is the specification, with the id of its secrets.
func (d draft) spec(secret string) []byte {
	spec := append([]byte(specHead), d.document...)
	if secret != "" {
		spec = fmt.Appendf(spec, `,"secret":%q`, secret)
	}
	if d.config != nil {
		spec = append(append(spec, `,"config":`...), d.config...)
	}
	return append(spec, '}')
}

// Tags whose keys begin so are the service's: callers can neither set nor see them.
const systemTags = "aws:"

// encryptionTag holds how a stream asks for encryption at rest: the type of the key and, after a space, its
// ARN. It is a tag because tags change without a new version of the stream.
const encryptionTag = systemTags + "hydrant:encryption"

// keyOf reads the encryption that a stream asked for; nil: none.
func keyOf(tags map[string]string) *firehose.Key {
	text, ok := tags[encryptionTag]
	if !ok {
		return nil
	}
	kind, arn, _ := strings.Cut(text, " ")
	return &firehose.Key{Type: kind, ARN: arn}
}

// withKey returns tags with an encryption; nil: none.
func withKey(tags map[string]string, k *firehose.Key) map[string]string {
	out := maps.Clone(tags)
	if k == nil {
		delete(out, encryptionTag)
		return out
	}
	if out == nil {
		out = map[string]string{}
	}
	out[encryptionTag] = strings.TrimSuffix(k.Type+" "+k.ARN, " ")
	return out
}
