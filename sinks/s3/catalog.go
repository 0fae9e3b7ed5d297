package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"hydrant/sinks"
)

// lister is what a catalog calls beside what the sink does.
type lister interface {
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

var (
	_ sinks.Catalog = (*Sink)(nil)
	_ lister        = (*s3.Client)(nil)
)

// List is the contract's: in the order of keys, a thousand with each request.
func (s *Sink) List(ctx context.Context, prefix string, found func(key string, size int64) bool) error {
	conn, leave, err := s.enter(ctx)
	if err != nil {
		return fmt.Errorf("list %q of bucket %q: %w", prefix, s.opts.Bucket, err)
	}
	defer leave()
	client, ok := conn.api.(lister)
	if !ok {
		return errors.New("bug: the client of the store cannot list")
	}
	var next *string
	for {
		page, err := func() (*s3.ListObjectsV2Output, error) {
			ctx, cancel := context.WithTimeout(ctx, smallCall)
			defer cancel()
			return client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.opts.Bucket, Prefix: &prefix, ContinuationToken: next})
		}()
		if err != nil {
			return fmt.Errorf("list %q of bucket %q: %w", prefix, s.opts.Bucket, err)
		}
		for _, o := range page.Contents {
			if !found(aws.ToString(o.Key), aws.ToInt64(o.Size)) {
				return nil
			}
		}
		if next = page.NextContinuationToken; next == nil || !aws.ToBool(page.IsTruncated) {
			return nil
		}
	}
}

// Describe is the contract's.
func (s *Sink) Describe(ctx context.Context, key string) (map[string]string, error) {
	conn, leave, err := s.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at %q in bucket %q: %w", key, s.opts.Bucket, err)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, smallCall)
	defer cancel()
	h, err := conn.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &key})
	if err != nil {
		if statusOf(err) == http.StatusNotFound {
			err = errors.Join(fs.ErrNotExist, err)
		}
		return nil, fmt.Errorf("look at %q in bucket %q: %w", key, s.opts.Bucket, err)
	}
	meta := make(map[string]string, len(h.Metadata))
	for k, v := range h.Metadata {
		meta[strings.ToLower(k)] = v // stores spell header names as they like
	}
	return meta, nil
}
