package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxReadErrors is how many failed reads in a row end a socket.
const maxReadErrors = 64

// servePackets answers the datagrams of one socket until ctx ends. It returns
// after the last answer is out and leaves the socket open.
func (s *Server) servePackets(ctx context.Context, conn *net.UDPConn) error {
	six := prepare(conn)
	var wg sync.WaitGroup
	defer wg.Wait()
	// Answers under way are finished when ctx ends; they bound themselves.
	alive := context.WithoutCancel(ctx)
	buf, oob := make([]byte, maxDatagram), make([]byte, 256)
	for failures := 0; ; {
		n, oobn, flags, peer, err := conn.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case err != nil && ctx.Err() != nil: // a question that was read is answered
			return nil
		case errors.Is(err, net.ErrClosed), err != nil && failures == maxReadErrors:
			return fmt.Errorf("read DNS questions on %s: %w", conn.LocalAddr(), err)
		case err != nil:
			failures++
			pause(ctx)
			continue
		case flags&unix.MSG_TRUNC != 0:
			continue // no question is that long
		}
		failures = 0
		source := replySource(oob[:oobn], six)
		wire := append([]byte(nil), buf[:n]...)
		send := func(reply []byte) {
			if reply != nil {
				// A client that has gone is no fault of ours.
				_, _, _ = conn.WriteMsgUDPAddrPort(reply, source, peer)
			}
		}
		if !s.within(&wg, func() { send(s.respond(alive, wire, false)) }) {
			send(s.overloaded(wire))
		}
	}
}

// pause keeps a failing socket from spinning.
func pause(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// prepare asks the kernel to say which address each datagram was sent to and to
// let replies leave from it, and reports whether the socket is of the IPv6
// family. Whoever opened the socket may have done it already (IP_TRANSPARENT
// allows the same as FREEBIND, which needs no privilege): what fails here shows
// in the answers.
func prepare(conn *net.UDPConn) (six bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(descriptor uintptr) {
		fd := int(descriptor) //nolint:gosec // descriptors are small
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		six = err == nil && domain == unix.AF_INET6
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1)
		if six {
			_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
			_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1)
		}
	})
	return six
}

// replySource makes the control message that sends a reply from the address
// the question was sent to; nil leaves the choice to the kernel.
func replySource(oob []byte, six bool) []byte {
	addr, index := destination(oob)
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return nil
	}
	if !addr.IsLinkLocalUnicast() {
		index = 0 // any way out: the route decides
	}
	if six {
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16(), Ifindex: index})
	}
	if addr = addr.Unmap(); !addr.Is4() {
		return nil
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4(), Ifindex: int32(index)}) //nolint:gosec // the kernel's own number
}

// destination reads to which address a datagram was sent and on which
// interface it came. The original destination, which a transparent socket is
// told, goes before the packet's.
func destination(oob []byte) (addr netip.Addr, index uint32) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, 0
	}
	var original netip.Addr
	for i := range messages {
		m := &messages[i]
		switch level, kind := m.Header.Level, m.Header.Type; {
		case level == unix.SOL_IP && kind == unix.IP_ORIGDSTADDR, level == unix.SOL_IPV6 && kind == unix.IPV6_ORIGDSTADDR:
			original = originalDestination(m)
		case level == unix.SOL_IP && kind == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			index = binary.NativeEndian.Uint32(m.Data)
			addr = netip.AddrFrom4([4]byte(m.Data[8:12]))
		case level == unix.SOL_IPV6 && kind == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			addr = netip.AddrFrom16([16]byte(m.Data))
			index = binary.NativeEndian.Uint32(m.Data[16:])
		}
	}
	if original.IsValid() {
		addr = original
	}
	return addr, index
}

func originalDestination(m *unix.SocketControlMessage) netip.Addr {
	sa, err := unix.ParseOrigDstAddr(m)
	if err != nil {
		return netip.Addr{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}
