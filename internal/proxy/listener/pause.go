package listener

import (
	"context"
	"errors"
	"syscall"
	"time"
)

const (
	firstPause = 5 * time.Millisecond
	maxPause   = time.Second
)

// A pause is the time between tries to accept while the system has no room for
// more connections. One episode lasts until an accept succeeds.
type pause struct {
	next  time.Duration
	count int
}

// begins reports whether this is the first failure of an episode.
func (p *pause) begins() bool { return p.count == 0 }

// sleep waits, twice as long each time, and reports whether ctx goes on.
func (p *pause) sleep(ctx context.Context) bool {
	p.count++
	p.next = min(max(2*p.next, firstPause), maxPause)
	t := time.NewTimer(p.next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// over ends the episode, if there is one, and returns how many pauses it had.
func (p *pause) over() int {
	n := p.count
	*p = pause{}
	return n
}

// isPassing reports that accepting failed for want of something that comes back.
func isPassing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}
