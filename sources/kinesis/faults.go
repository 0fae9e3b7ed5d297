package kinesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"hydrant/sources"
)

// fault is what kind an error of the service is.
type fault int

const (
	passing     fault = iota // may pass: a lost connection, a service that is ill
	throttled                // too many calls
	expired                  // the iterator, or the token of a page, is too old
	badPosition              // an argument is not what the service takes, which a position may be
	gone                     // the stream, or the shard, is not there
	inUse                    // a consumer is there already, or is subscribed already
	operator                 // only somebody else can mend it
)

// codeOf is the service's code of an error; "": it has none.
func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// classify tells the kind of an error.
func classify(err error) fault {
	switch code := codeOf(err); code {
	case "ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException", "ThrottlingException",
		"Throttling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown":
		return throttled
	case "ExpiredIteratorException", "ExpiredNextTokenException":
		return expired
	case "InvalidArgumentException":
		return badPosition
	case "ResourceNotFoundException":
		return gone
	case "ResourceInUseException":
		return inUse
	case "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignature",
		"IncompleteSignatureException", "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
		"ExpiredTokenException", "NotAuthorized", "OptInRequired", "ValidationException", "UnknownOperationException":
		return operator
	default:
		if strings.HasPrefix(code, "KMS") || code == "" && noCredentials(err) {
			return operator
		}
	}
	return passing
}

// noCredentials says that the chain of credentials had none. The SDK has no type for it.
func noCredentials(err error) bool {
	return err != nil && strings.Contains(err.Error(), "get identity: get credentials") // nil: the end of a subscription
}

// remedy is what an operator can do about an error.
func remedy(err error) string {
	switch code := codeOf(err); {
	case code == "ResourceNotFoundException":
		return "check the stream's name, the account and the region"
	case code == "KMSAccessDeniedException":
		return "grant kms:Decrypt on the key of the stream"
	case strings.HasPrefix(code, "KMS"):
		return "check the KMS key that the stream is encrypted with"
	case strings.HasPrefix(code, "AccessDenied") || code == "NotAuthorized":
		return "grant the rights that docs/kinesis.md lists"
	case code == "ExpiredTokenException", code == "UnrecognizedClientException", strings.Contains(code, "Signature"), strings.Contains(code, "Token"):
		return "check the credentials"
	case code == "" && noCredentials(err):
		return "give the daemon credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine"
	}
	return ""
}

// tell adds to an error what was tried on what, and the remedy.
func (r *Reader) tell(operation, shard string, err error) error {
	on := "stream " + r.o.Stream
	if shard != "" {
		on = "shard " + shard + " of " + on
	}
	if hint := remedy(err); hint != "" {
		return fmt.Errorf("%s of %s: %w (%s)", operation, on, err, hint)
	}
	return fmt.Errorf("%s of %s: %w", operation, on, err)
}

// call makes a call again, with more and more time between, until it succeeds, ctx ends, or the error is not one that
// passes: of these those that have a code are for the caller to tell apart.
func (r *Reader) call(ctx context.Context, operation, shard string, do func(context.Context) error) error {
	wait := backoff{base: r.o.Backoff}
	var last error // of a try that ctx did not end
	over := func() error {
		if last != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return r.tell(operation, shard, last) // whoever set the time wants to know why it was not enough
		}
		return ctx.Err()
	}
	for {
		within, cancel := context.WithTimeout(ctx, callTimeout)
		err := do(within)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return over()
		}
		last = err
		kind := classify(err)
		if kind != passing && kind != throttled {
			return r.tell(operation, shard, err)
		}
		r.count(kind)
		r.log.Debug("call of Kinesis is made again", "operation", operation, "shard", shard, "err", err)
		if wait.worth() {
			r.log.Warn("calls of Kinesis fail", "operation", operation, "shard", shard, "stream_name", r.o.Stream, "err", err)
		}
		if err := wait.sleep(ctx); err != nil {
			return over()
		}
	}
}

// worth is how many faults in a row are worth a line in the log, and so many more another one.
const worth = 5

func (r *Reader) count(kind fault) {
	if kind == throttled {
		r.o.Metrics.Add(sources.ReadThrottled, 1)
		return
	}
	r.o.Metrics.Add(sources.ReadFaults, 1)
}

// backoff is a time that doubles with each try, of which a random half is waited more or less, up to thirty times the first.
type backoff struct {
	base  time.Duration
	tries int
}

// worth says whether the fault that is waited for next is to be told.
func (b *backoff) worth() bool { return b.tries > 0 && b.tries%worth == 0 }

func (b *backoff) sleep(ctx context.Context) error {
	d := min(b.base<<min(b.tries, 5), 30*b.base)
	b.tries++
	return sleep(ctx, d/2+rand.N(d/2+1))
}

// sleep waits, or returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
