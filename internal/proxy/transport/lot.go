package transport

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Lot is where Sockets wait that have not waited often lately. Waiting there costs
// less than in the poller of the runtime, which keeps more of each, and there may
// be no goroutine that waits; to be woken costs more, as the poller wakes the Lot
// first. It is safe for concurrent use.
type Lot struct {
	file *os.File // an epoll descriptor
	raw  syscall.RawConn
	fd   int // file's

	mu     sync.Mutex
	parked []*Socket // guarded by mu; by descriptor

	events [64]unix.EpollEvent // Run's
	ready  []*Socket           // Run's
}

// NewLot returns a Lot. While Run does not run, nobody is woken.
func NewLot() (*Lot, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &Lot{file: os.NewFile(uintptr(fd), "lot"), fd: fd} //nolint:gosec // G115: a descriptor is not negative
	l.raw, err = l.file.SyscallConn()
	return l, err
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
		if fd := int(events[i].Fd); fd < len(l.parked) && l.parked[fd] != nil {
			l.ready = append(l.ready, l.parked[fd])
		}
	}
	l.mu.Unlock()
	for i, s := range l.ready {
		s.wake()
		l.ready[i] = nil
	}
	l.ready = l.ready[:0]
}

// Close ends Run. No Socket may be waiting, or come to wait.
func (l *Lot) Close() error { return l.file.Close() }

// park makes the Lot wake s once there is something to read on fd, its
// descriptor; listed says that it has waited here before. It reports whether that
// worked.
func (l *Lot) park(s *Socket, fd int, listed bool) bool {
	op := unix.EPOLL_CTL_MOD
	if !listed {
		op = unix.EPOLL_CTL_ADD
		l.list(s, fd)
	}
	return epollOnce(l.fd, op, fd) == nil
}

func (l *Lot) list(s *Socket, fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for fd >= len(l.parked) {
		l.parked = append(l.parked, nil)
	}
	l.parked[fd] = s
}

// forget is called before fd is closed. The system forgets it by itself with the
// last descriptor of the socket.
func (l *Lot) forget(s *Socket, fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked[fd] == s {
		l.parked[fd] = nil
	}
}
