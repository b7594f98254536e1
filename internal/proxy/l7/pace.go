package l7

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A caller may send and take bodies as slowly as it likes, and be silent for as long:
// links are slow, and conversations pause. Only while the proxy is short of what
// it has for all of them, bodies are ended whose caller keeps it waiting for long.
const (
	leastRate = 240              // bytes in a second
	leeway    = 20 * time.Second // in which nothing need move
	paceTick  = time.Second
)

// errSlow says that a caller was cut off for its pace.
var errSlow = errors.New("the caller moved its body at less than 240 bytes a second, which is too slow while connections or memory are short")

// A pace is how a caller keeps up with one direction of an exchange: how long it
// may be waited for until it is too slow. What moves in time saves it some, up to
// the leeway. It belongs to the goroutine that moves the body.
type pace struct {
	server *Server // nil: it is not watched
	begun  bool    // a part of the body has moved
	left   time.Duration
	due    atomic.Int64 // on the server's clock: when the wait has been too long; 0: there is none; missed
	late   atomic.Bool  // the caller was cut off
}

// missed is the due of a wait for which the caller was cut off.
const missed = -1

// begin has a body watched, until end: at once if it has begun, else from its first
// byte on. stop is told if it is too slow.
func (p *pace) begin(s *Server, begun bool, stop func()) {
	p.server, p.begun, p.left = s, begun, s.paces.leeway
	s.paces.add(p, stop)
}

// reset prepares for another body.
func (p *pace) reset() {
	p.server, p.begun, p.left = nil, false, 0
	p.due.Store(0)
	p.late.Store(false)
}

// end reports whether the caller was cut off.
func (p *pace) end() (late bool) {
	if p.server == nil {
		return false
	}
	p.server.paces.remove(p)
	p.server = nil
	p.due.Store(0)
	return p.late.Load()
}

// wait begins a wait for the caller, in which n bytes are to move as far as that is known.
func (p *pace) wait(n int) {
	if p.server != nil && p.begun {
		p.left += p.server.paces.timeFor(n)
		p.due.Store(int64(p.server.paces.clock() + p.left))
	}
}

// moved ends it, in which n more bytes moved than were known. It reports whether they
// did before the caller was cut off.
func (p *pace) moved(n int) (inTime bool) {
	switch {
	case p.server == nil:
	case !p.begun:
		p.begun = n > 0
	default:
		due := p.due.Swap(0)
		if due == missed {
			return false
		}
		// Whoever was too slow while that was no matter does not begin with nothing.
		rest := max(time.Duration(due)-p.server.paces.clock(), p.server.paces.leeway/4)
		p.left = min(rest+p.server.paces.timeFor(n), p.server.paces.leeway)
	}
	return true
}

// paces are the bodies that are watched. Their clock counts only time in which the
// process ran, in steps of a tick: after a stop nobody is cut for a silence that
// was ours.
type paces struct {
	leeway time.Duration
	rate   int           // bytes in a second
	tick   time.Duration // between looks
	now    atomic.Int64  // the clock, in nanoseconds
	last   time.Time     // when it was set; of who looks

	mu  sync.Mutex
	all map[*pace]func() // guarded by mu; what ends one
}

func (s *paces) init() {
	s.leeway, s.rate, s.tick, s.last, s.all = leeway, leastRate, paceTick, time.Now(), map[*pace]func(){}
}

func (s *paces) add(p *pace, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[p] = stop
}

// remove returns when nobody stops p any more.
func (s *paces) remove(p *pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, p)
}

// cut ends those that are too slow.
func (s *paces) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(s.clock() - s.tick) // as exact as the clock is
	for p, stop := range s.all {
		due := p.due.Load()
		if due > 0 && now > due && p.due.CompareAndSwap(due, missed) { // else it has just moved
			p.late.Store(true)
			stop()
		}
	}
}

// timeFor is how long n bytes may take.
func (s *paces) timeFor(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(s.rate)
}

// clock is the time that paces are measured in.
func (s *paces) clock() time.Duration { return time.Duration(s.now.Load()) }

// advance sets the clock. A longer gap means that we did not run, so nobody was
// served.
func (s *paces) advance(now time.Time) {
	s.now.Add(int64(min(now.Sub(s.last), 2*s.tick)))
	s.last = now
}

// Watch ends bodies that are too slow while the proxy is under pressure, until ctx
// ends. Without it none is ended for that. It is called once.
func (s *Server) Watch(ctx context.Context, pressed func() bool) {
	t := time.NewTicker(paceTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if s.paces.advance(time.Now()); pressed() {
				s.paces.cut()
			}
		}
	}
}
