package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/delivery"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/format/text"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/sinks/file"
	"hydrant/sinks/s3"
	"hydrant/sources"
	"hydrant/sources/kafka"
	"hydrant/sources/kinesis"
)

// parts translates streams as the configuration has them into pipelines. It does no I/O and is safe for
// concurrent use.
type parts struct {
	now           atomic.Pointer[settings]
	encoderMemory int64                // bytes that one encoder may hold; 0: its own default
	hookMemory    int64                // bytes for all functions together
	memory        int64                // bytes of the whole process
	kafkaMemory   int64                // bytes for what one stream has fetched of Kafka
	kinesisMemory int64                // bytes for answers that one stream has of Kinesis
	directory     [16]byte             // what names the data directory
	reading       *sources.Reading     // metrics of sources; nil: nothing is counted
	routeMemory   int64                // bytes for the prefixes that one stream remembers
	secrets       controlplane.Secrets // of streams that were made over the API; nil: none
	log           *slog.Logger
}

// settings are what pipelines take from the configuration in force, beside what the data directory holds. They
// are never changed; a reload puts others in their place.
type settings struct {
	aws     config.AWS
	present map[string]*config.Stream // streams of the file, for the secrets of older versions
}

func newParts(c *config.Config, log *slog.Logger) *parts {
	p := &parts{log: log, hookMemory: int64(c.Limits.Memory) / memoryShares, memory: int64(c.Limits.Memory)}
	p.renew(c, func(string) bool { return false })
	partitioned, ofKafka, ofKinesis := int64(0), int64(0), int64(0)
	for i := range c.Streams {
		if c.Streams[i].Partition != nil {
			partitioned++
		}
		if c.Streams[i].Source.Kafka != nil {
			ofKafka++
		}
		if c.Streams[i].Source.Kinesis != nil {
			ofKinesis++
		}
	}
	p.kafkaMemory = max(p.memory*readMemory/memoryShares/max(ofKafka, 1), kafka.MinMemory)
	p.kinesisMemory = max(p.memory*readMemory/memoryShares/max(ofKinesis, 1), kinesis.MinMemory)
	p.routeMemory = min(max(int64(c.Limits.Memory)/memoryShares/2/max(partitioned, 1), minRouteMemory), partition.DefaultCacheBytes)
	share := int64(c.Limits.Memory) * encodeShare / memoryShares
	p.encoderMemory = max(share/int64(encodeWorkers(int64(c.Limits.Memory))), parquet.MinMemoryLimit)
	return p
}

// renew makes c the configuration in force. A stream that was in the one before, and is still there, is remembered
// as it was: it is delivered with the credentials that it had last.
func (p *parts) renew(c *config.Config, there func(stream string) bool) {
	next := &settings{aws: c.AWS, present: map[string]*config.Stream{}}
	if old := p.now.Load(); old != nil {
		for name, s := range old.present {
			if there(name) {
				next.present[name] = s
			}
		}
	}
	for i := range c.Streams {
		next.present[c.Streams[i].Name] = &c.Streams[i]
	}
	for i := range c.Streams {
		d := c.Streams[i].Destination.S3
		if r := c.Streams[i].Destination.Redshift; r != nil {
			d = r.Staging.S3
		}
		if d != nil && d.Credentials.RoleARN != "" && !next.reach().roles {
			p.log.Warn("role is not assumed, as aws.role_arns is ignore; assume changes that", "stream", c.Streams[i].Name, "role_arn", d.Credentials.RoleARN)
		}
	}
	p.now.Store(next)
}

// reach is what else, beside a stream's own settings, decides with which rights its bucket is reached.
type reach struct {
	sts   string // base URL of the token service; "": AWS's
	roles bool   // role_arn is assumed
}

func (s *settings) reach() reach {
	return reach{sts: s.aws.Endpoints.STS, roles: s.aws.RoleARNs == "assume"}
}

// open is delivery.Open: a pipeline for a version of a stream that the data directory holds.
func (p *parts) open(v buffer.Stream) (*delivery.Pipeline, error) {
	now, inFile, s, err := p.stream(v)
	if err != nil {
		return nil, err
	}
	pipe, flaws := p.pipeline(now, inFile, s)
	if err := joined(flaws); err != nil {
		return nil, fmt.Errorf("stream %q: %w", v.Name, err)
	}
	return pipe, nil
}

// stream is a version of a stream with its secrets, and what else pipelines take from the configuration in force. inFile is
// its name where its credentials follow the file's.
func (p *parts) stream(v buffer.Stream) (now *settings, inFile string, s *config.Stream, err error) {
	if s, err = parseSpec(v); err != nil {
		return nil, "", nil, err
	}
	now = p.now.Load()
	if controlplane.Owns(v) {
		return now, "", s, p.reveal(v, s)
	}
	return now, v.Name, s, s.TakeSecrets(now.present[v.Name])
}

// parseSpec reads what the data directory holds of a stream, whoever made it.
func parseSpec(v buffer.Stream) (*config.Stream, error) {
	spec, err := controlplane.ConfigSpec(v.Spec)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", v.Name, err)
	}
	return config.ParseSpec(v.Name, spec)
}

// check tells what of a stream cannot be delivered here.
func (p *parts) check(s *config.Stream) error {
	pipe, flaws := p.pipeline(p.now.Load(), "", s)
	if err := joined(flaws); err != nil {
		return err
	}
	return closeSinks(pipe)
}

// readingOf is what the source of a stream counts with; nil: nothing is counted.
func (p *parts) readingOf(stream string) *sources.StreamReading {
	if p.reading == nil {
		return nil
	}
	return p.reading.Stream(stream)
}

// closeSinks ends the connections of a pipeline that is not delivered.
func closeSinks(pipe *delivery.Pipeline) error {
	err := pipe.Destination.Sink.Close()
	if pipe.Errors.Sink != nil {
		err = errors.Join(err, pipe.Errors.Sink.Close())
	}
	return err
}

// joined is all flaws as one error, or nil.
func joined(flaws []flaw) error {
	errs := make([]error, len(flaws))
	for i, f := range flaws {
		errs[i] = fmt.Errorf("%s: %s", f.path, f.problem)
	}
	return errors.Join(errs...)
}

// flaw is what a part says of its settings; path is below the stream.
type flaw struct{ path, value, problem, remedy string }

// checkStreams makes every stream's pipeline once and maps what the parts say to places in the file. Of a
// stream that has known faults only the prefixes and the schema are looked at, and what has a fault already
// is left alone.
func checkStreams(f *config.File, known []config.Fault) (faults []config.Fault) {
	p := newParts(f.Config, slog.New(slog.DiscardHandler))
	faulty := map[string]bool{}
	for _, k := range known {
		faulty[k.Path] = true
	}
	for i := range f.Config.Streams {
		s, path := &f.Config.Streams[i], fmt.Sprintf("streams[%d]", i)
		var flaws []flaw
		if slices.ContainsFunc(known, func(k config.Fault) bool { return k.Path == path || strings.HasPrefix(k.Path, path+".") }) {
			flaws = texts(s)
		} else {
			_, flaws = p.pipeline(p.now.Load(), "", s)
		}
		for _, w := range flaws {
			if at := path + "." + w.path; !faulty[at] {
				faults = append(faults, f.Fault(at, w.value, w.problem, w.remedy))
			}
		}
	}
	return faults
}

// texts checks the parts of a stream that are languages of their own, whatever else is wrong with it.
func texts(s *config.Stream) (flaws []flaw) {
	var pipe delivery.Pipeline
	_, flaws = chain(s.Transform, slog.New(slog.DiscardHandler))
	if d := s.Destination.File; d != nil {
		flaws = append(flaws, names(&pipe, kindOf(s), "destination.file", d.Prefix, d.ErrorOutputPrefix, "UTC", "")...)
	}
	if d := s.Destination.S3; d != nil {
		flaws = append(flaws, names(&pipe, kindOf(s), "destination.s3", d.Prefix, d.ErrorOutputPrefix, "UTC", "")...)
	}
	if r := s.Destination.Redshift; r != nil && r.Staging.S3 != nil {
		flaws = append(flaws, names(&pipe, prefix.Prefix, "destination.redshift.staging.s3", r.Staging.S3.Prefix, r.Staging.S3.ErrorOutputPrefix, "UTC", "")...)
	}
	if b := s.Backup; b != nil && b.File != nil {
		flaws = append(flaws, names(&pipe, prefix.Prefix, "backup.file", b.File.Prefix, b.File.ErrorOutputPrefix, "UTC", "")...)
	}
	if b := s.Backup; b != nil && b.S3 != nil {
		flaws = append(flaws, names(&pipe, prefix.Prefix, "backup.s3", b.S3.Prefix, b.S3.ErrorOutputPrefix, "UTC", "")...)
	}
	if c := s.Format.Parquet; c != nil && c.Schema.Resolved() {
		if _, err := parseSchema(c.Schema); err != nil {
			flaws = append(flaws, schemaFlaws(err)...)
		}
	}
	return flaws
}

// pipeline makes a stream's parts and collects all that is wrong with them. inFile is its name where its credentials
// follow the file's.
func (p *parts) pipeline(now *settings, inFile string, s *config.Stream) (*delivery.Pipeline, []flaw) {
	pipe := &delivery.Pipeline{
		Size:     int64(s.Buffer.Size),
		FileSize: int64(s.Buffer.FileSize),
		Interval: time.Duration(s.Buffer.Interval),
	}
	var flaws, more []flaw
	pipe.Format, flaws = p.format(&s.Format)
	pipe.Catalog = catalogTable(&s.Format, now.aws.AccountID)
	pipe.Transform, pipe.Hooks, more = p.transforms(now, inFile, s.Name, delimited(s))
	flaws = append(flaws, more...)
	if s.Source.Kinesis != nil {
		flaws = append(flaws, p.kinesis(pipe, now, s)...)
	}
	if s.Source.Kafka != nil {
		flaws = append(flaws, p.kafka(pipe, s)...)
	}
	switch d := &s.Destination; {
	case d.File != nil:
		more = names(pipe, kindOf(s), "destination.file", d.File.Prefix, d.File.ErrorOutputPrefix, d.File.TimeZone, d.File.FileExtension)
		pipe.Destination = destination(s.Name, "file", d.File.Path)
		sink, err := file.New(file.Options{Path: d.File.Path, Log: p.log})
		if err != nil {
			more = append(more, flaw{"destination.file", "", err.Error(), ""})
		}
		pipe.Destination.Sink = sink
	case d.S3 != nil:
		more = names(pipe, kindOf(s), "destination.s3", d.S3.Prefix, d.S3.ErrorOutputPrefix, d.S3.TimeZone, d.S3.FileExtension)
		pipe.Destination = destination(s.Name, "s3", d.S3.Endpoint+" "+d.S3.Bucket)
		pipe.RetryDuration = time.Duration(d.S3.RetryDuration)
		sink, err := newRenewable(p, now, inFile, d.S3)
		if err != nil {
			more = append(more, flaw{"destination.s3", "", err.Error(), ""})
		}
		pipe.Destination.Sink = sink
	case d.HTTP != nil:
		more = p.endpoint(pipe, inFile, s)
	case d.Redshift != nil:
		more = p.redshift(pipe, now, inFile, s)
	default:
		panic("bug: a stream without a destination came through the decoder")
	}
	if s.Partition != nil && pipe.Prefix != nil {
		more = append(more, p.partition(pipe, s)...)
	}
	if s.Backup != nil {
		more = append(more, p.backup(pipe, now, inFile, s)...)
	}
	return pipe, append(flaws, more...)
}

// s3 makes the sink of a bucket. Keys are asked for again when the store refuses them, so that files of
// secrets can be replaced while the daemon runs.
func (p *parts) s3(d *config.S3Destination, by reach) (*s3.Sink, error) {
	o := s3.Options{
		Bucket: d.Bucket, Region: d.Region, Endpoint: d.Endpoint, STSEndpoint: by.sts,
		PathStyle: d.PathStyle, Checksum: d.Checksum, Encryption: d.Encryption.Word, KMSKey: d.Encryption.KMS, StorageClass: d.StorageClass,
		Credentials: s3.Credentials{Profile: d.Credentials.Profile},
		Log:         p.log,
	}
	if by.roles {
		o.Credentials.RoleARN = d.Credentials.RoleARN
	}
	if c := d.Credentials; c.AccessKeyID.IsSet() {
		o.Credentials.Keys = func() (id, secret, token string, err error) {
			for _, get := range []struct {
				to   *string
				from config.Secret
			}{{&id, c.AccessKeyID}, {&secret, c.SecretAccessKey}, {&token, c.SessionToken}} {
				if *get.to, err = get.from.Value(); err != nil {
					return "", "", "", err
				}
			}
			return id, secret, token, nil
		}
	}
	return s3.New(o)
}

// destination names a destination by stream, role and kind: what manifests pin, and never the bucket. place
// tells a corrected bucket from the one before.
func destination(stream, kind, place string) delivery.Destination {
	return delivery.Destination{ID: stream + "/data/" + kind, Kind: kind, Place: place}
}

// kindOf is the kind of a stream's prefix.
func kindOf(s *config.Stream) prefix.Kind {
	if s.Partition != nil {
		return prefix.PartitionedPrefix
	}
	return prefix.Prefix
}

// names parses prefixes and what else object names are made of.
func names(pipe *delivery.Pipeline, kind prefix.Kind, path, data, errs, zone, extension string) (flaws []flaw) {
	pipe.FileExtension = extension
	var err error
	if pipe.TimeZone, err = time.LoadLocation(zone); err != nil {
		flaws = append(flaws, flaw{path + ".time_zone", zone, err.Error(), "write an IANA name, like UTC or Europe/Berlin"})
	}
	parse := prefix.ParsePair
	if kind == prefix.PartitionedPrefix {
		parse = prefix.ParsePartitionedPair
	}
	if pipe.Prefix, pipe.ErrorPrefix, err = parse(data, errs); err == nil {
		return flaws
	}
	before := len(flaws)
	add := func(key, text string, kind prefix.Kind) {
		if _, err := prefix.Parse(text, kind); err != nil {
			flaws = append(flaws, prefixFlaw(path+"."+key, text, err))
		}
	}
	add("prefix", data, kind)
	add("error_output_prefix", errs, prefix.ErrorOutputPrefix)
	if len(flaws) == before { // each is right alone
		flaws = append(flaws, prefixFlaw(path+".error_output_prefix", errs, err))
	}
	return flaws
}

func prefixFlaw(path, text string, err error) flaw {
	var e *prefix.Error
	if !errors.As(err, &e) {
		return flaw{path, text, err.Error(), ""}
	}
	where := ""
	if e.Offset > 0 {
		where = fmt.Sprintf(" at character %d", e.Offset+1)
	}
	return flaw{path, text, e.Message + where, e.Detail}
}

// format makes the stream's format.
func (p *parts) format(f *config.Format) (format.Format, []flaw) {
	switch {
	case f.Text != nil:
		out, err := text.New(text.Options{Delimiter: text.Delimiter(f.Text.Delimiter), Compression: text.Compression(f.Text.Compression)})
		if err != nil {
			return nil, []flaw{{"format.text", "", err.Error(), ""}}
		}
		return out, nil
	case f.Parquet != nil:
		return p.parquet(f.Parquet)
	}
	panic("bug: a stream without a format came through the decoder")
}

func (p *parts) parquet(c *config.Parquet) (format.Format, []flaw) {
	if !c.Schema.Resolved() {
		return nil, nil // of a table that was not looked up: who looks it up checks it then
	}
	schema, err := parseSchema(c.Schema)
	if err != nil {
		return nil, schemaFlaws(err)
	}
	o := parquet.Options{
		Schema:        schema,
		Compression:   parquet.Compression(c.Compression),
		Encodings:     parquet.Encodings(c.Encodings),
		Timestamps:    parquet.TimestampUnit(c.Timestamps),
		RowGroup:      int64(c.RowGroup),
		Page:          int64(c.Page),
		MemoryLimit:   p.encoderMemory,
		UnknownFields: parquet.UnknownFields{Policy: parquet.UnknownPolicy(c.UnknownFields.Word), Column: c.UnknownFields.Column},
	}
	switch d := &c.Deserializer; {
	case d.Hive != nil:
		o.Hive = &parquet.Hive{TimestampFormats: d.Hive.TimestampFormats}
	case d.OpenX != nil:
		o.OpenX = &parquet.OpenX{CaseSensitive: !d.OpenX.CaseInsensitive, ColumnToJSONKey: d.OpenX.ColumnToJSONKey, DotsToUnderscores: d.OpenX.DotsToUnderscores}
	}
	out, err := parquet.New(o)
	if err != nil {
		var flaws []flaw
		for _, e := range each(err) {
			flaws = append(flaws, flaw{"format.parquet", "", e.Error(), ""})
		}
		return nil, flaws
	}
	return out, nil
}

func parseSchema(s config.Schema) (*format.Schema, error) {
	if s.DDL != "" {
		return format.ParseDDL(s.DDL)
	}
	return format.ParseColumns(s.Columns)
}

// schemaFlaws are the faults of a declared schema, each at its column where the schema is a list.
func schemaFlaws(err error) (flaws []flaw) {
	for _, e := range each(err) {
		var se *format.SchemaError
		if !errors.As(e, &se) {
			flaws = append(flaws, flaw{"format.parquet.schema", "", e.Error(), ""})
			continue
		}
		path := "format.parquet.schema"
		if se.Entry >= 0 {
			path = fmt.Sprintf("%s[%d]", path, se.Entry)
		}
		problem := se.Problem
		if se.Column != "" {
			problem = "column " + se.Column + ": " + problem
		}
		if se.Line > 1 {
			problem = fmt.Sprintf("line %d, character %d: %s", se.Line, se.Char, problem)
		} else {
			problem = fmt.Sprintf("character %d: %s", se.Char, problem)
		}
		found := se.Found
		if strings.Contains(problem, strconv.Quote(found)) {
			found = ""
		}
		flaws = append(flaws, flaw{path, found, problem, se.Hint})
	}
	return flaws
}

// each takes a joined error apart.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
