package streams

// SendNow is Send of data that does not wait: what has no room now is the caller's
// to send again. end goes out with the last of p.
func (s *Stream) SendNow(p []byte, end bool) (n int, err error) {
	c := s.conn
	c.lock()
	defer c.unlock()
	if err := s.sendable(); err != nil {
		return 0, err
	}
	s.active = c.clock
	if len(p) == 0 {
		if end {
			c.core.Data(&s.core, nil, true)
		}
		return 0, nil
	}
	if len(c.queue) > 0 {
		return 0, nil // others came first
	}
	for n < len(p) {
		k := min(len(p)-n, turn, c.core.Room(&s.core), c.most()-len(c.core.Out))
		if k <= 0 {
			break
		}
		c.core.Data(&s.core, p[n:n+k], end && n+k == len(p))
		n += k
	}
	return n, nil
}
