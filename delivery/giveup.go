package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/record"
	"hydrant/sinks"
)

// requests is the format of the object where it is a request, or nil.
func (t *task) requests() format.Requests {
	if p := t.batch.use.pipe; p != nil && t.info().RequestID != "" {
		return p.requests()
	}
	return nil
}

// afterRequest decides what becomes of a request that was not taken: another attempt, or the error output where its time
// is over.
func (s *stream) afterRequest(ctx context.Context, t *task, class sinks.Class, after time.Duration, err error) (outcome, time.Duration) {
	info := t.info()
	if class == sinks.RefusedObject {
		return s.giveUp(ctx, t, err, done)
	}
	if s.up.overdue(t, time.Now()) {
		s.alarm("given up", "endpoint has not taken a request in time; its records go to the error output", "key", info.Key, "attempts", t.attempts, "records", info.Records, "err", err)
		return s.giveUp(ctx, t, err, givenUp)
	}
	if class == sinks.RefusedDestination {
		s.alarm("destination", "endpoint refuses; it is asked again until the time for the request is over", "key", info.Key, "err", err)
	} else {
		s.notice("attempts", "delivery attempt failed", "key", info.Key, "attempts", t.attempts, "err", err)
	}
	return unwell, after
}

// giveUp writes the records of a request to the error output, in its place. When that is decided the request is never
// sent again.
func (s *stream) giveUp(ctx context.Context, t *task, cause error, result outcome) (outcome, time.Duration) {
	ended := time.Now()
	code, message := "HttpEndpoint.DestinationException", cause.Error()
	if e, ok := errors.AsType[*sinks.Error](cause); ok {
		if e.Code != "" {
			code = e.Code
		}
		if e.Message != "" {
			message = e.Message
		}
	}
	head := s.replacement(t, buffer.Error)
	p, key, err := s.errorObjects(t, t.batch.use.pipe, head, func(b []byte, row record.Row) []byte {
		return appendEndpointFailed(b, row, t.attempts, code, message, ended)
	})
	if err != nil {
		return s.notReplaced(ctx, t, err)
	}
	o, wait := s.exchange(ctx, t, head, p, key, "given up: "+cause.Error())
	if o != done {
		return o, wait
	}
	s.metrics.failures.WithLabelValues(s.name, endpointFailed, code).Add(float64(t.info().Records))
	return result, 0
}

// errorObjects writes the rows of a request as lines of a pipeline's error output and seals them. key is the first object's.
func (s *stream) errorObjects(t *task, pipe *Pipeline, head buffer.ManifestHead, line func([]byte, record.Row) []byte) (p pack, key string, err error) {
	out := &errorOutput{j: &job{store: s.store, name: s.name, pipe: pipe, version: t.batch.manifest.Version}}
	defer func() {
		if err != nil {
			out.abort()
		}
	}()
	left := shareOf{records: t.info().Records}
	err = s.rows(t, func(row record.Row) error {
		if err := out.open(endpointFailed, row); err != nil {
			return err
		}
		out.line = line(out.line[:0], row)
		if _, err := out.w.Write(out.line); err != nil {
			return fmt.Errorf("write an error record: %w", err)
		}
		out.bytes += int64(len(out.line))
		out.object.add(row, left.counts(row))
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	out.object.records += left.records
	if err = out.end(); err != nil {
		return nil, "", err
	}
	if err = out.pack.Seal(head); err != nil {
		return nil, "", fmt.Errorf("seal the records of %q: %w", t.info().Key, err)
	}
	return out.pack, t.info().Key + " as error records", nil
}

// shareOf deals an object's records out to its rows: one to the first row of each, as long as there are any. A record that was
// taken apart may count in another object.
type shareOf struct {
	records int64
	last    uint64
}

func (l *shareOf) counts(row record.Row) bool {
	first := row.Seq != l.last
	l.last = row.Seq
	if !first || l.records == 0 {
		return false
	}
	l.records--
	return true
}

// rows calls each for the rows of a request.
func (s *stream) rows(t *task, each func(record.Row) error) error {
	r, err := s.store.OpenObject(t.batch.manifest, t.object)
	if err != nil {
		return fmt.Errorf("open the bytes of %q: %w", t.info().Key, err)
	}
	defer r.Close()
	return t.requests().Rows(r, t.info().Size, each)
}

// halve puts two requests in the place of one that the endpoint finds too large. A single record that is too large goes to the
// error output.
func (s *stream) halve(ctx context.Context, t *task, cause error) (outcome, time.Duration) {
	head := s.replacement(t, buffer.Data)
	p, key, err := s.halves(t, head)
	switch {
	case errors.Is(err, errSingle):
		s.alarm("too large", "endpoint finds a single record too large; it goes to the error output", "key", t.info().Key, "err", cause)
		return s.giveUp(ctx, t, cause, done)
	case err != nil:
		return s.notReplaced(ctx, t, err)
	}
	s.notice("halved", "endpoint finds a request too large; it is sent in halves", "key", t.info().Key, "bytes", t.info().Size, "err", cause)
	return s.exchange(ctx, t, head, p, key, "halved: "+cause.Error())
}

var errSingle = errors.New("the request has a single record")

// halves writes a request's rows as two requests, with names and ids of their own, and seals them.
func (s *stream) halves(t *task, head buffer.ManifestHead) (p pack, key string, err error) {
	info, pipe := t.info(), t.batch.use.pipe
	n, err := s.rowCount(t)
	if err != nil {
		return nil, "", err
	}
	if n < 2 {
		return nil, "", errSingle
	}
	if p, err = s.store.NewPack(); err != nil {
		return nil, "", fmt.Errorf("start a pack: %w", err)
	}
	made := p // the returns below set p
	defer func() {
		if err != nil {
			made.Abort()
		}
	}()
	enc, object, left := pipe.Format.NewEncoder(), tallied{}, shareOf{records: info.Records}
	begin := func() error {
		name, ok := renamed(info.Key, uuid.New())
		if !ok {
			return fmt.Errorf("request %q has no id in its name", info.Key)
		}
		if key == "" {
			key = name
		}
		h := pipe.dataHead(name)
		h.Destination = info.Destination
		w, err := p.Begin(h)
		if err != nil {
			return fmt.Errorf("begin %q: %w", name, err)
		}
		announce(enc, h)
		enc.Reset(w)
		object = tallied{}
		return nil
	}
	end := func() error {
		if _, err := enc.Close(); err != nil {
			return fmt.Errorf("finish a half of %q: %w", info.Key, err)
		}
		return p.End(object.records, object.firstSeq, object.oldest)
	}
	if err := begin(); err != nil {
		return nil, "", err
	}
	at, second, last := int64(0), false, uint64(0)
	err = s.rows(t, func(row record.Row) error {
		// The rows of one record stay together, unless there is no other: they may mean something together only.
		at++
		if !second && at > n/2 && (row.Seq != last || at == n) {
			second = true
			if err := end(); err != nil {
				return err
			}
			if err := begin(); err != nil {
				return err
			}
		}
		last = row.Seq
		object.add(row, left.counts(row))
		return enc.Append(row)
	})
	if err != nil {
		return nil, "", err
	}
	object.records += left.records
	if err := end(); err != nil {
		return nil, "", err
	}
	if err := p.Seal(head); err != nil {
		return nil, "", fmt.Errorf("seal the halves of %q: %w", info.Key, err)
	}
	return p, key, nil
}

func (s *stream) rowCount(t *task) (int64, error) {
	r, err := s.store.OpenObject(t.batch.manifest, t.object)
	if err != nil {
		return 0, fmt.Errorf("open the bytes of %q: %w", t.info().Key, err)
	}
	defer r.Close()
	return t.requests().Count(r, t.info().Size)
}
