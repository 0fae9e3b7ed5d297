package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// progressAfter is how long a command runs before it shows how far it is: nobody needs a bar that
// flickers by.
const progressAfter = 2 * time.Second

// progress is one line on a terminal that is written over and over. On anything else it prints nothing.
// Safe for concurrent use.
type progress struct {
	mu      sync.Mutex
	w       io.Writer // nil: nobody watches
	after   time.Time
	written bool
}

func (c *cli) newProgress() *progress {
	p := &progress{after: time.Now().Add(progressAfter)}
	if isTerminal(c.stderr) {
		p.w = c.stderr
	}
	return p
}

// show replaces the line.
func (p *progress) show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil || text == "" || time.Now().Before(p.after) {
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	p.written = true
}

// clear takes the line away.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.written = false
	}
}

// every shows what text returns, again and again until ctx ends.
func (p *progress) every(ctx context.Context, interval time.Duration, text func() string) {
	if p.w == nil {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.show(text())
		}
	}
}

// bar draws how much of total is done in width characters.
func bar(done, total int64, width int) string {
	if total <= 0 {
		return ""
	}
	n := int(min(done, total) * int64(width) / total)
	out := make([]byte, width)
	for i := range out {
		out[i] = '.'
		if i < n {
			out[i] = '#'
		}
	}
	return fmt.Sprintf("[%s] %3d%%", out, min(done, total)*100/total)
}
