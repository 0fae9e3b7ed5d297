package sinks

import (
	"context"
	"sync"
)

// KeyLock lets one put at a time work on a key, so that two puts of the same object in one process never
// race with each other's temporary file or multipart upload. The zero KeyLock is ready to use; it holds
// memory only for keys that are locked now.
type KeyLock struct {
	mu   sync.Mutex
	held map[string]*keyHolder // guarded by mu
}

type keyHolder struct {
	turn  chan struct{} // holds one token while nobody has the key
	users int           // who have it or wait for it; guarded by KeyLock.mu
}

// Lock waits for the key and returns the function that gives it back, or ctx's error.
func (l *KeyLock) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	h := l.held[key]
	if h == nil {
		h = &keyHolder{turn: make(chan struct{}, 1)}
		h.turn <- struct{}{}
		if l.held == nil {
			l.held = make(map[string]*keyHolder)
		}
		l.held[key] = h
	}
	h.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		if h.users--; h.users == 0 {
			delete(l.held, key)
		}
		l.mu.Unlock()
	}
	select {
	case <-h.turn:
		return func() { h.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
