package delivery

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"hydrant/prefix"
	"hydrant/sinks"
)

// Error output types: the value of !{firehose:error-output-type}.
const (
	// formatConversionFailed holds rows that do not fit the format, as error lines.
	formatConversionFailed = "format-conversion-failed"
	// metadataExtractionFailed holds rows for which no key can be made that the store takes, as error lines.
	metadataExtractionFailed = "metadata-extraction-failed"
	// deliveryFailed holds whole objects that the destination refused, byte for byte. It is a type of
	// Hydrant's own: Firehose gives such objects up.
	deliveryFailed = "delivery-failed"
)

// nameTime is how the time stands in an object's name.
const nameTime = "2006-01-02-15-04-05"

// contentType of every object, whatever is in it, as Firehose's.
const contentType = "application/octet-stream"

// uuidLength is the length of a UUID in its usual form.
const uuidLength = 36

// objectName is the part of a key after the evaluated prefix. at is the arrival of the object's oldest
// record in the zone of the stream, id is drawn once and fixed by the manifest.
func objectName(stream string, version uint64, at time.Time, id uuid.UUID, extension string) string {
	return fmt.Sprintf("%s-%d-%s-%s%s", stream, version, at.Format(nameTime), id, extension)
}

// renamed is key with the UUID in its object name exchanged for id: the new name of an object whose own
// one is taken by somebody else. It says false where key has none.
func renamed(key string, id uuid.UUID) (string, bool) {
	start := strings.LastIndexByte(key, '/') + 1
	for i := len(key) - uuidLength; i >= start; i-- {
		if _, err := uuid.Parse(key[i : i+uuidLength]); err == nil {
			return key[:i] + id.String() + key[i+uuidLength:], true
		}
	}
	return "", false
}

// extensionOf is what stands after the UUID in key's object name: the extension that it was given.
func extensionOf(key string) string {
	start := strings.LastIndexByte(key, '/') + 1
	for i := len(key) - uuidLength; i >= start; i-- {
		if _, err := uuid.Parse(key[i : i+uuidLength]); err == nil {
			return key[i+uuidLength:]
		}
	}
	return ""
}

// zone of the stream's names.
func (p *Pipeline) zone() *time.Location {
	if p.TimeZone == nil {
		return time.UTC
	}
	return p.TimeZone
}

// at is an arrival (µs since the Unix epoch) as a time in the stream's zone.
func (p *Pipeline) at(arrived int64) time.Time { return time.UnixMicro(arrived).In(p.zone()) }

// errorAt is at for the names of the error output.
func (p *Pipeline) errorAt(arrived int64) time.Time {
	if p.ErrorZone == nil {
		return p.at(arrived)
	}
	return time.UnixMicro(arrived).In(p.ErrorZone)
}

// extension of data objects.
func (p *Pipeline) extension() string {
	if p.FileExtension != "" {
		return p.FileExtension
	}
	return p.Format.Extension()
}

// dataKey draws the key of a data object whose oldest record arrived at arrived. An error means that no
// key can be made that the store takes.
func (p *Pipeline) dataKey(stream string, version uint64, arrived int64) (string, error) {
	return p.key(p.Prefix, prefix.Values{Time: p.at(arrived)}, stream, version, p.extension())
}

// errorKey is dataKey for an object of the error output.
func (p *Pipeline) errorKey(errorType, stream string, version uint64, arrived int64, extension string) (string, error) {
	return p.key(p.ErrorPrefix, prefix.Values{Time: p.errorAt(arrived), ErrorOutputType: errorType}, stream, version, extension)
}

func (p *Pipeline) key(t *prefix.Template, v prefix.Values, stream string, version uint64, extension string) (string, error) {
	text, err := t.Eval(v, rand.Reader)
	if err != nil {
		return "", err
	}
	return p.named(p.sinkOf(t), text, stream, version, v.Time, extension)
}

// routedKey draws the key of a data object under a route. An error means that no key can be made that the store takes.
func (p *Pipeline) routedKey(route, stream string, version uint64, arrived int64) (string, error) {
	text, err := p.Prefix.Finish(route, rand.Reader)
	if err != nil {
		return "", err
	}
	return p.named(p.Destination.Sink, text, stream, version, p.at(arrived), p.extension())
}

// named draws a key under an evaluated prefix.
func (p *Pipeline) named(sink sinks.Sink, text, stream string, version uint64, at time.Time, extension string) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("draw a UUID: %w", err)
	}
	key := text + objectName(stream, version, at, id, extension)
	if err := sink.ValidateKey(key); err != nil {
		return "", err
	}
	return key, nil
}
