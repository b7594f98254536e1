package l7

import (
	"context"
	"errors"
	"sync/atomic"
)

// errEnded is what a try ends with that was cut before anything was sent; why is
// the caller's to tell.
var errEnded = errors.New("the exchange was ended before anything was sent")

// A leash lets a try be cut while it waits for what it will use: one goroutine
// waits, any may pull.
type leash struct {
	pulled atomic.Bool
	wait   atomic.Pointer[context.CancelFunc]
}

// slacken prepares for another try. Nobody pulls meanwhile.
func (l *leash) slacken() { l.pulled.Store(false) }

// hold returns a context that ends when the leash is pulled, until release.
func (l *leash) hold(ctx context.Context) (held context.Context, release func()) {
	held, cancel := context.WithCancel(ctx)
	l.wait.Store(&cancel)
	if l.pulled.Load() {
		cancel()
	}
	return held, func() {
		l.wait.Store(nil)
		cancel()
	}
}

// pull ends what waits now, or will.
func (l *leash) pull() {
	l.pulled.Store(true)
	if cancel := l.wait.Load(); cancel != nil {
		(*cancel)()
	}
}
