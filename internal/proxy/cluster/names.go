package cluster

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// A name is one host that a cluster resolves.
type name struct {
	host     string
	stop     func() // of the watch; the updater's
	answer   answer // guarded by the cluster's mu
	answered bool   // guarded by the cluster's mu
}

// wanted is an endpoint that a cluster should have.
type wanted struct {
	key      key
	weight   uint32
	priority uint32
	spare    bool // keeps its connections but is not picked
}

// renameLocked brings the names to resolve in line with cfg. It returns the
// watches to stop and the names to watch.
func (c *Cluster) renameLocked(cfg *config.Cluster) (stop, start []*name) {
	need := map[string]bool{}
	if cfg.Type == config.StrictDNS || cfg.Type == config.LogicalDNS {
		for _, e := range inline(cfg) {
			if _, ok := literal(e); !ok {
				need[e.Host] = true
			}
		}
	}
	for host, n := range c.names {
		if !need[host] {
			delete(c.names, host)
			stop = append(stop, n)
		}
	}
	for host := range need {
		if c.names[host] == nil {
			n := &name{host: host}
			c.names[host] = n
			start = append(start, n)
		}
	}
	return stop, start
}

// answered takes what the resolver found for n.
func (c *Cluster) answered(n *name, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names[n.host] != n {
		return
	}
	a = outward(a)
	if a.Err != nil && n.answer.Err == nil {
		c.set.log.Warn("name not resolved", "cluster", c.cfg.Load().Name, "host", n.host, "state", a.State.String(), "err", a.Err)
	}
	if c.cfg.Load().Type == config.LogicalDNS && len(a.Addrs) == 0 {
		a.Addrs = n.answer.Addrs // whatever happens, the last address stays
		if len(a.Addrs) > 0 {
			a.State = decision.Stale
		}
	}
	n.answer, n.answered = a, true
	c.rebuildLocked()
}

// rerouteInterval bounds how often a cluster asks for the routes to its
// addresses: where there are none every request fails for want of one.
const rerouteInterval = time.Second

// reroute looks again which addresses this host has a route to, after a
// connection failed at now for want of one.
func (c *Cluster) reroute(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.names) == 0 || now.Sub(c.rerouted) < rerouteInterval {
		return
	}
	c.rerouted = now
	c.rebuildLocked()
}

// wantLocked lists the endpoints that the cluster should have now, and how
// fresh its names are.
func (c *Cluster) wantLocked(cfg *config.Cluster) ([]wanted, decision.DNSState, string) {
	list := inline(cfg)
	if cfg.Type == config.EDS {
		list = nil
		if c.assignment != nil {
			list = c.assignment.Endpoints
		}
	}
	var want []wanted
	for _, e := range list {
		if k, ok := literal(e); ok {
			want = append(want, wanted{k, e.Weight, e.Priority, false})
			continue
		}
		n := c.names[e.Host]
		if n == nil {
			c.set.log.Warn("endpoint left out: its address is no IP and its cluster resolves no names",
				"cluster", cfg.Name, "address", e.Host)
			continue
		}
		for _, ip := range c.usable(n.answer.Addrs) {
			want = append(want, wanted{key{netip.AddrPortFrom(ip, e.Port), e.Host}, e.Weight, e.Priority, false})
		}
	}
	if cfg.Type == config.LogicalDNS {
		for i := range want {
			want[i].spare = i > 0
		}
	}
	dns, dnsError := c.freshnessLocked()
	return want, dns, dnsError
}

// usable leaves out addresses that this host has no route to (IPv6 on an IPv4
// host, most often), unless there are no others.
func (c *Cluster) usable(addrs []netip.Addr) []netip.Addr {
	mixed := false
	for _, a := range addrs {
		mixed = mixed || a.Unmap().Is4() != addrs[0].Unmap().Is4()
	}
	if !mixed {
		return addrs
	}
	var with []netip.Addr
	for _, a := range addrs {
		if c.set.routed(a) {
			with = append(with, a)
		}
	}
	if len(with) == 0 {
		return addrs
	}
	return with
}

// waitingLocked reports that there are names and none has answered yet.
func (c *Cluster) waitingLocked() bool {
	for _, n := range c.names {
		if n.answered {
			return false
		}
	}
	return len(c.names) > 0
}

// freshnessLocked sums up the names: the worst of those that have addresses;
// if none has, never answered before answered without address.
func (c *Cluster) freshnessLocked() (state decision.DNSState, failure string) {
	good, bad := decision.NotResolved, decision.NotResolved
	for _, host := range sortedKeys(c.names) {
		n := c.names[host]
		switch {
		case !n.answered:
			bad = decision.Never
		case len(n.answer.Addrs) > 0:
			good = max(good, n.answer.State)
		default:
			bad = max(bad, n.answer.State)
		}
		if n.answer.Err != nil && failure == "" {
			failure = n.answer.Err.Error()
		}
	}
	if good != decision.NotResolved {
		return good, failure
	}
	return bad, failure
}

func inline(cfg *config.Cluster) []config.Endpoint {
	if cfg.Inline == nil {
		return nil
	}
	if cfg.Type == config.LogicalDNS {
		return cfg.Inline.Endpoints[:min(1, len(cfg.Inline.Endpoints))]
	}
	return cfg.Inline.Endpoints
}

// literal is the key of an endpoint that needs no resolving: an IP address, or
// a unix socket by path or abstract name.
func literal(e config.Endpoint) (key, bool) {
	if strings.HasPrefix(e.Host, "/") || strings.HasPrefix(e.Host, "@") {
		return key{name: e.Host}, true
	}
	ip, err := netip.ParseAddr(e.Host)
	if err != nil {
		return key{}, false
	}
	return key{addr: netip.AddrPortFrom(ip.Unmap(), e.Port)}, true
}

// routed asks the kernel whether there is a way to an address. Connecting a UDP
// socket looks up the route and sends nothing.
func routed(a netip.Addr) bool {
	const discard = 9 // any port will do
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, discard)))
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent, nothing can be lost
	return true
}
