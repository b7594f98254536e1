package sandbox

import "net/netip"

// Addresses returns the sandbox's own addresses beside loopback. They are the
// same in every sandbox, and mean nothing outside.
func Addresses() []netip.Addr {
	var all []netip.Addr
	for _, ip := range [][]byte{ownIPv4, ownIPv6} {
		if a, ok := netip.AddrFromSlice(ip); ok {
			all = append(all, a.Unmap())
		}
	}
	return all
}
