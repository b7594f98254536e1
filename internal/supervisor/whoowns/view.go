package whoowns

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/proxy/listener"
	"github.com/fairlead/fairlead/internal/proxy/route"
	"github.com/fairlead/fairlead/internal/xds"
)

// A view is what a proxy makes of its resources, as far as it was looked at.
type view struct {
	set    *translate.Set
	config *config.Config                // with the listeners and server names
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

// probe returns the cluster in which a connection ends; empty if it is closed.
func (v *view) probe(to netip.AddrPort, kind, name string) (string, error) {
	l := v.config.ListenerFor(to)
	if l == nil {
		l = v.config.Listener(xds.VirtualOutbound)
	}
	if l == nil {
		return "", nil
	}
	facts := listener.Facts{Destination: to.Addr(), Transport: "raw_buffer"}
	switch {
	case kind == admin.TLS && l.InspectTLS:
		facts.Transport = "tls"
		if _, err := netip.ParseAddr(name); err != nil {
			facts.ServerName = name
		}
	case kind == admin.Requests && l.InspectHTTP:
		facts.Applications = []string{"http/1.1"}
	}
	chain := listener.Match(v.config, l, facts)
	switch {
	case chain == nil:
		return "", nil
	case chain.TCP != nil:
		return chain.TCP.Cluster, nil
	}
	table := chain.HTTP.Inline
	if table == nil {
		var err error
		if table, err = v.table(chain.HTTP.RouteName); err != nil {
			return "", err
		}
	}
	_, r := route.Match(table, route.Request{Host: []byte(name), Path: []byte("/")})
	switch {
	case r == nil:
		return "", nil
	case r.Direct != nil:
		return xds.BlackHoleCluster, nil
	}
	return r.Cluster, nil
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
