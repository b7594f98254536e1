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
// of the runtime need not know it: a caller who asks one thing, has its answer and
// goes never gets there, and one who has asked much and stopped does not stay there.
// Where the poller does not know it calls take turns, none of which waits.
type Socket struct {
	peer netip.AddrPort
	lot  *Lot // nil: only the poller waits

	mu      sync.Mutex
	fd      int                    // guarded by mu; -1: closed, or polled's
	listed  bool                   // guarded by mu; the lot knows the socket
	waiting bool                   // guarded by mu; in the lot, for a Read or for resting
	often   uint8                  // guarded by mu; waits in the lot in a row that were short
	closed  bool                   // guarded by mu
	writeBy bool                   // guarded by mu; the poller has a deadline of writes
	restful atomic.Bool            // its owner would let it rest
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

// calm is the sweeper's: the socket has been idle for some time. One that the
// poller knows leaves it, so that it can rest; who waits goes on where others do
// that have not waited often. What the poller keeps for it cannot be had back while
// its file is open, and so the socket goes on with another descriptor.
func (s *Socket) calm() {
	if !s.restful.Load() || s.polled.Load() == nil {
		return
	}
	if p := s.leave(); p != nil {
		_ = p.file.Close() // which wakes who waits, and ends no socket
	}
}

// leave takes the socket from the poller, and returns what is to be closed then; nil:
// it stays, as something there has a deadline, or as there is no descriptor to be had.
func (s *Socket) leave() *polled {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.polled.Load()
	if p == nil || s.closed || s.writeBy || !s.readBy.IsZero() {
		return nil
	}
	fd := -1
	if err := p.raw.Control(func(old uintptr) { fd = again(old) }); err != nil || fd < 0 {
		return nil
	}
	s.fd, s.often = fd, 0
	s.polled.Store(nil)
	return p
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

// wake is the lot's: something has come.
func (s *Socket) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

// A socket that waits this often with less than a second between its rests is one
// for the poller, until it is calm.
const (
	tooOften  = 4
	longAgain = int64(time.Second)
)

// parkLocked begins to wait in the lot, unless that is impossible, or too dear.
func (s *Socket) parkLocked() bool {
	if s.lot == nil || s.often >= tooOften || !s.lot.park(s, s.fd, s.listed) {
		return false
	}
	s.often++
	s.listed, s.waiting = true, true
	return true
}

// rest waits in the lot without a goroutine, from now on, which is on the
// sweeper's clock. It reports false if there is something to read already, or if
// the socket does not wait there.
func (s *Socket) rest(r Resumer, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now-s.rested >= longAgain {
		s.often = 0
	}
	s.rested = now
	if s.fd < 0 || !quiet(uintptr(s.fd)) || !s.parkLocked() {
		return false
	}
	s.resting = r
	return true
}

// A rawSocket is a Socket as package syscall has them.
type rawSocket Socket

// SyscallConn returns the descriptor underneath.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return (*rawSocket)(s), nil }

// Control calls f with the descriptor.
func (r *rawSocket) Control(f func(fd uintptr)) error {
	s := (*Socket)(r)
	for {
		p := s.polled.Load()
		if p == nil {
			var err error
			if p, err = s.visit(f); p == nil {
				return err
			}
		}
		if err := p.raw.Control(f); err == nil || !s.left(p) {
			return closedAs(err)
		}
	}
}

// visit is Control unless the poller knows the socket, which it returns then.
func (s *Socket) visit(f func(fd uintptr)) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return s.pollLocked() // or closed
	}
	f(uintptr(s.fd))
	return nil, nil
}

// left reports that p is closed because the socket left the poller, and not the
// other way round.
func (s *Socket) left(p *polled) bool { return s.polled.Load() != p }

// Read calls f until it is done, and waits for something to read in between.
func (r *rawSocket) Read(f func(fd uintptr) bool) error {
	s := (*Socket)(r)
	for {
		p := s.polled.Load()
		if p == nil {
			var err error
			if p, err = s.await(f); p == nil {
				return err
			}
		}
		if err := p.raw.Read(f); err == nil || !s.left(p) {
			return closedAs(err)
		}
	}
}

// await is Read until the poller knows the socket, which it returns then.
func (s *Socket) await(f func(fd uintptr) bool) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.fd >= 0 {
		if !s.readBy.IsZero() && !time.Now().Before(s.readBy) {
			return nil, os.ErrDeadlineExceeded
		}
		if f(uintptr(s.fd)) {
			return nil, nil
		}
		if !s.parkLocked() {
			break
		}
		s.sleepLocked()
	}
	return s.pollLocked()
}

// sleepLocked waits in the lot until it is woken or out of time.
func (s *Socket) sleepLocked() {
	if !s.readBy.IsZero() {
		defer time.AfterFunc(time.Until(s.readBy), s.wake).Stop()
	}
	for s.waiting {
		s.woken.Wait()
	}
}

// Write calls f until it is done, and waits for room to write in between.
func (r *rawSocket) Write(f func(fd uintptr) bool) error {
	s := (*Socket)(r)
	for {
		p := s.polled.Load()
		if p == nil {
			var err error
			if p, err = s.try(f); p == nil {
				return err
			}
		}
		if err := p.raw.Write(f); err == nil || !s.left(p) {
			return closedAs(err)
		}
	}
}

// try calls f unless the poller knows the socket, which it returns then, or if f is
// not done.
func (s *Socket) try(f func(fd uintptr) bool) (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 && f(uintptr(s.fd)) {
		return nil, nil
	}
	return s.pollLocked()
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
