package ads

import (
	"cmp"
	"maps"
	"slices"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/xds"
)

// A stage holds changes on their way into one Delta; nil is a removal. What
// comes later takes the place of what came before.
type stage struct {
	clusters    map[string]*config.Cluster
	assignments map[string]*config.Assignment
	listeners   map[string]*config.Listener
	tables      map[string]*decode.Table
	hosts       map[config.HostedName]*config.VirtualHost
	names       map[string]*config.Name
	told        map[config.ServerNameKey]*config.ServerName
}

func newStage() stage {
	return stage{
		clusters:    make(map[string]*config.Cluster),
		assignments: make(map[string]*config.Assignment),
		listeners:   make(map[string]*config.Listener),
		tables:      make(map[string]*decode.Table),
		hosts:       make(map[config.HostedName]*config.VirtualHost),
		names:       make(map[string]*config.Name),
		told:        make(map[config.ServerNameKey]*config.ServerName),
	}
}

// add decodes a resource.
func (st *stage) add(typeURL, name string, raw []byte) error {
	switch typeURL {
	case xds.ClusterType:
		return keep(st.clusters, name, raw, decode.Cluster)
	case xds.EndpointType:
		return keep(st.assignments, name, raw, decode.Assignment)
	case xds.ListenerType:
		return keep(st.listeners, name, raw, decode.Listener)
	case xds.NameType:
		return keep(st.names, name, raw, decode.Name)
	case xds.ServerNameType:
		n, err := decode.ServerName(name, raw)
		if err == nil {
			st.told[n.Key()] = n
		}
		return err
	case xds.RouteType:
		t, err := decode.RouteTable(name, raw)
		st.tables[name] = &t
		return err
	}
	h, err := decode.VirtualHost(name, raw)
	st.hosts[h.HostedName] = h.VirtualHost
	return err
}

func keep[V any](m map[string]*V, name string, raw []byte, dec func(string, []byte) (*V, error)) error {
	v, err := dec(name, raw)
	if err == nil {
		m[name] = v
	}
	return err
}

func (st *stage) remove(typeURL, name string) {
	switch typeURL {
	case xds.ClusterType:
		st.clusters[name] = nil
	case xds.EndpointType:
		st.assignments[name] = nil
	case xds.ListenerType:
		st.listeners[name] = nil
	case xds.NameType:
		st.names[name] = nil
	case xds.ServerNameType:
		if port, host, ok := xds.SplitServerName(name); ok {
			st.told[config.ServerNameKey{Port: port, Host: host}] = nil
		}
	case xds.RouteType:
		st.tables[name] = nil
	case xds.VirtualHostType:
		if table, host, ok := xds.SplitVirtualHost(name); ok && host != "*" {
			st.hosts[config.HostedName{Table: table, Host: host}] = nil
		}
	}
}

func (st *stage) merge(later *stage) {
	maps.Copy(st.clusters, later.clusters)
	maps.Copy(st.assignments, later.assignments)
	maps.Copy(st.listeners, later.listeners)
	maps.Copy(st.tables, later.tables)
	maps.Copy(st.hosts, later.hosts)
	maps.Copy(st.names, later.names)
	maps.Copy(st.told, later.told)
}

func (st *stage) empty() bool {
	return len(st.clusters)+len(st.assignments)+len(st.listeners)+len(st.tables)+len(st.hosts)+len(st.names)+len(st.told) == 0
}

// delta returns the changes, each kind sorted by name.
func (st *stage) delta() config.Delta {
	var d config.Delta
	d.Clusters, d.RemovedClusters = split(st.clusters)
	d.Assignments, d.RemovedAssignments = split(st.assignments)
	d.Listeners, d.RemovedListeners = split(st.listeners)
	d.Names, d.RemovedNames = split(st.names)
	tables, gone := split(st.tables)
	d.RemovedTables = gone
	for _, t := range tables {
		d.Tables = append(d.Tables, t.RouteTable)
	}
	for _, k := range slices.SortedFunc(maps.Keys(st.told), config.ServerNameKey.Compare) {
		if n := st.told[k]; n != nil {
			d.ServerNames = append(d.ServerNames, n)
		} else {
			d.RemovedServerNames = append(d.RemovedServerNames, k)
		}
	}
	keys := slices.SortedFunc(maps.Keys(st.hosts), func(a, b config.HostedName) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Host, b.Host))
	})
	for _, k := range keys {
		if h := st.hosts[k]; h != nil {
			d.VirtualHosts = append(d.VirtualHosts, config.Hosted{HostedName: k, VirtualHost: h})
		} else {
			d.RemovedVirtualHosts = append(d.RemovedVirtualHosts, k)
		}
	}
	return d
}

func split[V any](m map[string]*V) (there []*V, gone []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if v := m[name]; v != nil {
			there = append(there, v)
		} else {
			gone = append(gone, name)
		}
	}
	return there, gone
}

// references counts who refers to what, and tells which things came into use
// and which fell out of it.
type references struct {
	by      map[string][]string // referrer -> things
	count   map[string]int
	touched map[string]bool // thing -> was in use before
}

func newReferences() references {
	return references{by: make(map[string][]string), count: make(map[string]int), touched: make(map[string]bool)}
}

// set records that referrer refers to things and nothing else.
func (r *references) set(referrer string, things []string) {
	old := r.by[referrer]
	if len(things) == 0 {
		delete(r.by, referrer)
	} else {
		r.by[referrer] = things
	}
	for _, t := range things {
		r.touch(t)
		r.count[t]++
	}
	for _, t := range old {
		r.touch(t)
		if r.count[t]--; r.count[t] == 0 {
			delete(r.count, t)
		}
	}
}

func (r *references) touch(thing string) {
	if _, ok := r.touched[thing]; !ok {
		r.touched[thing] = r.count[thing] > 0
	}
}

// changes returns what came into use and what fell out of it since the last
// call.
func (r *references) changes() (added, dropped []string) {
	for t, before := range r.touched {
		switch now := r.count[t] > 0; {
		case now && !before:
			added = append(added, t)
		case before && !now:
			dropped = append(dropped, t)
		}
	}
	clear(r.touched)
	return added, dropped
}
