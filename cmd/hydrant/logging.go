package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"

	"hydrant/config"
)

// switchable is a slog.Handler whose level and format can be changed while it is in use. Handlers that are made
// from it, with attributes or groups, change with it. Safe for concurrent use.
type switchable struct {
	w     io.Writer
	now   *atomic.Pointer[slog.Handler] // shared by all that are made from one another
	added []func(slog.Handler) slog.Handler
}

var _ slog.Handler = (*switchable)(nil)

// newLog writes to w as the configuration says.
func newLog(l config.Log, w io.Writer) *switchable {
	s := &switchable{w: w, now: new(atomic.Pointer[slog.Handler])}
	s.set(l)
	return s
}

// set makes it write as the configuration says from now on.
func (s *switchable) set(l config.Log) {
	h := newLogger(l, s.w).Handler()
	s.now.Store(&h)
}

func (s *switchable) Enabled(ctx context.Context, l slog.Level) bool {
	return (*s.now.Load()).Enabled(ctx, l)
}

func (s *switchable) Handle(ctx context.Context, r slog.Record) error {
	h := *s.now.Load()
	for _, add := range s.added {
		h = add(h)
	}
	return h.Handle(ctx, r)
}

func (s *switchable) WithAttrs(attrs []slog.Attr) slog.Handler {
	return s.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (s *switchable) WithGroup(name string) slog.Handler {
	return s.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (s *switchable) with(add func(slog.Handler) slog.Handler) slog.Handler {
	return &switchable{w: s.w, now: s.now, added: append(slices.Clone(s.added), add)}
}
