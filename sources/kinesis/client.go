package kinesis

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/schemas"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
)

// callTimeout bounds a call but a subscription, its answer of at most 10 MiB included.
const callTimeout = time.Minute

// connect makes the client: reading the shared files is I/O, and they may be corrected between two runs.
func (r *Reader) connect(ctx context.Context) (*kinesis.Client, func(), error) {
	o := r.o
	// Without it the chain of credentials would write to standard error.
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, nil, fmt.Errorf("get credentials for Kinesis: %w", err)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       60 * time.Second,
		ForceAttemptHTTP2:     true,
		// A subscription whose records nobody takes may send so much ahead.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 20, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	if loaded, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		// The authorities that the environment (AWS_CA_BUNDLE) or a profile names.
		if t := loaded.GetTransport(); t.TLSClientConfig != nil {
			transport.TLSClientConfig.RootCAs = t.TLSClientConfig.RootCAs
		}
	}
	cfg.HTTPClient = &http.Client{
		Transport:     &metered{next: PlainBodies(transport)},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	cfg.Logger = logging.Nop{}                                   // it would write to standard error
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} } // who calls knows how to wait
	if o.RoleARN != "" {
		client := sts.NewFromConfig(cfg, func(so *sts.Options) {
			if o.STSEndpoint != "" {
				so.BaseEndpoint = aws.String(o.STSEndpoint)
			}
		})
		cfg.Credentials = stscreds.NewAssumeRoleProvider(client, o.RoleARN, func(a *stscreds.AssumeRoleOptions) { a.RoleSessionName = "hydrant" })
	}
	cfg.Credentials = aws.NewCredentialsCache(cfg.Credentials, func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = 5 * time.Minute })
	client := kinesis.NewFromConfig(cfg, func(ko *kinesis.Options) {
		if o.Endpoint != "" {
			ko.BaseEndpoint = aws.String(o.Endpoint)
		}
		ko.APIOptions = append(ko.APIOptions, awsmiddleware.AddUserAgentKey("hydrant"))
	})
	return client, transport.CloseIdleConnections, nil
}

// ownProtocol gives a subscription a protocol of its own: the SDK's keeps the decoder of events in it, for all that are open.
func ownProtocol(o *kinesis.Options) { o.Protocol = awsjson.New11(schemas.Kinesis_20131202) }

// source is the stream as this run of the Reader sees it.
type source struct {
	client *kinesis.Client
	stream Stream
	name   *string // either of them: what calls address the stream by
	arn    *string
}

// describe looks the stream up. now is the service's time.
func (r *Reader) describe(ctx context.Context, client *kinesis.Client) (*source, time.Duration, time.Time, error) {
	s := &source{client: client}
	if isARN(r.o.Stream) {
		s.arn = &r.o.Stream
	} else {
		s.name = &r.o.Stream
	}
	for {
		var out *kinesis.DescribeStreamSummaryOutput
		err := r.call(ctx, "DescribeStreamSummary", "", func(ctx context.Context) (err error) {
			out, err = client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: s.name, StreamARN: s.arn})
			return err
		})
		if err != nil {
			return nil, 0, time.Time{}, err
		}
		d := out.StreamDescriptionSummary
		if d == nil {
			return nil, 0, time.Time{}, fmt.Errorf("describe stream %s: the answer has no description", r.o.Stream)
		}
		if d.StreamStatus == types.StreamStatusCreating {
			if err := sleep(ctx, r.o.Interval); err != nil {
				return nil, 0, time.Time{}, err
			}
			continue
		}
		s.stream = Stream{Name: aws.ToString(d.StreamName), ARN: aws.ToString(d.StreamARN), Created: aws.ToTime(d.StreamCreationTimestamp).Truncate(time.Second)}
		now, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
		if !ok || now.IsZero() {
			now = time.Now()
		}
		return s, time.Duration(aws.ToInt32(d.RetentionPeriodHours)) * time.Hour, now, nil
	}
}

// list reads the whole list of shards. since, where not zero, leaves out those that were closed before it, where the service
// knows how to; what remains begins there.
func (r *Reader) list(ctx context.Context, s *source, since time.Time) ([]Shard, error) {
	var all []Shard
	var token *string
	for {
		var out *kinesis.ListShardsOutput
		err := r.call(ctx, "ListShards", "", func(ctx context.Context) (err error) {
			in := &kinesis.ListShardsInput{NextToken: token}
			if token == nil { // with a token the stream must not be named
				in.StreamName, in.StreamARN = s.name, s.arn
				if !since.IsZero() {
					in.ShardFilter = &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: &since}
				}
			}
			out, err = s.client.ListShards(ctx, in)
			return err
		})
		switch {
		case codeOf(err) == "ExpiredNextTokenException":
			all, token = nil, nil
			continue
		case token == nil && !since.IsZero() && (codeOf(err) == "InvalidArgumentException" || codeOf(err) == "ValidationException"):
			since = time.Time{} // an older service: shards that were closed before are read and have nothing
			continue
		case err != nil:
			return nil, err
		}
		for _, d := range out.Shards {
			all = append(all, shardOf(d))
		}
		if token = out.NextToken; aws.ToString(token) == "" {
			return all, nil
		}
	}
}

func shardOf(d types.Shard) Shard {
	s := Shard{ID: aws.ToString(d.ShardId)}
	for _, p := range []*string{d.ParentShardId, d.AdjacentParentShardId} {
		if aws.ToString(p) != "" {
			s.Parents = append(s.Parents, *p)
		}
	}
	if k := d.HashKeyRange; k != nil {
		s.StartingHashKey, s.EndingHashKey = aws.ToString(k.StartingHashKey), aws.ToString(k.EndingHashKey)
	}
	if n := d.SequenceNumberRange; n != nil {
		s.Closed = aws.ToString(n.EndingSequenceNumber) != ""
	}
	return s
}

func childrenOf(list []types.ChildShard) []Shard {
	children := make([]Shard, len(list))
	for i, c := range list {
		children[i] = Shard{ID: aws.ToString(c.ShardId), Parents: c.ParentShards}
		if k := c.HashKeyRange; k != nil {
			children[i].StartingHashKey, children[i].EndingHashKey = aws.ToString(k.StartingHashKey), aws.ToString(k.EndingHashKey)
		}
	}
	return children
}
