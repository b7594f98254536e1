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
	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// Ask answers q, whose namespace must be given, for workloads with those
// labels. An error says that the question makes no sense. It is safe for
// concurrent use, and the plane goes on meanwhile: it is asked for one moment's
// state, and what is worked out of that is forgotten. A question about a name
// costs what declares the port, or those of its ports that others may hold; one
// about an address looks at all that the namespace sees.
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
	a := asker{sight: sight, kinds: []string{admin.Requests, admin.TLS, admin.Bytes}}
	if q.Kind != "" {
		a.kinds = []string{q.Kind}
	}
	about := rivals{Scope: sight.Services, ports: []uint16{q.Port}, hosts: hostsOf(e)}
	switch {
	case q.Port != 0:
	case ip.IsValid():
		about.ports = nil
	default:
		if about.ports = contested(e); len(about.ports) == 0 {
			return d, nil
		}
	}
	resources, _ := translate.New(sight.View, about)
	if a.view, err = see(resources.Set()); err != nil {
		return d, err
	}
	switch {
	case ip.IsValid():
		return d, a.address(&d, ip)
	case q.Port == 0:
		a.lost(&d, host)
		return d, nil
	}
	return d, a.port(&d, e, host)
}

// contested returns the ports of a host that others may hold: nothing tells whose
// bytes are meant but their address.
func contested(e registry.Explanation) []uint16 {
	var ports []uint16
	if e.Owner != nil {
		for _, p := range e.Owner.Service.Ports {
			if !p.Protocol.IsHTTP() && !p.Protocol.IsTLS() && p.Protocol != mesh.UDP {
				ports = append(ports, p.Number)
			}
		}
	}
	return ports
}

// hostsOf returns the hosts that have what is asked about.
func hostsOf(e registry.Explanation) []hostname.Name {
	var hosts []hostname.Name
	for _, s := range declarers(e) {
		hosts = append(hosts, s.Service.Host)
	}
	return hosts
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

// rivals is a Source of the services that declare one of some ports: no other has
// a say in what becomes of connections to them; and of those of some hosts, which
// it is asked about. No ports: of all.
type rivals struct {
	registry.Scope
	ports []uint16
	hosts []hostname.Name
}

// Services implements translate.Source.
func (r rivals) Services(namespace string) iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		for s := range r.Scope.Services(namespace) {
			declares := slices.ContainsFunc(s.Ports, func(p mesh.Port) bool { return slices.Contains(r.ports, p.Number) })
			if (len(r.ports) == 0 || declares || slices.Contains(r.hosts, s.Host)) && !yield(s) {
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
	kinds []string // of connections that are asked about
}

// service returns what the workload reaches under a declared host, or nil.
func (a *asker) service(host string) *mesh.Service {
	return a.sight.Services.Service(a.sight.View.Namespace, hostname.Name(host))
}

// port says what becomes of connections to one port of a host.
func (a *asker) port(d *admin.Decision, e registry.Explanation, host hostname.Name) error {
	var to netip.Addr // none: some address that nobody lists
	if e.Owner != nil {
		to = addressOf(e.Owner.Service)
	}
	name := concrete(string(host))
	var err error
	d.Connections, err = a.connections(caller{netip.AddrPortFrom(to, d.Port), name, name})
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

// lost says which ports that a host declares others hold.
func (a *asker) lost(d *admin.Decision, host hostname.Name) {
	n := a.view.config.Name(string(host))
	if n == nil {
		return
	}
	for i := range n.Refused {
		by := &n.Refused[i]
		rec := refusal(n, by, decision.Record{Original: netip.AddrPortFrom(netip.Addr{}, by.Port)})
		said := rec.Sentence()
		if by.RequestsPass {
			said += " Requests reach the host by what they say."
		}
		if len(by.Within) > 0 {
			said = strings.TrimSuffix(said, ".") + "; so at " + strings.Join(addressTexts(by.Within), ", ") + " alone."
		}
		d.Lost = append(d.Lost, said)
	}
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
		connections, err := a.connections(caller{to: netip.AddrPortFrom(ip, port), asks: nameAt(d.Covers, ip, port)})
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
// that end alike. A handshake names no address.
func (a *asker) connections(from caller) ([]admin.Connection, error) {
	var all []admin.Connection
	for _, kind := range a.kinds {
		end, err := a.view.probe(from, kind)
		if err != nil {
			return nil, err
		}
		c := a.connection(from.to.Port(), kind, end)
		if i := slices.IndexFunc(all, func(x admin.Connection) bool {
			return x.Cluster == c.Cluster && x.Refused == c.Refused && x.Undeclared == c.Undeclared
		}); i >= 0 {
			all[i].Kinds = append(all[i].Kinds, kind)
			continue
		}
		all = append(all, c)
	}
	return all, nil
}

func (a *asker) connection(port uint16, kind string, e end) admin.Connection {
	cluster := e.cluster
	c := admin.Connection{Port: port, Kinds: []string{kind}, Cluster: cluster}
	switch {
	case e.rec.Reason == decision.PortHeld:
		c.Refused = e.rec.Sentence()
		if s := a.service(e.rec.Holder); s != nil {
			c.Host, c.Object, c.File, c.Line = e.rec.Holder, s.Source.String(), s.Source.File, s.Source.Line
		}
		return c
	case e.rec.Declared != nil:
		c.Undeclared = string(e.rec.AppendUndeclared(nil))
		if e.rec.Reason == decision.NotDeclared {
			c.Refused = e.rec.Sentence()
		}
	}
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

// Stranger says that nothing known lies in a namespace, or sees it by name; empty
// if something does.
func Stranger(p *control.Plane, namespace string) string {
	all := p.Namespaces()
	if slices.Contains(all, namespace) {
		return ""
	}
	said := fmt.Sprintf("No object lies in namespace %s.", namespace)
	if near := api.Nearest(namespace, all); near != "" {
		said += fmt.Sprintf(" Is %s meant?", near)
	}
	return said
}
