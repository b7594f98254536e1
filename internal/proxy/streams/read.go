package streams

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// fill reads once. No buffer is held while nothing is there to be read.
func (c *conn) fill() error {
	if len(c.early) > 0 {
		if c.in == nil {
			c.in = c.mem.in()
		}
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
	if c.in == nil {
		c.in = c.mem.in()
	}
	for {
		n, err := unix.Read(int(fd), c.in[c.filled:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if c.filled == 0 {
				c.mem.ins.Put(c.in)
				c.in = nil
			}
			return false
		}
		c.got, c.errno = max(n, 0), err
		return true
	}
}

func (c *conn) fillSlowly() error {
	if c.filled == 0 {
		if c.in != nil {
			c.mem.ins.Put(c.in)
			c.in = nil
		}
		if err := c.t.WaitReadable(); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		c.in = c.mem.in()
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
