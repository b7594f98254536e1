package transport

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poll is ppoll(2) of one descriptor without a wait. As there is none, the
// scheduler is not told; see read.
func poll(one *unix.PollFd) (n int, err error) {
	var now unix.Timespec
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(one)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil //nolint:gosec // G115: 0 or 1
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
