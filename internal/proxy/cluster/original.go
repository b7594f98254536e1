package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// maxOriginals bounds the original destinations that one cluster remembers. To
// more than these, connections are made all the same but not kept.
const maxOriginals = 16384

// originals are the endpoints of an OriginalDst cluster: one for each address
// that was meant lately. The zero value is empty and ready.
type originals struct {
	mu     sync.Mutex
	byAddr map[netip.AddrPort]*Endpoint // guarded by mu
	closed bool                         // guarded by mu
}

// pickOriginal returns the endpoint that the caller meant, unless the entry does
// not let it be chosen: the record says why then.
func (c *Cluster) pickOriginal(original netip.AddrPort, rec *decision.Record) (*Endpoint, error) {
	rec.DNS, rec.DNSError, rec.Endpoints = decision.NotResolved, "", 0
	cfg := c.Config()
	port := original.Port()
	if override := cfg.PortOverride; override != 0 {
		port = override
	}
	ip := original.Addr().Unmap()
	if !ip.IsValid() || ip.IsUnspecified() || port == 0 {
		return nil, ErrNoEndpoint
	}
	name := ""
	current := c.set.config.Load()
	if n := current.VirtualName(ip); n != nil {
		// What nothing declares and comes to a virtual address means the host's own.
		var err error
		if ip, err = c.set.behind(n.Host, rec); err != nil {
			rec.Behind = &n.Declared
			if named(current, n, rec) {
				rec.Declared = &n.Declared
			}
			return nil, err
		}
		name = n.Host
	}
	if why := barred(cfg, ip); why != "" {
		rec.Err = why
		return nil, fmt.Errorf("%w: %s", ErrNoEndpoint, why)
	}
	e := c.originals.get(c, netip.AddrPortFrom(ip, port))
	rec.Endpoints, rec.Endpoint, rec.EndpointName = 1, e.key.addr, name
	return e, nil
}

// lookupTime bounds the wait for the address behind a virtual one.
const lookupTime = 5 * time.Second

// behind returns an address of the host that a virtual one stands for.
func (s *Set) behind(host string, rec *decision.Record) (netip.Addr, error) {
	//nolint:forbidigo // bounded here: a caller has nothing else to wait for
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	a := outward(s.resolver.Lookup(ctx, host))
	rec.DNS = a.State
	if a.Err != nil {
		rec.DNSError = a.Err.Error()
	}
	for _, ip := range a.Addrs {
		if s.routed(ip) {
			return ip.Unmap(), nil
		}
	}
	if len(a.Addrs) > 0 {
		return a.Addrs[0].Unmap(), nil
	}
	rec.Err = host + " has no address of its own"
	return netip.Addr{}, fmt.Errorf("%w: %s", ErrNoEndpoint, rec.Err)
}

// named reports whether what rec tells of names the host n, or none: by its Host or
// server name, which may be a short one or an address.
func named(c *config.Config, n *config.Name, rec *decision.Record) bool {
	said := rec.SNI
	if len(rec.Authority) > 0 {
		said = string(rec.Authority)
		if host, _, err := net.SplitHostPort(said); err == nil {
			said = host
		}
	}
	if said == "" {
		return true
	}
	if ip, err := netip.ParseAddr(strings.Trim(said, "[]")); err == nil {
		return slices.Contains(n.Addresses, ip.Unmap())
	}
	return c.Name(strings.TrimSuffix(strings.ToLower(said), ".")) == n
}

// get returns the endpoint of that address with one more request on it.
func (o *originals) get(c *Cluster, addr netip.AddrPort) *Endpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.byAddr[addr]
	if e == nil {
		e = &Endpoint{cluster: c, key: key{addr: addr}}
		if o.closed || len(o.byAddr) >= maxOriginals {
			e.close()
		} else {
			if o.byAddr == nil {
				o.byAddr = map[netip.AddrPort]*Endpoint{}
			}
			o.byAddr[addr] = e
		}
	}
	e.used = true
	e.active.Add(1) // under the lock: sweep must not drop it between
	return e
}

// sweep drops the endpoints that were not used since the last one, and appends
// the others to keep.
func (o *originals) sweep(keep []*Endpoint) []*Endpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	for addr, e := range o.byAddr {
		if !e.used && e.active.Load() == 0 {
			delete(o.byAddr, addr)
			e.close()
			continue
		}
		e.used = e.active.Load() > 0
		keep = append(keep, e)
	}
	return keep
}

func (o *originals) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, e := range o.byAddr {
		e.close()
	}
	o.byAddr = nil
}

func (o *originals) states() []State {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]State, 0, len(o.byAddr))
	for _, e := range o.byAddr {
		all = append(all, e.state(1))
	}
	slices.SortFunc(all, func(a, b State) int { return a.Addr.Compare(b.Addr) })
	return all
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
