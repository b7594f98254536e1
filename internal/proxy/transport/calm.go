package transport

// What waits for long in turn with what waits for short: a Socket that rested for
// short too often stays, with a goroutine that waits, until the Sweeper finds it idle.

// canRest reports whether rest is worth a try; if not, calm makes it.
func (s *Socket) canRest() bool {
	if s.staying.Load() {
		return false
	}
	if s.polled.Load() != nil {
		s.staying.Store(true)
		return false
	}
	return true
}

// calm is the sweeper's: the socket has been idle for some time, and may rest again.
// Who waits is woken for nothing, to let it.
func (s *Socket) calm() {
	if !s.staying.Load() {
		return
	}
	if p := s.leave(); p != nil {
		_ = p.file.Close() // which wakes who waits, and ends no socket
	}
}

// leave takes the socket from the poller, if that knows it, and returns what is to be
// closed then. It stays there if it has a deadline, or if there is no descriptor to be
// had: what the poller keeps for a file is kept while that is open, and so the socket
// goes on with another descriptor.
func (s *Socket) leave() *polled {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.writeBy || !s.readBy.IsZero() {
		return nil
	}
	p := s.polled.Load()
	if p == nil {
		s.staying.Store(false)
		s.often = 0
		s.wakeLocked()
		return nil
	}
	fd := -1
	if err := p.raw.Control(func(old uintptr) { fd = again(old) }); err != nil || fd < 0 {
		return nil
	}
	s.fd, s.often = fd, 0
	s.staying.Store(false)
	s.polled.Store(nil)
	return p
}
