package transport

import (
	"os"
	"syscall"
	"time"
)

// A rawSocket is a Socket as package syscall has them.
type rawSocket Socket

// SyscallConn returns the descriptor underneath.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return (*rawSocket)(s), nil }

// Control calls f with the descriptor.
func (r *rawSocket) Control(f func(fd uintptr)) error {
	s := (*Socket)(r)
	for {
		p := s.polled.Load()
		if p == nil {
			var err error
			if p, err = s.visit(f); p == nil {
				return err
			}
		}
		if err := p.raw.Control(f); err == nil || !s.left(p) {
			return closedAs(err)
		}
	}
}

// visit is Control unless the poller knows the socket, which it returns then.
func (s *Socket) visit(f func(fd uintptr)) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return s.pollLocked() // or closed
	}
	f(uintptr(s.fd))
	return nil, nil
}

// left reports that p is closed because the socket left the poller, and not the
// other way round.
func (s *Socket) left(p *polled) bool { return s.polled.Load() != p }

// Read calls f until it is done, and waits for something to read in between.
func (r *rawSocket) Read(f func(fd uintptr) bool) error {
	s := (*Socket)(r)
	for {
		p := s.polled.Load()
		if p == nil {
			var err error
			if p, err = s.await(f); p == nil {
				return err
			}
		}
		if err := p.raw.Read(f); err == nil || !s.left(p) {
			return closedAs(err)
		}
	}
}

// await is Read until the poller knows the socket, which it returns then.
func (s *Socket) await(f func(fd uintptr) bool) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.fd >= 0 {
		if s.late() {
			return nil, os.ErrDeadlineExceeded
		}
		if f(uintptr(s.fd)) {
			return nil, nil
		}
		if !s.parkLocked() {
			break
		}
		s.sleepLocked()
	}
	return s.pollLocked()
}

// sleepLocked waits in the lot until it is woken or out of time.
func (s *Socket) sleepLocked() {
	if !s.readBy.IsZero() {
		defer time.AfterFunc(time.Until(s.readBy), s.rouse).Stop()
	}
	for s.waiting {
		s.woken.Wait()
	}
}

// Write calls f until it is done, and waits for room to write in between.
func (r *rawSocket) Write(f func(fd uintptr) bool) error {
	s := (*Socket)(r)
	for {
		p := s.polled.Load()
		if p == nil {
			var err error
			if p, err = s.try(f); p == nil {
				return err
			}
		}
		if err := p.raw.Write(f); err == nil || !s.left(p) {
			return closedAs(err)
		}
	}
}

// try calls f unless the poller knows the socket, which it returns then, or if f is
// not done.
func (s *Socket) try(f func(fd uintptr) bool) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 && f(uintptr(s.fd)) {
		return nil, nil
	}
	return s.pollLocked()
}
