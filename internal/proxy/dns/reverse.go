package dns

import (
	"net/netip"
	"strconv"
	"strings"
)

// reverse reads the name under which an address's own name is asked for
// (canonical form): 4.3.2.1.in-addr.arpa, or 32 nibbles and ip6.arpa.
func reverse(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		return reverse4(digits)
	}
	if digits, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		return reverse6(digits)
	}
	return netip.Addr{}, false
}

func reverse4(digits string) (netip.Addr, bool) {
	labels := strings.Split(digits, ".")
	if len(labels) != 4 {
		return netip.Addr{}, false
	}
	var b [4]byte
	for i, label := range labels {
		n, err := strconv.ParseUint(label, 10, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		b[3-i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}

func reverse6(digits string) (netip.Addr, bool) {
	if len(digits) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		n, err := strconv.ParseUint(digits[2*i:2*i+1], 16, 4)
		if err != nil || i < 31 && digits[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}
