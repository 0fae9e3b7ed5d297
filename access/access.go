// Package access decides who may do what: it verifies signatures and tokens, holds what each key may do, and
// opens the listeners over which callers come.
//
// Requests flow in; out flows the identity of the caller, or an *Error in the words that clients of AWS know.
// Verification has two halves. Begin looks at the headers before a body is read, so that a stranger's body
// costs nothing; Confirm takes the SHA-256 of the body, which the caller has computed for purposes of its own.
//
// Nothing is kept on disk but the self-signed certificate that an operator may ask for, which is written whole or
// not at all. After a crash there is nothing to recover: keys come from the configuration again, and a request
// that was verified by the process before is verified anew.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Action is what a key may be allowed to do.
type Action string

// Actions. None of them includes another.
const (
	Put   Action = "put"   // records
	Read  Action = "read"  // descriptions, names, tags and states of streams
	Admin Action = "admin" // create, change, delete, encrypt, flush, pause and resume streams
)

// Actions are all there are.
func Actions() []Action { return []Action{Put, Read, Admin} }

// operations are those of the Firehose API, and those of the admin API under names of their own.
var operations = map[string]Action{
	"PutRecord":                     Put,
	"PutRecordBatch":                Put,
	"DescribeDeliveryStream":        Read,
	"ListDeliveryStreams":           Read,
	"ListTagsForDeliveryStream":     Read,
	"CreateDeliveryStream":          Admin,
	"DeleteDeliveryStream":          Admin,
	"UpdateDestination":             Admin,
	"TagDeliveryStream":             Admin,
	"UntagDeliveryStream":           Admin,
	"StartDeliveryStreamEncryption": Admin,
	"StopDeliveryStreamEncryption":  Admin,
	"ShowStatus":                    Read,
	"FlushStream":                   Admin,
	"PauseStream":                   Admin,
	"ResumeStream":                  Admin,
	"RetryBatch":                    Admin,
	"DivertBatch":                   Admin,
}

// ActionOf tells which action an operation needs; false where there is no such operation.
func ActionOf(operation string) (Action, bool) {
	a, ok := operations[operation]
	return a, ok
}

// Grant is what a key may do, and with which streams.
type Grant struct {
	Streams []string // globs: * is any run of characters, ? is one
	Actions []Action
}

// Allows tells whether an action on a stream is granted.
func (g *Grant) Allows(a Action, stream string) bool {
	return slices.Contains(g.Actions, a) && slices.ContainsFunc(g.Streams, func(glob string) bool { return match(glob, stream) })
}

// match tells whether a glob fits a whole name.
func match(glob, name string) bool {
	star, from := -1, 0 // the last * and where the name is tried again behind what it took
	g, n := 0, 0
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, from = g, n
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == name[n]):
			g++
			n++
		case star >= 0:
			from++
			g, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

// AccessKey is a key that requests are signed with.
type AccessKey struct {
	ID           string
	Secret       func() (string, error) // asked again about once a second while requests come
	SessionToken func() (string, error) // that requests must carry; nil: they must carry none
	Expires      time.Time              // zero: never
	Grant
}

// Token is a bearer token.
type Token struct {
	Name    string // for logs
	Value   func() (string, error)
	Expires time.Time // zero: never
	Grant
}

// Credentials are all that callers may have. Without any, nobody gets in.
type Credentials struct {
	AccessKeys []AccessKey
	Tokens     []Token
	// Open lets everybody do everything, unasked; there are no keys then.
	Open bool
}

// Options of a Guard. Checked once by New, never changed afterwards.
type Options struct {
	Credentials Credentials
	// Identity returns the account and region that messages name; nil: 000000000000 and us-east-1.
	Identity func() (account, region string)
	Rejected *Rejections  // counts and logs what is refused; nil: one of its own
	Log      *slog.Logger // nil: discarded
}

// Guard verifies requests. Safe for concurrent use.
type Guard struct {
	o    Options
	keys atomic.Pointer[ring]
}

// ring is credentials made ready. It does not change.
type ring struct {
	open   bool
	keys   map[string]*key
	tokens []*token
}

type key struct {
	AccessKey
	secret, session *value
	derived         atomic.Pointer[[]derivation]
	tag             [32]byte
}

type token struct {
	Token
	value *value
}

// New returns a Guard.
func New(o Options) (*Guard, error) {
	if o.Identity == nil {
		o.Identity = func() (account, region string) { return "000000000000", "us-east-1" }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rejected == nil {
		o.Rejected = NewRejections(o.Log)
	}
	g := &Guard{o: o}
	return g, g.Use(o.Credentials)
}

// Use puts other credentials in the place of those that hold now, for requests that begin after it returns. On
// error, which names the credential that cannot be used, those that held before stay.
func (g *Guard) Use(c Credentials) error {
	use, err := g.Prepare(c)
	if err == nil {
		use()
	}
	return err
}

// Prepare is the part of Use that can fail; use is the rest.
func (g *Guard) Prepare(c Credentials) (use func(), err error) {
	r, err := g.ready(c)
	return func() { g.keys.Store(r) }, err
}

func (g *Guard) ready(c Credentials) (*ring, error) {
	r := &ring{open: c.Open, keys: map[string]*key{}}
	if c.Open && len(c.AccessKeys)+len(c.Tokens) > 0 {
		return nil, errors.New("access: keys or tokens are given, and nobody is to be asked for them")
	}
	for _, k := range c.AccessKeys {
		if _, dup := r.keys[k.ID]; dup || k.ID == "" {
			return nil, fmt.Errorf("access: the access key id %q is empty or given twice", k.ID)
		}
		made := &key{AccessKey: k, tag: sha256.Sum256([]byte(k.ID))}
		var err error
		if made.secret, err = newValue("secret of access key "+k.ID, k.Secret, g.o.Log); err != nil {
			return nil, err
		}
		if k.SessionToken != nil {
			if made.session, err = newValue("session token of access key "+k.ID, k.SessionToken, g.o.Log); err != nil {
				return nil, err
			}
		}
		r.keys[k.ID] = made
	}
	for _, t := range c.Tokens {
		v, err := newValue("token "+t.Name, t.Value, g.o.Log)
		if err != nil {
			return nil, err
		}
		sum := v.now().sum
		for _, other := range r.tokens {
			if other.value.now().sum == sum {
				return nil, fmt.Errorf("access: the tokens %s and %s are the same", other.Name, t.Name)
			}
		}
		r.tokens = append(r.tokens, &token{t, v})
	}
	return r, nil
}

// Open tells whether everybody may do everything.
func (g *Guard) Open() bool { return g.keys.Load().open }

// Collectors of this package's metrics.
func (g *Guard) Collectors() []prometheus.Collector { return []prometheus.Collector{g.o.Rejected} }

// Caller is who makes a request. What Begin returns is proven only once Confirm has returned nil.
type Caller struct {
	g       *Guard
	name    string // of the key or token
	kind    string // access_key, token, or anonymous
	grant   *Grant // nil: everything
	tag     [32]byte
	remote  string
	pending *pending // nil: nothing is left to prove
}

// Name is the access key id or the token's name, or "anonymous".
func (c *Caller) Name() string { return c.name }

// Tag is the same for the same key and differs between keys. It is zero for anonymous callers.
func (c *Caller) Tag() [32]byte { return c.tag }

// Begin looks at what a request's headers prove. Its errors are *Error. Where nobody is asked for a key and the
// request came over a loopback listener, it must name a loopback host: see LoopbackOnly.
func (g *Guard) Begin(r *http.Request) (*Caller, error) {
	c, err := g.begin(r)
	if err != nil {
		return nil, g.o.Rejected.note(r.RemoteAddr, err)
	}
	return c, nil
}

func (g *Guard) begin(r *http.Request) (*Caller, *Error) {
	ring := g.keys.Load()
	if ring.open {
		if overLoopback(r.Context()) && !LoopbackHost(r.Host) {
			return nil, errHost(r.Host)
		}
		return &Caller{g: g, name: "anonymous", kind: "anonymous", remote: r.RemoteAddr}, nil
	}
	given := r.Header["Authorization"]
	if len(given) > 1 {
		return nil, errIncomplete("Authorization header is given more than once.", "")
	}
	if len(given) == 1 {
		if scheme, rest, ok := strings.Cut(given[0], " "); ok && strings.EqualFold(scheme, "Bearer") {
			return g.bearer(ring, strings.TrimSpace(rest), r.RemoteAddr)
		}
	}
	return g.signed(ring, r)
}

// Bearer is Begin for a token that came another way than in a header of its own.
func (g *Guard) Bearer(r *http.Request, presented string) (*Caller, error) {
	c, err := g.bearer(g.keys.Load(), presented, r.RemoteAddr)
	if err != nil {
		return nil, g.o.Rejected.note(r.RemoteAddr, err)
	}
	return c, nil
}

// bearer finds the token among all, in a time that does not tell how near it is to any.
func (g *Guard) bearer(ring *ring, presented, remote string) (*Caller, *Error) {
	sum := sha256.Sum256([]byte(presented))
	var found *token
	for _, t := range ring.tokens {
		have := t.value.now().sum
		if subtle.ConstantTimeCompare(have[:], sum[:]) == 1 {
			found = t
		}
	}
	switch {
	case found == nil || presented == "":
		return nil, &Error{Code: codeUnrecognized, Message: messageInvalidToken, Reason: reasonToken}
	case expired(found.Expires):
		return nil, &Error{Code: codeExpired, Message: messageExpired, Reason: reasonExpired, Claimed: found.Name}
	}
	return &Caller{g: g, name: found.Name, kind: "token", grant: &found.Grant, tag: sha256.Sum256([]byte("token " + found.Name)), remote: remote}, nil
}

func expired(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

// Confirm proves the caller with the SHA-256 of the request's whole body, as it came over the wire. Its errors
// are *Error.
func (c *Caller) Confirm(bodySHA256 [32]byte) error {
	if c.pending == nil {
		return nil
	}
	if err := c.pending.confirm(bodySHA256); err != nil {
		return c.g.o.Rejected.note(c.remote, err)
	}
	c.pending = nil
	return nil
}

// Authorize returns nil where the caller may do an operation with a stream, which need not exist, and otherwise an
// *Error. stream is "" for an operation on all streams, which needs its action for any of them.
func (c *Caller) Authorize(operation, stream string) error {
	if c.pending != nil {
		panic("bug: a caller is authorized before it is confirmed")
	}
	if c.grant == nil {
		return nil
	}
	action, ok := ActionOf(operation)
	if ok && (c.grant.Allows(action, stream) || stream == "" && slices.Contains(c.grant.Actions, action)) {
		return nil
	}
	account, region := c.g.o.Identity()
	service := "firehose"
	if strings.HasSuffix(operation, "Stream") && !strings.HasSuffix(operation, "DeliveryStream") || operation == "ShowStatus" {
		service = "hydrant"
	}
	if stream == "" {
		stream = "*"
	}
	return c.g.o.Rejected.note(c.remote, &Error{Code: codeDenied, Reason: reasonDenied, Claimed: c.name,
		Message: fmt.Sprintf("User: arn:aws:iam::%[1]s:user/%[2]s is not authorized to perform: %[3]s:%[4]s on resource: arn:aws:firehose:%[5]s:%[1]s:deliverystream/%[6]s because no grant of this key allows the %[3]s:%[4]s action (it needs %[7]s)",
			account, c.name, service, operation, region, stream, action)})
}

// Sees tells whether the caller may read about a stream: what lists of streams show.
func (c *Caller) Sees(stream string) bool { return c.grant == nil || c.grant.Allows(Read, stream) }
