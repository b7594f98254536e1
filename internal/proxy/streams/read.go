package streams

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// park lets go of the buffer while more is awaited. What is there of a frame is kept
// in one of its own size.
func (c *conn) park() {
	if c.in == nil || c.filled > longChunk {
		return
	}
	if c.filled > 0 {
		c.rest = c.mem.chunk(c.filled <= shortChunk)
		copy(c.rest.data, c.in[:c.filled])
	}
	c.mem.ins.Put(c.in)
	c.in = nil
}

// unpark takes a buffer to read into.
func (c *conn) unpark() {
	if c.in != nil {
		return
	}
	c.in = c.mem.in()
	if c.rest != nil {
		copy(c.in[:], c.rest.data[:c.filled])
		c.mem.putChunk(c.rest)
		c.rest = nil
	}
}

// parked is how many bytes are held while n of a frame are there.
func parked(n int) int {
	switch {
	case n == 0:
		return 0
	case n <= shortChunk:
		return shortChunk
	case n <= longChunk:
		return longChunk
	}
	return inSize
}

// fill reads once. No buffer is held while nothing is there to be read.
func (c *conn) fill() error {
	if len(c.early) > 0 {
		c.unpark()
		n := copy(c.in[c.filled:], c.early)
		c.filled += n
		c.early = c.early[n:]
		return nil
	}
	c.early = nil
	if c.raw == nil {
		return c.fillSlowly()
	}
	c.got, c.errno = 0, nil
	if c.raw.Read(c.readStep) != nil {
		var one [1]byte
		_, err := c.t.Read(one[:]) // fails as the wait did, and tells why
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	switch {
	case c.errno != nil:
		return fmt.Errorf("read: %w", c.errno)
	case c.got == 0:
		return c.t.Ended()
	}
	c.filled += c.got
	return nil
}

// read reads from the socket, and lets go of the buffer if nothing is there.
func (c *conn) read(fd uintptr) bool {
	c.unpark()
	for {
		n, err := unix.Read(int(fd), c.in[c.filled:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			c.park()
			return false
		}
		c.got, c.errno = max(n, 0), err
		return true
	}
}

func (c *conn) fillSlowly() error {
	if c.filled == 0 { // else one byte would be read at a time: there is no waiting without reading
		c.park()
		if err := c.t.WaitReadable(); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		c.unpark()
	}
	n, err := c.t.Read(c.in[c.filled:])
	c.filled += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
