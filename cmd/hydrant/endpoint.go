package main

import (
	"fmt"
	"slices"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/delivery"
	"hydrant/firehose"
	"hydrant/format/request"
	"hydrant/format/text"
	"hydrant/prefix"
	"hydrant/sinks/file"
	"hydrant/sinks/http"
)

// Back-off of an HTTP endpoint, which is Firehose's.
const (
	endpointBase = time.Second
	endpointCap  = 2 * time.Minute
)

// endpoint makes the parts of a pipeline that posts to an HTTP endpoint.
func (p *parts) endpoint(pipe *delivery.Pipeline, inFile string, s *config.Stream) (flaws []flaw) {
	d := s.Destination.HTTP
	format, err := request.New(request.Options{Body: request.Body(d.Body), Gzip: d.ContentEncoding == "gzip"})
	if err != nil {
		flaws = append(flaws, flaw{"destination.http.body", d.Body, err.Error(), ""})
	} else {
		pipe.Format = format
	}
	// Nobody sees the names of requests, and no name divides them.
	pipe.Prefix, pipe.TimeZone = &prefix.Template{}, time.UTC
	pipe.Destination = destination(s.Name, "http", d.URL)
	pipe.Destination.AtLeastOnce = true
	pipe.Destination.Pace = delivery.Pace{
		InFlight: int(d.MaxInFlight),
		Base:     endpointBase, Cap: endpointCap,
		GivesUp: d.RetryDuration != config.Forever,
		Retry:   time.Duration(max(d.RetryDuration, 0)),
	}
	sink, err := http.New(http.Options{
		URL:   d.URL,
		Plain: d.Body != string(request.Firehose),
		SourceARN: func() string {
			aws := p.now.Load().aws
			return firehose.ARN(firehose.Settings{AccountID: aws.AccountID, Region: aws.Region}, s.Name)
		},
		Secrets:          func() (http.Secrets, error) { return p.endpointSecrets(inFile, d) },
		CommonAttributes: d.CommonAttributes,
		Timeout:          time.Duration(d.Timeout),
		CAFile:           d.TLS.CAFile, CertFile: d.TLS.CertFile, KeyFile: d.TLS.KeyFile,
		MaxInFlight: int(d.MaxInFlight),
		Log:         p.log.With("stream", s.Name),
	})
	if err != nil {
		return append(flaws, flaw{"destination.http", "", err.Error(), ""})
	}
	pipe.Destination.Sink = sink
	return flaws
}

// endpointSecrets reads what goes with requests: for a stream of the file what the configuration in force has for the same
// endpoint, and else what the stream had.
func (p *parts) endpointSecrets(inFile string, d *config.HTTPDestination) (out http.Secrets, err error) {
	if s := p.now.Load().present[inFile]; s != nil && inFile != "" {
		if theirs := s.Destination.HTTP; theirs != nil && theirs.URL == d.URL {
			d = theirs
		}
	}
	if out.AccessKey, err = d.AccessKey.Value(); err != nil {
		return out, fmt.Errorf("access_key: %w", err)
	}
	for _, h := range d.Headers {
		value, err := h.Value.Value()
		if err != nil {
			return out, fmt.Errorf("header %s: %w", h.Name, err)
		}
		out.Headers = append(out.Headers, [2]string{h.Name, value})
	}
	return out, nil
}

// delimited is a stream's list of processors with the delimiter that its format would write: requests have none of their
// own.
func delimited(s *config.Stream) []config.Processor {
	t := s.Format.Text
	if s.Destination.HTTP == nil || t == nil || t.Delimiter == "" || t.Delimiter == string(text.DelimiterNone) {
		return s.Transform
	}
	newline := "\n"
	return append(slices.Clone(s.Transform), config.Processor{AppendDelimiter: &newline})
}

// backup makes the parts of a pipeline that write its error output to a place of its own.
func (p *parts) backup(pipe *delivery.Pipeline, now *settings, inFile string, s *config.Stream) (flaws []flaw) {
	own, flaws := p.backupPlace(now, inFile, s, "backup")
	if own.Destination.Sink == nil || s.Backup.ErrorOutput == config.ErrorsToDestination {
		if own.Destination.Sink != nil {
			own.Destination.Sink.Close() // it has said whether it can be made
		}
		return flaws
	}
	pipe.Errors, pipe.ErrorFormat = own.Destination, own.ErrorFormat
	pipe.ErrorPrefix, pipe.ErrorZone = own.ErrorPrefix, own.TimeZone
	return flaws
}

// openBackup is delivery.Open for the backup of all source records that a version of a stream keeps; nil where it keeps
// none. Rows are written as they came, one behind the other.
func (p *parts) openBackup(v buffer.Stream) (*delivery.Pipeline, error) {
	now, inFile, s, err := p.stream(v)
	if err != nil || !s.KeepsAll() {
		return nil, err
	}
	own, flaws := p.backupPlace(now, inFile, s, "source")
	if err := joined(flaws); err != nil {
		return nil, fmt.Errorf("stream %q: %w", v.Name, err)
	}
	return own, nil
}

// backupPlace makes a pipeline into the place of a stream's backup, which manifests know under a role. Where it has no Sink
// there is a flaw.
func (p *parts) backupPlace(now *settings, inFile string, s *config.Stream, role string) (own *delivery.Pipeline, flaws []flaw) {
	b := s.Backup
	own = &delivery.Pipeline{}
	if b.Buffer != nil {
		own.Size, own.Interval = int64(b.Buffer.Size), time.Duration(b.Buffer.Interval)
	}
	out, err := text.New(text.Options{Compression: text.Compression(b.Compression)})
	if err != nil {
		flaws = append(flaws, flaw{"backup.compression", b.Compression, err.Error(), ""})
	}
	own.Format, own.ErrorFormat = out, out
	switch {
	case b.File != nil:
		flaws = append(flaws, names(own, prefix.Prefix, "backup.file", b.File.Prefix, b.File.ErrorOutputPrefix, b.File.TimeZone, "")...)
		sink, err := file.New(file.Options{Path: b.File.Path, Log: p.log})
		if err != nil {
			return own, append(flaws, flaw{"backup.file", "", err.Error(), ""})
		}
		own.Destination = delivery.Destination{Kind: "file", Place: b.File.Path, Sink: sink}
	case b.S3 != nil:
		flaws = append(flaws, names(own, prefix.Prefix, "backup.s3", b.S3.Prefix, b.S3.ErrorOutputPrefix, b.S3.TimeZone, "")...)
		sink, err := newRenewable(p, now, inFile, b.S3)
		if err != nil {
			return own, append(flaws, flaw{"backup.s3", "", err.Error(), ""})
		}
		own.Destination = delivery.Destination{Kind: "s3", Place: b.S3.Endpoint + " " + b.S3.Bucket, Sink: sink}
	default:
		panic("bug: a backup without a place came through the decoder")
	}
	own.Destination.ID = s.Name + "/" + role + "/" + own.Destination.Kind
	return own, flaws
}
