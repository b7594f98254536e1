package h2

import "encoding/binary"

func (c *Conn) takeHeaders(f *frame) (Event, *Error) {
	if f.id == 0 {
		return Event{}, ErrFrameStream
	}
	if err := f.unpad(); err != nil {
		return Event{}, err
	}
	selfish := false
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			return Event{}, ErrFrameSize
		}
		selfish = binary.BigEndian.Uint32(f.payload)&^(1<<31) == f.id
		f.payload = f.payload[5:]
	}
	if selfish {
		// Its block must be decompressed all the same, for those after it.
		return c.selfish(f)
	}
	if !f.has(flagEndHeaders) {
		c.block = append(c.block[:0], f.payload...)
		c.blockID, c.blockEnd = f.id, f.has(flagEndStream)
		return Event{}, nil
	}
	return c.takeBlock(f.id, f.has(flagEndStream), f.payload)
}

// selfish takes HEADERS whose stream depends on itself.
func (c *Conn) selfish(f *frame) (Event, *Error) {
	if !f.has(flagEndHeaders) {
		return Event{}, errSelfDependOpen
	}
	if _, err := c.dec.decode(ignoredBlock, f.payload, false, nil); err != nil {
		return Event{}, err
	}
	if s := c.streams[f.id]; s != nil {
		return c.fail(s, ErrSelfDepend)
	}
	if c.cfg.Server && f.id%2 == 1 && f.id > c.last {
		c.last = f.id
		return c.reject(f.id, ErrSelfDepend)
	}
	return Event{}, ErrStreamID
}

func (c *Conn) takeContinuation(f *frame) (Event, *Error) {
	if f.id != c.blockID {
		return Event{}, ErrInterleaved
	}
	if len(c.block)+len(f.payload) > maxBlock {
		return Event{}, ErrBlockSize
	}
	if err := c.spend(1); err != nil {
		return Event{}, err
	}
	c.block = append(c.block, f.payload...)
	if !f.has(flagEndHeaders) {
		return Event{}, nil
	}
	block := c.block
	c.block, c.blockID = nil, 0
	return c.takeBlock(f.id, c.blockEnd, block)
}

// takeBlock takes a whole header block.
func (c *Conn) takeBlock(id uint32, end bool, block []byte) (Event, *Error) {
	s := c.streams[id]
	switch {
	case s == nil && c.cfg.Server && id%2 == 0:
		return Event{}, ErrStreamID
	case s == nil && c.cfg.Server && id > c.last:
		return c.takeRequest(id, end, block)
	case s == nil:
		return c.blockAfterEnd(id, block)
	case s.RemoteEnd:
		return c.ignore(s, block, ErrHalfClosed)
	case !c.cfg.Server && !s.head:
		return c.takeResponse(s, end, block)
	case !end:
		return c.ignore(s, block, ErrTrailer)
	case s.Length >= 0 && !s.noBody && s.got != s.Length:
		return c.ignore(s, block, ErrLength)
	}
	var err *Error
	if s.Trailer, err = c.dec.decode(trailerBlock, block, end, s.Trailer[:0]); err != nil {
		return c.faulty(s, err)
	}
	s.RemoteEnd = true
	c.closeIfDone(s)
	return Event{Kind: Trailer, Stream: s}, nil
}

// faulty ends s, or the connection, because of err.
func (c *Conn) faulty(s *Stream, err *Error) (Event, *Error) {
	if err.Conn {
		return Event{}, err
	}
	return c.fail(s, err)
}

// ignore decompresses a block that comes to nothing, and ends the stream because of why.
func (c *Conn) ignore(s *Stream, block []byte, why *Error) (Event, *Error) {
	if _, err := c.dec.decode(ignoredBlock, block, false, nil); err != nil {
		return Event{}, err
	}
	return c.fail(s, why)
}

// blockAfterEnd takes a header block for a stream that is not open any more.
func (c *Conn) blockAfterEnd(id uint32, block []byte) (Event, *Error) {
	switch {
	case c.killed.has(id) || c.beyond(id):
	case !c.cfg.Server && !c.idle(id):
	case c.ended.has(id):
		return Event{}, ErrClosedStream
	case c.cfg.Server:
		return Event{}, ErrStreamID
	default:
		return Event{}, ErrIdleStream
	}
	if _, err := c.dec.decode(ignoredBlock, block, false, nil); err != nil {
		return Event{}, err
	}
	return Event{}, c.spend(1)
}

func (c *Conn) takeRequest(id uint32, end bool, block []byte) (Event, *Error) {
	c.last = id
	var refused *Error
	switch {
	case c.beyond(id):
		if _, err := c.dec.decode(ignoredBlock, block, end, nil); err != nil {
			return Event{}, err
		}
		return Event{}, c.spend(1)
	case len(c.streams) >= c.cfg.MaxStreams, c.live >= 2*c.cfg.MaxStreams:
		refused = ErrTooMany
	}
	if refused != nil {
		if _, err := c.dec.decode(ignoredBlock, block, end, nil); err != nil {
			return Event{}, err
		}
		return c.reject(id, refused)
	}
	if c.cfg.Random != nil {
		c.dec.random = c.cfg.Random()
	}
	// The room behind what is to be sent is lent for the text, whose size nobody
	// knows before it is there.
	n := len(c.Out)
	lent, err := c.dec.decode(requestBlock, block, end, c.Out)
	c.Out = lent[:n]
	if err != nil {
		if err.Conn {
			return Event{}, err
		}
		return c.reject(id, err)
	}
	s := c.cfg.Open()
	s.Text = append(s.Text[:0], lent[n:]...)
	s.Large, s.Length, s.RemoteEnd = c.dec.large, c.dec.length, end
	s.Tunnel, s.HTTPS = c.dec.method == "CONNECT", c.dec.scheme == "https"
	c.add(s, id)
	return Event{Kind: Opened, Stream: s}, nil
}

func (c *Conn) takeResponse(s *Stream, end bool, block []byte) (Event, *Error) {
	c.dec.toHEAD, c.dec.accept, c.dec.tunnel = s.toHEAD, s.accept, s.wants
	text, err := c.dec.decode(responseBlock, block, end, s.Text)
	if err != nil {
		return c.faulty(s, err)
	}
	if c.dec.status < 200 {
		if s.interim++; s.interim > maxInterim || len(text) > 2*MaxHead { // that nobody has taken yet
			return c.fail(s, ErrManyInterim)
		}
		if end {
			return c.fail(s, ErrNoHead)
		}
		s.Text = text
		return Event{Kind: Head, Stream: s}, nil
	}
	s.Text, s.head = text, true
	s.Length, s.noBody, s.RemoteEnd = c.dec.length, c.dec.noBody, end
	s.Tunnel = s.wants && c.dec.status < 300
	c.closeIfDone(s)
	return Event{Kind: Head, Stream: s}, nil
}
