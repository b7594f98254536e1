package config

import (
	"iter"
	"maps"
	"slices"

	"github.com/benbjohnson/immutable"
)

// serverNames find the chain for what a ClientHello says, at the same cost
// whatever their number. They are immutable.
type serverNames struct {
	// found holds them by port and name, those with a star by what stands behind
	// it, dot included: no host begins with a dot.
	found *immutable.Map[ServerNameKey, *ServerName]
	wild  map[uint16]lengths // of the names with a star, by port
}

// at is where a server name is found.
func (k ServerNameKey) at() (at ServerNameKey, wild bool) {
	if suffix, ok := wildcard(k.Host); ok {
		return ServerNameKey{k.Port, suffix}, true
	}
	return k, false
}

func (s serverNames) apply(d Delta) serverNames {
	if s.found == nil {
		s.found = immutable.NewMap[ServerNameKey, *ServerName](serverNameHasher{})
	}
	for _, k := range d.RemovedServerNames {
		at, wild := k.at()
		if _, had := s.found.Get(at); !had {
			continue
		}
		s.found = s.found.Delete(at)
		if wild {
			s = s.count(at, -1)
		}
	}
	for _, n := range d.ServerNames {
		at, wild := n.Key().at()
		if _, had := s.found.Get(at); wild && !had {
			s = s.count(at, +1)
		}
		s.found = s.found.Set(at, n)
	}
	return s
}

// count notes that there is one more, or less, wildcard. There are as many ports
// with some as the mesh has numbers for TLS.
func (s serverNames) count(at ServerNameKey, by int) serverNames {
	next := make(map[uint16]lengths, len(s.wild)+1)
	maps.Copy(next, s.wild)
	if next[at.Port] = next[at.Port].with(len(at.Host), by); len(next[at.Port]) == 0 {
		delete(next, at.Port)
	}
	s.wild = next
	return s
}

// ServerName returns the server name of a port that name (lower case) falls under:
// itself, else the longest wildcard, else nil. It does not allocate.
func (c *Config) ServerName(port uint16, name string) *ServerName {
	if c == nil || c.told.found == nil || name == "" {
		return nil
	}
	if name[0] != '.' {
		if n, ok := c.told.found.Get(ServerNameKey{port, name}); ok {
			return n
		}
	}
	for _, l := range c.told.wild[port] {
		if l.n >= len(name) {
			continue // the star stands for something
		}
		if n, ok := c.told.found.Get(ServerNameKey{port, name[len(name)-l.n:]}); ok {
			return n
		}
	}
	return nil
}

// ServerNames yields all of them, by port and host.
func (c *Config) ServerNames() iter.Seq[*ServerName] {
	var all []*ServerName
	if c != nil && c.told.found != nil {
		all = make([]*ServerName, 0, c.told.found.Len())
		for it := c.told.found.Iterator(); !it.Done(); {
			_, n, _ := it.Next()
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *ServerName) int { return a.Key().Compare(b.Key()) })
	return slices.Values(all)
}

// serverNameHasher lets a ServerNameKey be the key of an immutable map.
type serverNameHasher struct{}

func (serverNameHasher) Hash(k ServerNameKey) uint32 {
	h := uint32(2166136261)
	h = (h ^ uint32(k.Port&0xff)) * 16777619
	h = (h ^ uint32(k.Port>>8)) * 16777619
	for i := range len(k.Host) {
		h = (h ^ uint32(k.Host[i])) * 16777619
	}
	return h
}

func (serverNameHasher) Equal(a, b ServerNameKey) bool { return a == b }
