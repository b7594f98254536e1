package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// The port numbers are Istio's, apart from that of DNS (see the package
// comment).
const (
	capturePort = 15001
	dnsPort     = 53
	backlog     = 4096
)

// The sandbox's own addresses are those that no service can have: 192.0.0.8 is
// reserved as a source that nobody is (RFC 7600). For IPv6 a unique local
// address, as it makes getaddrinfo prefer IPv4 where a name has both: whether
// the host has IPv6 is something the command cannot see, and its connection to
// the proxy always succeeds.
var (
	ownIPv4 = net.IPv4(192, 0, 0, 8).To4()
	ownIPv6 = net.ParseIP("fd00:64::2")
)

// loopback is lo's index in every network namespace.
const loopback = 1

// buildNetwork gives the network namespace of the caller its addresses, routes
// and rules and opens its sockets. noIPv6 says why IPv6 was left out.
func buildNetwork(ipv6 bool) (sockets []*os.File, noIPv6 string, err error) {
	if !ipv6 {
		noIPv6 = "the kernel has none (/proc/sys/net/ipv6 is missing)"
	}
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopback}}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, "", fmt.Errorf("set lo up: %w", err)
	}
	if err := routeHome(lo, ownIPv4, net.IPv4zero.To4()); err != nil {
		return nil, "", err
	}
	if noIPv6 == "" {
		if err := routeHome(lo, ownIPv6, net.IPv6zero); err != nil {
			noIPv6 = fmt.Sprintf("it is switched off (%v)", err)
		}
	}
	if err := applyRules(); err != nil {
		return nil, "", fmt.Errorf("install the nftables rules of the sandbox: %w", err)
	}
	families := []int{unix.AF_INET}
	if noIPv6 == "" {
		families = append(families, unix.AF_INET6)
	}
	sockets, err = openSockets(families)
	return sockets, noIPv6, err
}

// haveIPv6 says whether the kernel speaks it at all.
func haveIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// setSysctls sets what belongs to this network namespace. Each is a comfort
// that an old or strange kernel may not have: none is worth an error.
func setSysctls(root bool, gid int, ipv6 bool) {
	groups := fmt.Sprintf("%d %d", gid, gid)
	if root {
		groups = "0 2147483647"
	}
	for _, s := range []struct {
		name, value string
		wanted      bool
	}{
		// Before Linux 5.4 the default was 128.
		{"net/core/somaxconn", strconv.Itoa(backlog), true},
		// Many short connections to one service would use up the ports.
		{"net/ipv4/tcp_tw_reuse", "1", true},
		// ping without privilege, so that it is told why it gets nowhere.
		{"net/ipv4/ping_group_range", groups, true},
		// Root in a sandbox has no capability over the network, yet may serve
		// port 80 as it could outside.
		{"net/ipv4/ip_unprivileged_port_start", "0", root},
		{"net/ipv6/conf/all/disable_ipv6", "0", ipv6},
		{"net/ipv6/conf/lo/disable_ipv6", "0", ipv6},
	} {
		if s.wanted {
			_ = os.WriteFile("/proc/sys/"+s.name, []byte(s.value), 0)
		}
	}
}

// routeHome gives lo the address own and sends every address of its family
// there.
func routeHome(lo netlink.Link, own, zero net.IP) error {
	bits := 8 * len(own)
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: own, Mask: net.CIDRMask(bits, bits)}}
	if len(own) == net.IPv6len {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(lo, addr); err != nil {
		return fmt.Errorf("give lo the address %s: %w", own, err)
	}
	route := &netlink.Route{
		LinkIndex: loopback,
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Scope:     unix.RT_SCOPE_HOST,
		Dst:       &net.IPNet{IP: zero, Mask: net.CIDRMask(0, bits)},
		Src:       own,
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route everything to lo from %s: %w", own, err)
	}
	return nil
}

// openSockets opens, for each kind, a socket per family.
func openSockets(families []int) ([]*os.File, error) {
	var files []*os.File
	for _, kind := range []struct {
		name string
		typ  int
		port int
	}{
		{"capture", unix.SOCK_STREAM, capturePort},
		{"dns-udp", unix.SOCK_DGRAM, dnsPort},
		{"dns-tcp", unix.SOCK_STREAM, dnsPort},
	} {
		for _, family := range families {
			fd, err := openSocket(family, kind.typ, kind.port)
			if err != nil {
				peer.CloseAll(files)
				return nil, fmt.Errorf("open the socket %s on port %d: %w", kind.name, kind.port, err)
			}
			files = append(files, os.NewFile(uintptr(fd), kind.name))
		}
	}
	return files, nil
}

// openSocket makes a transparent socket bound to port of every address. The
// protocol is named, for MPTCP must not be what a library makes of it.
func openSocket(family, typ, port int) (fd int, err error) {
	proto := unix.IPPROTO_TCP
	if typ == unix.SOCK_DGRAM {
		proto = unix.IPPROTO_UDP
	}
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	var addr unix.Sockaddr = &unix.SockaddrInet4{Port: port}
	level, transparent := unix.SOL_IP, unix.IP_TRANSPARENT
	if family == unix.AF_INET6 {
		addr = &unix.SockaddrInet6{Port: port}
		level, transparent = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, level, transparent, 1); err != nil {
		return -1, fmt.Errorf("IP_TRANSPARENT: %w", err)
	}
	if typ == unix.SOCK_STREAM { // on UDP it would let another socket share the port
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return -1, fmt.Errorf("SO_REUSEADDR: %w", err)
		}
	}
	if err := unix.Bind(fd, addr); err != nil {
		return -1, fmt.Errorf("bind: %w", err)
	}
	if typ == unix.SOCK_STREAM {
		if err := unix.Listen(fd, backlog); err != nil {
			return -1, fmt.Errorf("listen: %w", err)
		}
	}
	return fd, nil
}
