package main

import (
	"context"
	"sync"

	"hydrant/config"
	"hydrant/sinks"
	"hydrant/sinks/s3"
)

// renewable is the sink of a bucket that follows the configuration in force: when that has other credentials for
// the same place, or another token service, the next put goes through a sink that has them. Where it has none any
// more, those that were there last stay, so that a stream that was taken out can still be delivered. Safe for
// concurrent use.
type renewable struct {
	p      *parts
	stream string // in the file; "": the stream is not of the file, and keeps its credentials

	mu   sync.Mutex // guards what follows
	seen *settings  // that the sink was made under, or was found to be right under
	by   reach
	d    config.S3Destination // with the credentials of the sink
	in   *inUse
}

// inUse is a sink and who uses it.
type inUse struct {
	sink  *s3.Sink
	users int
	old   bool // another one has taken its place: the last user closes it
}

var (
	_ sinks.Sink    = (*renewable)(nil)
	_ sinks.Catalog = (*renewable)(nil)
)

// newRenewable makes the sink. now is what d has its credentials from.
func newRenewable(p *parts, now *settings, stream string, d *config.S3Destination) (*renewable, error) {
	by := now.reach()
	sink, err := p.s3(d, by)
	if err != nil {
		return nil, err
	}
	return &renewable{p: p, stream: stream, seen: now, by: by, d: *d, in: &inUse{sink: sink}}, nil
}

// enter returns the sink to use; leave has to be called at the end.
func (r *renewable) enter() (sink *s3.Sink, leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.p.now.Load(); now != r.seen {
		r.seen = now
		r.renew(now)
	}
	in := r.in
	in.users++
	return in.sink, func() {
		r.mu.Lock()
		in.users--
		last := in.old && in.users == 0
		r.mu.Unlock()
		if last {
			in.sink.Close()
		}
	}
}

// renew makes another sink where the configuration has other ways to reach the place. The caller holds mu.
func (r *renewable) renew(now *settings) {
	d, by := r.d, now.reach()
	if s := now.present[r.stream]; s != nil && r.stream != "" {
		if theirs := s.Bucket(&d); theirs != nil {
			d.Credentials = theirs.Credentials
		}
	}
	if d.Credentials == r.d.Credentials && by == r.by {
		return
	}
	sink, err := r.p.s3(&d, by)
	if err != nil {
		r.p.log.Error("destination keeps the credentials that it had", "stream", r.stream, "bucket", d.Bucket, "err", err)
		return
	}
	old := r.in
	old.old = true
	r.d, r.by, r.in = d, by, &inUse{sink: sink}
	if old.users == 0 {
		old.sink.Close() // nobody waits for it: there is no call in flight
	}
}

func (r *renewable) Put(ctx context.Context, o sinks.Object) error {
	sink, leave := r.enter()
	defer leave()
	return sink.Put(ctx, o)
}

func (r *renewable) Verify(ctx context.Context, o sinks.Object) error {
	sink, leave := r.enter()
	defer leave()
	return sink.Verify(ctx, o)
}

func (r *renewable) ValidateKey(key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in.sink.ValidateKey(key)
}

func (r *renewable) Close() error {
	r.mu.Lock()
	sink := r.in.sink
	r.mu.Unlock()
	return sink.Close()
}

func (r *renewable) Probe(ctx context.Context, prefix string) []sinks.Finding {
	sink, leave := r.enter()
	defer leave()
	return sink.Probe(ctx, prefix)
}

func (r *renewable) List(ctx context.Context, prefix string, found func(key string, size int64) bool) error {
	sink, leave := r.enter()
	defer leave()
	return sink.List(ctx, prefix, found)
}

func (r *renewable) Describe(ctx context.Context, key string) (map[string]string, error) {
	sink, leave := r.enter()
	defer leave()
	return sink.Describe(ctx, key)
}
