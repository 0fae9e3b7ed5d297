package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// Spec is what a data directory keeps of the stream: everything that decides what its records become and
// where they go, in canonical JSON, with the keys of the file and every default written out. Name and
// tags are kept beside it. Secrets are not in it, only that they are configured: who works a spec off
// takes them from the present file (TakeSecrets), so that a rotated key serves older versions too.
//
// Equal streams have equal specs, and a different one means a new version of the stream. So a key that is
// added to the file later must be left out of the spec while it has the value that keeps the old
// behaviour.
func (s *Stream) Spec() []byte {
	var b bytes.Buffer
	writeJSON(&b, encode(reflect.ValueOf(s).Elem()))
	return b.Bytes()
}

// ParseSpec reads what Spec wrote, in this process or in an earlier one. A key that it does not know is an
// error: it was written by a newer version of the program.
func ParseSpec(name string, spec []byte) (*Stream, error) {
	root, err := parseJSON(spec)
	if err != nil {
		return nil, fmt.Errorf("stream %q: its stored specification is not readable: %w", name, err)
	}
	s := &Stream{}
	d := &decoder{spec: true}
	root.entries = append(slices.Clone(root.entries), entry{key: "name", value: &node{kind: scalar, text: name}})
	d.decode(reflect.ValueOf(s).Elem(), root, "", &field{})
	if len(d.faults) > 0 {
		return nil, fmt.Errorf("stream %q: its stored specification was written by another version of this program: %s", name, d.faults[0])
	}
	return s, nil
}

// TakeSecrets gives s, which ParseSpec returned, the credentials that the present configuration has for
// the stream of its name (nil where it has none any more): for the same bucket whatever they are now, and
// for another place those that stand in for an access key of which only the name is kept. It fails where
// s needs an access key and nothing stands in for it.
func (s *Stream) TakeSecrets(present *Stream) error {
	if present == nil {
		present = &Stream{}
	}
	if mine := s.Source.Kafka; mine != nil {
		mine.takeSecrets(present.Source.Kafka)
	}
	if mine := s.Destination.S3; mine != nil {
		if err := mine.takeSecrets(s.Name, present.Destination.S3, present); err != nil {
			return err
		}
	}
	if mine := s.Destination.HTTP; mine != nil {
		if err := mine.takeSecrets(s.Name, present.Destination.HTTP); err != nil {
			return err
		}
	}
	if mine := s.Destination.Redshift; mine != nil {
		if err := mine.takeSecrets(s.Name, present); err != nil {
			return err
		}
	}
	for i := range s.Transform {
		if mine := s.Transform[i].HTTP; mine != nil {
			if err := mine.takeSecrets(s.Name, present); err != nil {
				return err
			}
		}
	}
	if s.Backup == nil || s.Backup.S3 == nil {
		return nil
	}
	var theirs *S3Destination
	if present.Backup != nil {
		theirs = present.Backup.S3
	}
	return s.Backup.S3.takeSecrets(s.Name, theirs, present)
}

// takeSecrets gives d those that present has for the same bucket, or theirs, which is what it has for the same purpose.
func (d *S3Destination) takeSecrets(stream string, theirs *S3Destination, present *Stream) error {
	needs := d.Credentials.AccessKeyID.set
	same := present.Bucket(d)
	switch {
	case same != nil:
		d.Credentials = same.Credentials
	case theirs != nil && needs:
		d.Credentials = theirs.Credentials
	case needs:
		return fmt.Errorf("stream %q has undelivered records for s3 bucket %q and its access key is no longer in the configuration: put the stream back until they are delivered", stream, d.Bucket)
	}
	return nil
}

// Bucket is what the stream has for the same bucket as d, or nil: the place tells whose credentials are whose.
func (s *Stream) Bucket(d *S3Destination) *S3Destination {
	list := []*S3Destination{s.Destination.S3}
	if r := s.Destination.Redshift; r != nil {
		list = append(list, r.Staging.S3)
	}
	if s.Backup != nil {
		list = append(list, s.Backup.S3)
	}
	for _, theirs := range list {
		if theirs != nil && theirs.Bucket == d.Bucket && theirs.Endpoint == d.Endpoint {
			return theirs
		}
	}
	return nil
}

// object is a JSON object whose members keep the order of the struct.
type object []member

type member struct {
	key   string
	value any
}

// encode turns a value into text, bool, []any, object or nil, by the same tags that decode reads.
func encode(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		return encode(v.Elem())
	}
	switch x := v.Interface().(type) {
	case interface{ encode() any }:
		return x.encode()
	case Secret:
		if !x.set {
			return nil
		}
		return "configured"
	case fmt.Stringer:
		return x.String()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = encode(v.Index(i))
		}
		return out
	case reflect.Map:
		var keys []string
		for _, k := range v.MapKeys() {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		out := object{}
		for _, k := range keys {
			out = append(out, member{k, v.MapIndex(reflect.ValueOf(k)).String()})
		}
		return out
	case reflect.Struct:
		s := shapeOf(v.Type())
		if s.word != nil {
			if word := v.Field(s.word.index).String(); slices.Contains(s.word.enum, word) {
				return word
			}
		}
		out := object{}
		for _, f := range s.fields {
			if f.notInSpec {
				continue
			}
			value := encode(v.Field(f.index))
			if o, isObject := value.(object); value == nil || isObject && len(o) == 0 && !s.union {
				continue
			}
			if f.sparse && (fmt.Sprint(value) == f.def || value == "") {
				continue
			}
			if l, isList := value.([]any); isList && len(l) == 0 {
				continue
			}
			out = append(out, member{f.name, value})
		}
		return out
	}
	panic("bug: config value of type " + v.Type().String() + " has no place in a spec")
}

func writeJSON(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case object:
		b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, m.key)
			b.WriteByte(':')
			writeJSON(b, m.value)
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, e)
		}
		b.WriteByte(']')
	default:
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			panic("bug: " + err.Error()) // texts and booleans only
		}
		b.Truncate(b.Len() - 1) // the encoder's newline
	}
}
