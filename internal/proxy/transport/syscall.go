package transport

import (
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is asked of the system of a descriptor that does not block, without telling the
// scheduler; see read.

// accept is accept4(2). The new descriptor does not block either.
func accept(fd int) (accepted int, peer netip.AddrPort, err error) {
	var sa unix.RawSockaddrInet6 // room for both families
	size := uint32(unsafe.Sizeof(sa))
	n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0) //nolint:gosec // G115: a descriptor is not negative
	if errno != 0 {
		return -1, peer, errno
	}
	return int(n), address(&sa), nil //nolint:gosec // G115: a descriptor
}

// localOf is getsockname(2), or invalid.
func localOf(fd int) netip.AddrPort {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := syscall.RawSyscall(syscall.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))) //nolint:gosec // G115: as above
	if errno != 0 {
		return netip.AddrPort{}
	}
	return address(&sa)
}

// address reads an address of either family, IPv4 unmapped.
func address(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&sa.Port)) // in the order of the network
	at := uint16(port[0])<<8 | uint16(port[1])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), at)
	case unix.AF_INET6:
		ip := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, at)
	}
	return netip.AddrPort{}
}

// again is another descriptor of the same socket, or -1.
func again(fd uintptr) int {
	n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1
	}
	return int(n) //nolint:gosec // G115: a descriptor
}

// closeNow is close(2), which for such a socket does not wait.
func closeNow(fd int) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0); errno != 0 { //nolint:gosec // G115: as above
		return errno
	}
	return nil
}

// epollWait is epoll_wait(2) without a wait.
func epollWait(fd uintptr, events []unix.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil //nolint:gosec // G115: at most a length
}

// epollForget is epoll_ctl(2) to be told of fd no more.
func epollForget(epfd, fd int) {
	// It fails only for what is not known.
	_, _, _ = syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(epfd), unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0) //nolint:gosec // G115: as above
}

// epollAdd is epoll_ctl(2) to be told of fd each time that there is something to read.
func epollAdd(epfd, fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}                                   //nolint:gosec // G115: a descriptor is an int
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(epfd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0) //nolint:gosec // G115: as above
	if errno != 0 {
		return errno
	}
	return nil
}

// poll is ppoll(2) of one descriptor without a wait.
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
