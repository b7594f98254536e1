package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// makeListeners makes every listener of the port: one for any address, and one
// per address that a claim names. It notes what claims do not get. A caller may be
// silent for the time to detect a protocol; 0: without limit.
func (p *port) makeListeners(policy mesh.OutboundPolicy, detect time.Duration) []*Resource {
	p.problems, p.refused = nil, make(map[hostname.Name][]*fairleadpb.RefusedPort)
	var out []*Resource
	add := func(l *listenerv3.Listener) {
		if l != nil {
			out = append(out, encode(xds.ListenerType, l.GetName(), l))
		}
	}
	add(p.anyAddress(policy, detect))

	bound := make(map[netip.Addr][]*claim)
	for _, c := range p.sorted(func(c *claim) bool { return c.kind != byHost }) {
		for _, ip := range c.plain() {
			bound[ip] = append(bound[ip], c)
		}
	}
	for _, ip := range sortedAddrs(bound) {
		add(p.oneAddress(netip.AddrPortFrom(ip, p.number), bound[ip], policy, detect))
	}
	return out
}

func sortedAddrs(m map[netip.Addr][]*claim) []netip.Addr {
	all := make([]netip.Addr, 0, len(m))
	for a := range m {
		all = append(all, a)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// anyAddress makes the listener for destinations known by port alone or by a
// range of addresses; nil if no claim is of that sort.
func (p *port) anyAddress(policy mesh.OutboundPolicy, detect time.Duration) *listenerv3.Listener {
	d := draft{name: listenerName(wildcards(p.number)[0]), timeout: detect}
	rest := p.sorted(func(c *claim) bool { return c.kind.isBytes() && c.anywhere() })
	talk := p.sorted(func(c *claim) bool { return c.kind == byHost || c.kind == sniffed && c.anywhere() })

	rest, talk = p.silence(rest, talk)
	if len(talk) > 0 {
		d.chains = append(d.chains, requests(d.name, p.number, nil))
	}
	for _, c := range p.sorted(func(c *claim) bool { return c.kind == bySNI }) {
		ranges := c.ranges()
		if c.anywhere() || len(ranges) > 0 {
			d.chains = append(d.chains, bytesTo(c, serverName(c, ranges)))
		}
	}
	p.ranges(&d)
	if len(rest) > 0 {
		d.chains = append(d.chains, bytesTo(rest[0], nil))
		for _, c := range rest[1:] {
			if !sameOutcome(c, rest[0]) {
				p.refuse(loss{loser: c, keeper: rest[0], requestsPass: c.kind == sniffed, advice: apart(c)})
			}
		}
	}
	if len(d.chains) == 0 {
		return nil
	}
	byRange := slices.ContainsFunc(d.chains, func(c *listenerv3.FilterChain) bool { return len(c.GetFilterChainMatch().GetServerNames()) == 0 })
	if policy == mesh.RegistryOnly && !byRange {
		// Where bytes are expected nothing waits for a first line.
		d.chains = append(d.chains, blockRequests(d.name))
	}
	sortChains(d.chains)
	return d.listener(wildcards(p.number), policy)
}

// silence keeps a protocol whose server speaks first and requests, which are
// known by the caller's first bytes, from sharing a port: waiting for bytes
// would hang the one, not waiting would miss the other. The older stays, and
// the other loses the port for good: its bytes would go to the older.
func (p *port) silence(rest, talk []*claim) (keptRest, keptTalk []*claim) {
	if len(rest) == 0 || len(talk) == 0 || !rest[0].serverFirst() {
		return rest, talk
	}
	first, other := rest[0], talk[0]
	if first.before(other) < 0 {
		for _, c := range talk {
			p.refuse(loss{loser: c, keeper: first, advice: serverFirst(p.number)})
		}
		return slices.DeleteFunc(rest, func(c *claim) bool { return c.kind == sniffed }), nil
	}
	keptRest = slices.DeleteFunc(rest, func(c *claim) bool {
		if c.serverFirst() {
			p.refuse(loss{loser: c, keeper: other, advice: serverFirst(p.number)})
			return true
		}
		return false
	})
	return keptRest, talk
}

// ranges adds the chains of claims on ranges of addresses. Of two claims on one
// range the first keeps it.
func (p *port) ranges(d *draft) {
	taken := make(map[netip.Prefix]*claim)
	for _, c := range p.sorted(func(c *claim) bool { return c.kind.isBytes() }) {
		var got []netip.Prefix
		for _, r := range c.ranges() {
			keeper := taken[r]
			if keeper == nil {
				taken[r] = c
				got = append(got, r)
			} else if keeper != c && !sameOutcome(c, keeper) {
				p.refuse(loss{loser: c, keeper: keeper, within: []netip.Prefix{r}, requestsPass: c.kind == sniffed && keeper.kind == sniffed, advice: apart(c)})
			}
		}
		if len(got) == 0 {
			continue
		}
		if c.kind == sniffed {
			// A chain for a range hides chains without one, so requests need theirs.
			d.chains = append(d.chains, requests(d.name, p.number, got))
		}
		d.chains = append(d.chains, bytesTo(c, &listenerv3.FilterChainMatch{PrefixRanges: cidrs(got)}))
	}
}

// oneAddress makes the listener of an address that the claims, the first first,
// name.
func (p *port) oneAddress(at netip.AddrPort, claims []*claim, policy mesh.OutboundPolicy, detect time.Duration) *listenerv3.Listener {
	d := draft{name: listenerName(at), timeout: detect}
	var keeper *claim
	for _, c := range claims {
		switch {
		case !c.kind.isBytes():
		case keeper == nil:
			keeper = c
		case !sameOutcome(c, keeper):
			here := []netip.Prefix{netip.PrefixFrom(at.Addr(), at.Addr().BitLen())}
			p.refuse(loss{loser: c, keeper: keeper, within: here, requestsPass: c.kind == sniffed && keeper.kind == sniffed, advice: apart(c)})
		}
	}
	for _, c := range claims {
		switch {
		case c.kind != bySNI:
		case len(claims) == 1:
			// The address alone names the service: any server name will do.
			d.chains = append(d.chains, bytesTo(c, nil))
		default:
			d.chains = append(d.chains, bytesTo(c, serverName(c, nil)))
		}
	}
	if keeper != nil {
		if keeper.kind == sniffed {
			d.chains = append(d.chains, requests(d.name, p.number, nil))
		}
		d.chains = append(d.chains, bytesTo(keeper, nil))
	} else if policy == mesh.RegistryOnly && len(claims) > 1 {
		d.chains = append(d.chains, blockRequests(d.name))
	}
	sortChains(d.chains)
	return d.listener([]netip.AddrPort{at}, policy)
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
