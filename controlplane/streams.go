package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"hydrant/buffer"
	"hydrant/firehose"
)

func (p *Plane) create(ctx context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeCreate(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	answer, err = p.createStream(ctx, c, r)
	return answer, r.Unknown, err
}

func (p *Plane) createStream(ctx context.Context, call *Call, r *firehose.Create) ([]byte, error) {
	settings := p.settings()
	document, secrets, err := r.Document(settings)
	if err != nil {
		return nil, err
	}
	aws := p.present()
	read := p.read(ctx, r.Name, document, aws)
	if read.err != nil {
		return nil, read.err
	}
	draft, err := p.spec(r.Name, nil, document, secrets, aws, read.schema)
	if err != nil {
		return nil, err
	}
	tags, err := mergeTags(nil, r.Tags)
	if err != nil {
		return nil, err
	}
	if r.Encryption != nil {
		if err := p.mayEncrypt(*r.Encryption); err != nil {
			return nil, err
		}
		tags = withKey(tags, r.Encryption)
	}
	end, err := p.begin(r.Name, document)
	if err != nil {
		return nil, err
	}
	defer end()
	err = p.define(r.Name, func(now *buffer.Stream) (buffer.Stream, error) {
		if now != nil {
			return buffer.Stream{}, p.exists(r.Name)
		}
		secret, err := p.keep(secrets)
		return buffer.Stream{Tags: tags, Consumers: draft.consumers(), Spec: draft.spec(secret)}, err
	})
	if err != nil {
		return nil, p.failed(call, err)
	}
	return json.Marshal(struct{ DeliveryStreamARN string }{firehose.ARN(settings, r.Name)})
}

// define changes what may name secrets, and what is named meanwhile stays. What is not named afterwards goes.
func (p *Plane) define(name string, f func(now *buffer.Stream) (buffer.Stream, error)) error {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	s, err := p.o.Streams.Change(name, f)
	switch _, refused := errors.AsType[*firehose.Error](err); {
	case err == nil:
		p.doubt = false
		p.forget()
		p.warnOfWaiting(s)
	case refused:
	case errors.Is(err, buffer.ErrTooManyStreams):
		if !p.doubt { // nothing was written
			p.forget()
		}
	default:
		p.doubt = true
	}
	return err
}

func (p *Plane) exists(name string) error {
	return inUse("Firehose %s under accountId %s already exists", name, p.settings().AccountID)
}

// begin shows a stream as CREATING until end is called.
func (p *Plane) begin(name string, d *firehose.Document) (end func(), err error) {
	taken := p.exists(name) // settings has mu
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.creating[name] != nil {
		return nil, taken
	}
	if _, ok := p.o.Streams.Definition(name); ok {
		return nil, taken
	}
	c := &creation{document: d, began: time.Now(), done: make(chan struct{})}
	p.creating[name] = c
	return func() {
		p.mu.Lock()
		delete(p.creating, name)
		p.mu.Unlock()
		close(c.done)
	}, nil
}

// beingCreated returns the creation of a stream that is under way, or nil.
func (p *Plane) beingCreated(name string) *creation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.creating[name]
}

func (p *Plane) delete(_ context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeDelete(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	if p.beingCreated(r.Name) != nil {
		return nil, r.Unknown, inUse("Firehose %s under account %s cannot be deleted in CREATING state", r.Name, p.settings().AccountID)
	}
	err = p.define(r.Name, func(now *buffer.Stream) (buffer.Stream, error) {
		if now == nil {
			return buffer.Stream{}, p.notFound(r.Name)
		}
		next := *now
		switch {
		// One that the file has given up drains like ours, and may be discarded like ours.
		case !Owns(*now) && now.State < buffer.Deleting:
			return next, notOurs(c.Operation, r.Name)
		case r.AllowForceDelete:
			next.State = buffer.Discarding
		case now.State < buffer.Deleting:
			next.State = buffer.Deleting
		}
		return next, nil
	})
	if err != nil {
		return nil, r.Unknown, p.failed(c, err)
	}
	return []byte(done), r.Unknown, nil
}

func (p *Plane) update(ctx context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeUpdate(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	busy := func(status string) error {
		return inUse("Cannot update firehose: %s when it is in %s status", r.Name, status)
	}
	if p.beingCreated(r.Name) != nil {
		return nil, r.Unknown, busy("CREATING")
	}
	read := p.readForUpdate(ctx, r)
	err = p.define(r.Name, func(now *buffer.Stream) (buffer.Stream, error) {
		if now == nil {
			return buffer.Stream{}, p.notFound(r.Name)
		}
		if now.State >= buffer.Deleting {
			return buffer.Stream{}, busy(status(now.State))
		}
		if !Owns(*now) {
			return buffer.Stream{}, notOurs(c.Operation, r.Name)
		}
		return p.updated(r, *now, read)
	})
	if err != nil {
		return nil, r.Unknown, p.failed(c, err)
	}
	return []byte(done), r.Unknown, nil
}

// updated is what a stream becomes by an update: itself where that changes nothing.
func (p *Plane) updated(r *firehose.Update, now buffer.Stream, read reading) (buffer.Stream, error) {
	if version := strconv.FormatUint(now.Version, 10); r.CurrentVersion != version {
		return now, &firehose.Error{Code: firehose.CodeConcurrent, Message: fmt.Sprintf(
			"Cannot update firehose: %s since the current version id: %s and specified version id: %s do not match", r.Name, version, r.CurrentVersion)}
	}
	if r.DestinationID != firehose.DestinationID {
		return now, invalid("Destination Id %s not found", r.DestinationID)
	}
	stored, err := readSpec(now.Spec)
	if err != nil {
		return now, err
	}
	before, err := SecretsOf(now.Spec, p.o.Secrets)
	lost := errors.Is(err, errLost)
	if err != nil && !lost {
		return now, err
	}
	next, secrets, changed, err := stored.document.Update(r, before)
	switch {
	case err != nil:
		return now, err
	case lost && secrets.IsZero() && next.SameDestination(stored.document):
		return now, invalid("Cannot update firehose: %s: %v", r.Name, errLost)
	case !changed:
		return now, nil
	}
	schema, err := p.updatedSchema(r, next, stored, read)
	if err != nil {
		return now, err
	}
	draft, err := p.spec(r.Name, &stored, next, secrets, p.present(), schema)
	if err != nil {
		return now, err
	}
	secret := stored.secret
	if lost || !secrets.Equal(before) {
		if secret, err = p.keep(secrets); err != nil {
			return now, err
		}
	}
	now.Spec, now.Consumers = draft.spec(secret), draft.consumers()
	return now, nil
}
