package lease

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"hydrant/sources/kinesis"
)

// ClientOptions say which DynamoDB to call, and as whom: with the credentials of AWS's chain.
type ClientOptions struct {
	Region   string // "": that of the environment or the profile
	Endpoint string // "": AWS's

	// RoleARN, where not "", is assumed at STSEndpoint ("": AWS's).
	RoleARN     string
	STSEndpoint string
}

// Client is a client of DynamoDB for an Owner, without retries of its own. Close it when no Owner uses it any longer.
type Client struct {
	*dynamodb.Client
	transport *http.Transport
}

var _ API = (*Client)(nil)

// NewClient makes a client. Shared files and the environment are read; nothing is sent.
func NewClient(ctx context.Context, o ClientOptions) (*Client, error) {
	for _, e := range []struct{ name, value string }{{"endpoint", o.Endpoint}, {"sts endpoint", o.STSEndpoint}} {
		if u, err := url.Parse(e.value); e.value != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%s: it is not a URL that begins with http:// or https://", e.name)
		}
	}
	// Without it the chain of credentials would write to standard error.
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("get credentials for DynamoDB: %w", err)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        2 * maxWrites,
		MaxIdleConnsPerHost: 2 * maxWrites,
		IdleConnTimeout:     60 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	if loaded, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		// The authorities that the environment (AWS_CA_BUNDLE) or a profile names.
		if t := loaded.GetTransport(); t.TLSClientConfig != nil {
			transport.TLSClientConfig.RootCAs = t.TLSClientConfig.RootCAs
		}
	}
	cfg.HTTPClient = &http.Client{
		Transport:     kinesis.PlainBodies(transport),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	cfg.Logger = logging.Nop{} // it would write to standard error
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	if o.RoleARN != "" {
		client := sts.NewFromConfig(cfg, func(so *sts.Options) {
			if o.STSEndpoint != "" {
				so.BaseEndpoint = aws.String(o.STSEndpoint)
			}
		})
		cfg.Credentials = stscreds.NewAssumeRoleProvider(client, o.RoleARN, func(a *stscreds.AssumeRoleOptions) { a.RoleSessionName = "hydrant" })
	}
	cfg.Credentials = aws.NewCredentialsCache(cfg.Credentials, func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = 5 * time.Minute })
	client := dynamodb.NewFromConfig(cfg, func(do *dynamodb.Options) {
		if o.Endpoint != "" {
			do.BaseEndpoint = aws.String(o.Endpoint)
		}
		do.APIOptions = append(do.APIOptions, awsmiddleware.AddUserAgentKey("hydrant"))
	})
	return &Client{client, transport}, nil
}

// Close closes connections that no call uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
