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
// *net.TCPConn in what it costs. Its settings are those of the listening socket;
// and what it waits for to read it waits for in a Lot at first, so that the poller
// of the runtime need not know it: one that takes a request after the other never gets
// there, and one that got there, as it had to wait for more, does not stay there when it
// is idle. Where the poller does not know it calls take turns, none of which waits.
type Socket struct {
	peer netip.AddrPort
	lot  *Lot // nil: only the poller waits

	mu      sync.Mutex
	fd      int                    // guarded by mu; -1: closed, or polled's
	listed  bool                   // guarded by mu; the lot knows the socket
	came    bool                   // guarded by mu; the lot has told of something that now has not met for certain
	ending  bool                   // guarded by mu; … of an end or of urgent data, before which a read stops
	waiting bool                   // guarded by mu; in the lot, for a Read or for resting
	often   uint8                  // guarded by mu; waits in the lot in a row that were short
	closed  bool                   // guarded by mu
	writeBy bool                   // guarded by mu; the poller has a deadline of writes
	staying atomic.Bool            // it does not rest, as it did for short; its owner would let it
	polled  atomic.Pointer[polled] // set under mu; nil: the poller does not know the socket
	resting Resumer                // guarded by mu
	rested  int64                  // guarded by mu; on the sweeper's clock, when it began to rest last
	readBy  time.Time              // guarded by mu; of SetReadDeadline and SetDeadline
	woken   sync.Cond              // with mu: waiting or polled has changed
}

// polled is a socket that the poller knows.
type polled struct {
	file *os.File
	raw  syscall.RawConn
}

// A Resumer is called on a goroutine of its own when its Conn has rested.
type Resumer interface{ Resume() }

// newSocket takes over fd, which does not block.
func newSocket(fd int, peer netip.AddrPort, lot *Lot) *Socket {
	s := &Socket{peer: peer, fd: fd, lot: lot}
	s.woken.L = &s.mu
	return s
}

// pollLocked makes the socket known to the poller.
func (s *Socket) pollLocked() (*polled, error) {
	if p := s.polled.Load(); p != nil {
		return p, nil
	}
	if s.closed {
		return nil, net.ErrClosed
	}
	f := os.NewFile(uintptr(s.fd), "tcp")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err // which it is not for a new file
	}
	p := &polled{f, raw}
	if !s.readBy.IsZero() {
		_ = f.SetReadDeadline(s.readBy) // which nobody has closed
	}
	if s.listed {
		s.lot.forget(s, s.fd)
		epollForget(s.lot.fd, s.fd) // as the socket may outlive this descriptor
		s.listed = false
	}
	s.fd = -1
	s.polled.Store(p)
	s.wakeLocked()
	return p, nil
}

// wakeLocked ends waiting in the lot.
func (s *Socket) wakeLocked() {
	if !s.waiting {
		return
	}
	s.waiting = false
	if r := s.resting; r != nil {
		s.resting = nil
		go r.Resume()
		return
	}
	s.woken.Broadcast()
}

// wake is the lot's: something has come; ending says that it is an end, or urgent.
func (s *Socket) wake(ending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.came = true
	s.ending = s.ending || ending
	s.wakeLocked()
}

// rouse wakes who waits, for nothing.
func (s *Socket) rouse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

// A socket that waits this often with less than a second between its rests rests no
// more, and in Reads waits in the poller, until it is calm.
const (
	tooOften  = 4
	longAgain = int64(time.Second)
)

// enlistLocked makes the lot know the socket: it tells from then on what comes, and
// also what is there already. It reports whether that worked.
func (s *Socket) enlistLocked() bool {
	if !s.listed {
		s.came, s.ending = false, false // which it tells
		s.listed = s.lot != nil && s.lot.add(s, s.fd)
	}
	return s.listed
}

// parkLocked begins to wait in the lot, unless that is impossible, or too dear.
func (s *Socket) parkLocked() bool {
	if s.often >= tooOften || !s.enlistLocked() {
		return false
	}
	s.often++
	s.waiting = true
	return true
}

// rest waits in the lot without a goroutine, from now on, which is on the
// sweeper's clock. It reports false if there is something to read already, or if
// the socket does not wait there. Nothing would keep a deadline.
func (s *Socket) rest(r Resumer, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now-s.rested >= longAgain {
		s.often = 0
	}
	s.rested = now
	if s.often >= tooOften {
		s.staying.Store(true)
	}
	if s.fd < 0 || !s.readBy.IsZero() || s.cameLocked() || !s.parkLocked() {
		return false
	}
	s.resting = r
	return true
}

// cameLocked reports whether there may be something to read. The lot has told, if it
// knows the socket.
func (s *Socket) cameLocked() bool {
	if !s.came && !s.listed {
		s.came = !quiet(uintptr(s.fd))
	}
	return s.came
}

// event waits in the lot until something has come, or it is woken otherwise, unless
// the poller knows the socket, which it returns then.
func (s *Socket) event() (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fd < 0:
		return s.pollLocked()
	case s.late():
		return nil, os.ErrDeadlineExceeded
	case s.cameLocked():
		return nil, nil
	case !s.enlistLocked():
		return s.pollLocked()
	}
	s.waiting = true
	s.sleepLocked()
	switch {
	case s.fd < 0:
		return s.pollLocked()
	case s.late():
		return nil, os.ErrDeadlineExceeded
	}
	return nil, nil
}

// late reports that the time to read is up.
func (s *Socket) late() bool { return !s.readBy.IsZero() && !time.Now().Before(s.readBy) }

// now reads once unless the poller knows the socket, which it returns then. A read
// that does not fill its room has met all that has come: but for an end, and it stops
// before urgent data.
func (s *Socket) now(r *reading) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return s.pollLocked()
	}
	r.step(uintptr(s.fd))
	s.came = r.err != nil || r.n == len(r.p) || r.n > 0 && s.ending
	return nil, nil
}

// closedAs makes the error of a closed file, which has no name to tell it by, that of
// a closed connection, and lets that of a deadline be. The poller has others for a file
// alone that it had no room to take on: such a one can wait for nothing, and is of no
// more use than if it were closed.
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
	p, err := s.close()
	if p != nil {
		err = closedAs(p.file.Close())
	}
	return err
}

// close is Close unless the poller knows the socket, which it returns then.
func (s *Socket) close() (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	s.closed = true
	if p := s.polled.Load(); p != nil {
		return p, nil
	}
	if s.listed {
		s.lot.forget(s, s.fd)
	}
	fd := s.fd
	s.fd = -1
	s.wakeLocked()
	return nil, closeNow(fd)
}

// CloseWrite ends our direction.
func (s *Socket) CloseWrite() error {
	return s.control(func(fd int) error { return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR)) })
}

// SetLinger makes Close reset if sec is 0. Otherwise what was written is delivered
// behind Close, which does not wait for that.
func (s *Socket) SetLinger(sec int) error {
	var l unix.Linger
	if sec == 0 {
		l.Onoff = 1
	}
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
func (s *Socket) SetDeadline(t time.Time) error {
	return s.deadline(func(f *os.File) error {
		s.readBy, s.writeBy = t, !t.IsZero()
		return f.SetDeadline(t)
	})
}

// SetReadDeadline bounds reads.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	if p := s.polled.Load(); p != nil {
		return closedAs(p.file.SetReadDeadline(t))
	}
	if s.closed {
		return net.ErrClosed
	}
	s.wakeLocked() // to wait on until then
	return nil
}

// SetWriteDeadline bounds writes.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	return s.deadline(func(f *os.File) error {
		s.writeBy = !t.IsZero()
		return f.SetWriteDeadline(t)
	})
}

// deadline calls set, with mu held, once the poller knows the socket.
func (s *Socket) deadline(set func(*os.File) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.pollLocked()
	if err != nil {
		return err
	}
	return closedAs(set(p.file))
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
