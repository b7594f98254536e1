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
	left   time.Duration
	due    atomic.Int64 // on the server's clock: when the wait has been too long; 0: there is none
	late   atomic.Bool  // the caller was cut off
}

// begin has a body watched, until end. stop is told if it is too slow.
func (p *pace) begin(s *Server, stop func()) {
	p.server, p.left = s, s.paces.leeway
	s.paces.add(p, stop)
}

// reset prepares for another body.
func (p *pace) reset() {
	p.server, p.left = nil, 0
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
	if p.server != nil {
		p.left += p.server.paces.timeFor(n)
		p.due.Store(int64(p.server.paces.clock() + p.left))
	}
}

// moved ends it, in which n more bytes moved than were known.
func (p *pace) moved(n int) {
	if p.server != nil {
		// Whoever was too slow while that was no matter does not begin with nothing.
		rest := max(time.Duration(p.due.Swap(0))-p.server.paces.clock(), p.server.paces.leeway/4)
		p.left = min(rest+p.server.paces.timeFor(n), p.server.paces.leeway)
	}
}

// paces are the bodies that are watched.
type paces struct {
	leeway time.Duration
	rate   int       // bytes in a second
	zero   time.Time // of the clock

	mu  sync.Mutex
	all map[*pace]func() // guarded by mu; what ends one
}

func (s *paces) init() {
	s.leeway, s.rate, s.zero, s.all = leeway, leastRate, time.Now(), map[*pace]func(){}
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
func (s *paces) cut(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, stop := range s.all {
		if due := p.due.Load(); due != 0 && int64(now) > due && !p.late.Swap(true) {
			stop()
		}
	}
}

// timeFor is how long n bytes may take.
func (s *paces) timeFor(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(s.rate)
}

// clock is the time that paces are measured in.
func (s *paces) clock() time.Duration { return time.Since(s.zero) }

// Watch ends bodies that are too slow while the proxy is under pressure, until ctx
// ends. Without it none is ended for that.
func (s *Server) Watch(ctx context.Context, pressed func() bool) {
	t := time.NewTicker(paceTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if pressed() {
				s.paces.cut(s.paces.clock())
			}
		}
	}
}
