package transport

import (
	"io"
	"os"
	"syscall"

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

// WaitEvent is WaitReadable for a caller who reads with ReadNow: it may return
// though there is nothing to read, which saves the look after each wake-up.
func (c *Conn) WaitEvent() error {
	if len(c.head) > 0 {
		return nil
	}
	if c.raw == nil {
		return c.waitByte()
	}
	if s, ok := c.Conn.(*Socket); ok {
		if p, err := s.event(); err != nil {
			return c.explain(err)
		} else if p == nil {
			return nil
		}
	}
	if c.event == nil {
		c.event = c.eventStep
	}
	c.quiet = false
	if err := c.raw.Read(c.event); err != nil {
		return c.explain(err)
	}
	return nil
}

// eventStep looks once, with the poller's state freshly cleared, as waitStep
// does. The second time it has been woken.
func (c *Conn) eventStep(fd uintptr) bool {
	if c.quiet {
		return true
	}
	c.quiet = quiet(fd)
	return !c.quiet
}

// ReadNow is Read, but does not wait where there is a descriptor: without an
// error, 0 says that nothing has come.
func (c *Conn) ReadNow(p []byte) (int, error) {
	if c.raw == nil || len(c.head) > 0 {
		return c.Read(p)
	}
	n, err := c.reading.now(c.raw, p)
	switch {
	case err == nil:
	case err == io.EOF:
		err = c.Ended()
	default:
		err = c.explain(err)
	}
	return n, err
}

// reading is a read from a socket in progress: what a net.Conn does, but by read. It is the reader's.
type reading struct {
	look func(fd uintptr)      // r.once, bound when it is first needed
	wait func(fd uintptr) bool // r.step, likewise
	p    []byte
	n    int
	err  error
}

// now reads what is there, which may be nothing.
func (r *reading) now(raw syscall.RawConn, p []byte) (int, error) {
	if r.look == nil {
		r.look = r.once
	}
	r.p = p
	if s, ok := raw.(*rawSocket); ok {
		if p, err := (*Socket)(s).now(r); p == nil {
			return r.result(err)
		}
	}
	return r.result(raw.Control(r.look))
}

// await waits until there is something.
func (r *reading) await(raw syscall.RawConn, p []byte) (int, error) {
	if r.wait == nil {
		r.wait = r.step
	}
	r.p = p
	return r.result(raw.Read(r.wait))
}

func (r *reading) once(fd uintptr) { r.step(fd) }

// step reads, and reports whether there was anything.
func (r *reading) step(fd uintptr) bool {
	r.n, r.err = readOnce(fd, r.p)
	if r.err == syscall.EAGAIN {
		r.err = nil
		return false
	}
	return true
}

// result takes the results out. err is that of getting at the descriptor.
func (r *reading) result(err error) (int, error) {
	n := r.n
	if err == nil {
		err = r.err
	}
	r.p, r.n, r.err = nil, 0, nil
	return n, err
}

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
	one := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP} //nolint:gosec // G115: a descriptor is an int
	n, err := poll(&one)
	return n == 0 && err == nil
}

// readOnce reads without waiting, with the errors of a net.Conn but for EAGAIN, which says
// that there is nothing.
func readOnce(fd uintptr, p []byte) (int, error) {
	for {
		n, err := read(fd, p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, err
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
