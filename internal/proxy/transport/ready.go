package transport

import (
	"golang.org/x/sys/unix"
)

// WaitReadable parks until a Read would return at once: there is something to
// read, the peer ended, or the stream broke (the Read tells which). Its error
// says that the Conn was closed here or timed out. It needs no buffer, so that
// an idle connection holds none.
func (c *Conn) WaitReadable() error {
	if len(c.head) > 0 {
		return nil
	}
	if c.raw == nil {
		return c.waitByte()
	}
	if err := c.raw.Read(c.wait); err != nil {
		return c.explain(err)
	}
	return nil
}

// waitStep is called with the poller's state freshly cleared, and again after
// every wake-up. The poller reports changes only, and not always in time: an
// event from before the clearing is forgotten, and one that it was still
// delivering wakes for bytes read long ago. So the socket is asked each time.
func (c *Conn) waitStep(fd uintptr) bool { return !quiet(fd) }

// waitByte waits where there is no descriptor to wait on, unless the stream can wait itself. The error of an
// ended stream is left for the Read, which meets it again.
func (c *Conn) waitByte() error {
	if w, ok := c.Conn.(interface{ WaitReadable() error }); ok {
		return w.WaitReadable()
	}
	n, err := c.Conn.Read(c.one[:])
	if n > 0 {
		c.head = c.one[:n]
		return nil
	}
	err = c.explain(err)
	if c.fate.Load() != 0 || isClosed(err) {
		return err
	}
	return nil
}

// Alive reports, without waiting, that the peer has neither ended nor sent
// anything: an idle upstream connection may be used. Where there is no
// descriptor to ask it answers from what was given back and timed out alone.
func (c *Conn) Alive() bool {
	if len(c.head) > 0 || c.fate.Load() != 0 {
		return false
	}
	if c.raw == nil {
		return true
	}
	c.quiet = false
	if err := c.raw.Control(c.look); err != nil {
		return false
	}
	return c.quiet
}

func (c *Conn) lookStep(fd uintptr) { c.quiet = quiet(fd) }

// quiet reports that the socket is open and has nothing to read: neither bytes
// nor an end nor an error. It asks poll(2), which unlike a peek needs no address
// of the sender and so no memory.
func quiet(fd uintptr) bool {
	one := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}} //nolint:gosec // G115: a descriptor is an int
	for {
		n, err := unix.Poll(one[:], 0)
		if err != unix.EINTR {
			return n == 0 && err == nil
		}
	}
}
