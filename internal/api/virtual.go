package api

import (
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/internal/config"
)

// VirtualAddresses is the annotation of the mesh-wide configuration that says
// which ranges virtual addresses come from: one of IPv4, one of IPv6, or both
// with a comma between.
const VirtualAddresses = annotationPrefix + "virtual-addresses"

// virtualRanges returns base with the ranges that a valid object names.
func virtualRanges(o *Object, base config.Mesh) config.Mesh {
	text, ok := o.Annotations[VirtualAddresses]
	if !ok {
		return base
	}
	for _, item := range strings.Split(text, ",") {
		switch p, err := netip.ParsePrefix(strings.TrimSpace(item)); {
		case err != nil:
		case p.Addr().Is4():
			base.VirtualIPv4 = p
		default:
			base.VirtualIPv6 = p
		}
	}
	return base
}

// virtualAddresses checks the annotation.
func (v *validator) virtualAddresses(field, text string) {
	items := strings.Split(text, ",")
	if len(items) > 2 {
		v.err(field, "%s lists more than two ranges; give one of IPv4, one of IPv6, or both", quote(text))
		return
	}
	has4, has6 := false, false
	for _, item := range items {
		p, ok := v.virtualRange(field, strings.TrimSpace(item))
		if !ok {
			continue
		}
		seen := &has6
		if p.Addr().Is4() {
			seen = &has4
		}
		if *seen {
			v.err(field, "%s lists two ranges of one family; give one of IPv4, one of IPv6, or both", quote(text))
		}
		*seen = true
	}
}

// Bounds of a range: at its widest it is one that nobody can mean to have all
// of, at its narrowest it has room for two hosts.
const (
	widestIPv4, narrowestIPv4 = 8, 30
	widestIPv6, narrowestIPv6 = 16, 126
)

func (v *validator) virtualRange(field, text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		v.err(field, "%s is no range of addresses; write it as 240.240.0.0/16 or 2001:2::/48", quote(text))
		return p, false
	}
	if p != p.Masked() {
		v.err(field, "%s has bits beyond its prefix; write %s", text, p.Masked())
		return p, false
	}
	widest, narrowest := widestIPv4, narrowestIPv4
	if p.Addr().Is6() {
		widest, narrowest = widestIPv6, narrowestIPv6
	}
	if p.Bits() < widest || p.Bits() > narrowest {
		v.err(field, "%s is too wide or too narrow; use a prefix of %d to %d bits", text, widest, narrowest)
		return p, false
	}
	for _, r := range usedRanges() {
		if r.prefix.Overlaps(p) {
			v.err(field, "%s overlaps %s, which is %s; use one that nothing else uses", text, r.prefix, r.what)
			return p, false
		}
	}
	for _, r := range spareRanges() {
		if r.Overlaps(p) && r.Bits() <= p.Bits() {
			return p, true
		}
	}
	v.warn(field, "%s belongs to the Internet: what really has those addresses cannot be reached; use a private or reserved range", text)
	return p, true
}

// A usedRange is one that virtual addresses cannot come from.
type usedRange struct {
	prefix netip.Prefix
	what   string
}

func usedRanges() []usedRange {
	return []usedRange{
		{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
		{netip.MustParsePrefix("169.254.0.0/16"), "link-local, metadata servers among it"},
		{netip.MustParsePrefix("192.0.0.0/24"), "where a sandbox has its own address"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("::/96"), "loopback and what nobody has"},
		{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4 written as IPv6"},
		{netip.MustParsePrefix("64:ff9b::/96"), "IPv4 behind a translator"},
		{netip.MustParsePrefix("fd00:64::/64"), "where a sandbox has its own address"},
		{netip.MustParsePrefix("fe80::/10"), "link-local"},
		{netip.MustParsePrefix("ff00::/8"), "multicast"},
	}
}

// spareRanges are those that no address of the Internet lies in.
func spareRanges() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("2001:2::/48"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("100::/64"),
	}
}
