package h2

// echo is what our PING holds.
const echo = "fairlead"

// Room is how much data of s the peer takes now.
func (c *Conn) Room(s *Stream) int { return int(max(0, min(c.send, s.send))) }

// Blocked reports whether it is the window of the stream, not that of the
// connection, that keeps s from sending.
func (c *Conn) Blocked(s *Stream) bool { return s.send <= 0 }

// Starved reports that the window of the connection is used up.
func (c *Conn) Starved() bool { return c.send <= 0 }

// Headers sends a header block on s: a head, or a trailer, which has to end it.
// On a stream that is not open it does nothing.
func (c *Conn) Headers(s *Stream, block []byte, end bool) {
	if !s.open || s.LocalEnd {
		return
	}
	c.appendBlock(s.ID, block, end)
	c.sentEnd(s, end)
}

func (c *Conn) appendBlock(id uint32, block []byte, end bool) {
	var prefix []byte
	if c.shrunk {
		c.shrunk, c.encoder = false, true
		prefix = []byte{tableSizeZero}
	}
	c.Out = appendBlock(c.Out, id, prefix, block, end, c.maxFrame)
}

// Data sends p, which must not be longer than Room says, on s. On a stream that
// is not open it does nothing.
func (c *Conn) Data(s *Stream, p []byte, end bool) {
	if !s.open || s.LocalEnd {
		return
	}
	c.send -= int64(len(p))
	s.send -= int64(len(p))
	for {
		n, flags := min(len(p), c.maxFrame), byte(0)
		if end && n == len(p) {
			flags = flagEndStream
		}
		c.Out = appendFrame(c.Out, n, frameData, flags, s.ID)
		c.Out = append(c.Out, p[:n]...)
		c.updates -= perData
		c.earn(1) // for the PING with which the peer may measure the path
		if p = p[n:]; len(p) == 0 {
			break
		}
	}
	c.sentEnd(s, end)
}

func (c *Conn) sentEnd(s *Stream, end bool) {
	if end {
		s.LocalEnd = true
		c.closeIfDone(s)
	}
}

// Abort resets s. What still arrives for it is ignored. On a stream that is not
// open it does nothing.
func (c *Conn) Abort(s *Stream, code Code) {
	if !s.open {
		return
	}
	c.remove(s)
	c.killed.note(s.ID, killedLen)
	if !c.dead { // else the peer has been told of all of them
		c.Out = appendReset(c.Out, s.ID, code)
	}
}

// Consumed says that n bytes of data were read, or are not wanted any more, so
// that the peer may send as many again. waited says that the reader of s was
// there before the data.
func (c *Conn) Consumed(s *Stream, n int, waited bool) {
	c.giveBack(n)
	if s.RemoteEnd || !s.open {
		return
	}
	s.credit += n
	// Before the peer's ACK the target is still to become cfg.Window, which takes from it too.
	if c.Lean && c.initial == c.cfg.Window && s.target > LeanWindow {
		less := min(s.credit, s.target-LeanWindow)
		s.target -= less
		s.credit -= less
		c.growth += less
	}
	if s.credit == 0 || s.credit < s.target/2 {
		return
	}
	if waited && !c.Lean {
		more := min(s.target, c.cfg.MaxWindow-s.target, c.growth)
		s.target += more
		s.credit += more
		c.growth -= more
	}
	c.Out = appendWindowUpdate(c.Out, s.ID, uint32(s.credit)) //nolint:gosec // G115: at most MaxWindow
	s.recv += s.credit
	s.credit = 0
}

// giveBack gives n bytes of the connection's window back.
func (c *Conn) giveBack(n int) {
	if c.credit += n; c.credit < c.target/4 {
		return
	}
	c.Out = appendWindowUpdate(c.Out, 0, uint32(c.credit)) //nolint:gosec // G115: at most target
	c.recv += c.credit
	c.credit = 0
}

// A Start says how a client opens a stream.
type Start struct {
	End    bool   // there is no body
	HEAD   bool   // the answer has none
	Tunnel bool   // CONNECT
	Accept string // the Sec-WebSocket-Key of an extended CONNECT
}

// Capacity is how many more streams a client may open now.
func (c *Conn) Capacity() int {
	if c.dead || c.goaway || c.drain != serving || c.next > maxWindow-2 {
		return 0
	}
	return max(0, int(min(int64(c.peerMax), int64(c.cfg.MaxStreams)))-c.live)
}

// Connects reports whether the peer allows extended CONNECT.
func (c *Conn) Connects() bool { return c.connect }

// Start opens s as a client, with the header block of its request. It reports
// false, and does nothing, where Capacity is 0.
func (c *Conn) Start(s *Stream, block []byte, how Start) bool {
	if c.Capacity() == 0 {
		return false
	}
	id := c.next
	c.next += 2
	c.add(s, id)
	s.Length = -1
	s.toHEAD, s.accept, s.wants = how.HEAD, how.Accept, how.Tunnel || how.Accept != ""
	c.appendBlock(id, block, how.End)
	c.sentEnd(s, how.End)
	return true
}

// Drain begins to give the connection up. A server tells its client, lets
// requests on their way come in until Settle, and serves what it has; a client
// opens nothing more.
func (c *Conn) Drain() {
	if c.drain != serving || c.dead {
		return
	}
	if !c.cfg.Server {
		c.drain = draining
		return
	}
	c.drain = warned
	c.Out = appendGoaway(c.Out, maxWindow, NoError)
	c.Out = appendPing(c.Out, false, []byte(echo))
}

// Settle ends the time in which requests on their way come in: when the PING of
// Drain is back (Echo), or should be. On a server that was not asked to drain it
// does nothing.
func (c *Conn) Settle() {
	if c.drain != warned || c.dead {
		return
	}
	c.drain, c.limit = draining, c.last
	c.Out = appendGoaway(c.Out, c.last, NoError)
}

// Draining reports whether the connection serves only the streams it has.
func (c *Conn) Draining() bool { return c.drain == draining }

// GivenUp reports whether the peer said that it gives the connection up.
func (c *Conn) GivenUp() bool { return c.goaway }

// End says that the connection has ended: nothing is taken or sent any more, and a
// header block that is not whole is dropped.
func (c *Conn) End() { c.dead, c.block = true, nil }

// Quit ends the connection because of code.
func (c *Conn) Quit(code Code) {
	if !c.dead {
		c.dead = true
		c.Out = appendGoaway(c.Out, c.last, code)
	}
}
