package proxy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/xds"
)

// source answers what the admin server is asked.
func (p *proxy) source() admin.Source {
	return admin.Source{
		Config:   func(raw bool) (admin.Config, error) { return show(p.config.Load(), raw) },
		Clusters: func() []admin.ClusterState { return states(p.clusters) },
		Stats:    p.stats,
		Status:   p.status,
	}
}

func (p *proxy) stats() admin.Stats {
	return admin.Stats{
		Traffic:    admin.Traffic(p.log.Stats()),
		DNSRefused: p.dns.Refused(),
		DNSShed:    p.dns.Shed(),
		DNSIgnored: p.dns.Ignored() + p.resolver.Ignored(),
		Panics:     p.http.Panics() + p.clusters.Panics() + p.dns.Panics() + p.resolver.Panics(),

		ConnectionsOpen: p.listener.Open(),
		ConnectionLimit: p.o.MaxConnections,
		MemoryInUse:     p.guard.Used(),
		MemoryLimit:     p.guard.Limit(),
		MemoryRefused:   p.guard.Refused(),
		StreamsHeld:     p.account.Held(),
		StreamsLimit:    p.account.Limit(),
		Stalls:          p.stalls.Load(),
		StalledMs:       p.stalledMs.Load(),
		RetriesRefused:  p.clusters.RetriesRefused(),
	}
}

func (p *proxy) status() admin.Status {
	s := p.client.Status()
	return admin.Status{
		Ready:         p.ready.Load(),
		Workload:      p.o.Workload.Name,
		Namespace:     p.o.Workload.Namespace,
		Policy:        p.policy().String(),
		Started:       p.started,
		ConfigVersion: p.config.Load().Version(),
		ConfigTime:    s.Changed,
		Connected:     s.Connected,
		Awaited:       s.Awaited,
		Error:         s.Error,
	}
}

// show turns a configuration into what people and tools are shown.
func show(c *config.Config, raw bool) (admin.Config, error) {
	out := admin.Config{Version: c.Version()}
	if c == nil {
		return out, nil
	}
	r := rawer{want: raw}
	names := make(map[uint16][]admin.Chain)
	for n := range c.ServerNames() {
		x := chain(n.Chain, match(n.Chain.Match))
		x.Raw = r.json(xds.ServerNameType, xds.ServerNameResource(n.Port, n.Host), n.Raw)
		names[n.Port] = append(names[n.Port], x)
	}
	for l := range c.Listeners() {
		out.Listeners = append(out.Listeners, admin.Listener{
			Name: l.Name, Addresses: texts(l.Addresses), Chains: chains(l, names), Raw: r.json(xds.ListenerType, l.Name, l.Raw),
		})
	}
	for t := range c.RouteTables() {
		table := admin.RouteTable{Name: t.Name, Raw: r.json(xds.RouteType, t.Name, t.Raw)}
		for h := range t.VirtualHosts() {
			table.VirtualHosts = append(table.VirtualHosts, virtualHost(h, &r))
		}
		out.Routes = append(out.Routes, table)
	}
	for x := range c.Clusters() {
		out.Clusters = append(out.Clusters, admin.Cluster{
			Name: x.Name, Type: clusterTypes[x.Type], ConnectTimeout: x.ConnectTimeout.String(), Entry: ref(x.Entry),
			Raw: r.json(xds.ClusterType, x.Name, x.Raw),
		})
	}
	for a := range c.Assignments() {
		out.Endpoints = append(out.Endpoints, admin.Assignment{
			Name: a.Name, Endpoints: endpoints(a), Raw: r.json(xds.EndpointType, a.Name, a.Raw),
		})
	}
	for n := range c.Names() {
		out.Names = append(out.Names, admin.Name{
			Host: n.Host, Addresses: texts(n.Addresses), Entry: ref(n.Entry), Raw: r.json(xds.NameType, n.Host, n.Raw),
		})
	}
	return out, r.err
}

var clusterTypes = [...]string{
	config.EDS: "EDS", config.StrictDNS: "STRICT_DNS", config.LogicalDNS: "LOGICAL_DNS",
	config.OriginalDst: "ORIGINAL_DST", config.StaticSet: "STATIC",
}

// A rawer turns raw resources into JSON if that is wanted, and remembers the
// first that it could not.
type rawer struct {
	want bool
	err  error
}

func (r *rawer) json(typeURL, name string, raw []byte) json.RawMessage {
	if !r.want || r.err != nil || len(raw) == 0 {
		return nil
	}
	b, err := decode.JSON(typeURL, raw)
	if err != nil {
		r.err = fmt.Errorf("show %s %s: %w", xds.ShortType(typeURL), name, err)
	}
	return b
}

// chains are those of a listener, with the server names by port that it looks up.
func chains(l *config.Listener, names map[uint16][]admin.Chain) []admin.Chain {
	out := make([]admin.Chain, 0, len(l.Chains)+1)
	for _, c := range l.Chains {
		m := c.Match
		if !l.InspectTLS && m.Transport == "raw_buffer" {
			m.Transport = "" // so is TLS where nobody looks for it
		}
		out = append(out, chain(c, match(m)))
	}
	if l.ServerNames {
		out = append(out, names[l.Port()]...)
	}
	if l.Default != nil {
		out = append(out, chain(l.Default, "otherwise"))
	}
	return out
}

func chain(c *config.FilterChain, match string) admin.Chain {
	out := admin.Chain{Name: c.Name, Match: match}
	switch {
	case c.TCP != nil:
		out.Destination, out.Entry = "Cluster: "+c.TCP.Cluster, ref(c.TCP.Entry)
	case c.HTTP != nil && c.HTTP.Inline != nil:
		out.Destination = "Inline Route: " + c.HTTP.Inline.Name
	case c.HTTP != nil:
		out.Destination = "Route: " + c.HTTP.RouteName
	}
	return out
}

// match is what a chain asks for in istioctl's words.
func match(m config.Match) string {
	var parts []string
	if len(m.ServerNames) > 0 {
		parts = append(parts, "SNI: "+strings.Join(m.ServerNames, ","))
	}
	if m.Transport != "" {
		parts = append(parts, "Trans: "+m.Transport)
	}
	if len(m.Applications) > 0 {
		parts = append(parts, "App: "+strings.Join(m.Applications, ","))
	}
	if len(m.Prefixes) > 0 {
		parts = append(parts, "Addr: "+strings.Join(texts(m.Prefixes), ","))
	}
	if len(parts) == 0 {
		return "ALL"
	}
	return strings.Join(parts, "; ")
}

func virtualHost(h *config.VirtualHost, r *rawer) admin.VirtualHost {
	out := admin.VirtualHost{Name: h.Name, Domains: h.Domains, Entry: ref(h.Entry), Raw: r.json(xds.VirtualHostType, h.Name, h.Raw)}
	for _, route := range h.Routes {
		to := route.Cluster
		if route.Direct != nil {
			to = strconv.Itoa(route.Direct.Status) + " direct response"
		}
		out.Routes = append(out.Routes, admin.Route{Name: route.Name, Match: route.Prefix + "*", Destination: to})
	}
	return out
}

func endpoints(a *config.Assignment) []string {
	out := make([]string, 0, len(a.Endpoints))
	for _, e := range a.Endpoints {
		out = append(out, endpoint(e))
	}
	return out
}

func endpoint(e config.Endpoint) string {
	ip, err := netip.ParseAddr(e.Host)
	switch {
	case err == nil:
		return netip.AddrPortFrom(ip, e.Port).String()
	case e.Port == 0:
		return "unix://" + e.Host
	}
	return e.Host + ":" + strconv.Itoa(int(e.Port))
}

// states are the clusters as they are now.
func states(set *cluster.Set) []admin.ClusterState {
	out := []admin.ClusterState{}
	for c := range set.Clusters() {
		cfg := c.Config()
		s := admin.ClusterState{Name: cfg.Name, Entry: ref(cfg.Entry), Endpoints: []admin.EndpointState{}}
		state, failure := c.DNS()
		if state != decision.NotResolved {
			s.DNS, s.DNSError = state.String(), failure
		}
		for _, e := range c.Endpoints() {
			at := e.Name
			name := ""
			if e.Addr.IsValid() {
				at, name = e.Addr.String(), e.Name
			}
			s.Endpoints = append(s.Endpoints, admin.EndpointState{Address: at, Name: name, Weight: e.Weight, Active: e.Active, Idle: e.Idle})
		}
		out = append(out, s)
	}
	return out
}

func ref(r mesh.Ref) *admin.Ref {
	if r == (mesh.Ref{}) {
		return nil
	}
	out := &admin.Ref{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	if r.File != "" {
		out.Place = string(r.AppendPlace(nil))
	}
	return out
}

func texts[T fmt.Stringer](all []T) []string {
	out := make([]string, 0, len(all))
	for _, x := range all {
		out = append(out, x.String())
	}
	return out
}
