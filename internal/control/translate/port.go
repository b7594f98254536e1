package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// A kind is how connections to a claimed port find their service.
type kind uint8

const (
	byHost  kind = iota // requests, by Host
	bySNI               // TLS, by server name
	byBytes             // bytes, by address and port
	sniffed             // requests by Host, whatever is no request as bytes
)

func (k kind) isHTTP() bool { return k == byHost || k == sniffed }

// isBytes reports whether the claim wants connections that no other matches.
func (k kind) isBytes() bool { return k == byBytes || k == sniffed }

// A claim is one port of one service.
type claim struct {
	kind    kind
	port    mesh.Port
	service *mesh.Service
	short   []string // further names of the host in the view's namespace
}

// claimOf returns the claim of a port, or false if nothing listens for it.
func claimOf(s *mesh.Service, p mesh.Port) (*claim, bool) {
	c := &claim{port: p, service: s}
	switch {
	case p.Protocol == mesh.UDP:
		return nil, false
	case p.Protocol.IsHTTP():
		c.kind = byHost
	case p.Protocol.IsTLS():
		c.kind = bySNI
	case p.Protocol == mesh.Unset:
		c.kind = sniffed
	default:
		c.kind = byBytes
	}
	return c, true
}

// claimsOf returns what a service claims, and the problems of what it cannot.
func claimsOf(s *mesh.Service) (claims []*claim, problems []api.Problem) {
	if s.Resolution == mesh.DynamicDNS {
		return nil, []api.Problem{problem(s, "spec.resolution",
			"host %s: resolution DYNAMIC_DNS is not acted on yet, the host stays undeclared", s.Host)}
	}
	claims = make([]*claim, 0, len(s.Ports))
	for _, p := range s.Ports {
		c, ok := claimOf(s, p)
		if !ok {
			continue
		}
		switch {
		case p.Number == xds.OutboundPort:
			problems = append(problems, problem(s, "spec.ports",
				"host %s: port %d is where the proxy itself takes connections in and cannot be declared", s.Host, p.Number))
		case p.Number == xds.DNSPort:
			problems = append(problems, problem(s, "spec.ports",
				"host %s: port %d of every address is the name server of the workload and cannot be declared", s.Host, p.Number))
		case c.kind == bySNI && strings.HasPrefix(string(s.Host), "*") && !strings.HasPrefix(string(s.Host), "*."):
			problems = append(problems, problem(s, "spec.hosts",
				"host %s: the name in a TLS handshake is matched by whole labels only, so port %d is left out; write *.%s", s.Host, p.Number, strings.TrimLeft(string(s.Host), "*-_")))
		default:
			claims = append(claims, c)
		}
	}
	return claims, problems
}

func problem(s *mesh.Service, field, format string, args ...any) api.Problem {
	return api.Problem{
		Severity: api.Warning, Object: s.Source, File: s.Source.File, Line: s.Source.Line,
		Field: field, Message: fmt.Sprintf(format, args...),
	}
}

func (c *claim) host() hostname.Name { return c.service.Host }

// serverFirst reports whether the server speaks first, so that waiting for the
// caller's first bytes would wait for ever.
func (c *claim) serverFirst() bool {
	return c.port.Protocol == mesh.MySQL || c.port.Protocol == mesh.Mongo
}

// before orders claims by age, then host: who comes first keeps what only one
// can have.
func (c *claim) before(o *claim) int {
	return cmp.Or(c.service.Created.Compare(o.service.Created), cmp.Compare(c.host(), o.host()))
}

// plain returns the addresses that are one IP each: virtual ones for a claim on
// bytes, which nothing else would tell apart.
func (c *claim) plain() []netip.Addr {
	var ips []netip.Addr
	if c.kind.isBytes() {
		ips = append(ips, c.service.VIPs...)
	}
	for _, a := range c.service.Addresses {
		if a.IsSingleIP() {
			ips = append(ips, a.Addr())
		}
	}
	return ips
}

// ranges returns the addresses that are more than one IP.
func (c *claim) ranges() []netip.Prefix {
	var all []netip.Prefix
	for _, a := range c.service.Addresses {
		if !a.IsSingleIP() {
			all = append(all, a.Masked())
		}
	}
	return all
}

// anywhere reports whether the claim takes connections to any address.
func (c *claim) anywhere() bool {
	return len(c.service.Addresses) == 0 && (len(c.service.VIPs) == 0 || !c.kind.isBytes())
}

// sameForListeners reports whether listeners made for c and o are the same.
func (c *claim) sameForListeners(o *claim) bool {
	a, b := c.service, o.service
	return c.kind == o.kind && c.port.Protocol == o.port.Protocol && a.Source == b.Source &&
		a.Created.Equal(b.Created) && a.Resolution == b.Resolution && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.VIPs, b.VIPs)
}

// A port holds every claim on one port number.
type port struct {
	number      uint16
	claims      map[hostname.Name]*claim
	requests    int // claims with requests by Host
	byHost      int // those of them that are nothing else
	serverFirst int
	literals    map[string]map[hostname.Name]struct{} // address domain -> the hosts that want it
	table       bool                                  // route table and catch-all are in the set
	listeners   map[Key]struct{}
	// Of the listeners as they were made last:
	problems []api.Problem
	refused  map[hostname.Name][]*fairleadpb.RefusedPort // who does not get what
}

func newPort(n uint16) *port {
	return &port{number: n, claims: make(map[hostname.Name]*claim), literals: make(map[string]map[hostname.Name]struct{})}
}

// listenersDepend reports whether the listeners must be made anew when now
// takes the place of old. A further host on a port with requests changes none.
func (p *port) listenersDepend(old, now *claim) bool {
	switch {
	case p.serverFirst > 0 || now != nil && now.serverFirst():
		return true // ages are compared
	case old != nil && now != nil:
		return !old.sameForListeners(now) && (old.kind != byHost || now.kind != byHost)
	case now != nil:
		return now.kind != byHost || p.byHost == 0
	}
	return old.kind != byHost || p.byHost == 1
}

func (p *port) add(c *claim, touched map[hostname.Name]struct{}) {
	p.claims[c.host()] = c
	if c.serverFirst() {
		p.serverFirst++
	}
	if !c.kind.isHTTP() {
		return
	}
	p.requests++
	if c.kind == byHost {
		p.byHost++
	}
	p.touchRivals(string(c.host()), touched)
	for _, d := range literals(c) {
		if p.literals[d] == nil {
			p.literals[d] = make(map[hostname.Name]struct{})
		}
		p.literals[d][c.host()] = struct{}{}
		p.touchRivals(d, touched)
	}
}

func (p *port) remove(c *claim, touched map[hostname.Name]struct{}) {
	delete(p.claims, c.host())
	if c.serverFirst() {
		p.serverFirst--
	}
	if !c.kind.isHTTP() {
		return
	}
	p.requests--
	if c.kind == byHost {
		p.byHost--
	}
	p.touchRivals(string(c.host()), touched)
	for _, d := range literals(c) {
		p.touchRivals(d, touched)
		delete(p.literals[d], c.host())
		if len(p.literals[d]) == 0 {
			delete(p.literals, d)
		}
	}
}

// touchRivals marks every host that wants the domain.
func (p *port) touchRivals(domain string, touched map[hostname.Name]struct{}) {
	for h := range p.literals[domain] {
		touched[h] = struct{}{}
	}
}

// literals returns the domains of a claim that another host may want too: its
// addresses, its host if that is an address, and its short names.
func literals(c *claim) []string {
	all := slices.Clone(c.short)
	if ip, err := netip.ParseAddr(string(c.host())); err == nil {
		all = appendLiteral(all, ip)
	}
	for _, ip := range c.plain() {
		all = appendLiteral(all, ip)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// appendLiteral appends an address as it stands in a Host header and, for IPv6,
// also without the brackets.
func appendLiteral(all []string, ip netip.Addr) []string {
	all = append(all, ip.String())
	if ip.Is6() {
		all = append(all, "["+ip.String()+"]")
	}
	return all
}

// domains returns the domains that the claim's virtual host gets. A domain that
// several want goes to the host of that name, else to the first.
func (p *port) domains(c *claim) []string {
	all := []string{string(c.host())}
	for _, d := range literals(c) {
		if d != all[0] && p.winner(d) == c.host() {
			all = append(all, d)
		}
	}
	return all
}

func (p *port) winner(domain string) hostname.Name {
	if c := p.claims[hostname.Name(domain)]; c != nil && c.kind.isHTTP() {
		return c.host()
	}
	var first *claim
	for h := range p.literals[domain] {
		c := p.claims[h]
		if strings.Trim(domain, "[]") == string(h) {
			return h
		}
		if first == nil || c.before(first) < 0 {
			first = c
		}
	}
	return first.host()
}

// sorted returns the claims for which keep holds, the first first.
func (p *port) sorted(keep func(*claim) bool) []*claim {
	var all []*claim
	for _, c := range p.claims {
		if keep(c) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, (*claim).before)
	return all
}
