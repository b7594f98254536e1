package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

var (
	// metadataIPv6 is where a cloud serves credentials to whoever asks.
	metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")
	// nat64 holds IPv4 addresses as a translator of the network reaches them (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// plainIP is ip as IPv4 if it is one in other clothes: mapped, or translated.
func plainIP(ip netip.Addr) netip.Addr {
	if ip = ip.Unmap(); nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

// inward reports whether ip is of loopback, of the link (where the metadata
// services of clouds live, the one of fd00:ec2::254 counted in), a group, or
// unspecified. Addresses of this host and its network that are none of those are
// destinations like any other: which of them may be meant only an entry knows.
func inward(ip netip.Addr) bool {
	ip = plainIP(ip)
	return ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip == metadataIPv6
}

// outward leaves out the addresses that a name may not lead to, the inward
// ones: who answers for a name outside must not choose among what is inside (DNS
// rebinding). An entry that means such an address lists it as an endpoint; what
// this machine says of a name itself, in its hosts file, holds too.
func outward(a answer) answer {
	at := slices.IndexFunc(a.Addrs, inward)
	if at < 0 || a.Local {
		return a
	}
	err := fmt.Errorf("address %s was left out: a name may not lead to loopback, link-local, multicast or metadata addresses; if that is meant, list the address in a STATIC entry", a.Addrs[at])
	a.Addrs = slices.DeleteFunc(slices.Clone(a.Addrs), inward)
	a.Err = errors.Join(a.Err, err)
	if len(a.Addrs) == 0 {
		a.State = decision.Negative
	}
	return a
}

// barred says why the caller may not choose ip as a destination of cfg, or is
// empty. An entry that lists addresses allows those and no others, since the name
// it was matched by is the caller's to write; one that lists none allows what
// leads outward. What no entry declares is the policy's to judge, and only
// this host itself is kept from it.
func barred(cfg *config.Cluster, ip netip.Addr) string {
	switch {
	case len(cfg.Addresses) > 0:
		if !slices.ContainsFunc(cfg.Addresses, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			return "address " + ip.String() + ", which the caller chose, is none of those that the entry lists in addresses"
		}
	case cfg.Name == xds.PassthroughCluster:
		if plainIP(ip).IsLoopback() {
			return "address " + ip.String() + " is of this host itself, which cannot be reached through the proxy"
		}
	case inward(ip):
		return "address " + ip.String() + ", which the caller chose, is loopback, link-local, multicast or a metadata address; if it is meant, list it in the entry's addresses"
	}
	return ""
}
