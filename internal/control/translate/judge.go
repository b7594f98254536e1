package translate

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

// Problems returns the problems that New would return of a view with these
// services, for a hundredth of the cost: no resource is made but for ports on which
// somebody loses.
func Problems(services iter.Seq[*mesh.Service]) []api.Problem {
	var problems []api.Problem
	ports := make(map[uint16][]*claim)
	for s := range services {
		claims, found := claimsOf(s)
		problems = append(problems, found...)
		for _, c := range claims {
			ports[c.port.Number] = append(ports[c.port.Number], c)
		}
	}
	how := &setting{policy: mesh.AllowAny}
	for _, n := range slices.Sorted(maps.Keys(ports)) {
		rivals := rivals(ports[n])
		if len(rivals) < 2 {
			continue
		}
		p := newPort(n)
		for _, c := range rivals {
			p.place(c)
		}
		p.makeAny(how)
		problems = append(problems, p.any.problems...)
		for _, ip := range slices.SortedFunc(maps.Keys(p.at), netip.Addr.Compare) {
			p.makeOne(ip, how)
			problems = append(problems, p.at[ip].problems...)
		}
	}
	return problems
}

// rivals returns the claims on a port that may take something from each other:
// those on all bytes, those on bytes to one destination, and requests where a
// server speaks first. A name in a handshake takes nothing from anybody. The
// slice given is used up.
func rivals(all []*claim) []*claim {
	first := slices.ContainsFunc(all, (*claim).serverFirst)
	wanted := make(map[netip.Prefix]int)
	for _, c := range all {
		if c.kind.isBytes() {
			for _, at := range c.destinations() {
				wanted[at]++
			}
		}
	}
	return slices.DeleteFunc(all, func(c *claim) bool {
		switch c.kind {
		case bySNI:
			return true
		case byHost:
			return !first
		case byBytes, sniffed:
		}
		return !c.anywhere() && !slices.ContainsFunc(c.destinations(), func(at netip.Prefix) bool { return wanted[at] > 1 })
	})
}

// destinations returns the addresses and ranges that the claim names.
func (c *claim) destinations() []netip.Prefix {
	all := c.ranges()
	for _, ip := range c.plain() {
		all = append(all, netip.PrefixFrom(ip, ip.BitLen()))
	}
	return all
}
