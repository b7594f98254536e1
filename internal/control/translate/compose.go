package translate

import (
	"cmp"
	"net/netip"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// makeAny makes the listener for destinations known by port alone or by a range
// of addresses, and notes what claims do not get.
func (p *port) makeAny(s *setting) *Resource {
	p.any.forget()
	return encodeListener(p.anyAddress(s))
}

// makeOne makes the listener of an address that claims name.
func (p *port) makeOne(ip netip.Addr, s *setting) *Resource {
	x := p.at[ip]
	x.forget()
	return encodeListener(x.oneAddress(netip.AddrPortFrom(ip, p.number), s))
}

func encodeListener(l *listenerv3.Listener) *Resource {
	if l == nil {
		return nil
	}
	return encode(xds.ListenerType, l.GetName(), l)
}

// anyAddress is nil if no claim is of that sort.
func (p *port) anyAddress(s *setting) *listenerv3.Listener {
	d := draft{name: listenerName(wildcards(p.number)[0]), timeout: s.detect, setting: s, names: p.names > 0}
	rest, talk := p.silence(sorted(p.any.claims, (*claim).isRest))
	if talk {
		d.chains = append(d.chains, requests(&d, p.number, nil))
	}
	for _, c := range sorted(p.any.claims, func(c *claim) bool { return c.kind == bySNI }) {
		d.chains = append(d.chains, d.bytesTo(c, serverName(c, c.ranges())))
	}
	p.any.ranges(&d)
	if len(rest) > 0 {
		d.chains = append(d.chains, d.bytesTo(rest[0], nil))
		for _, c := range rest[1:] {
			if !sameOutcome(c, rest[0]) {
				p.any.refuse(loss{loser: c, keeper: rest[0], requestsPass: c.kind == sniffed, advice: apart(c)})
			}
		}
	}
	if len(d.chains) == 0 && !d.names {
		return nil
	}
	byRange := slices.ContainsFunc(d.chains, func(c *listenerv3.FilterChain) bool { return len(c.GetFilterChainMatch().GetServerNames()) == 0 })
	if s.policy == mesh.RegistryOnly && !byRange {
		// Where bytes are expected nothing waits for a first line.
		d.chains = append(d.chains, blockRequests(&d))
	}
	sortChains(d.chains)
	return d.listener(wildcards(p.number))
}

// silence keeps a protocol whose server speaks first and requests, which are
// known by the caller's first bytes, from sharing a port: waiting for bytes
// would hang the one, not waiting would miss the other. The older stays, and
// the other loses the port for good: its bytes would go to the older.
// talk reports whether requests are taken at all.
func (p *port) silence(rest []*claim) (kept []*claim, talk bool) {
	if len(rest) == 0 || !rest[0].serverFirst() {
		return rest, p.byHost > 0 || slices.ContainsFunc(rest, func(c *claim) bool { return c.kind == sniffed })
	}
	asking := sorted(p.claims, func(c *claim) bool { return c.kind == byHost || c.kind == sniffed && c.anywhere() })
	if len(asking) == 0 {
		return rest, false
	}
	first, other := rest[0], asking[0]
	if first.before(other) < 0 {
		for _, c := range asking {
			p.any.refuse(loss{loser: c, keeper: first, advice: serverFirst(p.number)})
		}
		return slices.DeleteFunc(rest, func(c *claim) bool { return c.kind == sniffed }), false
	}
	kept = slices.DeleteFunc(rest, func(c *claim) bool {
		if c.serverFirst() {
			p.any.refuse(loss{loser: c, keeper: other, advice: serverFirst(p.number)})
			return true
		}
		return false
	})
	return kept, true
}

// ranges adds the chains of claims on ranges of addresses. Of two claims on one
// range the first keeps it.
func (x *part) ranges(d *draft) {
	taken := make(map[netip.Prefix]*claim)
	for _, c := range sorted(x.claims, func(c *claim) bool { return c.kind.isBytes() }) {
		var got []netip.Prefix
		for _, r := range c.ranges() {
			keeper := taken[r]
			if keeper == nil {
				taken[r] = c
				got = append(got, r)
			} else if keeper != c && !sameOutcome(c, keeper) {
				x.refuse(loss{loser: c, keeper: keeper, within: []netip.Prefix{r}, requestsPass: c.kind == sniffed && keeper.kind == sniffed, advice: apart(c)})
			}
		}
		if len(got) == 0 {
			continue
		}
		if c.kind == sniffed {
			// A chain for a range hides chains without one, so requests need theirs.
			d.chains = append(d.chains, requests(d, x.port, got))
		}
		d.chains = append(d.chains, d.bytesTo(c, &listenerv3.FilterChainMatch{PrefixRanges: cidrs(got)}))
	}
}

// oneAddress is nil if no claim names the address any more.
func (x *part) oneAddress(at netip.AddrPort, s *setting) *listenerv3.Listener {
	claims := sorted(x.claims, func(*claim) bool { return true })
	if len(claims) == 0 {
		return nil
	}
	d := draft{name: listenerName(at), timeout: s.detect, setting: s}
	var keeper *claim
	for _, c := range claims {
		switch {
		case !c.kind.isBytes():
		case keeper == nil:
			keeper = c
		case !sameOutcome(c, keeper):
			here := []netip.Prefix{netip.PrefixFrom(at.Addr(), at.Addr().BitLen())}
			x.refuse(loss{loser: c, keeper: keeper, within: here, requestsPass: c.kind == sniffed && keeper.kind == sniffed, advice: apart(c)})
		}
	}
	for _, c := range claims {
		switch {
		case c.kind != bySNI:
		case len(claims) == 1:
			// The address alone names the service: any server name will do.
			d.chains = append(d.chains, d.bytesTo(c, nil))
		default:
			d.chains = append(d.chains, d.bytesTo(c, serverName(c, nil)))
		}
	}
	if keeper != nil {
		if keeper.kind == sniffed {
			d.chains = append(d.chains, requests(&d, x.port, nil))
		}
		d.chains = append(d.chains, d.bytesTo(keeper, nil))
	} else if s.policy == mesh.RegistryOnly && len(claims) > 1 {
		d.chains = append(d.chains, blockRequests(&d))
	}
	sortChains(d.chains)
	return d.listener([]netip.AddrPort{at})
}

// sortChains brings chains into an order that does not depend on ages, so that
// equal listeners are equal bytes.
func sortChains(all []*listenerv3.FilterChain) {
	slices.SortStableFunc(all, func(a, b *listenerv3.FilterChain) int {
		x, y := a.GetFilterChainMatch(), b.GetFilterChainMatch()
		return cmp.Or(
			-cmp.Compare(len(x.GetApplicationProtocols()), len(y.GetApplicationProtocols())),
			-cmp.Compare(len(x.GetServerNames()), len(y.GetServerNames())),
			-cmp.Compare(len(x.GetPrefixRanges()), len(y.GetPrefixRanges())),
			cmp.Compare(a.GetName(), b.GetName()))
	})
}
