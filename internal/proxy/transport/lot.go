package transport

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Lot is where Sockets wait that have not waited often for the rest of something.
// It remembers what has come to each of them, so that they need not look before they
// wait, and there may be no goroutine that waits; it keeps less of each than the
// poller of the runtime does, which wakes the Lot. It is safe for concurrent use.
type Lot struct {
	file *os.File // an epoll descriptor
	raw  syscall.RawConn
	fd   int // file's

	mu    sync.Mutex
	socks []*Socket // guarded by mu; by descriptor

	events [64]unix.EpollEvent // Run's
	ready  [64]*Socket         // Run's, for each of events
}

// NewLot returns a Lot. While Run does not run, nobody is woken.
func NewLot() (*Lot, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), closeNow(fd))
	}
	f := os.NewFile(uintptr(fd), "lot") //nolint:gosec // G115: a descriptor is not negative
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lot{file: f, raw: raw, fd: fd}, nil
}

// Run wakes Sockets until Close.
func (l *Lot) Run() {
	// The poller tells once that there is something, and after each look again.
	_ = l.raw.Read(l.look) // its error is that of Close
}

// look wakes those on which something has come, and never has enough.
func (l *Lot) look(fd uintptr) bool {
	for {
		n, err := epollWait(fd, l.events[:])
		if err == nil {
			l.wake(l.events[:n])
		}
		if n < len(l.events) && err != syscall.EINTR {
			return false
		}
	}
}

func (l *Lot) wake(events []unix.EpollEvent) {
	l.mu.Lock()
	for i := range events {
		if fd := int(events[i].Fd); fd < len(l.socks) {
			l.ready[i] = l.socks[fd]
		}
	}
	l.mu.Unlock()
	for i := range events {
		if s := l.ready[i]; s != nil {
			s.wake(events[i].Events&^unix.EPOLLIN != 0)
			l.ready[i] = nil
		}
	}
}

// Close ends Run. No Socket may be waiting, or come to wait.
func (l *Lot) Close() error { return l.file.Close() }

// add makes the Lot wake s whenever something comes to fd, its descriptor. It reports
// whether that worked.
func (l *Lot) add(s *Socket, fd int) bool {
	l.mu.Lock()
	for fd >= len(l.socks) {
		l.socks = append(l.socks, nil)
	}
	l.socks[fd] = s
	l.mu.Unlock()
	if epollAdd(l.fd, fd) != nil {
		l.forget(s, fd)
		return false
	}
	return true
}

// forget is called before fd is closed. The system forgets it by itself with the
// last descriptor of the socket.
func (l *Lot) forget(s *Socket, fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.socks[fd] == s {
		l.socks[fd] = nil
	}
}
