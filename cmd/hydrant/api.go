package main

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/sources/directput"
)

// apiHandler is the Firehose API over the delivery manager.
func (d *daemon) apiHandler() (http.Handler, error) {
	h, err := directput.New(directput.Options{
		Appender:  d.manager,
		Directory: directory{d.buffer},
		Admitter:  d.buffer,
		AccountID: d.c.AWS.AccountID,
		Region:    d.c.AWS.Region,
		Buffers:   d.buffers,
		Log:       d.log.With("component", "api"),
	})
	if err != nil {
		return nil, err
	}
	return h, d.register(h.Collectors())
}

// directory shows the streams that the buffer holds as the Firehose API describes them.
type directory struct{ b *buffer.Buffer }

var _ directput.Directory = directory{}

func (d directory) Names() []string {
	streams := d.b.Streams() // by name
	names := make([]string, len(streams))
	for i, s := range streams {
		names[i] = s.Name
	}
	return names
}

func (d directory) Describe(name string) (directput.Description, bool) {
	streams := d.b.Streams()
	i, found := slices.BinarySearchFunc(streams, name, func(s buffer.Stream, name string) int { return strings.Compare(s.Name, name) })
	if !found {
		return directput.Description{}, false
	}
	return describe(streams[i]), true
}

// describe translates what is stored of a stream. One whose specification this binary cannot read has a
// description without a destination: it is listed, and the admin API says what is wrong with it.
func describe(s buffer.Stream) directput.Description {
	out := directput.Description{Name: s.Name, Version: s.Version, Created: s.Created}
	if s.Version > 1 {
		out.Updated = s.Changed
	}
	if s.State == buffer.Deleting {
		out.Status = "DELETING"
	}
	if c, err := config.ParseSpec(s.Name, s.Spec); err == nil {
		out.Destination = describeDestination(c)
	}
	return out
}

func describeDestination(c *config.Stream) directput.Destination {
	out := directput.Destination{BufferSize: int64(c.Buffer.Size), BufferInterval: time.Duration(c.Buffer.Interval)}
	if c.Buffer.FileSize > 0 {
		out.BufferSize = int64(c.Buffer.FileSize)
	}
	if t := c.Format.Text; t != nil {
		out.Compression = t.Compression
	}
	if p := c.Format.Parquet; p != nil {
		out.Parquet = p.Compression
	}
	switch d := &c.Destination; {
	case d.File != nil:
		out.File = &directput.FileDestination{Path: d.File.Path}
		out.Prefix, out.ErrorOutputPrefix, out.FileExtension, out.TimeZone = d.File.Prefix, d.File.ErrorOutputPrefix, d.File.FileExtension, d.File.TimeZone
	case d.S3 != nil:
		out.S3 = &directput.S3Destination{Bucket: d.S3.Bucket, RoleARN: d.S3.Credentials.RoleARN, KMSKeyARN: d.S3.Encryption.KMS}
		out.Prefix, out.ErrorOutputPrefix, out.FileExtension, out.TimeZone = d.S3.Prefix, d.S3.ErrorOutputPrefix, d.S3.FileExtension, d.S3.TimeZone
	}
	return out
}
