package config

import (
	"iter"
	"slices"
	"strings"
	"unsafe"

	"github.com/benbjohnson/immutable"
)

// A RouteTable finds the virtual host of an authority. It is immutable and safe
// for concurrent use; adding or removing one virtual host costs the same
// whatever the size of the table.
type RouteTable struct {
	Name string
	Raw  []byte

	domains *immutable.Map[string, *VirtualHost]   // by exact domain, and "*"
	wild    *immutable.Map[string, *VirtualHost]   // by what stands behind the star
	rivals  *immutable.Map[string, []*VirtualHost] // who else wants a domain, in order of arrival
	lengths lengths                                // of the keys of wild
	own     []*VirtualHost                         // came with the table itself
	hosted  *immutable.Map[string, *VirtualHost]   // delivered one by one, by resource host
}

// NewRouteTable makes a table of the given virtual hosts. Where two claim one
// domain the first keeps it.
func NewRouteTable(name string, hosts []*VirtualHost, raw []byte) *RouteTable {
	t := &RouteTable{
		Name:    name,
		Raw:     raw,
		domains: immutable.NewMap[string, *VirtualHost](nil),
		wild:    immutable.NewMap[string, *VirtualHost](nil),
		rivals:  immutable.NewMap[string, []*VirtualHost](nil),
		own:     hosts,
		hosted:  immutable.NewMap[string, *VirtualHost](nil),
	}
	for _, h := range hosts {
		t.claim(h)
	}
	return t
}

// Lookup returns the virtual host for host (lower case, without port), or nil:
// exact domain, else longest suffix wildcard, else "*". It does not allocate.
func (t *RouteTable) Lookup(host string) *VirtualHost {
	if h, ok := t.domains.Get(host); ok {
		return h
	}
	for _, l := range t.lengths {
		// The wildcard never stands for the empty string: *.x does not match .x
		if l.n >= len(host) {
			continue
		}
		if h, ok := t.wild.Get(host[len(host)-l.n:]); ok {
			return h
		}
	}
	h, _ := t.domains.Get("*")
	return h
}

// LookupBytes is Lookup for a host that still lies in a buffer. It keeps
// nothing of host and does not allocate.
func (t *RouteTable) LookupBytes(host []byte) *VirtualHost {
	// The string lives no longer than this call and nobody writes to host
	// meanwhile, so it may share the bytes.
	return t.Lookup(unsafe.String(unsafe.SliceData(host), len(host)))
}

// VirtualHosts yields every virtual host: the table's own, then those delivered
// one by one, by name.
func (t *RouteTable) VirtualHosts() iter.Seq[*VirtualHost] {
	return func(yield func(*VirtualHost) bool) {
		for _, h := range t.own {
			if !yield(h) {
				return
			}
		}
		for h := range sorted(t.hosted) {
			if !yield(h) {
				return
			}
		}
	}
}

// with returns the table with h in place of what was delivered under host.
func (t *RouteTable) with(host string, h *VirtualHost) *RouteTable {
	next := *t.without(host)
	next.hosted = next.hosted.Set(host, h)
	next.claim(h)
	return &next
}

// without returns the table without what was delivered under host.
func (t *RouteTable) without(host string) *RouteTable {
	next := *t
	old, ok := next.hosted.Get(host)
	if !ok {
		return &next
	}
	next.hosted = next.hosted.Delete(host)
	for _, d := range old.Domains {
		if owner, ok := next.owner(d); ok && owner == old {
			next.release(d)
		} else {
			next.withdraw(d, old)
		}
	}
	return &next
}

// adopt returns t with the virtual hosts that old was given one by one.
func (t *RouteTable) adopt(old *RouteTable) *RouteTable {
	next := *t
	next.hosted = old.hosted
	for h := range sorted(old.hosted) {
		next.claim(h)
	}
	return &next
}

func (t *RouteTable) owner(domain string) (*VirtualHost, bool) {
	if suffix, ok := wildcard(domain); ok {
		return t.wild.Get(suffix)
	}
	return t.domains.Get(domain)
}

func (t *RouteTable) claim(h *VirtualHost) {
	for _, d := range h.Domains {
		owner, taken := t.owner(d)
		switch {
		case !taken:
			t.give(d, h)
			if suffix, ok := wildcard(d); ok {
				t.lengths = t.lengths.with(len(suffix), +1)
			}
		case owner != h:
			waiting, _ := t.rivals.Get(d)
			t.rivals = t.rivals.Set(d, append(slices.Clip(waiting), h))
		}
	}
}

func (t *RouteTable) give(domain string, h *VirtualHost) {
	if suffix, ok := wildcard(domain); ok {
		t.wild = t.wild.Set(suffix, h)
		return
	}
	t.domains = t.domains.Set(domain, h)
}

// release takes a domain from its owner and gives it to who waited longest.
func (t *RouteTable) release(domain string) {
	if waiting, _ := t.rivals.Get(domain); len(waiting) > 0 {
		t.give(domain, waiting[0])
		t.withdraw(domain, waiting[0])
		return
	}
	if suffix, ok := wildcard(domain); ok {
		t.wild = t.wild.Delete(suffix)
		t.lengths = t.lengths.with(len(suffix), -1)
		return
	}
	t.domains = t.domains.Delete(domain)
}

// withdraw ends h's wait for a domain.
func (t *RouteTable) withdraw(domain string, h *VirtualHost) {
	waiting, _ := t.rivals.Get(domain)
	i := slices.Index(waiting, h)
	switch {
	case i < 0:
	case len(waiting) == 1:
		t.rivals = t.rivals.Delete(domain)
	default:
		t.rivals = t.rivals.Set(domain, slices.Concat(waiting[:i], waiting[i+1:]))
	}
}

// lengths are how many suffixes of each length there are, longest first: what a
// lookup has to try. They are immutable.
type lengths []struct{ n, count int }

// with returns the lengths with by more suffixes of n bytes.
func (l lengths) with(n, by int) lengths {
	i, found := slices.BinarySearchFunc(l, n, func(x struct{ n, count int }, n int) int { return n - x.n })
	next := slices.Clone(l)
	if !found {
		next = slices.Insert(next, i, struct{ n, count int }{n, 0})
	}
	if next[i].count += by; next[i].count == 0 {
		next = slices.Delete(next, i, i+1)
	}
	return next
}

// wildcard returns what a wildcard domain must end with. The lone "*" is none.
func wildcard(domain string) (suffix string, ok bool) {
	suffix, ok = strings.CutPrefix(domain, "*")
	return suffix, ok && suffix != ""
}
