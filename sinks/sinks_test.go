package sinks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClassOf(t *testing.T) {
	refused := &Error{Class: RefusedObject, Code: "EntityTooLarge", Err: io.ErrShortWrite}
	for _, c := range []struct {
		err  error
		want Class
		name string
	}{
		{errors.New("says nothing"), Unknown, "unknown"},
		{refused, RefusedObject, "refused_object"},
		{fmt.Errorf("put %q: %w", "k", refused), RefusedObject, "refused_object"},
		{errors.Join(errors.New("and"), &Error{Class: NotStored, Err: io.EOF}), NotStored, "not_stored"},
		{&Error{Class: RefusedDestination, Err: io.EOF}, RefusedDestination, "refused_destination"},
		{&Error{Class: Foreign, Err: io.EOF}, Foreign, "foreign"},
		{&Error{Class: Damaged, Err: io.EOF}, Damaged, "damaged"},
		{&Error{Class: 99, Err: io.EOF}, 99, "class(99)"},
	} {
		if got := ClassOf(c.err); got != c.want || got.String() != c.name {
			t.Errorf("ClassOf(%v) = %v (%q), want %q", c.err, got, got.String(), c.name)
		}
	}
	if !errors.Is(fmt.Errorf("x: %w", refused), io.ErrShortWrite) {
		t.Error("an Error hides its cause")
	}
}

func TestKeyLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l KeyLock
		inside := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				key := fmt.Sprint(i % 2)
				unlock, err := l.Lock(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				mu.Lock()
				inside[key]++
				if inside[key] != 1 {
					t.Errorf("%d hold key %s", inside[key], key)
				}
				mu.Unlock()
				for range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					if _, err := l.Lock(ctx, key); !errors.Is(err, context.Canceled) {
						t.Errorf("a key that is held was given out: %v", err)
					}
				}
				mu.Lock()
				inside[key]--
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(l.held) != 0 {
			t.Errorf("%d keys are remembered after the last holder", len(l.held))
		}
	})
}
