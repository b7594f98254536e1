package streams

import (
	"sync"
	"time"
)

// A crew is the goroutines that serve streams. They are kept from one stream to
// the next: a new one begins with a stack too small for an exchange, which is
// copied until it is large enough, and costs more than the work on the stream
// itself. They belong to no connection, so that one without a stream holds none.
// The zero crew is ready.
type crew struct {
	mu      sync.Mutex
	parked  []*worker // guarded, as all below, by mu; the last to park is the first to work
	least   int       // how many were parked at least since trimmed
	trimmed time.Time
	conns   int // that may have streams to serve
	workers int // parked or not
	gone    sync.Cond
}

// maxParked is how many wait for work at most. More than that have to be at work
// at once before a goroutine is ever made anew.
const maxParked = 256

// A worker is one of a crew.
type worker struct {
	crew *crew
	next chan *Stream // holds one; closed once there is no more to do
}

// join lets a connection use the crew, until leave.
func (c *crew) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns++
	if c.gone.L == nil {
		c.gone.L = &c.mu
	}
}

// leave is told that a connection has no stream any more. With the last one the
// crew ends, which is waited for.
func (c *crew) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns--; c.conns > 0 {
		return
	}
	c.dismiss(len(c.parked))
	for c.workers > 0 && c.conns == 0 {
		c.gone.Wait()
	}
}

// serve has s served.
func (c *crew) serve(s *Stream) {
	c.mu.Lock()
	n := len(c.parked) - 1
	if n < 0 {
		c.workers++
		c.mu.Unlock()
		w := &worker{c, make(chan *Stream, 1)}
		w.next <- s
		go w.work()
		return
	}
	w := c.parked[n]
	c.parked[n] = nil
	c.parked = c.parked[:n]
	c.least = min(c.least, n)
	c.mu.Unlock()
	w.next <- s
}

func (w *worker) work() {
	defer w.crew.lose()
	for s := range w.next {
		s.serve()
		if !w.crew.park(w) {
			return
		}
	}
}

// park reports whether one shall wait for more.
func (c *crew) park(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == 0 || len(c.parked) >= maxParked {
		return false
	}
	c.parked = append(c.parked, w)
	return true
}

func (c *crew) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers--; c.workers == 0 {
		c.gone.Broadcast()
	}
}

// trim lets those go that had nothing to do for longTick.
func (c *crew) trim(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.trimmed) < longTick {
		return
	}
	c.trimmed = now
	c.dismiss(c.least)
	c.least = len(c.parked)
}

// dismiss ends the n that have been parked longest.
func (c *crew) dismiss(n int) {
	for _, w := range c.parked[:n] {
		close(w.next)
	}
	left := copy(c.parked, c.parked[n:])
	clear(c.parked[left:])
	c.parked = c.parked[:left]
}
