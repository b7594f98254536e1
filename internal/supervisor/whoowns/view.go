package whoowns

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/proxy/listener"
	"github.com/fairlead/fairlead/internal/proxy/route"
	"github.com/fairlead/fairlead/internal/xds"
)

// A view is what a proxy makes of its resources, as far as it was looked at.
type view struct {
	set    *translate.Set
	config *config.Config                // with the listeners, names and server names
	tables map[string]*config.RouteTable // that were needed
}

func see(set *translate.Set) (*view, error) {
	var d config.Delta
	for r := range set.WithPrefix(xds.ListenerType, "") {
		l, err := decode.Listener(r.Name, r.Body.GetValue())
		if err != nil {
			return nil, err
		}
		d.Listeners = append(d.Listeners, l)
	}
	for r := range set.WithPrefix(xds.ServerNameType, "") {
		n, err := decode.ServerName(r.Name, r.Body.GetValue())
		if err != nil {
			return nil, err
		}
		d.ServerNames = append(d.ServerNames, n)
	}
	for r := range set.WithPrefix(xds.NameType, "") {
		n, err := decode.Name(r.Name, r.Body.GetValue())
		if err != nil {
			return nil, err
		}
		d.Names = append(d.Names, n)
	}
	return &view{set: set, config: (*config.Config)(nil).Apply(d), tables: map[string]*config.RouteTable{}}, nil
}

func (v *view) has(typeURL, name string) bool {
	return v.set.Get(translate.Key{Type: typeURL, Name: name}) != nil
}

// ports returns those given and those on which there is a listener for any
// address, sorted.
func (v *view) ports(given map[uint16]bool) []uint16 {
	all := maps.Clone(given)
	for l := range v.config.Listeners() {
		for _, a := range l.Addresses {
			if l.Name != xds.VirtualOutbound && a.Addr().IsUnspecified() {
				all[a.Port()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// A caller is who connects: what it asks for in requests and handshakes, and the
// name under which DNS told it the address, if it has it from there.
type caller struct {
	to       netip.AddrPort
	asks     string
	resolved string
}

// An end is where a connection ends: in a cluster, which is empty if it is closed
// or refused. The record says why it is refused, or what of it is not declared.
type end struct {
	cluster string
	rec     decision.Record
}

// probe does as the proxy does with a connection of a kind, and fills its record
// as it does.
func (v *view) probe(c caller, kind string) (end, error) {
	e := end{rec: decision.Record{Original: c.to, Name: c.resolved, Protocol: decision.TCP}}
	l := v.config.ListenerFor(c.to)
	if l == nil {
		l = v.config.Listener(xds.VirtualOutbound)
	}
	if l == nil {
		return e, nil
	}
	meant := listener.Meant(v.config, c.to.Addr(), c.resolved)
	held := meant.Refuses(c.to)
	if held != nil && !held.RequestsPass {
		return e.held(meant, held), nil
	}
	facts := listener.Facts{Destination: c.to.Addr(), Transport: "raw_buffer"}
	switch {
	case kind == admin.TLS && l.InspectTLS:
		facts.Transport, e.rec.Protocol = "tls", decision.TLS
		if _, err := netip.ParseAddr(c.asks); err != nil {
			facts.ServerName, e.rec.SNI = c.asks, c.asks
		}
	case kind == admin.Requests && l.InspectHTTP:
		facts.Applications = []string{"http/1.1"}
	}
	chain := listener.Match(v.config, l, facts)
	switch {
	case chain == nil:
		return e, nil
	case held != nil && listener.Taken(chain):
		return e.held(meant, held), nil
	case chain.TCP != nil:
		if e.rec.SNI != "" {
			meant = v.config.Name(e.rec.SNI)
		}
		return e.in(chain.TCP.Cluster, meant), nil
	}
	e.rec.Protocol, e.rec.Authority = decision.HTTP11, []byte(c.asks)
	table := chain.HTTP.Inline
	if table == nil {
		var err error
		if table, err = v.table(chain.HTTP.RouteName); err != nil {
			return e, err
		}
	}
	_, r := route.Match(table, route.Request{Host: []byte(c.asks), Path: []byte("/")})
	switch {
	case r == nil:
		return e, nil
	case r.Direct != nil:
		return e.in(xds.BlackHoleCluster, v.config.Name(c.asks)), nil
	}
	return e.in(r.Cluster, v.config.Name(c.asks)), nil
}

// held ends a connection that means one host and would reach another.
func (e end) held(meant *config.Name, by *config.RefusedPort) end {
	e.rec = refusal(meant, by, e.rec)
	return e
}

// refusal is the record of a connection that is refused because its port is held.
func refusal(meant *config.Name, by *config.RefusedPort, r decision.Record) decision.Record {
	r.Reason, r.Entry, r.Holder, r.HolderEntry = decision.PortHeld, meant.Entry, by.Holder, by.Entry
	if r.Name == "" {
		r.Name = meant.Host
	}
	return r
}

// in ends a connection in a cluster. Where that is the policy's, the record tells
// what is declared of the host.
func (e end) in(cluster string, meant *config.Name) end {
	e.cluster = cluster
	if cluster != xds.BlackHoleCluster && cluster != xds.PassthroughCluster {
		return e
	}
	if meant != nil {
		e.rec.Declared = &meant.Declared
	}
	if cluster == xds.BlackHoleCluster {
		e.rec.Reason = decision.NotDeclared
	}
	return e
}

// table returns a route table with all its virtual hosts.
func (v *view) table(name string) (*config.RouteTable, error) {
	if t := v.tables[name]; t != nil {
		return t, nil
	}
	var hosts []*config.VirtualHost
	for r := range v.set.WithPrefix(xds.VirtualHostType, name+"/") {
		h, err := decode.VirtualHost(r.Name, r.Body.GetValue())
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h.VirtualHost)
	}
	v.tables[name] = config.NewRouteTable(name, hosts, nil)
	return v.tables[name], nil
}
