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
//	{"firehose": document, "config": specification of config.Stream}
//
// One of the configuration file is the latter alone, which has no member of that name, so the first member
// tells which it is. The document is what Describe and the next update start from; the configuration is what
// delivers, and is kept beside it so that an older version goes on delivering to where it did whatever this
// program makes of documents by then.
const specHead = `{"firehose":`

// storedSpec is a specification that was read.
type storedSpec struct {
	document *firehose.Document
	config   []byte
}

// Owns tells whether a stream was made over the API. The others are the configuration file's.
func Owns(s buffer.Stream) bool { return bytes.HasPrefix(s.Spec, []byte(specHead)) }

// ConfigSpec is the part of any stream's specification that config.ParseSpec reads.
func ConfigSpec(spec []byte) ([]byte, error) {
	if !bytes.HasPrefix(spec, []byte(specHead)) {
		return spec, nil
	}
	var wire struct{ Config json.RawMessage }
	if err := json.Unmarshal(spec, &wire); err != nil {
		return nil, fmt.Errorf("stored specification of a stream that was created over the API: %w", err)
	}
	if len(wire.Config) == 0 {
		return nil, errors.New("stored specification of a stream that was created over the API: it has no configuration")
	}
	return wire.Config, nil
}

// readSpec reads what spec wrote.
func readSpec(spec []byte) (s storedSpec, err error) {
	var wire struct {
		Firehose *firehose.Document
		Config   json.RawMessage
	}
	if err := json.Unmarshal(spec, &wire); err != nil {
		return s, fmt.Errorf("stored specification of a stream that was created over the API: %w", err)
	}
	if wire.Firehose == nil || len(wire.Config) == 0 {
		return s, errors.New("stored specification of a stream that was created over the API: it has no document or no configuration")
	}
	return storedSpec{wire.Firehose, wire.Config}, nil
}

// maxSpec is the longest specification that is kept, in bytes; the rest of a definition is for tags.
const maxSpec = 48 << 10

// spec makes the specification of a document and refuses what this daemon cannot deliver. schema is what was read of
// its table.
func (p *Plane) spec(name string, d *firehose.Document, aws config.AWS, schema config.Schema) ([]byte, error) {
	stream, err := p.configOf(name, d, aws, schema)
	if undeliverable, ok := errors.AsType[*firehose.NotDeliverable](err); ok {
		return nil, undeliverable.Answer()
	}
	if err == nil {
		err = p.o.Check(stream)
	}
	if err != nil {
		if _, ok := errors.AsType[*firehose.Error](err); ok {
			return nil, err
		}
		return nil, invalid("The stream cannot be delivered: %v.", err)
	}
	document, err := d.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode the document of stream %q: %w", name, err)
	}
	spec := fmt.Appendf(nil, `%s%s,"config":%s}`, specHead, document, stream.Spec())
	if len(spec) > maxSpec {
		return nil, invalid("The configuration takes %d bytes when it is stored, at most %d are kept: shorten its texts.", len(spec), maxSpec)
	}
	return spec, nil
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
