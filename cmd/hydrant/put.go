package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// Limits of the Firehose API.
const (
	maxRecord       = 1_024_000
	maxBatchRecords = 500
	maxBatchBytes   = 4 << 20
)

func (c *cli) putCommand() *cobra.Command {
	p := putter{}
	var endpoint, delimiter, caFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "put --stream NAME",
		Short: "Put the lines of standard input into a stream, one record a line",
		Long: `Reads lines from standard input and puts each as one record, in calls of PutRecordBatch of up to 500 records
and 4 MiB. Any endpoint that speaks the Firehose API will do.

A record is the line with its newline, as most producers of Firehose send it, so that text objects consist
of lines; with --delimiter strip the newline is left off, for streams that put one themselves
(delimiter: between or after). Parquet does not mind either. Empty lines are skipped. A line above 1,024,000
bytes is reported and skipped.

A call that is refused or gets no answer is repeated with back-off, under the same invocation id, so that
Hydrant stores it once; records that are refused one by one are put again. With --parallel above 1 calls
may be stored in another order than that of the lines. The exit code is 0 when every record was
acknowledged.`,
		Example: "  gunzip -c events.ndjson.gz | hydrant put --stream clicks\n  hydrant put --stream clicks --endpoint http://127.0.0.1:4573 < events.ndjson",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case p.stream == "":
				return usageError{errors.New("put wants --stream NAME")}
			case p.parallel < 1 || p.parallel > 64:
				return usageError{fmt.Errorf("--parallel %d is not from 1 to 64", p.parallel)}
			case p.patience <= 0:
				return usageError{fmt.Errorf("--retry-for %s is not above 0", p.patience)}
			case delimiter != "keep" && delimiter != "strip":
				return usageError{fmt.Errorf("--delimiter %q is not keep or strip", delimiter)}
			}
			p.strip = delimiter == "strip"
			client, err := firehoseClient(endpoint, caFile, c.env)
			if err != nil {
				return err
			}
			if err := reachable(cmd.Context(), endpoint); err != nil {
				return err
			}
			p.client = client
			return c.put(cmd.Context(), &p, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.stream, "stream", "", "`NAME` of the delivery stream (required)")
	f.StringVar(&endpoint, "endpoint", defaultAPI, "`URL` of the Firehose API")
	f.StringVar(&caFile, "ca-file", "", "`FILE` of certificates to trust, in PEM; without it AWS_CA_BUNDLE, or the system's")
	cmd.MarkFlagFilename("ca-file")
	f.StringVar(&delimiter, "delimiter", "keep", "`keep` or strip the newline of each record")
	f.IntVar(&p.parallel, "parallel", 4, "calls under way at once")
	f.DurationVar(&p.patience, "retry-for", 5*time.Minute, "how long a call is repeated before the command gives up")
	jsonFlag(cmd, &asJSON)
	adminForNames := ""
	f.StringVar(&adminForNames, "admin", defaultAdmin, "`URL` of the admin listener, to complete stream names in the shell")
	f.MarkHidden("admin")
	cmd.RegisterFlagCompletionFunc("stream", func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return streamNames(cmd, nil, prefix)
	})
	cmd.RegisterFlagCompletionFunc("delimiter", cobra.FixedCompletions([]string{"keep", "strip"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// firehoseClient signs with the keys of the environment, or with a placeholder where there are none: a
// daemon that checks no signatures takes any.
func firehoseClient(endpoint, caFile string, env func(string) (string, bool)) (*firehose.Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError{fmt.Errorf("--endpoint %q is not a URL: write it like %s", endpoint, defaultAPI)}
	}
	get := func(name, def string) string {
		if v, ok := env(name); ok && v != "" {
			return v
		}
		return def
	}
	client := awshttp.NewBuildableClient()
	if name := cmp.Or(caFile, get("AWS_CA_BUNDLE", "")); name != "" {
		data, err := os.ReadFile(name)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(data) {
			return nil, usageError{errors.Join(fmt.Errorf("%s holds no certificate in PEM", name), err)}
		}
		client = client.WithTransportOptions(func(t *http.Transport) {
			t.TLSClientConfig.RootCAs = pool
		})
	}
	return firehose.New(firehose.Options{
		HTTPClient:   plainBodies{client},
		BaseEndpoint: aws.String(endpoint),
		Region:       get("AWS_REGION", get("AWS_DEFAULT_REGION", "us-east-1")),
		Credentials:  credentials.NewStaticCredentialsProvider(get("AWS_ACCESS_KEY_ID", "unsigned"), get("AWS_SECRET_ACCESS_KEY", "unsigned"), get("AWS_SESSION_TOKEN", "")),
		// Without bound: the context of a call says when to give up.
		Retryer: retry.AddWithMaxAttempts(retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxBackoff = 5 * time.Second
			o.RateLimiter = ratelimit.None
		}), 0),
	}), nil
}

// plainBodies hides the WriteTo of requests' bodies. The SDK closes a body as soon as an answer begins, and its WriteTo says
// io.EOF from then on: when net/http, which looks for more at the end of each body, comes late, it takes that for a failure and ends
// the connection. The answer would be lost, and all records put again.
type plainBodies struct{ next firehose.HTTPClient }

func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.next.Do(r)
}

// reachable fails at once where nobody listens, which a call would be repeated for.
func reachable(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, shortTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("no connection to %s: is the daemon running, and is this its API listener? %w", endpoint, err)
	}
	return conn.Close()
}

// putter puts lines into a stream.
type putter struct {
	client   *firehose.Client
	stream   string
	strip    bool
	parallel int
	patience time.Duration

	acked, ackedBytes atomic.Int64
	read              atomic.Int64 // bytes of input
	skipped           int          // lines that are too long; owned by the reader
}

// batch is the records of one call and the number of the line that the first one came from.
type batch struct {
	records []types.Record
	bytes   int64
	line    int
}

func (c *cli) put(ctx context.Context, p *putter, asJSON bool) error {
	progress := c.newProgress()
	total := int64(0)
	if f, ok := c.stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			total = info.Size()
		}
	}
	start := time.Now()
	showing, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		progress.every(showing, 200*time.Millisecond, func() string {
			seconds := time.Since(start).Seconds()
			return fmt.Sprintf("%s %d records, %s, %.0f records/s", bar(p.read.Load(), total, 30), p.acked.Load(), size(p.ackedBytes.Load()), float64(p.acked.Load())/seconds)
		})
	})
	err := p.run(ctx, c.stdin, func(text string) { progress.clear(); fmt.Fprintln(c.stderr, "hydrant: "+text) })
	stop()
	shown.Wait()
	progress.clear()

	took := time.Since(start)
	if asJSON {
		c.printJSON(struct {
			Acknowledged int64   `json:"acknowledged_records"`
			Bytes        int64   `json:"acknowledged_bytes"`
			Skipped      int     `json:"skipped_lines"`
			Seconds      float64 `json:"seconds"`
			Error        string  `json:"error,omitempty"`
		}{p.acked.Load(), p.ackedBytes.Load(), p.skipped, took.Seconds(), errText(err)})
	} else {
		fmt.Fprintf(c.stdout, "%s: %d records (%s) acknowledged in %s\n", p.stream, p.acked.Load(), size(p.ackedBytes.Load()), took.Round(time.Millisecond))
	}
	switch {
	case err != nil && asJSON, err == nil && p.skipped > 0:
		return errSaid
	}
	return err
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// run reads lines and puts them until there are no more, or until something cannot be put.
func (p *putter) run(ctx context.Context, in io.Reader, complain func(string)) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan batch)
	g.Go(func() error {
		defer close(batches)
		return p.readLines(ctx, in, batches, complain)
	})
	for range p.parallel {
		g.Go(func() error {
			for b := range batches {
				if err := p.putBatch(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// readLines makes batches of lines. Standard input cannot be interrupted while it blocks, so the reading
// has a goroutine of its own that the end of the process ends.
func (p *putter) readLines(ctx context.Context, in io.Reader, out chan<- batch, complain func(string)) error {
	type line struct {
		text []byte
		err  error
	}
	lines := make(chan line, 64)
	done := make(chan struct{})
	defer close(done)
	go func() {
		r := bufio.NewReaderSize(in, 1<<20)
		for {
			text, err := readLine(r)
			select {
			case lines <- line{text, err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	}()

	var b batch
	flush := func() error {
		if len(b.records) == 0 {
			return nil
		}
		select {
		case out <- b:
			b = batch{}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for number := 1; ; number++ {
		var l line
		select {
		case l = <-lines:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		p.read.Add(int64(len(l.text)))
		data := l.text
		if p.strip || len(data) > 0 && data[0] == '\n' {
			data = []byte(strings.TrimSuffix(string(data), "\n"))
		}
		switch {
		case len(data) > maxRecord:
			p.skipped++
			complain(fmt.Sprintf("line %d has more than %d bytes and is skipped", number, maxRecord))
		case len(data) > 0:
			if len(b.records) == maxBatchRecords || b.bytes+int64(len(data)) > maxBatchBytes {
				if err := flush(); err != nil {
					return err
				}
			}
			if len(b.records) == 0 {
				b.line = number
			}
			b.records = append(b.records, types.Record{Data: data})
			b.bytes += int64(len(data))
		}
		if l.err == io.EOF {
			return flush()
		}
		if l.err != nil {
			return fmt.Errorf("read line %d: %w", number, l.err)
		}
	}
}

// readLine returns a line with its newline, cut off behind the longest record; the rest is passed over.
func readLine(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		if keep := maxRecord + 2 - len(out); len(part) > keep {
			part = part[:max(keep, 0)]
		}
		out = append(out, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return out, err
		}
	}
}

// putBatch puts records until all of them are acknowledged or patience ends.
func (p *putter) putBatch(ctx context.Context, b batch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.patience, fmt.Errorf("not acknowledged within %s", p.patience))
	defer cancel()
	where := fmt.Sprintf("put %d %s from line %d on into stream %q", len(b.records), plural(len(b.records), "record"), b.line, p.stream)
	records := b.records
	wait := 100 * time.Millisecond
	for {
		out, err := p.client.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &p.stream, Records: records})
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return fmt.Errorf("%s: %w (last: %w)", where, cause, err)
			}
			return fmt.Errorf("%s: %w", where, err)
		}
		var refused []types.Record
		reason := ""
		for i, r := range out.RequestResponses {
			if i < len(records) && r.ErrorCode != nil {
				refused = append(refused, records[i])
				reason = *r.ErrorCode + ": " + aws.ToString(r.ErrorMessage)
			} else if i < len(records) {
				p.acked.Add(1)
				p.ackedBytes.Add(int64(len(records[i].Data)))
			}
		}
		if len(out.RequestResponses) != len(records) {
			return fmt.Errorf("%s: the answer is about %d records", where, len(out.RequestResponses))
		}
		if len(refused) == 0 {
			return nil
		}
		records = refused
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %s)", where, context.Cause(ctx), reason)
		}
		wait = min(2*wait, 5*time.Second)
	}
}
