package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"hydrant/sinks"
)

const (
	minPart  = 16 << 20 // bytes of a part, but of the last one
	maxParts = 10_000
	maxPart  = 5 << 30
	// inFlight is the number of parts that are sent at a time. They are streamed, and cost no memory.
	inFlight = 4
	// completeCall bounds CompleteMultipartUpload: some stores copy all parts before they answer.
	completeCall = 15 * time.Minute
	// abortCall bounds an abort: it also happens when the caller has gone and wants an answer soon.
	abortCall = 3 * time.Second
)

// partSize is the size of an object's parts: the least, or as much more as it takes to have no more than
// maxParts.
func partSize(size, least int64) int64 {
	const mib = 1 << 20
	n := max((size+maxParts-1)/maxParts, least)
	return (n + mib - 1) / mib * mib
}

// putParts sends an object as a multipart upload.
func (s *Sink) putParts(ctx context.Context, conn *connection, o sinks.Object) error {
	a := attempt{verb: "put", key: o.Key, creds: conn.keys(ctx)}
	if partSize(o.Size, s.part) > maxPart {
		return &sinks.Error{Class: sinks.RefusedObject, Code: "EntityTooLarge",
			Err: fmt.Errorf("%s: it has %d bytes, more than %d parts of %d", s.tried(a), o.Size, maxParts, int64(maxPart))}
	}
	// The condition comes with the last request only. Where the object is there already, which after a lost
	// answer is likely, the bytes need not be sent again to learn it.
	switch found, err := s.look(ctx, conn, o); found {
	case ours, adopted:
		return nil
	case foreign:
		return s.foreign(a, err)
	}
	s.abortLeftovers(ctx, conn, o.Key)

	id, err := s.createUpload(ctx, conn, o)
	if err != nil {
		return s.classified(ctx, conn, a, err)
	}
	parts, err := s.sendParts(ctx, conn, o, id)
	if err != nil {
		s.abort(ctx, conn, o.Key, id)
		return s.classified(ctx, conn, a, err)
	}
	err = s.complete(ctx, conn, o, id, parts, !s.unconditional.Load())
	if codeOf(err) == codeNotImplemented && !s.unconditional.Load() {
		refusal := err
		if err = s.complete(ctx, conn, o, id, parts, false); err == nil {
			s.giveUpConditions(refusal)
		}
	}
	if err == nil {
		return nil
	}
	// Whether the store has made an object of the parts cannot be learned by asking it to do so again. If it
	// has not, this upload is of no use to anybody; if it has, or is about to, aborting changes nothing.
	found, lookErr := unclear, error(nil)
	if ctx.Err() == nil {
		found, lookErr = s.look(ctx, conn, o)
	}
	s.abort(ctx, conn, o.Key, id)
	switch {
	case found == ours, found == adopted:
		return nil
	case found == foreign:
		return s.foreign(a, lookErr)
	case found == forbidden && codeOf(err) == codePrecondition:
		return s.settle(ctx, conn, a, o, err)
	}
	e := s.classified(ctx, conn, a, err)
	if e.Class == sinks.NotStored {
		e.Class = sinks.Unknown
	}
	return e
}

func (s *Sink) createUpload(ctx context.Context, conn *connection, o sinks.Object) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, smallCall)
	defer cancel()
	in := &s3.CreateMultipartUploadInput{
		Bucket: &s.opts.Bucket, Key: &o.Key,
		ContentType: optional(o.ContentType), ContentEncoding: optional(o.ContentEncoding), Metadata: o.Meta,
		StorageClass: types.StorageClass(s.opts.StorageClass), ServerSideEncryption: s.encryption(), SSEKMSKeyId: optional(s.opts.KMSKey),
	}
	in.ChecksumAlgorithm, in.ChecksumType = algorithm(conn.checksum)
	out, err := conn.api.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", err
	}
	if aws.ToString(out.UploadId) == "" {
		return "", errors.New("the answer says 200 and has no upload id: is the endpoint an S3 store?")
	}
	return *out.UploadId, nil
}

// sendParts sends all parts, some at a time, and checks that what was sent is the object.
func (s *Sink) sendParts(ctx context.Context, conn *connection, o sinks.Object, id string) ([]types.CompletedPart, error) {
	size := partSize(o.Size, s.part)
	n := int((o.Size + size - 1) / size)
	parts, crcs := make([]types.CompletedPart, n), make([]uint64, n)
	at := func(i int) section { return section{int64(i) * size, min(size, o.Size-int64(i)*size)} }

	// A damaged object is found by its last part at the latest, before that part's last bytes leave.
	var mu sync.Mutex
	last, sent := n-1, 0
	ready := make(chan struct{}) // closed when all parts but the last are sent
	if last == 0 {
		close(ready)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i := range n {
		g.Go(func() error {
			var want *uint64
			if i == last {
				select {
				case <-ready:
				case <-gctx.Done():
					return gctx.Err()
				}
				want = lastPart(o, crcs[:last], at)
			}
			p, crc, err := s.sendPart(gctx, conn, o, id, i, at(i), want)
			if err != nil {
				return fmt.Errorf("part %d of %d: %w", i+1, n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			parts[i], crcs[i] = p, crc
			if sent++; sent == last {
				close(ready)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return parts, nil
}

// lastPart is the CRC that an object's last part must have, given those of the others.
func lastPart(o sinks.Object, others []uint64, at func(int) section) *uint64 {
	crc := uint64(0)
	for i, c := range others {
		crc = combine(crc, c, at(i).size)
	}
	want := o.CRC64NVME ^ combine(crc, 0, at(len(others)).size)
	return &want
}

func (s *Sink) sendPart(ctx context.Context, conn *connection, o sinks.Object, id string, i int, at section, want *uint64) (types.CompletedPart, uint64, error) {
	// Over TLS a checksum protects the bytes, and the signature need not cover them. Otherwise it does.
	sign := !conn.tls || conn.checksum == WhenRequired || conn.checksum == MD5
	sums, err := sumsOf(ctx, conn.checksum, o, at, sign)
	if err != nil {
		return types.CompletedPart{}, 0, err
	}
	number := int32(i + 1)
	in := &s3.UploadPartInput{Bucket: &s.opts.Bucket, Key: &o.Key, UploadId: &id, PartNumber: &number, ContentLength: &at.size}
	sums.part(in)
	b := newBody(o, at, want)
	defer b.stop()
	in.Body = b
	ctx, cancel := context.WithTimeout(ctx, deadlineFor(at.size))
	defer cancel()
	out, err := conn.api.UploadPart(ctx, in, withPayloadHash(sums.payload))
	if err != nil {
		return types.CompletedPart{}, 0, b.explain(err)
	}
	crc, read := b.sum()
	if !read || aws.ToString(out.ETag) == "" {
		return types.CompletedPart{}, 0, errNotAStore
	}
	p := types.CompletedPart{ETag: out.ETag, PartNumber: &number}
	sums.completed(&p)
	return p, crc, nil
}

func (s *Sink) complete(ctx context.Context, conn *connection, o sinks.Object, id string, parts []types.CompletedPart, conditional bool) error {
	ctx, cancel := context.WithTimeout(ctx, completeCall)
	defer cancel()
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &s.opts.Bucket, Key: &o.Key, UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if conn.checksum == CRC64NVME {
		in.ChecksumCRC64NVME = aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, o.CRC64NVME)))
		_, in.ChecksumType = algorithm(CRC64NVME)
	}
	if conditional {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := conn.api.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return err
	}
	if aws.ToString(out.ETag) == "" {
		return errNotAStore
	}
	return nil
}

// abort ends an upload, also when the caller has given up. What cannot be aborted is found by the next put of
// the key.
func (s *Sink) abort(ctx context.Context, conn *connection, key, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
	defer cancel()
	_, err := conn.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.opts.Bucket, Key: &key, UploadId: &id})
	if err != nil && statusOf(err) != http.StatusNotFound {
		s.log.Info("an upload could not be aborted; the next put of the object tries again", "bucket", s.opts.Bucket, "key", key, "err", err)
	}
}

// abortLeftovers ends uploads of exactly this key that an earlier attempt, or an earlier process, has left.
// Nobody else works on them: a key is one object's, and one put of it runs at a time.
func (s *Sink) abortLeftovers(ctx context.Context, conn *connection, key string) {
	if s.noListing.Load() {
		return
	}
	listCtx, cancel := context.WithTimeout(ctx, smallCall)
	defer cancel()
	out, err := conn.api.ListMultipartUploads(listCtx, &s3.ListMultipartUploadsInput{Bucket: &s.opts.Bucket, Prefix: &key})
	if err != nil {
		switch statusOf(err) {
		case http.StatusForbidden, http.StatusNotImplemented, http.StatusMethodNotAllowed:
			if s.noListing.CompareAndSwap(false, true) {
				s.log.Warn("unfinished uploads cannot be listed, so those that a crash leaves behind stay: grant s3:ListBucketMultipartUploads, or set a lifecycle rule that aborts incomplete uploads",
					"bucket", s.opts.Bucket, "err", err)
			}
		}
		return
	}
	for _, u := range out.Uploads {
		if aws.ToString(u.Key) == key {
			s.abort(ctx, conn, key, aws.ToString(u.UploadId))
		}
	}
}
