package config

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/benbjohnson/immutable"
)

// A Config is one consistent state. The zero Config and a nil *Config know
// nothing. It is safe for concurrent use: nothing in it changes.
type Config struct {
	version   uint64
	listeners *immutable.Map[string, *Listener]
	byAddress *immutable.Map[netip.AddrPort, *Listener]
	tables    *immutable.Map[string, *RouteTable]
	clusters  *immutable.Map[string, *Cluster]
	endpoints *immutable.Map[string, *Assignment]
	names     *immutable.Map[string, *Name]
	wild      *immutable.Map[string, *Name] // those with a star, by what stands behind it
	wildNames lengths                       // of the keys of wild
	short     *immutable.Map[string, *Name] // by their short names
	virtual   *immutable.Map[netip.Addr, *Name]
	told      serverNames
}

// A Delta is what one message of the control plane changes. Within a type,
// removals are applied before additions.
type Delta struct {
	Clusters            []*Cluster
	RemovedClusters     []string
	Assignments         []*Assignment
	RemovedAssignments  []string
	Listeners           []*Listener
	RemovedListeners    []string
	Tables              []*RouteTable // replaces a table's own virtual hosts, keeps those delivered one by one
	RemovedTables       []string
	VirtualHosts        []Hosted
	RemovedVirtualHosts []HostedName
	Names               []*Name
	RemovedNames        []string
	ServerNames         []*ServerName
	RemovedServerNames  []ServerNameKey
}

// A HostedName says which virtual host of which table, as VHDS names it.
type HostedName struct{ Table, Host string }

// Hosted is a virtual host delivered one by one.
type Hosted struct {
	HostedName
	VirtualHost *VirtualHost
}

// Apply returns the state after d. The receiver, which may be nil, is as it was.
func (c *Config) Apply(d Delta) *Config {
	next := Config{}
	if c != nil {
		next = *c
	}
	next.version++
	next.clusters = change(next.clusters, d.RemovedClusters, d.Clusters, func(x *Cluster) string { return x.Name })
	next.endpoints = change(next.endpoints, d.RemovedAssignments, d.Assignments, func(x *Assignment) string { return x.Name })
	next.applyNames(d)
	next.told = next.told.apply(d)
	next.applyListeners(d)
	next.applyTables(d)
	return &next
}

func (c *Config) applyListeners(d Delta) {
	if c.byAddress == nil {
		c.byAddress = immutable.NewMap[netip.AddrPort, *Listener](addrPortHasher{})
	}
	forget := func(name string) {
		if old, ok := get(c.listeners, name); ok {
			for _, a := range old.Addresses {
				if l, ok := c.byAddress.Get(a); ok && l == old {
					c.byAddress = c.byAddress.Delete(a)
				}
			}
		}
	}
	for _, name := range d.RemovedListeners {
		forget(name)
	}
	for _, l := range d.Listeners {
		forget(l.Name)
		for _, a := range l.Addresses {
			c.byAddress = c.byAddress.Set(a, l)
		}
	}
	c.listeners = change(c.listeners, d.RemovedListeners, d.Listeners, func(x *Listener) string { return x.Name })
}

// forgetVirtual takes a host's virtual addresses back.
func (c *Config) forgetVirtual(host string) {
	old, ok := get(c.names, host)
	if !ok || !old.Virtual {
		return
	}
	for _, a := range old.Addresses {
		if n, ok := c.virtual.Get(a); ok && n == old {
			c.virtual = c.virtual.Delete(a)
		}
	}
}

func (c *Config) addShort(n *Name) {
	for _, short := range n.Short {
		c.short = change(c.short, nil, []*Name{n}, func(*Name) string { return short })
	}
}

// forgetShort takes a host's short names back.
func (c *Config) forgetShort(host string) {
	old, ok := get(c.names, host)
	if !ok {
		return
	}
	for _, short := range old.Short {
		if n, ok := get(c.short, short); ok && n == old {
			c.short = c.short.Delete(short)
		}
	}
}

func (c *Config) addWild(n *Name) {
	suffix, ok := wildcard(n.Host)
	if !ok {
		return
	}
	if c.wild == nil {
		c.wild = immutable.NewMap[string, *Name](nil)
	}
	c.wild = c.wild.Set(suffix, n)
	c.wildNames = c.wildNames.with(len(suffix), +1)
}

func (c *Config) forgetWild(host string) {
	suffix, ok := wildcard(host)
	if _, had := get(c.names, host); !ok || !had {
		return
	}
	c.wild = c.wild.Delete(suffix)
	c.wildNames = c.wildNames.with(len(suffix), -1)
}

func (c *Config) applyNames(d Delta) {
	name := func(x *Name) string { return x.Host }
	for _, host := range d.RemovedNames {
		c.forgetWild(host)
		c.forgetShort(host)
		c.forgetVirtual(host)
		c.names = change(c.names, []string{host}, nil, name)
	}
	for _, n := range d.Names {
		c.forgetWild(n.Host)
		c.forgetShort(n.Host)
		c.forgetVirtual(n.Host)
		c.names = change(c.names, nil, []*Name{n}, name)
		c.addWild(n)
		c.addShort(n)
		if !n.Virtual {
			continue
		}
		if c.virtual == nil {
			c.virtual = immutable.NewMap[netip.Addr, *Name](addrHasher{})
		}
		for _, a := range n.Addresses {
			c.virtual = c.virtual.Set(a, n)
		}
	}
}

func (c *Config) applyTables(d Delta) {
	if c.tables == nil {
		c.tables = immutable.NewMap[string, *RouteTable](nil)
	}
	for _, name := range d.RemovedTables {
		c.tables = c.tables.Delete(name)
	}
	for _, t := range d.Tables {
		if old, ok := c.tables.Get(t.Name); ok {
			t = t.adopt(old)
		}
		c.tables = c.tables.Set(t.Name, t)
	}
	for _, h := range d.RemovedVirtualHosts {
		if t, ok := c.tables.Get(h.Table); ok {
			c.tables = c.tables.Set(h.Table, t.without(h.Host))
		}
	}
	for _, h := range d.VirtualHosts {
		t, ok := c.tables.Get(h.Table)
		if !ok {
			t = NewRouteTable(h.Table, nil, nil)
		}
		c.tables = c.tables.Set(h.Table, t.with(h.Host, h.VirtualHost))
	}
}

// change applies removals and then additions to a map that may be nil.
func change[V any](m *immutable.Map[string, V], removed []string, added []V, key func(V) string) *immutable.Map[string, V] {
	if m == nil {
		m = immutable.NewMap[string, V](nil)
	}
	for _, k := range removed {
		m = m.Delete(k)
	}
	for _, v := range added {
		m = m.Set(key(v), v)
	}
	return m
}

func get[V any](m *immutable.Map[string, V], key string) (v V, ok bool) {
	if m == nil {
		return v, false
	}
	return m.Get(key)
}

// sorted yields the values of m in the order of their keys.
func sorted[V any](m *immutable.Map[string, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		if m == nil {
			return
		}
		type pair struct {
			key string
			v   V
		}
		all := make([]pair, 0, m.Len())
		for it := m.Iterator(); !it.Done(); {
			k, v, _ := it.Next()
			all = append(all, pair{k, v})
		}
		slices.SortFunc(all, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
		for _, p := range all {
			if !yield(p.v) {
				return
			}
		}
	}
}

// or is c, or what knows nothing if c is nil.
func (c *Config) or() *Config {
	if c == nil {
		return &Config{}
	}
	return c
}

// Version counts the changes applied since the proxy started.
func (c *Config) Version() uint64 {
	if c == nil {
		return 0
	}
	return c.version
}

// Cluster returns the cluster of that name, or nil.
func (c *Config) Cluster(name string) *Cluster { v, _ := get(c.or().clusters, name); return v }

// Assignment returns the endpoints of that name, or nil if none arrived.
func (c *Config) Assignment(name string) *Assignment { v, _ := get(c.or().endpoints, name); return v }

// Listener returns the listener of that name, or nil.
func (c *Config) Listener(name string) *Listener { v, _ := get(c.or().listeners, name); return v }

// RouteTable returns the table of that name, or nil.
func (c *Config) RouteTable(name string) *RouteTable { v, _ := get(c.or().tables, name); return v }

// ListenerFor returns the listener for a connection to dst: the one of exactly
// that address and port, else the one of any address and the port, else nil.
func (c *Config) ListenerFor(dst netip.AddrPort) *Listener {
	if c == nil || c.byAddress == nil {
		return nil
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if l, ok := c.byAddress.Get(dst); ok {
		return l
	}
	unspecified := netip.IPv4Unspecified()
	if dst.Addr().Is6() {
		unspecified = netip.IPv6Unspecified()
	}
	l, _ := c.byAddress.Get(netip.AddrPortFrom(unspecified, dst.Port()))
	return l
}

// Name returns the declared name that host falls under: itself, else the one that
// it is short for, else the longest wildcard, else nil: as routes have it. Host is lower case without a trailing dot. It does
// not allocate.
func (c *Config) Name(host string) *Name {
	c = c.or()
	if n, ok := get(c.names, host); ok {
		return n
	}
	if n, ok := get(c.short, host); ok {
		return n
	}
	for _, l := range c.wildNames {
		if l.n >= len(host) {
			continue // the star stands for something
		}
		if n, ok := c.wild.Get(host[len(host)-l.n:]); ok {
			return n
		}
	}
	return nil
}

// Clusters yields the clusters sorted by name; so do its siblings.
func (c *Config) Clusters() iter.Seq[*Cluster] { return sorted(c.or().clusters) }

// Assignments yields the endpoint lists.
func (c *Config) Assignments() iter.Seq[*Assignment] { return sorted(c.or().endpoints) }

// Listeners yields the listeners.
func (c *Config) Listeners() iter.Seq[*Listener] { return sorted(c.or().listeners) }

// RouteTables yields the route tables.
func (c *Config) RouteTables() iter.Seq[*RouteTable] { return sorted(c.or().tables) }

// VirtualName returns the host that a virtual address stands for, or nil.
func (c *Config) VirtualName(a netip.Addr) *Name {
	if c == nil || c.virtual == nil {
		return nil
	}
	n, _ := c.virtual.Get(a.Unmap())
	return n
}

// Names yields the declared names.
func (c *Config) Names() iter.Seq[*Name] { return sorted(c.or().names) }

// addrHasher lets an Addr be the key of an immutable map.
type addrHasher struct{}

func (addrHasher) Hash(a netip.Addr) uint32 { return addrPortHasher{}.Hash(netip.AddrPortFrom(a, 0)) }

func (addrHasher) Equal(a, b netip.Addr) bool { return a == b }

// addrPortHasher lets an AddrPort be the key of an immutable map.
type addrPortHasher struct{}

func (addrPortHasher) Hash(a netip.AddrPort) uint32 {
	b := a.Addr().As16()
	h := uint32(2166136261)
	for _, x := range b {
		h = (h ^ uint32(x)) * 16777619
	}
	h = (h ^ uint32(a.Port()&0xff)) * 16777619
	return (h ^ uint32(a.Port()>>8)) * 16777619
}

func (addrPortHasher) Equal(a, b netip.AddrPort) bool { return a == b }
