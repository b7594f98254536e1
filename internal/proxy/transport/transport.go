// Package transport is the byte stream under every connection of the proxy.
//
// A Conn adds to a net.Conn what a proxy needs and the standard library has
// not: waiting for bytes without holding a buffer, looking whether an idle peer
// is still there, a timeout that costs one atomic store to renew, and giving
// bytes back. TCP and unix sockets take the short way through their file
// descriptor; everything else (TLS, pipes in tests) works through net.Conn alone.
package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A Conn is one established stream. Reads and writes may run at the same time;
// two reads, or two writes, may not. WaitReadable, WaitEvent, ReadNow, Alive, Rest,
// CanRest, TakeBuffered and Unread count as reads, Ask as both. Tie and Untie are
// their owner's. Close, Drop, Reset, Cut, SetTimeout, TimedOut, PeerGone and Hung may
// be called at any time.
type Conn struct {
	net.Conn

	head    []byte        // given back: delivered before the socket is read
	one     [1]byte       // where head lies after waiting on a stream without a descriptor; else room for a look
	quiet   bool          // what lookStep or eventStep found; the reader's
	watched bool          // guarded by shard.mu; see WatchPeer
	fate    atomic.Uint32 // 0: none

	raw  syscall.RawConn       // nil: no socket
	wait func(fd uintptr) bool // c.waitStep, bound once so that waiting allocates nothing
	look func(fd uintptr)      // c.lookStep, likewise

	event   func(fd uintptr) bool // c.eventStep, bound when it is first needed
	asking  asking
	reading reading

	writing writing // guarded by broken.writing

	deadline atomic.Int64 // on the sweeper's clock; 0: never
	sweeper  *Sweeper     // nil: not adopted
	shard    *shard
	place    int   // in shard.conns, guarded by shard.mu; -1 once removed
	resends  int64 // the sweeper's: since when it has seen us send again; 0: we do not
	seen     int64 // the deadline when calm looked last; the sweeper's

	tie    tie
	broken broken
}

// New wraps c, which the Conn owns from now on. Bytes in head were read already
// and are delivered first; head belongs to the Conn.
func New(c net.Conn, head []byte) *Conn {
	t := &Conn{Conn: c, head: head}
	var socket syscall.Conn
	switch c := c.(type) {
	case *Socket:
		socket = c
	case *net.TCPConn:
		socket = c
	case *net.UnixConn:
		socket = c
	default:
		return t
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return t // a closed socket: every call on it will say so
	}
	t.raw, t.wait, t.look = raw, t.waitStep, t.lookStep
	return t
}

// Raw returns the descriptor underneath, and whether there is one: whether
// bytes may be moved past the Conn, in the kernel. Bytes given back are not in
// it: take them first. Writes to it are enclosed in BeginWrite and EndWrite, and
// Ended tells what the end of reading from it means.
func (c *Conn) Raw() (syscall.RawConn, bool) { return c.raw, c.raw != nil }

// Read delivers what Unread and New gave back first, then reads. Its error is
// one for which errors.Is(err, os.ErrDeadlineExceeded) holds if the Conn timed
// out. io.EOF means that the peer ended its direction in order, even if a Write
// was told of the reset that tore the stream.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		if len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	var n int
	var err error
	if c.raw != nil {
		n, err = c.reading.await(c.raw, p)
	} else {
		n, err = c.Conn.Read(p)
	}
	switch {
	case err == nil:
	case err == io.EOF:
		err = c.Ended()
	default:
		err = c.explain(err)
	}
	return n, err
}

// Write writes all of p. Its error tells a timeout as Read's does.
func (c *Conn) Write(p []byte) (int, error) {
	c.BeginWrite()
	var n int
	var err error
	if c.raw != nil {
		n, err = c.writing.write(c.raw, p)
	} else {
		n, err = c.Conn.Write(p)
	}
	c.EndWrite(err)
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

// writing is a Write in progress to a socket: what a net.Conn does, but by write.
type writing struct {
	step func(fd uintptr) bool // w.next, bound when it is first needed
	p    []byte                // what is left
	err  error
}

func (w *writing) write(raw syscall.RawConn, p []byte) (int, error) {
	if w.step == nil {
		w.step = w.next
	}
	w.p, w.err = p, nil
	err := raw.Write(w.step)
	if err == nil {
		err = w.err
	}
	n := len(p) - len(w.p)
	w.p, w.err = nil, nil
	return n, err
}

// next writes what can be written, and reports whether that was the last.
func (w *writing) next(fd uintptr) bool {
	for len(w.p) > 0 {
		n, err := write(fd, w.p)
		switch err {
		case nil:
			w.p = w.p[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			w.err = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}

// Rest is WaitEvent without a goroutine: it returns at once, and r is resumed once
// WaitEvent would return. The caller may not touch c any more then. It reports
// false, and nothing waits, if c is of no kind that can rest, if there is
// something to read or a deadline of reads (one that is set during a rest ends it), and
// while it would rest for so short that waiting is cheaper.
func (c *Conn) Rest(r Resumer) bool {
	return c.CanRest() && c.Conn.(*Socket).rest(r, c.sweeper.clock.Load())
}

// CanRest reports whether Rest is worth a try. If it is not as c has rested for short
// too often, a WaitEvent that goes on for some seconds in which c is given no other
// timeout returns for nothing, and Rest is worth a try again.
func (c *Conn) CanRest() bool {
	s, ok := c.Conn.(*Socket)
	return ok && c.sweeper != nil && len(c.head) == 0 && s.canRest()
}

// errTimedOut is what reads and writes of a swept Conn end with.
var errTimedOut = fmt.Errorf("connection idle for too long: %w", os.ErrDeadlineExceeded)

// explain makes the error of a timeout look the same whether the sweeper
// closed the socket under the caller or a deadline ran out.
func (c *Conn) explain(err error) error {
	switch c.fate.Load() {
	case idle:
		return errTimedOut
	case lost:
		return errLost
	}
	if c.sweeper == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.fate.Store(idle)
		return errTimedOut
	}
	return err
}

// TakeBuffered returns the bytes that a Read would deliver without a system
// call, and forgets them. They are the caller's until it waits or reads again.
func (c *Conn) TakeBuffered() []byte {
	b := c.head
	c.head = nil
	return b
}

// Unread gives p back: the next Read delivers it before anything else. p
// belongs to the Conn from now on.
func (c *Conn) Unread(p []byte) {
	if len(p) == 0 {
		return
	}
	if len(c.head) > 0 {
		p = append(p[:len(p):len(p)], c.head...)
	}
	c.head = p
}

// SetTimeout makes the sweeper close the Conn if it is not renewed for d; 0
// means never. Timeouts are coarse: the Conn is closed up to 200 ms late for
// timeouts below 10 s and up to 1.2 s late above, but not early while the
// process gets to run. It costs one atomic store. On a Conn that no Sweeper has
// adopted it sets deadlines instead, which costs more.
func (c *Conn) SetTimeout(d time.Duration) {
	if c.sweeper == nil {
		c.setDeadline(d)
		return
	}
	if d <= 0 {
		c.deadline.Store(0)
		return
	}
	c.deadline.Store(c.sweeper.clock.Load() + int64(d+tick))
	if d < longTimeout && !c.shard.short.Load() {
		c.shard.short.Store(true)
	}
}

func (c *Conn) setDeadline(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	// It fails only on a closed Conn, whose reads and writes fail anyway.
	_ = c.SetDeadline(at)
}

// TimedOut reports whether the Conn was not renewed within its timeout.
func (c *Conn) TimedOut() bool { return c.fate.Load() == idle }

// CloseWrite ends our direction of the stream. A stream that cannot be ended
// by halves is closed.
func (c *Conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// Close ends both directions. What was written is still delivered.
func (c *Conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// Reset closes so that the peer sees a reset (RST), not an orderly end. Where
// there is no TCP it is Close.
func (c *Conn) Reset() error {
	if t, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		// It fails only on a closed socket, where Close says so.
		_ = t.SetLinger(0)
	}
	return c.Close()
}

// Peer is the address of the other end, IPv4 unmapped; invalid where there is
// no IP address.
func (c *Conn) Peer() netip.AddrPort {
	if s, ok := c.Conn.(*Socket); ok {
		return s.Peer()
	}
	return addrPort(c.RemoteAddr())
}

// Local is this end's address: for a captured connection the original destination.
func (c *Conn) Local() netip.AddrPort {
	if s, ok := c.Conn.(*Socket); ok {
		return s.Local()
	}
	return addrPort(c.LocalAddr())
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
