package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Sizes that close an object where the file gives none.
const (
	DefaultSize        = 5 * MiB
	DefaultSizeParquet = 128 * MiB
)

// DefaultBackupInterval is backup.buffer.interval.
const DefaultBackupInterval = Duration(300 * time.Second)

// maxSpec is what a STREAM frame has room for.
const maxSpec = 60 << 10

// maxTags and the lengths of keys and values in characters are those of the Firehose API.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// faultAt adds a fault at a path that the file may not have.
func (d *decoder) faultAt(path, value, problem, remedy string) {
	f := File{places: d.places}
	d.faults = append(d.faults, f.Fault(path, value, problem, remedy))
}

// check looks at what needs more than one key, fills in what depends on another key, and makes the paths
// of destinations absolute.
func (d *decoder) check(c *Config) {
	d.listeners(c)
	d.access(c)
	f := File{Config: c, places: d.places}
	d.faults = append(d.faults, f.CheckExposure()...)
	names := map[string]int{}
	for i := range c.Streams {
		s := &c.Streams[i]
		path := index("streams", i)
		if first, dup := names[s.Name]; dup && s.Name != "" {
			d.faultAt(child(path, "name"), s.Name, fmt.Sprintf("is the name of streams[%d] already", first), "names are unique")
		} else {
			names[s.Name] = i
		}
		d.tags(s, child(path, "tags"))
		d.stream(c, s, path)
	}
	d.kafkaGroups(c)
}

func (d *decoder) tags(s *Stream, path string) {
	if len(s.Tags) > maxTags {
		d.faultAt(path, "", fmt.Sprintf("has %d tags", len(s.Tags)), fmt.Sprintf("at most %d", maxTags))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
		v := s.Tags[k]
		if n := utf8.RuneCountInString(k); n < 1 || n > maxTagKey {
			d.faultAt(child(path, k), k, fmt.Sprintf("has a key of %d characters", n), fmt.Sprintf("from 1 to %d", maxTagKey))
		}
		if n := utf8.RuneCountInString(v); n > maxTagValue {
			d.faultAt(child(path, k), v, fmt.Sprintf("has a value of %d characters", n), fmt.Sprintf("at most %d", maxTagValue))
		}
	}
}

func (d *decoder) stream(c *Config, s *Stream, path string) {
	before := len(d.faults)
	if s.Source.Kafka != nil {
		d.kafka(s, s.Source.Kafka, child(path, "source.kafka"))
	}
	d.buffer(s, path)
	d.transform(s, path)
	d.partition(s, child(path, "partition"))
	d.schema(c, s, path)
	if p := s.Format.Parquet; p != nil && p.RowGroup < p.Page {
		d.faultAt(child(path, "format.parquet.page"), p.Page.String(), "is larger than row_group, "+p.RowGroup.String(), "")
	}
	if f := s.Destination.File; f != nil && f.Path != "" {
		d.filePath(c, f, child(path, "destination.file.path"))
	}
	if k := s.Source.Kinesis; k != nil {
		d.kinesis(c, s, k, child(path, "source.kinesis"))
	}
	if s3 := s.Destination.S3; s3 != nil {
		d.s3(c, s3, child(path, "destination.s3"))
	}
	if s.Destination.HTTP != nil {
		d.http(s, path)
	}
	if r := s.Destination.Redshift; r != nil {
		d.redshift(c, s, r, path)
	}
	if s.Backup != nil {
		d.backup(c, s, path)
	}
	if len(d.faults) > before {
		return
	}
	f := File{places: d.places}
	if fault, tooLong := f.specFault(s, path); tooLong {
		d.faults = append(d.faults, fault)
	}
}

// s3 fills in what a bucket takes from the settings of all.
func (d *decoder) s3(c *Config, s3 *S3Destination, path string) {
	if s3.Region == "" {
		s3.Region = c.AWS.Region
	}
	if s3.Endpoint == "" {
		s3.Endpoint = c.AWS.Endpoints.S3
	}
	d.credentials(&s3.Credentials, child(path, "credentials"))
}

func (d *decoder) buffer(s *Stream, path string) {
	b := &s.Buffer
	_, sized := d.places[child(path, "buffer.size")]
	if b.FileSize > 0 && sized {
		d.faultAt(child(path, "buffer.file_size"), b.FileSize.String(), "stands instead of size, and both are given", "keep one")
	}
	if b.Size != 0 || b.FileSize > 0 {
		return
	}
	b.Size = DefaultSize
	if s.Format.Parquet != nil {
		b.Size = DefaultSizeParquet
	}
}

func (d *decoder) filePath(c *Config, f *FileDestination, path string) {
	abs, err := filepath.Abs(f.Path)
	if err != nil {
		d.faultAt(path, f.Path, "cannot be made absolute: "+err.Error(), "write an absolute path")
		return
	}
	if within(c.DataDir, abs) {
		d.faultAt(path, f.Path, "lies in data_dir, "+c.DataDir, "choose a directory outside of it")
	}
	f.Path = abs
}

// within tells whether an absolute path is dir or below it.
func within(dir, path string) bool {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(abs, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (d *decoder) credentials(c *Credentials, path string) {
	switch {
	case c.AccessKeyID.IsSet() != c.SecretAccessKey.IsSet():
		d.faultAt(path, "", "has only one of access_key_id and secret_access_key", "give both or neither")
	case c.SessionToken.IsSet() && !c.AccessKeyID.IsSet():
		d.faultAt(path, "", "has a session_token without a key", "give access_key_id and secret_access_key too")
	case c.Profile != "" && c.AccessKeyID.IsSet():
		d.faultAt(path, "", "has both a key and a profile", "keep one")
	}
}
