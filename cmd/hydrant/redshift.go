package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/format/parquet"
	"hydrant/prefix"
	"hydrant/sinks"
	"hydrant/sinks/redshift"
)

const (
	redshiftPath = "destination.redshift"
	stagingPath  = redshiftPath + ".staging.s3"
)

// redshift makes the parts of a pipeline that loads into Amazon Redshift.
func (p *parts) redshift(pipe *delivery.Pipeline, now *settings, inFile string, s *config.Stream) (flaws []flaw) {
	d, st := s.Destination.Redshift, s.Destination.Redshift.Staging.S3
	flaws = names(pipe, prefix.Prefix, stagingPath, st.Prefix, st.ErrorOutputPrefix, st.TimeZone, st.FileExtension)
	staging, err := newRenewable(p, now, inFile, st)
	if err != nil {
		return append(flaws, flaw{stagingPath, "", err.Error(), ""})
	}
	w := &warehouse{p: p, stream: inFile, seen: now, d: *d, staging: staging}
	if w.shape, err = shapeOf(s, pipe); err != nil {
		return append(flaws, flaw{redshiftPath + ".columns", "", err.Error(), "give as many columns as the schema has, in its order, or none"})
	}
	w.shape.Stream, w.shape.Log = s.Name, p.log.With("stream", s.Name)
	sink, place, more := w.open(now, d)
	if flaws = append(flaws, more...); sink == nil {
		return flaws
	}
	w.sink = sink
	pipe.Destination = destination(s.Name, "redshift", place)
	pipe.Destination.Sink = w
	pipe.Destination.Layout = fmt.Sprintf("%s %s %q nested=%v", w.shape.Format, w.shape.Compression, w.shape.Columns, w.shape.Nested)
	pipe.Destination.GiveUp = d.RetryDuration != config.Forever
	pipe.Destination.GiveUpAfter = time.Duration(max(d.RetryDuration, 0))
	if s.Format.Parquet != nil {
		pipe.Destination.Rows = func(r io.ReaderAt, size int64) (int64, error) { return parquet.CountRows(r, size) }
	}
	errorsAt := fixedPart(pipe.Prefix)
	if s.Backup == nil || s.Backup.ErrorOutput == config.ErrorsToDestination {
		// A place of its own: objects of the error output lie in the bucket and are not loaded.
		own, err := newRenewable(p, now, inFile, st)
		if err != nil {
			return append(flaws, flaw{stagingPath, "", err.Error(), ""})
		}
		pipe.Errors = delivery.Destination{ID: s.Name + "/errors/s3", Kind: "s3", Place: st.Endpoint + " " + st.Bucket, Sink: own}
	} else {
		errorsAt = backupPrefix(s.Backup)
	}
	pipe.Destination.Skipped = func(part sinks.Part, stream string, oldest time.Time, id string) (string, []byte) {
		return redshift.SkippedKey(errorsAt, stream, oldest, id), w.now().Manifest([]sinks.Part{part})
	}
	return flaws
}

// backupPrefix is the fixed part of a backup's prefix.
func backupPrefix(b *config.Backup) string {
	text := ""
	if b.S3 != nil {
		text = b.S3.Prefix
	} else if b.File != nil {
		text = b.File.Prefix
	}
	t, err := prefix.Parse(text, prefix.Prefix)
	if err != nil { // which is said elsewhere
		return ""
	}
	return fixedPart(t)
}

// shapeOf is what a stream's objects look like to COPY.
func shapeOf(s *config.Stream, pipe *delivery.Pipeline) (o redshift.Options, err error) {
	o.Columns = s.Destination.Redshift.Columns
	if t := s.Format.Text; t != nil {
		o.Compression = t.Compression // and the format is what copy_options say, else JSON
		return o, nil
	}
	o.Format = redshift.Parquet
	f, ok := pipe.Format.(*parquet.Format)
	if !ok { // of a table that was not looked up: who looks it up checks the rest then
		if len(o.Columns) == 0 {
			o.Columns = []string{"unknown"}
		}
		return o, nil
	}
	schema := f.Schema()
	if len(o.Columns) == 0 {
		for _, c := range schema.Fields {
			o.Columns = append(o.Columns, c.Name)
		}
	}
	if len(o.Columns) != len(schema.Fields) {
		return o, fmt.Errorf("has %d columns, and the schema %d: COPY takes those of Parquet by position", len(o.Columns), len(schema.Fields))
	}
	for _, c := range schema.Fields {
		o.Nested = o.Nested || c.Type.Nested()
	}
	return o, nil
}

// warehouse is the sink of a table that follows the configuration in force: when that has another address, user, password or
// credentials of COPY for the stream, the next load goes through a sink that has them. Safe for concurrent use.
type warehouse struct {
	p       *parts
	stream  string // in the file; "": the stream is not of the file, and keeps what it has
	staging *renewable
	shape   redshift.Options // what no reload changes

	mu   sync.Mutex // guards what follows
	seen *settings  // that the sink was made under, or was found to be right under
	d    config.RedshiftDestination
	sink *redshift.Sink
}

var _ sinks.Finisher = (*warehouse)(nil)

// now is the sink to use. One that was used before is not closed: it holds nothing but the staging sink, which stays.
func (w *warehouse) now() *redshift.Sink {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.p.now.Load()
	if now == w.seen {
		return w.sink
	}
	w.seen = now
	s := now.present[w.stream]
	if s == nil || w.stream == "" || s.Destination.Redshift == nil {
		return w.sink
	}
	d := w.d
	d.DSN = s.Destination.Redshift.DSN
	if d.Credentials != nil && s.Destination.Redshift.Credentials != nil {
		d.Credentials = s.Destination.Redshift.Credentials
	}
	if reflect.DeepEqual(d.DSN, w.d.DSN) && reflect.DeepEqual(d.Credentials, w.d.Credentials) {
		return w.sink
	}
	sink, _, flaws := w.open(now, &d)
	if err := joined(flaws); err != nil {
		w.p.log.Error("destination keeps the address that it had", "stream", w.stream, "err", err)
		return w.sink
	}
	w.d, w.sink = d, sink
	return sink
}

// open makes a sink, and the name of what remembers the parts that it has taken. The sink is nil where that cannot be done.
func (w *warehouse) open(now *settings, d *config.RedshiftDestination) (sink *redshift.Sink, place string, flaws []flaw) {
	st := d.Staging.S3
	o := w.shape
	o.Table, o.CopyOptions, o.MergeOn, o.MergeOrder = d.Table, d.CopyOptions, d.MergeOn, d.MergeOrder
	o.IAMRole, o.Ledger = d.IAMRole, d.LedgerTable
	o.Staging, o.Bucket, o.Prefix, o.Region = w.staging, st.Bucket, st.Prefix, st.Region
	var err error
	if o.Address, o.Login, err = addressOf(now, &d.DSN); err != nil {
		return nil, "", []flaw{{redshiftPath + ".dsn", "", strings.TrimPrefix(err.Error(), "dsn: "), ""}}
	}
	if o.Address.IsAWS() && !awsEndpoint(st.Endpoint) {
		flaws = append(flaws, flaw{stagingPath + ".endpoint", st.Endpoint, "is not AWS's, and COPY of Amazon Redshift reads buckets of AWS alone",
			"take it out here, and aws.endpoints.s3 where it comes from there"})
	}
	if c := d.Credentials; c != nil {
		switch {
		case c.RoleARN != "":
			flaws = append(flaws, flaw{redshiftPath + ".credentials.role_arn", c.RoleARN, "is not assumed for COPY", "write it as " + redshiftPath + ".iam_role, which Redshift assumes"})
		case c.AccessKeyID.IsSet():
			o.Keys = func(context.Context) (k redshift.Keys, err error) {
				for _, get := range []struct {
					to   *string
					from config.Secret
				}{{&k.AccessKeyID, c.AccessKeyID}, {&k.SecretAccessKey, c.SecretAccessKey}, {&k.SessionToken, c.SessionToken}} {
					if *get.to, err = get.from.Value(); err != nil {
						return redshift.Keys{}, err
					}
				}
				return k, nil
			}
		default:
			o.Keys = redshift.ChainKeys(st.Region, c.Profile)
		}
	}
	if sink, err = redshift.New(o); err != nil {
		key, problem, found := strings.Cut(err.Error(), ": ")
		if !found || strings.ContainsAny(key, " \"") {
			return nil, "", append(flaws, flaw{redshiftPath, "", err.Error(), ""})
		}
		return nil, "", append(flaws, flaw{redshiftPath + "." + key, "", problem, ""})
	}
	table, _ := redshift.ParseName(d.Table) // New has parsed both
	ledger, _ := redshift.LedgerName(table, d.LedgerTable)
	return sink, fmt.Sprintf("%s:%d/%s %s", o.Address.Host, o.Address.Port, o.Address.Database, ledger), flaws
}

// awsEndpoint tells whether a bucket is one of AWS; "" is its own endpoint.
func awsEndpoint(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	return (&redshift.Address{Host: u.Hostname()}).IsAWS()
}

// addressOf is where a warehouse is, and how its user logs in; login is nil where the address says it all.
func addressOf(now *settings, dsn *config.RedshiftDSN) (a redshift.Address, login func(context.Context) (redshift.Login, error), err error) {
	c := dsn.Parts
	if c == nil {
		text, err := dsn.URL.Value()
		if err != nil {
			return a, nil, err
		}
		a, err = redshift.ParseDSN(text)
		if err == nil && a.User == "" {
			err = errors.New("the URL has no user; credentials from AWS are asked for by the parts of an address, iam: { cluster: NAME } or { workgroup: NAME }")
		}
		return a, nil, err
	}
	a = redshift.Address{Host: c.Host, Port: uint16(c.Port), Database: c.Database, User: c.User, TLS: c.SSLMode, CAFile: c.SSLRootCert}
	if c.IAM == nil {
		user, password := c.User, c.Password
		return a, func(context.Context) (redshift.Login, error) {
			if !password.IsSet() {
				return redshift.Login{User: user}, nil
			}
			text, err := password.Value()
			if err != nil {
				return redshift.Login{}, fmt.Errorf("password: %w", err)
			}
			return redshift.Login{User: user, Password: text}, nil
		}, nil
	}
	o := redshift.IAM{Database: c.Database, User: c.User, AWS: aws.Config{Region: now.aws.Region}}
	if c.IAM.Cluster != nil {
		o.Cluster = *c.IAM.Cluster
	}
	if c.IAM.Workgroup != nil {
		o.Workgroup = *c.IAM.Workgroup
	}
	login, err = o.NewLogin()
	return a, login, err
}

func (w *warehouse) Put(ctx context.Context, o sinks.Object) error { return w.staging.Put(ctx, o) }
func (w *warehouse) Verify(ctx context.Context, o sinks.Object) error {
	return w.staging.Verify(ctx, o)
}
func (w *warehouse) ValidateKey(key string) error { return w.staging.ValidateKey(key) }
func (w *warehouse) Close() error                 { return w.staging.Close() }

func (w *warehouse) Finish(ctx context.Context, list []sinks.Part) []error {
	return w.now().Finish(ctx, list)
}

func (w *warehouse) Skip(ctx context.Context, list []sinks.Part) ([]bool, error) {
	return w.now().Skip(ctx, list)
}

func (w *warehouse) Forget(ctx context.Context, ids []string) error { return w.now().Forget(ctx, ids) }

func (w *warehouse) Probe(ctx context.Context, prefix string) []sinks.Finding {
	return w.now().Probe(ctx, prefix)
}
