// Package whoowns answers whose a host, an address or a port of one is for the
// workloads of a namespace, and why. Which entry has a host the registry
// explains. Where a connection goes is not worked out a second time: the
// resources of the workload are decoded and asked as its proxy asks them.
package whoowns

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// Ask answers q, whose namespace must be given, for workloads with those
// labels. An error says that the question makes no sense. It is safe for
// concurrent use. A question without a port for a name costs next to nothing;
// every other looks at all that the namespace sees.
func Ask(p *control.Plane, q admin.Question, labels map[string]string) (admin.Decision, error) {
	host, err := hostname.Parse(q.Host)
	if err != nil {
		return admin.Decision{}, fmt.Errorf("%q is no host: %w", q.Host, err)
	}
	e, policy := p.Explain(q.Namespace, labels, host)
	d := decided(e, policy)
	d.Port = q.Port
	ip, err := netip.ParseAddr(string(host))
	if err != nil && q.Port == 0 {
		return d, nil
	}
	a := asker{plane: p, namespace: q.Namespace, labels: labels}
	a.view, err = see(resources(p, q.Namespace, labels))
	if err != nil {
		return d, err
	}
	if ip.IsValid() {
		return d, a.address(&d, ip)
	}
	return d, a.port(&d, e, host)
}

// resources returns what a workload with those labels is sent.
func resources(p *control.Plane, namespace string, labels map[string]string) *translate.Set {
	var set *translate.Set
	leave := p.Join(ads.Node{Namespace: namespace, Labels: labels}, func(s *translate.Set, _ []translate.Key) { set = s })
	leave() // after which set is not written to
	return set
}

// An asker answers one question.
type asker struct {
	plane     *control.Plane
	namespace string
	labels    map[string]string
	view      *view
}

// service returns what the workload reaches under a declared host, or nil.
func (a *asker) service(host string) *mesh.Service {
	if e, _ := a.plane.Explain(a.namespace, a.labels, hostname.Name(host)); e.Owner != nil {
		return e.Owner.Service
	}
	return nil
}

// port says what becomes of connections to one port of a host.
func (a *asker) port(d *admin.Decision, e registry.Explanation, host hostname.Name) error {
	kinds := []string{admin.Requests, admin.TLS, admin.Bytes}
	var to netip.Addr // none: some address that nobody lists
	if e.Owner != nil {
		to = addressOf(e.Owner.Service)
	}
	for _, s := range declarers(e) {
		if i := slices.IndexFunc(s.Service.Ports, func(p mesh.Port) bool { return p.Number == d.Port }); i >= 0 {
			kinds = kindsOf(s.Service.Ports[i].Protocol)
			break
		}
	}
	var err error
	d.Connections, err = a.connections(netip.AddrPortFrom(to, d.Port), concrete(string(host)), kinds)
	return err
}

// concrete is a host, or for a wildcard one of those that it stands for.
func concrete(host string) string {
	suffix, wild := strings.CutPrefix(host, "*")
	switch {
	case !wild:
		return host
	case strings.HasPrefix(suffix, "."):
		return "any-host" + suffix
	}
	return "any-host." + suffix
}

// declarers are the owners of a host and of the wildcards it falls under, in
// the order in which they have its ports.
func declarers(e registry.Explanation) []registry.Standing {
	if e.Owner == nil {
		return e.Wildcards
	}
	return append([]registry.Standing{*e.Owner}, e.Wildcards...)
}

// kindsOf returns what a port of a protocol is for.
func kindsOf(p mesh.Protocol) []string {
	switch {
	case p.IsHTTP():
		return []string{admin.Requests}
	case p.IsTLS():
		return []string{admin.TLS}
	case p == mesh.Unset:
		return []string{admin.Requests, admin.Bytes}
	}
	return []string{admin.Bytes}
}

// addressOf returns an address under which a service is reached, if it has one
// of its own.
func addressOf(s *mesh.Service) netip.Addr {
	if len(s.VIPs) > 0 {
		return s.VIPs[0]
	}
	if len(s.Addresses) > 0 {
		return s.Addresses[0].Addr()
	}
	return netip.Addr{}
}

// address says what covers an address and what becomes of connections to it.
func (a *asker) address(d *admin.Decision, ip netip.Addr) error {
	ports := map[uint16]bool{}
	type covering struct {
		bits  int
		cover admin.Cover
	}
	var found []covering
	for _, host := range a.view.hosts() {
		s := a.service(host)
		if s == nil {
			continue
		}
		for _, prefix := range append(prefixes(s.VIPs), s.Addresses...) {
			if !prefix.Contains(ip) {
				continue
			}
			for _, p := range s.Ports {
				ports[p.Number] = true
			}
			found = append(found, covering{prefix.Bits(), admin.Cover{
				Address: addressText(prefix), Virtual: slices.Contains(s.VIPs, ip), Host: host,
				Object: s.Source.String(), File: s.Source.File, Line: s.Source.Line, Ports: portsOf(s),
			}})
		}
	}
	slices.SortStableFunc(found, func(x, y covering) int { return cmp.Or(y.bits-x.bits, strings.Compare(x.cover.Host, y.cover.Host)) })
	for _, c := range found {
		d.Covers = append(d.Covers, c.cover)
	}
	if m := a.plane.Mesh(); len(found) == 0 && (m.VirtualIPv4.Contains(ip) || m.VirtualIPv6.Contains(ip)) {
		d.Remark = ip.String() + " lies where virtual addresses are given from, and no host that is seen has it."
	}
	if d.Owner != nil {
		for _, p := range d.Owner.Ports {
			ports[p.Number] = true
		}
	}
	return a.everyPort(d, ip, ports)
}

// everyPort adds the connections to the ports that cover an address, and to
// those that an entry takes whatever the address.
func (a *asker) everyPort(d *admin.Decision, ip netip.Addr, covered map[uint16]bool) error {
	all := []uint16{d.Port}
	if d.Port == 0 {
		all = a.view.ports(covered)
	}
	for _, port := range all {
		connections, err := a.connections(netip.AddrPortFrom(ip, port), nameAt(d.Covers, ip, port), []string{admin.Requests, admin.TLS, admin.Bytes})
		if err != nil {
			return err
		}
		if d.Port != 0 || covered[port] || slices.ContainsFunc(connections, func(c admin.Connection) bool { return c.Object != "" }) {
			d.Connections = append(d.Connections, connections...)
		}
	}
	return nil
}

// nameAt is the name by which a port of an address is asked for: that of the
// closest cover that declares it, else the address.
func nameAt(covers []admin.Cover, ip netip.Addr, port uint16) string {
	for _, c := range covers {
		if slices.ContainsFunc(c.Ports, func(p admin.Port) bool { return p.Number == port }) {
			return concrete(c.Host)
		}
	}
	return ip.String()
}

// connections says what becomes of connections of each kind, those together
// that end in one cluster. The name is what requests and handshakes ask for; a
// handshake names no address.
func (a *asker) connections(to netip.AddrPort, name string, kinds []string) ([]admin.Connection, error) {
	var all []admin.Connection
	for _, kind := range kinds {
		cluster, err := a.view.probe(to, kind, name)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(all, func(c admin.Connection) bool { return c.Cluster == cluster }); i >= 0 {
			all[i].Kinds = append(all[i].Kinds, kind)
			continue
		}
		all = append(all, a.connection(to.Port(), kind, cluster))
	}
	return all, nil
}

func (a *asker) connection(port uint16, kind, cluster string) admin.Connection {
	c := admin.Connection{Port: port, Kinds: []string{kind}, Cluster: cluster}
	part := strings.Split(cluster, "|") // outbound|80||host
	if len(part) != 4 {
		return c
	}
	s := a.service(part[3])
	if s == nil {
		return c // it went this moment
	}
	c.Host, c.Object, c.File, c.Line = part[3], s.Source.String(), s.Source.File, s.Source.Line
	c.Resolution = s.Resolution.String()
	c.Missing = !a.view.has(xds.ClusterType, cluster)
	for _, p := range s.Ports {
		if p.Number != port {
			continue
		}
		c.Protocol = p.Protocol.String()
		for _, e := range s.Endpoints {
			if _, ok := e.PortFor(p); ok && e.Address != "" {
				c.Endpoints++
			}
		}
	}
	return c
}
