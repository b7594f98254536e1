package transport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is a TCP connection that an Acceptor accepted. It differs from a
// *net.TCPConn in what it costs: the poller learns of it only when somebody has
// to wait, which for a caller who asks one thing, has its answer and goes is
// never; and its settings are those of the listening socket. Until then calls take
// turns, none of which waits.
type Socket struct {
	peer netip.AddrPort

	mu     sync.Mutex
	fd     int                    // guarded by mu; -1: closed, or polled's
	polled atomic.Pointer[polled] // set under mu; nil: the poller does not know the socket
}

// polled is a socket that the poller knows.
type polled struct {
	file *os.File
	raw  syscall.RawConn
}

// newSocket takes over fd, which does not block.
func newSocket(fd int, peer netip.AddrPort) *Socket { return &Socket{peer: peer, fd: fd} }

// wait makes the socket known to the poller.
func (s *Socket) wait() (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitLocked()
}

func (s *Socket) waitLocked() (*polled, error) {
	if p := s.polled.Load(); p != nil {
		return p, nil
	}
	if s.fd < 0 {
		return nil, net.ErrClosed
	}
	f := os.NewFile(uintptr(s.fd), "tcp")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err // which it is not for a new file
	}
	p := &polled{f, raw}
	s.fd = -1
	s.polled.Store(p)
	return p, nil
}

// A rawSocket is a Socket as package syscall has them.
type rawSocket Socket

// SyscallConn returns the descriptor underneath.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return (*rawSocket)(s), nil }

// Control calls f with the descriptor.
func (r *rawSocket) Control(f func(fd uintptr)) error {
	s := (*Socket)(r)
	if p := s.polled.Load(); p != nil {
		return closedAs(p.raw.Control(f))
	}
	s.mu.Lock()
	fd := s.fd
	if fd >= 0 {
		defer s.mu.Unlock()
		f(uintptr(fd))
		return nil
	}
	s.mu.Unlock()
	if p := s.polled.Load(); p != nil {
		return closedAs(p.raw.Control(f))
	}
	return net.ErrClosed
}

// Read calls f until it is done, and waits for something to read in between.
func (r *rawSocket) Read(f func(fd uintptr) bool) error {
	p, err := (*Socket)(r).try(f)
	if p == nil {
		return err
	}
	return closedAs(p.raw.Read(f))
}

// Write calls f until it is done, and waits for room to write in between.
func (r *rawSocket) Write(f func(fd uintptr) bool) error {
	p, err := (*Socket)(r).try(f)
	if p == nil {
		return err
	}
	return closedAs(p.raw.Write(f))
}

// try calls f unless the poller knows the socket. It returns the socket to wait on;
// nil if f is done or the socket closed.
func (s *Socket) try(f func(fd uintptr) bool) (*polled, error) {
	if p := s.polled.Load(); p != nil {
		return p, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 && f(uintptr(s.fd)) {
		return nil, nil
	}
	return s.waitLocked()
}

// closedAs makes the error of a closed file that of a closed connection. The
// poller has no others but that of a deadline.
func closedAs(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return net.ErrClosed
}

// Read reads what there is, and waits for it.
func (s *Socket) Read(p []byte) (int, error) {
	var r reading
	return r.await((*rawSocket)(s), p)
}

// Write writes all of p.
func (s *Socket) Write(p []byte) (int, error) {
	var w writing
	return w.write((*rawSocket)(s), p)
}

// Close ends both directions and wakes whoever waits.
func (s *Socket) Close() error {
	s.mu.Lock()
	fd := s.fd
	s.fd = -1
	s.mu.Unlock()
	if fd >= 0 {
		return closeNow(fd)
	}
	if p := s.polled.Load(); p != nil {
		return closedAs(p.file.Close())
	}
	return net.ErrClosed
}

// CloseWrite ends our direction.
func (s *Socket) CloseWrite() error {
	return s.control(func(fd int) error { return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR)) })
}

// SetLinger is net.TCPConn's: with 0, Close resets.
func (s *Socket) SetLinger(sec int) error {
	l := unix.Linger{Onoff: 1, Linger: int32(sec)} //nolint:gosec // G115: seconds
	return s.control(func(fd int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l))
	})
}

func (s *Socket) control(f func(fd int) error) error {
	var err error
	cerr := (*rawSocket)(s).Control(func(fd uintptr) { err = f(int(fd)) }) //nolint:gosec // G115: a descriptor is an int
	if cerr != nil {
		return cerr
	}
	return err
}

// SetDeadline bounds reads and writes, those in progress too.
func (s *Socket) SetDeadline(t time.Time) error { return s.deadline((*os.File).SetDeadline, t) }

// SetReadDeadline bounds reads.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.deadline((*os.File).SetReadDeadline, t) }

// SetWriteDeadline bounds writes.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	return s.deadline((*os.File).SetWriteDeadline, t)
}

func (s *Socket) deadline(set func(*os.File, time.Time) error, t time.Time) error {
	p, err := s.wait()
	if err != nil {
		return err
	}
	return closedAs(set(p.file, t))
}

// Peer is the address of the other end.
func (s *Socket) Peer() netip.AddrPort { return s.peer }

// Local is this end's address, of which the system is asked; invalid if the
// socket is closed.
func (s *Socket) Local() (local netip.AddrPort) {
	// Once closed it has none.
	_ = (*rawSocket)(s).Control(func(fd uintptr) { local = localOf(int(fd)) }) //nolint:gosec // G115: a descriptor is an int
	return local
}

// RemoteAddr is Peer as package net has it.
func (s *Socket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.Peer()) }

// LocalAddr is Local as package net has it.
func (s *Socket) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.Local()) }

// The settings of accepted sockets, as package net makes them.
const (
	callerIdle     = 15 // seconds
	callerInterval = 15
	callerCount    = 9
)

// An Acceptor accepts connections: TCP as Sockets, others as they come. One
// goroutine accepts; Close may be called at any time.
type Acceptor struct {
	from interface{ Close() error }
	slow net.Listener    // not of TCP
	raw  syscall.RawConn // nil: slow
	step func(fd uintptr) bool

	// Of the call in progress.
	fd   int
	peer netip.AddrPort
	err  error
}

// NewAcceptor returns an Acceptor on ln, which it takes over: ln is closed when it
// returns, or by Close. A listening socket of TCP is set up so that what is
// accepted from it sends at once and has its peer probed.
func NewAcceptor(ln net.Listener) (*Acceptor, error) {
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return &Acceptor{from: ln, slow: ln}, nil
	}
	// A net.Listener lets others set options, but not accept.
	f, err := t.File()
	if err = errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	a := &Acceptor{from: f}
	a.step = a.acceptStep
	if a.raw, err = f.SyscallConn(); err == nil {
		cerr := a.raw.Control(func(fd uintptr) { err = inherited(int(fd)) }) //nolint:gosec // G115: a descriptor is an int
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// Close ends accepting, and wakes Accept.
func (a *Acceptor) Close() error { return a.from.Close() }

// inherited sets what accepted sockets take over.
func inherited(fd int) error {
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, callerIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, callerInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, callerCount},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// Accept waits for the next connection.
func (a *Acceptor) Accept() (net.Conn, error) {
	if a.raw == nil {
		return a.slow.Accept()
	}
	if err := a.raw.Read(a.step); err != nil {
		return nil, closedAs(err)
	}
	if a.err != nil {
		return nil, a.err
	}
	return newSocket(a.fd, a.peer), nil
}

func (a *Acceptor) acceptStep(fd uintptr) bool {
	for {
		a.fd, a.peer, a.err = accept(int(fd)) //nolint:gosec // G115: a descriptor is an int
		switch a.err {
		case syscall.EAGAIN:
			return false
		case syscall.EINTR, syscall.ECONNABORTED:
		case nil:
			return true
		default:
			a.err = os.NewSyscallError("accept4", a.err)
			return true
		}
	}
}
