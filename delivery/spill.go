package delivery

import (
	"context"
	"errors"
	"time"

	"hydrant/buffer"
)

// spillBytes is the most Data of one raw run.
const spillBytes = 64 << 20

// spills is the moving of rows that wait from memory and the journal's ring into raw runs. It needs no version that can be
// opened, and goes on under a claim: a function that does not answer holds up nothing but its own stream.
type spills struct {
	busy    bool
	done    chan error // what the last one said
	since   time.Time  // when memory or ring became short; zero: they are not
	failing bool       // for want of room: then cutting may help
	count   int        // failures in a row
	retryAt time.Time
}

// pressed tells whether what is short can be relieved by cutting alone.
func (p *spills) pressed(now buffer.Pressure) bool {
	return now&buffer.PressureDisk != 0 || now != 0 && p.failing
}

// spill moves rows where memory or the ring are short. It returns when to look again if nothing happens.
func (l *loop) spill(ctx context.Context, now time.Time) (wake time.Time) {
	p := &l.spills
	select {
	case err := <-p.done:
		p.busy = false
		if err == nil {
			p.failing, p.count, p.retryAt = false, 0, time.Time{}
			break
		}
		if ctx.Err() != nil {
			return time.Time{}
		}
		p.failing = errors.Is(err, buffer.ErrNoSpace) || errors.Is(err, buffer.ErrCrowded)
		p.count++
		p.retryAt = now.Add(backoff(p.count, cutBase, cutCap))
		l.s.alarm("spill", "records that wait cannot be moved to a run; they stay where they are", "err", err)
	default:
	}
	if l.s.consumer.Pressure()&(buffer.PressureMemory|buffer.PressureRing) == 0 {
		p.since, p.failing = time.Time{}, false
		return time.Time{}
	}
	if p.since.IsZero() {
		p.since = now
	}
	if p.busy {
		return time.Time{}
	}
	if now.Before(p.retryAt) {
		return p.retryAt
	}
	front := l.s.consumer.Waiting().Front
	if front == 0 {
		return time.Time{}
	}
	if due := p.since.Add(pressureAge); front < pressureBytes && now.Before(due) {
		return due
	}
	p.busy, p.since = true, now
	l.wg.Go(func() {
		_, err := l.s.consumer.Spill(ctx, spillBytes)
		p.done <- err
		l.s.wake()
	})
	return time.Time{}
}
