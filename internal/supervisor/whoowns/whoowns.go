// Package whoowns answers whose a host, an address or a port of one is for the
// workloads of a namespace, and why. Which entry has a host the registry
// explains. Where a connection goes is not worked out a second time: the
// resources of the workload are decoded and asked as its proxy asks them.
package whoowns

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// Ask answers q, whose namespace must be given, for workloads with those
// labels. An error says that the question makes no sense. It is safe for
// concurrent use, and the plane goes on meanwhile: it is asked for one moment's
// state, and what is worked out of that is forgotten. A question without a port
// for a name that somebody declares costs next to nothing; one with a port, what
// declares that port; every other looks at all that the namespace sees.
func Ask(p *control.Plane, q admin.Question, labels map[string]string) (admin.Decision, error) {
	host, err := hostname.Parse(q.Host)
	if err != nil {
		return admin.Decision{}, fmt.Errorf("%q is no host: %w", q.Host, err)
	}
	e, sight := p.Explain(q.Namespace, labels, host)
	ip, err := netip.ParseAddr(string(host))
	remark := ""
	if full := fullName(sight, host); err != nil && e.Owner == nil && full != "" {
		remark = fmt.Sprintf("%s is short for %s.", host, full)
		host = full
		e, sight = p.Explain(q.Namespace, labels, host)
	}
	d := decided(e, sight.View.Policy)
	d.Port, d.Remark = q.Port, remark
	if err != nil && q.Port == 0 {
		return d, nil
	}
	a := asker{sight: sight}
	resources, _ := translate.New(sight.View, onPort{sight.Services, q.Port})
	if a.view, err = see(resources.Set()); err != nil {
		return d, err
	}
	if ip.IsValid() {
		return d, a.address(&d, ip)
	}
	return d, a.port(&d, e, host)
}

// fullName returns the host that a workload may call by a shorter name, or "".
func fullName(s control.Sight, name hostname.Name) hostname.Name {
	if strings.Count(string(name), ".") > 2 { // nearly all: NAME.NAMESPACE.svc is the longest
		return ""
	}
	for service := range s.Services.Services(s.View.Namespace) {
		if slices.Contains(api.ShortNames(service.Host, s.View.Namespace), string(name)) {
			return service.Host
		}
	}
	return ""
}

// onPort is a Source of the services that declare a port: no other has a say in
// what becomes of connections to it. 0: of all.
type onPort struct {
	registry.Scope
	port uint16
}

// Services implements translate.Source.
func (o onPort) Services(namespace string) iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		for s := range o.Scope.Services(namespace) {
			if (o.port == 0 || portOf(s, o.port) != nil) && !yield(s) {
				return
			}
		}
	}
}

// portOf returns the port of a number that a service declares, or nil.
func portOf(s *mesh.Service, number uint16) *mesh.Port {
	if i := slices.IndexFunc(s.Ports, func(p mesh.Port) bool { return p.Number == number }); i >= 0 {
		return &s.Ports[i]
	}
	return nil
}

// An asker answers one question.
type asker struct {
	sight control.Sight
	view  *view
}

// service returns what the workload reaches under a declared host, or nil.
func (a *asker) service(host string) *mesh.Service {
	return a.sight.Services.Service(a.sight.View.Namespace, hostname.Name(host))
}

// port says what becomes of connections to one port of a host.
func (a *asker) port(d *admin.Decision, e registry.Explanation, host hostname.Name) error {
	kinds := []string{admin.Requests, admin.TLS, admin.Bytes}
	var to netip.Addr // none: some address that nobody lists
	if e.Owner != nil {
		to = addressOf(e.Owner.Service)
	}
	for _, s := range declarers(e) {
		if p := portOf(s.Service, d.Port); p != nil {
			kinds = kindsOf(p.Protocol)
			break
		}
	}
	var err error
	d.Connections, err = a.connections(netip.AddrPortFrom(to, d.Port), concrete(string(host)), kinds)
	if e.Owner == nil || portOf(e.Owner.Service, d.Port) == nil {
		return err
	}
	for i := range d.Connections {
		c := &d.Connections[i]
		if s := a.service(c.Host); s != nil && s.Host != host {
			c.Reason = "comes first by name"
			if s.Created.Before(e.Owner.Service.Created) {
				c.Reason = "is older"
			}
		}
	}
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
	for s := range a.sight.Services.Services(a.sight.View.Namespace) {
		if s.Resolution == mesh.DynamicDNS { // left undeclared
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
				Address: addressText(prefix), Virtual: slices.Contains(s.VIPs, ip), Host: s.Host.String(),
				Object: s.Source.String(), File: s.Source.File, Line: s.Source.Line, Ports: portsOf(s),
			}})
		}
	}
	slices.SortStableFunc(found, func(x, y covering) int { return cmp.Or(y.bits-x.bits, strings.Compare(x.cover.Host, y.cover.Host)) })
	for _, c := range found {
		d.Covers = append(d.Covers, c.cover)
	}
	if m := a.sight.Services.Mesh(); len(found) == 0 && (m.VirtualIPv4.Contains(ip) || m.VirtualIPv6.Contains(ip)) {
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
		return c // none of ours
	}
	c.Host, c.Object, c.File, c.Line = part[3], s.Source.String(), s.Source.File, s.Source.Line
	c.Resolution = s.Resolution.String()
	c.Missing = !a.view.has(xds.ClusterType, cluster)
	p := portOf(s, port)
	if p == nil {
		return c
	}
	c.Protocol = p.Protocol.String()
	for _, e := range s.Endpoints {
		if _, ok := e.PortFor(*p); ok && e.Address != "" {
			c.Endpoints++
		}
	}
	return c
}
