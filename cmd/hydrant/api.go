package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/delivery"
	"hydrant/firehose"
	"hydrant/sources"
	"hydrant/sources/directput"
)

// apiHandler is the Firehose API and the plain one over the delivery manager.
func (d *daemon) apiHandler() (http.Handler, error) {
	d.puts, d.bodies = sources.NewMetrics(d.plane.Names), sources.NewShares(d.buffer)
	h, err := directput.New(directput.Options{
		Appender:  d.manager,
		Directory: directory{d.manager, d.plane, d.log, d.identity},
		Control:   control{d.plane},
		Admitter:  d.bodies,
		Limits:    &d.limits,
		Access:    d.apiGuard,
		Audit:     d.audit,
		Identity:  d.identity,
		Encrypted: d.buffer.Encrypted(),
		Metrics:   d.puts,
		Buffers:   d.buffers,
		Log:       d.log.With("component", "api"),
	})
	if err != nil {
		return nil, err
	}
	if err := d.register(append(h.Collectors(), d.puts)); err != nil {
		return nil, err
	}
	return d.withPlain(h)
}

// identity is what ARNs and messages name, by now.
func (d *daemon) identity() (account, region string) {
	aws := d.now.Load().AWS
	return aws.AccountID, aws.Region
}

// directory shows the streams as the Firehose API describes them.
type directory struct {
	m        *delivery.Manager
	plane    *controlplane.Plane
	log      *slog.Logger
	identity func() (account, region string)
}

var _ directput.Directory = directory{}

func (d directory) Names() []string { return d.plane.Names() }

func (d directory) Describe(name string) (directput.Description, bool) {
	answer, ours, err := d.plane.Describe(name)
	if err != nil {
		d.log.Error("stream cannot be described", "stream", name, "err", err)
	} else if ours {
		return directput.Description{Name: name, Status: answer.Status, Type: answer.Type, Answer: answer.Body}, true
	}
	s, ok := d.m.Definition(name)
	if !ok {
		return directput.Description{}, false
	}
	return describe(s, d.identity), true
}

// control passes calls on to the control plane.
type control struct{ plane *controlplane.Plane }

var _ directput.ControlPlane = control{}

func (c control) Control(ctx context.Context, operation string, body []byte, allow func(stream string) error, sees func(stream string) bool) (answer []byte, unknown int, err error) {
	answer, unknown, err = c.plane.Call(ctx, controlplane.Call{Operation: operation, Body: body, Allow: allow, Sees: sees})
	if e, ok := errors.AsType[*firehose.Error](err); ok {
		err = &directput.ControlError{Status: e.HTTPStatus(), Code: e.Code, Message: e.Message, Detail: e.Detail}
	}
	return answer, unknown, err
}

// openPlane makes the control plane over the delivery manager. Streams that were created over the API get the
// file's present aws settings and the present columns of their tables; one that cannot have them keeps those it had.
func (d *daemon) openPlane(p *parts) (err error) {
	d.plane, err = controlplane.New(controlplane.Options{
		Streams:   d.manager,
		Check:     p.check,
		Secrets:   d.buffer.Secrets(),
		Versions:  d.buffer.Versions,
		Tables:    catalogs{},
		AWS:       d.c.AWS,
		Encrypted: d.buffer.Encrypted(),
		ReadOnly:  d.c.API.ControlPlane == "read_only",
		Log:       d.log.With("component", "controlplane"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookUpLimit)
	defer cancel()
	_ = d.plane.Adopt(ctx, d.c.AWS) // it logs each stream for which it failed
	return nil
}

// describe translates what is stored of a stream. One whose specification this binary cannot read has a
// description without a destination: it is listed, and the admin API says what is wrong with it.
func describe(s buffer.Stream, identity func() (account, region string)) directput.Description {
	out := directput.Description{Name: s.Name, Version: s.Version, Created: s.Created}
	if s.Version > 1 {
		out.Updated = s.Changed
	}
	if s.State >= buffer.Deleting {
		out.Status = "DELETING"
	}
	if c, err := parseSpec(s); err == nil {
		out.Destination = describeDestination(c)
		switch {
		case c.Source.Kafka != nil:
			out.Type = firehose.MSKAsSource
		case c.Source.Kinesis != nil:
			account, _ := identity()
			out.Type, out.KinesisStreamARN, out.KinesisRoleARN = firehose.KinesisStreamAsSource, kinesisARN(c.Source.Kinesis, account), c.Source.Kinesis.RoleARN
		}
	}
	return out
}

// kinesisARN is that of a data stream, in the daemon's own account where only its name is known.
func kinesisARN(k *config.Kinesis, account string) string {
	if strings.HasPrefix(k.Stream, "arn:") {
		return k.Stream
	}
	partition, _, _ := strings.Cut(strings.TrimPrefix(firehose.ARN(firehose.Settings{Region: k.Region, AccountID: account}, ""), "arn:"), ":")
	return "arn:" + partition + ":kinesis:" + k.Region + ":" + account + ":stream/" + k.Stream
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
	case d.Redshift != nil:
		st := d.Redshift.Staging.S3
		out.Redshift = &directput.RedshiftDestination{
			Table: d.Redshift.Table, Columns: strings.Join(d.Redshift.Columns, ","), CopyOptions: d.Redshift.CopyOptions, RoleARN: d.Redshift.IAMRole, Retry: time.Duration(d.Redshift.RetryDuration),
			Staging: directput.S3Destination{Bucket: st.Bucket, RoleARN: st.Credentials.RoleARN, KMSKeyARN: st.Encryption.KMS},
		}
		if a := d.Redshift.DSN.Parts; a != nil {
			out.Redshift.User, out.Redshift.JDBCURL = a.User, fmt.Sprintf("jdbc:redshift://%s:%d/%s", a.Host, a.Port, a.Database)
		}
		out.Prefix, out.ErrorOutputPrefix, out.FileExtension, out.TimeZone = st.Prefix, st.ErrorOutputPrefix, st.FileExtension, st.TimeZone
	case d.HTTP != nil:
		out.HTTP = &directput.HTTPDestination{
			URL: d.HTTP.URL, Gzip: d.HTTP.ContentEncoding == "gzip", Attributes: d.HTTP.CommonAttributes, Retry: time.Duration(d.HTTP.RetryDuration),
		}
		if b := c.Backup; b != nil && b.S3 != nil {
			out.HTTP.Backup = &directput.S3Destination{Bucket: b.S3.Bucket, RoleARN: b.S3.Credentials.RoleARN, KMSKeyARN: b.S3.Encryption.KMS}
			out.HTTP.BackupPrefix, out.HTTP.BackupErrorPrefix, out.HTTP.BackupCompression = b.S3.Prefix, b.S3.ErrorOutputPrefix, b.Compression
		}
	}
	return out
}
