package l4

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	pipeSize   = 1 << 20
	sparePipes = 32
)

// A bulk moves bytes from one socket to another through a pipe, within the
// kernel. It is one direction's: its two functions are made once, so that
// moving allocates nothing.
type bulk struct {
	to, from syscall.RawConn

	// Of the call in progress.
	pipe *pipe
	n    int
	err  error
	in   func(fd uintptr) bool
	out  func(fd uintptr) bool
}

func newBulk(to, from syscall.RawConn) *bulk {
	b := &bulk{to: to, from: from}
	b.in, b.out = b.fill, b.drain
	return b
}

// pull moves what waits in the source into p, which is empty: EAGAIN if
// nothing waits, 0 if the source ended.
func (b *bulk) pull(p *pipe) (int, error) {
	b.pipe, b.n, b.err = p, 0, nil
	if err := b.from.Read(b.in); err != nil {
		return 0, err
	}
	if b.err == nil {
		p.held = b.n
	}
	return b.n, b.err
}

func (b *bulk) fill(fd uintptr) bool {
	b.n, b.err = splice(int(fd), b.pipe.w, pipeSize) //nolint:gosec // G115: a descriptor is an int
	return true
}

// push moves some of what p holds to the destination and waits while it takes nothing.
func (b *bulk) push(p *pipe) (int, error) {
	b.pipe, b.n, b.err = p, 0, nil
	if err := b.to.Write(b.out); err != nil {
		return 0, err
	}
	p.held -= b.n
	return b.n, b.err
}

func (b *bulk) drain(fd uintptr) bool {
	b.n, b.err = splice(b.pipe.r, int(fd), b.pipe.held) //nolint:gosec // G115: a descriptor is an int
	if errors.Is(b.err, unix.EAGAIN) {
		b.err = nil
		return false
	}
	return true
}

// torn reports that the end which a read of the source met was none, but a reset.
// A splice that moves something before it meets one returns what it moved; the
// kernel has told the reset then, and tells reads that the stream ended. Whether
// the peer did end it shows in what the kernel received: an end counts as a byte.
func (h *half) torn() bool {
	if !h.pair.whole || h.bulk == nil || !h.pair.failed(h.src) || !h.src.Hung() {
		return false
	}
	var info *unix.TCPInfo
	var err error
	cerr := h.bulk.from.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) //nolint:gosec // G115: a descriptor is an int
	})
	return cerr == nil && err == nil && info.Bytes_received == uint64(h.moved) //nolint:gosec // G115: a count
}

func splice(from, to, n int) (int, error) {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return max(int(m), 0), err
		}
	}
}

// A pipe carries bytes between two sockets. It is used by one direction at a time.
type pipe struct {
	r, w int
	held int // bytes in it
}

// pipes are empty ones between uses: making one costs more than moving 64 KiB.
var pipes struct {
	mu    sync.Mutex
	spare []*pipe // guarded by mu
}

func getPipe() (*pipe, error) {
	pipes.mu.Lock()
	if n := len(pipes.spare); n > 0 {
		p := pipes.spare[n-1]
		pipes.spare = pipes.spare[:n-1]
		pipes.mu.Unlock()
		return p, nil
	}
	pipes.mu.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	p := &pipe{r: fds[0], w: fds[1]}
	// Refused beyond a user's share of pipe memory; the default size works too.
	_, _ = unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize) //nolint:gosec // G115: a descriptor is an int
	return p, nil
}

// release gives the pipe back. One that still holds bytes is of no use to others.
func (p *pipe) release() {
	if p.held == 0 {
		pipes.mu.Lock()
		if len(pipes.spare) < sparePipes {
			pipes.spare = append(pipes.spare, p)
			pipes.mu.Unlock()
			return
		}
		pipes.mu.Unlock()
	}
	_, _ = unix.Close(p.r), unix.Close(p.w)
}
