// Package controlplane is the part of the Firehose API that changes delivery streams: create, delete, update,
// tags and encryption, and how a stream that was made so is described.
//
// The bodies of calls flow in, answers flow out, and what is decided goes to Streams as a definition. Nothing
// is kept here: a stream is its definition, which holds the API's document beside the configuration that
// delivers it (spec.go), and a call is answered with success only when Streams has said that the definition is
// durable.
//
// After a crash every stream whose creation was answered is there, in its last answered version and with its
// last answered tags; one whose deletion was answered goes on draining, or being discarded, until it is gone. A
// call that got no answer has happened wholly or not at all.
package controlplane

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// Streams keeps the definitions of streams and works them off; *delivery.Manager is one. It must be safe for
// concurrent use.
type Streams interface {
	// Change makes a stream what f says of what is in force, nil where there is none, durably, and returns
	// what is in force then. Nothing else changes a stream meanwhile. An error of f is returned as it is.
	Change(name string, f func(now *buffer.Stream) (buffer.Stream, error)) (buffer.Stream, error)
	// Definition returns what is in force of a stream, from memory, or false where there is none.
	Definition(name string) (buffer.Stream, bool)
	// Definitions returns what is in force of all streams, by name.
	Definitions() []buffer.Stream
}

// Options of a Plane. Checked once by New, never changed afterwards.
type Options struct {
	Streams Streams // required
	// Check tells what this daemon cannot deliver of a stream, in words for the caller; nil: nothing. It makes
	// no connections. A *firehose.NotDeliverable lets the stream wait where that says so.
	Check func(s *config.Stream) error
	// Secrets keeps passwords and access keys; nil: destinations that have any are not taken. Versions returns all
	// versions of streams that are in force or needed by what is outstanding: what they name is kept.
	Secrets  Secrets
	Versions func() []buffer.Stream
	// Tables reads the tables of streams that are converted; nil: there are no such streams.
	Tables Tables
	AWS    config.AWS // what ARNs cannot say; AccountID and Region are in answers
	// Encrypted tells whether the data directory is encrypted. Without it no stream can ask for encryption.
	Encrypted bool
	ReadOnly  bool         // nothing can be changed
	Log       *slog.Logger // nil: discarded
}

// Plane serves the calls. Safe for concurrent use.
type Plane struct {
	o Options

	// keeping is held from when a secret is kept until the definition that names it has its outcome. Before mu.
	keeping sync.Mutex
	doubt   bool // a definition failed, and a crash might still find it; guarded by keeping

	mu       sync.Mutex // guards what follows
	aws      config.AWS
	creating map[string]*creation
}

// creation is a stream between its call and its durable definition.
type creation struct {
	document *firehose.Document
	began    time.Time
	done     chan struct{} // closed when it is there, or is not to be
}

// New returns a Plane.
func New(o Options) (*Plane, error) {
	if o.Streams == nil {
		return nil, errors.New("controlplane: Streams are needed")
	}
	if (o.Secrets == nil) != (o.Versions == nil) {
		return nil, errors.New("controlplane: Secrets and Versions go together")
	}
	if o.Check == nil {
		o.Check = func(*config.Stream) error { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Plane{o: o, aws: o.AWS, creating: map[string]*creation{}}, nil
}

// Call is one call of the control plane.
type Call struct {
	Operation string // as X-Amz-Target names it, without the version
	Body      []byte
	// Allow tells whether the caller may do this to a stream, which need not exist; nil: it may. It is asked
	// when the shape of the request is known to be right, and its error is returned as it is.
	Allow func(stream string) error
	// Sees tells whether the caller may know of a stream that the call is not about; nil: of all.
	Sees func(stream string) bool
}

// handlers of the operations that Call serves.
var handlers = map[string]func(p *Plane, ctx context.Context, c *Call) (answer []byte, unknown int, err error){
	"CreateDeliveryStream":          (*Plane).create,
	"DeleteDeliveryStream":          (*Plane).delete,
	"UpdateDestination":             (*Plane).update,
	"TagDeliveryStream":             (*Plane).tag,
	"UntagDeliveryStream":           (*Plane).untag,
	"ListTagsForDeliveryStream":     (*Plane).listTags,
	"StartDeliveryStreamEncryption": (*Plane).startEncryption,
	"StopDeliveryStreamEncryption":  (*Plane).stopEncryption,
}

// readOnlyOperation changes nothing.
const readOnlyOperation = "ListTagsForDeliveryStream"

// Call serves a call. unknown is the number of members that nobody knows. Errors are *firehose.Error, what
// Allow said, or a failure of the daemon.
func (p *Plane) Call(ctx context.Context, c Call) (answer []byte, unknown int, err error) {
	handle := handlers[c.Operation]
	if handle == nil {
		return nil, 0, &firehose.Error{Code: "UnknownOperationException", Message: "The control plane has no operation " + strconv.Quote(c.Operation) + "."}
	}
	if p.o.ReadOnly && c.Operation != readOnlyOperation {
		return nil, 0, &firehose.Error{Code: firehose.CodeAccessDenied,
			Message: c.Operation + " is refused: the configuration has api.control_plane: read_only, so streams are changed in the configuration file only."}
	}
	if c.Allow == nil {
		c.Allow = func(string) error { return nil }
	}
	if c.Sees == nil {
		c.Sees = func(string) bool { return true }
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	return handle(p, ctx, &c)
}

// done is the answer of calls that answer nothing. Each gets a copy: it is the caller's.
const done = "{}"

// settings are what answers name.
func (p *Plane) settings() firehose.Settings {
	aws := p.present()
	return firehose.Settings{Region: aws.Region, AccountID: aws.AccountID}
}

// present is what ARNs cannot say, by now.
func (p *Plane) present() config.AWS {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.aws
}

// Adopt gives the streams that were made here the present aws settings and the present columns of their tables: one
// whose place or columns follow from them gets a new version, as a stream of the configuration file does. It is called
// after a start and after a reload. A stream whose table cannot be read keeps its columns; one for which it fails
// stays as it was. ctx bounds the reading of tables.
func (p *Plane) Adopt(ctx context.Context, aws config.AWS) error {
	p.mu.Lock()
	p.aws = aws
	p.mu.Unlock()
	ours := slices.DeleteFunc(p.o.Streams.Definitions(), func(s buffer.Stream) bool { return !Owns(s) || s.State >= buffer.Deleting })
	tables := p.reread(ctx, ours, aws)
	var errs []error
	for _, s := range ours {
		_, err := p.o.Streams.Change(s.Name, func(now *buffer.Stream) (buffer.Stream, error) {
			if now == nil || now.State >= buffer.Deleting || !Owns(*now) {
				return buffer.Stream{}, errGone
			}
			stored, err := readSpec(now.Spec)
			if err != nil {
				return buffer.Stream{}, err
			}
			schema, err := p.adopted(now.Name, stored, tables)
			if err != nil {
				return buffer.Stream{}, err
			}
			secrets, err := SecretsOf(now.Spec, p.o.Secrets)
			if err != nil {
				return buffer.Stream{}, err
			}
			draft, err := p.spec(now.Name, &stored, stored.document, secrets, aws, schema)
			if err != nil {
				return buffer.Stream{}, err
			}
			next := *now
			next.Spec, next.Consumers = draft.spec(stored.secret), draft.consumers()
			return next, nil
		})
		if err != nil && !errors.Is(err, errGone) {
			errs = append(errs, err)
			p.o.Log.Error("stream keeps the settings that it had", "stream", s.Name, "err", err)
		}
	}
	p.keeping.Lock()
	defer p.keeping.Unlock()
	p.forget()
	return errors.Join(errs...)
}

// errGone ends a change of a stream that has ended meanwhile.
var errGone = errors.New("the stream has ended meanwhile")
