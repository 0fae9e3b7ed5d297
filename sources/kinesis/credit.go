package kinesis

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

// Answers are at most 10 MiB of data, which are 14 MiB of JSON, and who asks does not know. So a lane reserves what it
// expects before it asks, and what the answer says it is before the body is read: until then it waits in the connection.

// Of one lane's reservation.
const (
	minExpected = 64 << 10
	// held is how many bytes are taken for each byte of an answer: its JSON, in a buffer that has grown to it, and what is
	// decoded of it.
	held = 3
	// patience is how long an answer that is larger than expected waits for memory. After that it is let go and
	// asked for again, with the memory for it reserved before.
	patience = 10 * time.Second
)

// errNoRoom is of an answer that there was no memory for.
var errNoRoom = errors.New("no memory for the answer")

// credit is memory that lanes share.
type credit struct {
	all   int64
	bytes *semaphore.Weighted
}

func newCredit(all int64) *credit { return &credit{all: all, bytes: semaphore.NewWeighted(all)} }

// claim is a lane's part of it. It belongs to one goroutine.
type claim struct {
	of       *credit
	has      int64
	expected int64 // of the next answer
}

type claimKey struct{}

// take reserves what the next answer is expected to need.
func (c *claim) take(ctx context.Context) error { return c.grow(ctx, c.expected) }

// grow reserves up to need bytes in all: never more than there is.
func (c *claim) grow(ctx context.Context, need int64) error {
	more := min(need, c.of.all) - c.has
	if more <= 0 {
		return nil
	}
	if err := c.of.bytes.Acquire(ctx, more); err != nil {
		return err
	}
	c.has += more
	return nil
}

// keep gives back what is more than n bytes.
func (c *claim) keep(n int64) {
	if n = min(n, c.has); n < c.has {
		c.of.bytes.Release(c.has - n)
		c.has = n
	}
}

// answered reserves memory for an answer of n bytes, and remembers it for the next one.
func (c *claim) answered(ctx context.Context, n int64) error {
	need := n*held + minExpected
	c.expected = max(need, c.expected/2)
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.grow(within, need); err != nil && ctx.Err() == nil {
		return errNoRoom
	}
	return ctx.Err()
}

// metered reads the bodies of answers only once there is memory for them.
type metered struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (m *metered) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := m.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	if c, ok := q.Context().Value(claimKey{}).(*claim); ok {
		n := resp.ContentLength
		if n < 0 {
			n = maxAnswer
		}
		if err := c.answered(q.Context(), n); err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
	}
	return resp, nil
}

// maxAnswer is the most bytes of an answer to GetRecords: 10 MiB in base64, and the rest of its records.
const maxAnswer = 15 << 20
