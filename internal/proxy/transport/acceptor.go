package transport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

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
	lot  *Lot
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
// accepted from it sends at once and has its peer probed. What is accepted waits in
// lot, which may be nil.
func NewAcceptor(ln net.Listener, lot *Lot) (*Acceptor, error) {
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return &Acceptor{from: ln, slow: ln}, nil
	}
	// A net.Listener lets others set options, but not accept.
	f, err := t.File()
	if err = errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	a := &Acceptor{from: f, lot: lot}
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
	return newSocket(a.fd, a.peer, a.lot), nil
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
