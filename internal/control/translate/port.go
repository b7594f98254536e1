package translate

import (
	"cmp"
	"fmt"
	"iter"
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

// claimsOf returns what a service claims, and the problems of what it cannot. What
// an object is told of when it is validated is left out without a word.
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
		case p.Number == xds.OutboundPort, p.Number == xds.DNSPort: // of the proxy itself
		case c.kind == bySNI && s.Host.IsWildcard() && !strings.HasPrefix(string(s.Host), "*."): // names in handshakes are matched by whole labels
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

// bound returns the addresses whose listeners the claim has a say in.
func (c *claim) bound() []netip.Addr {
	if c.kind == byHost {
		return nil
	}
	return c.plain()
}

// isRest reports whether the claim wants the bytes of a port that have no better
// place to go.
func (c *claim) isRest() bool { return c.kind.isBytes() && c.anywhere() }

// isName reports whether a name in a handshake is all that the claim goes by. It
// has no say in any listener but that it looks such names up.
func (c *claim) isName() bool { return c.kind == bySNI && c.anywhere() }

// inRange reports whether the claim asks for a range of addresses.
func (c *claim) inRange() bool {
	return c.kind != byHost && slices.ContainsFunc(c.service.Addresses, func(a netip.Prefix) bool { return !a.IsSingleIP() })
}

// sameForListeners reports whether listeners made for c and o, and what is said of
// those who lose in them, are the same.
func (c *claim) sameForListeners(o *claim) bool {
	a, b := c.service, o.service
	return c.kind == o.kind && c.port.Protocol == o.port.Protocol && c.port.TargetPort == o.port.TargetPort && a.Source == b.Source &&
		a.Created.Equal(b.Created) && a.Resolution == b.Resolution && a.NoVIP == b.NoVIP &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.VIPs, b.VIPs)
}

// A port holds every claim on one port number. Its listeners are made one by one,
// each from the claims that have a say in it, so that the hosts found by what a
// connection says cost the same however many there are.
type port struct {
	number   uint16
	claims   map[hostname.Name]*claim
	requests int                                   // claims with requests by Host
	byHost   int                                   // those of them that are nothing else
	names    int                                   // claims that are nothing but a name in a handshake
	speaks   int                                   // claims on the rest whose server speaks first
	literals map[string]map[hostname.Name]struct{} // address domain -> the hosts that want it
	table    bool                                  // route table and catch-all are in the set
	any      *part                                 // the listener of any address
	at       map[netip.Addr]*part                  // the listeners of single addresses
}

// A part is one listener of a port, and what claims do not get by it.
type part struct {
	port     uint16
	claims   map[hostname.Name]*claim // that have a say in it
	made     *Resource                // as it is in the set; nil for none
	problems []api.Problem
	refused  map[hostname.Name][]*fairleadpb.RefusedPort // who does not get what
}

func newPort(n uint16) *port {
	return &port{
		number: n, claims: make(map[hostname.Name]*claim), literals: make(map[string]map[hostname.Name]struct{}),
		any: newPart(n), at: make(map[netip.Addr]*part),
	}
}

func newPart(n uint16) *part { return &part{port: n, claims: make(map[hostname.Name]*claim)} }

// parts yields those that a claim has, or had, something to do with.
func (p *port) parts(c *claim) iter.Seq[*part] {
	return func(yield func(*part) bool) {
		if !yield(p.any) {
			return
		}
		for _, ip := range slices.SortedFunc(slices.Values(c.bound()), netip.Addr.Compare) {
			if x := p.at[ip]; x != nil && !yield(x) {
				return
			}
		}
	}
}

// put puts now in the place of old, either of which may be nil, and marks what
// must be made anew for it.
func (p *port) put(old, now *claim, t *touch) {
	requests, names, speaks := p.byHost > 0, p.names > 0, p.speaks > 0
	if old != nil {
		p.remove(old, t.hosts)
	}
	if now != nil {
		p.add(now, t.hosts)
	}
	if requests != (p.byHost > 0) || names != (p.names > 0) {
		t.any = true
	}
	if old != nil && now != nil && old.sameForListeners(now) {
		return
	}
	for _, c := range []*claim{old, now} {
		if c == nil {
			continue
		}
		// Where a server speaks first it is the age of requests that counts.
		if c.isRest() || c.inRange() || c.kind == byHost && (speaks || p.speaks > 0) {
			t.any = true
		}
		for _, ip := range c.bound() {
			t.at[ip] = struct{}{}
		}
	}
}

func (p *port) add(c *claim, touched map[hostname.Name]struct{}) {
	p.place(c)
	if !c.kind.isHTTP() {
		return
	}
	p.requests++
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
	p.displace(c)
	if !c.kind.isHTTP() {
		return
	}
	p.requests--
	p.touchRivals(string(c.host()), touched)
	for _, d := range literals(c) {
		p.touchRivals(d, touched)
		delete(p.literals[d], c.host())
		if len(p.literals[d]) == 0 {
			delete(p.literals, d)
		}
	}
}

// place gives a claim its say in listeners.
func (p *port) place(c *claim) {
	p.claims[c.host()] = c
	p.count(c, +1)
	if c.isRest() || c.inRange() {
		p.any.claims[c.host()] = c
	}
	for _, ip := range c.bound() {
		if p.at[ip] == nil {
			p.at[ip] = newPart(p.number)
		}
		p.at[ip].claims[c.host()] = c
	}
}

// displace undoes place. A part without claims stays until its listener is gone.
func (p *port) displace(c *claim) {
	delete(p.claims, c.host())
	p.count(c, -1)
	delete(p.any.claims, c.host())
	for _, ip := range c.bound() {
		delete(p.at[ip].claims, c.host())
	}
}

func (p *port) count(c *claim, by int) {
	switch {
	case c.kind == byHost:
		p.byHost += by
	case c.isName():
		p.names += by
	case c.isRest() && c.serverFirst():
		p.speaks += by
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
func sorted(claims map[hostname.Name]*claim, keep func(*claim) bool) []*claim {
	var all []*claim
	for _, c := range claims {
		if keep(c) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, (*claim).before)
	return all
}
