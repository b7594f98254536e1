package h2

import "encoding/binary"

// Next takes frames from the beginning of b until one means something to the
// driver. used counts the bytes taken; with None, what is left is the beginning
// of a frame and is given again with more behind it. An error ends the
// connection: Out then ends with GOAWAY, and nothing more is taken.
func (c *Conn) Next(b []byte) (ev Event, used int, err *Error) {
	if c.dead {
		return Event{}, len(b), nil
	}
	if c.cfg.Server && c.preface < len(Preface) {
		if used, err = c.takePreface(b); err != nil {
			return Event{}, used, c.die(err)
		}
		if c.preface < len(Preface) {
			return Event{}, used, nil
		}
	}
	for len(b)-used >= headerLen {
		p := b[used:]
		n := size(p)
		if !c.settled && !c.cfg.Server && string(p[:len(http1)]) == http1 {
			return Event{}, used, c.die(ErrHTTP1)
		}
		if n > headerLen+MaxFrame {
			return Event{}, used, c.die(ErrFrameSize)
		}
		if len(p) < n {
			break
		}
		f := frame{frameType(p[3]), p[4], binary.BigEndian.Uint32(p[5:]) &^ (1 << 31), p[headerLen:n]}
		used += n
		if ev, err = c.take(&f); err != nil {
			return Event{}, used, c.die(err)
		}
		if ev.Kind != None {
			return ev, used, nil
		}
	}
	return Event{}, used, nil
}

// http1 is how a server begins that does not speak HTTP/2. As a frame it would be
// far too large.
const http1 = "HTTP/1."

func (c *Conn) takePreface(b []byte) (used int, err *Error) {
	n := min(len(b), len(Preface)-c.preface)
	if string(b[:n]) != Preface[c.preface:c.preface+n] {
		return 0, ErrPreface
	}
	c.preface += n
	return n, nil
}

// Pending reports whether a header block, or the preface, is not whole yet.
func (c *Conn) Pending() bool { return c.blockID != 0 || !c.settled }

// Settled reports whether the settings of the peer came.
func (c *Conn) Settled() bool { return c.settled }

// die ends the connection because of err.
func (c *Conn) die(err *Error) *Error {
	c.dead = true
	c.Out = appendGoaway(c.Out, c.last, err.Code)
	return err
}

func (c *Conn) take(f *frame) (Event, *Error) {
	switch {
	case !c.settled:
		if f.kind != frameSettings || f.has(flagAck) {
			return Event{}, ErrPreface
		}
		c.settled = true
	case (c.blockID != 0) != (f.kind == frameContinuation):
		return Event{}, ErrInterleaved
	}
	switch f.kind {
	case frameData:
		return c.takeData(f)
	case frameHeaders:
		return c.takeHeaders(f)
	case framePriority:
		return c.takePriority(f)
	case frameReset:
		return c.takeReset(f)
	case frameSettings:
		return c.takeSettings(f)
	case framePushPromise:
		return Event{}, ErrPush
	case framePing:
		return c.takePing(f)
	case frameGoaway:
		return c.takeGoaway(f)
	case frameWindowUpdate:
		return c.takeWindowUpdate(f)
	case frameContinuation:
		return c.takeContinuation(f)
	}
	return Event{}, c.spend(1) // a type of a later day
}

// idle reports whether a stream was never opened.
func (c *Conn) idle(id uint32) bool {
	if c.cfg.Server {
		return id > c.last || id%2 == 0
	}
	return id >= c.next || id%2 == 0
}

// beyond reports whether a stream was opened too late to be served, which its
// client has been told or will be.
func (c *Conn) beyond(id uint32) bool { return c.cfg.Server && id > c.limit }

// fail ends an open stream because of err, for both sides.
func (c *Conn) fail(s *Stream, err *Error) (Event, *Error) {
	// Paid for first: a stream that the driver is not told of has to stay open.
	if err := c.spend(2); err != nil {
		return Event{}, err
	}
	c.Abort(s, err.Code)
	return Event{Kind: Failed, Stream: s, Code: err.Code, Err: err}, nil
}

// reject ends a stream that is not open because of err.
func (c *Conn) reject(id uint32, err *Error) (Event, *Error) {
	c.Out = appendReset(c.Out, id, err.Code)
	c.killed.note(id, killedLen)
	return Event{Kind: Refused, Code: err.Code, Err: err}, c.spend(2)
}

func (c *Conn) takeData(f *frame) (Event, *Error) {
	if f.id == 0 {
		return Event{}, ErrFrameStream
	}
	n := len(f.payload)
	if err := f.unpad(); err != nil {
		return Event{}, err
	}
	if n > c.recv {
		return Event{}, ErrConnWindow
	}
	c.recv -= n
	s := c.streams[f.id]
	if s == nil {
		return c.dataAfterEnd(f, n)
	}
	if err := c.checkData(s, f, n); err != nil {
		c.giveBack(n)
		return c.fail(s, err)
	}
	s.recv -= n
	s.got += int64(len(f.payload))
	if padding := n - len(f.payload); padding > 0 {
		c.Consumed(s, padding, false)
	}
	if f.has(flagEndStream) {
		s.RemoteEnd = true
		c.closeIfDone(s)
	} else if len(f.payload) == 0 {
		return Event{}, c.spend(10)
	}
	return Event{Kind: Data, Stream: s, Data: f.payload}, nil
}

// dataAfterEnd takes data for a stream that is not open.
func (c *Conn) dataAfterEnd(f *frame, n int) (Event, *Error) {
	if c.idle(f.id) {
		return Event{}, ErrIdleStream
	}
	c.giveBack(n)
	if c.killed.has(f.id) || c.beyond(f.id) || !c.cfg.Server {
		if n == 0 && !f.has(flagEndStream) {
			return Event{}, c.spend(10) // as on an open stream
		}
		return Event{}, nil // it did not know yet
	}
	return c.reject(f.id, ErrHalfClosed)
}

func (c *Conn) checkData(s *Stream, f *frame, n int) *Error {
	size := s.got + int64(len(f.payload))
	switch {
	case s.RemoteEnd:
		return ErrHalfClosed
	case n > s.recv:
		return ErrStreamWindow
	case !c.cfg.Server && !s.head:
		return ErrNoHead
	case s.noBody && size > 0:
		return ErrNoBody
	case s.Length >= 0 && !s.noBody && (size > s.Length || f.has(flagEndStream) && size != s.Length):
		return ErrLength
	}
	return nil
}

func (c *Conn) takePriority(f *frame) (Event, *Error) {
	switch {
	case f.id == 0:
		return Event{}, ErrFrameStream
	case len(f.payload) != 5:
		return c.failOrReject(f.id, ErrPrioritySize)
	case binary.BigEndian.Uint32(f.payload)&^(1<<31) == f.id:
		return c.failOrReject(f.id, ErrSelfDepend)
	}
	return Event{}, c.spend(1)
}

func (c *Conn) failOrReject(id uint32, err *Error) (Event, *Error) {
	if s := c.streams[id]; s != nil {
		return c.fail(s, err)
	}
	return c.reject(id, err)
}

func (c *Conn) takeReset(f *frame) (Event, *Error) {
	switch {
	case f.id == 0:
		return Event{}, ErrFrameStream
	case len(f.payload) != 4:
		return Event{}, ErrFrameSize
	case c.idle(f.id):
		return Event{}, ErrIdleStream
	}
	s := c.streams[f.id]
	if err := c.spend(1); err != nil || s == nil { // paid for first, as in fail
		return Event{}, err
	}
	c.remove(s)
	c.ended.note(s.ID, endedLen)
	return Event{Kind: Failed, Stream: s, Code: Code(binary.BigEndian.Uint32(f.payload))}, nil
}

func (c *Conn) takePing(f *frame) (Event, *Error) {
	switch {
	case f.id != 0:
		return Event{}, ErrFrameStream
	case len(f.payload) != 8:
		return Event{}, ErrFrameSize
	case f.has(flagAck):
		if string(f.payload) == echo {
			return Event{Kind: Echo}, c.spend(1)
		}
		return Event{}, c.spend(1)
	}
	c.Out = appendPing(c.Out, true, f.payload)
	return Event{}, c.spend(1)
}

func (c *Conn) takeGoaway(f *frame) (Event, *Error) {
	switch {
	case f.id != 0:
		return Event{}, ErrFrameStream
	case len(f.payload) < 8:
		return Event{}, ErrFrameSize
	}
	if c.cfg.Server {
		// A client speaks of the streams that we push, which are none. Its own go on.
		return Event{}, c.spend(10)
	}
	c.goaway = true
	last := binary.BigEndian.Uint32(f.payload) &^ (1 << 31)
	return Event{Kind: Goaway, Last: last, Code: Code(binary.BigEndian.Uint32(f.payload[4:]))}, c.spend(10)
}

func (c *Conn) takeWindowUpdate(f *frame) (Event, *Error) {
	if len(f.payload) != 4 {
		return Event{}, ErrFrameSize
	}
	if c.updates++; c.updates > 0 {
		if err := c.spend(1); err != nil {
			return Event{}, err
		}
	}
	n := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	if f.id == 0 {
		if n == 0 {
			return Event{}, ErrIncrement
		}
		if c.send += n; c.send > maxWindow {
			return Event{}, ErrWindowSize
		}
		return Event{Kind: Credit}, nil
	}
	s := c.streams[f.id]
	switch {
	case s == nil && c.idle(f.id):
		return Event{}, ErrIdleStream
	case s == nil:
		return Event{}, nil
	case n == 0:
		return c.fail(s, ErrNoIncrement)
	}
	if s.send += n; s.send > maxWindow {
		return c.fail(s, ErrStreamGrowth)
	}
	return Event{Kind: Credit, Stream: s}, nil
}

func (c *Conn) takeSettings(f *frame) (Event, *Error) {
	switch {
	case f.id != 0:
		return Event{}, ErrFrameStream
	case f.has(flagAck):
		if len(f.payload) != 0 {
			return Event{}, ErrFrameSize
		}
		c.heeded()
		return Event{}, c.spend(1)
	case len(f.payload)%6 != 0:
		return Event{}, ErrFrameSize
	}
	grown := false
	top, last := int64(-1), int64(0) // of the windows it names: streams are looked at once for all of them
	for p := f.payload; len(p) > 0; p = p[6:] {
		id, v := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
		if id == settingWindow {
			top, last = max(top, int64(v)), int64(v)
			continue
		}
		grew, err := c.set(id, v)
		if err != nil {
			return Event{}, err
		}
		grown = grown || grew
	}
	if top >= 0 {
		grew, err := c.setWindow(top, last)
		if err != nil {
			return Event{}, err
		}
		grown = grown || grew
	}
	c.Out = appendFrame(c.Out, 0, frameSettings, flagAck, 0)
	if err := c.spend(1 + len(f.payload)/60); err != nil || !grown {
		return Event{}, err
	}
	return Event{Kind: Settings}, nil
}

// set takes one setting, and reports whether there is more to send with it.
func (c *Conn) set(id uint16, v uint32) (grown bool, err *Error) {
	switch id {
	case settingTableSize:
		if v < tableSize && !c.encoder {
			c.shrunk = true
		}
	case settingPush:
		if v > 1 || v == 1 && !c.cfg.Server {
			return false, ErrSetting
		}
	case settingMaxStreams:
		grown = v > c.peerMax
		c.peerMax = v
	case settingMaxFrame:
		if v < smallestMaxFrame || v > largestMaxFrame {
			return false, ErrSetting
		}
	case settingConnect:
		if v > 1 || v == 0 && c.connect {
			return false, ErrSetting
		}
		c.connect = v == 1
	}
	return grown, nil
}

// setWindow takes the window that streams begin with, which was top on the way to last.
func (c *Conn) setWindow(top, last int64) (grown bool, err *Error) {
	if top > maxWindow {
		return false, ErrWindowSize
	}
	before := c.window
	c.window = last
	for _, s := range c.streams {
		if s.send+top-before > maxWindow {
			return false, ErrWindowSize
		}
		s.send += last - before
	}
	return last > before, nil
}
