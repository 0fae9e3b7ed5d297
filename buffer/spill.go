package buffer

import (
	"context"
	"errors"
)

// Spill moves the oldest rows of the front, at most max bytes of Data, into a raw run, and returns how many they
// were: their slots of the journal and their memory are free for this consumer. Rows that a claim holds are moved
// too: the claim stays valid and keeps their memory until it ends, and what it gives back is raw then. A cut that
// takes the rows first wins: then the run goes, and 0, nil is returned. One at a time for a consumer; others wait.
// Errors: ErrNoSpace, ErrCrowded, ErrFailing, ErrClosed, that of ctx, or the file system's.
func (c *Consumer) Spill(ctx context.Context, max int64) (rows int64, err error) {
	return 0, errors.New("rows cannot be spilled yet")
}

// Route makes one RUN frame over a claim, whose range must begin where the last cut or run of its consumer ended,
// and over a sealed routed run with what became of its rows (h.First and h.Next are the claim's). On return it is
// durable, the claim is consumed and its rows are dead in the journal and in raw runs (I4). On error the claim is as
// before. Errors: ErrNoSpace, ErrCrowded, ErrEpochFull, ErrFailing, ErrClosed, or what does not fit together.
func (b *Buffer) Route(claim *Claim, run *Run, h RunHead) error {
	return errors.New("rows cannot be routed yet")
}

// Lost is how many rows of the claim its iterations have met in damaged blocks of raw runs.
func (k *Claim) Lost() int64 { return 0 }
