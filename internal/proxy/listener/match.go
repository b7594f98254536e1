package listener

import (
	"math"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// Transports, as chains spell them.
const (
	transportTLS = "tls"
	transportRaw = "raw_buffer"
)

// Facts are what a chain may ask about a connection.
type Facts struct {
	Destination  netip.Addr // IPv4 unmapped
	ServerName   string     // lower case; empty: none was told
	Transport    string     // transportTLS or transportRaw
	Applications []string   // by preference
}

// Match returns the chain of l for a connection, or nil if it has to be closed. Each
// property in turn narrows the choice to the most specific chains, and there is
// no way back: a chain for the exact address that wants another server name
// sends the connection to the default chain, not to a chain for any address.
// The order is Envoy's: destination, server name, transport, applications.
//
// Where l looks server names up, the best one that c has for its port stands for
// all of them: they differ by name alone. c may be nil if no name was told.
func Match(c *config.Config, l *config.Listener, f Facts) *config.FilterChain {
	var b best
	for _, x := range l.Chains {
		b.consider(x, &f)
	}
	if l.ServerNames && f.ServerName != "" {
		if n := c.ServerName(l.Port(), f.ServerName); n != nil {
			b.consider(n.Chain, &f)
		}
	}
	if b.chain == nil || !b.rank.matches() {
		return l.Default
	}
	return b.chain
}

// A best is the most specific of the chains considered.
type best struct {
	chain *config.FilterChain
	rank  rank
}

// consider takes a chain if it is more specific; of two alike the first stays.
func (b *best) consider(c *config.FilterChain, f *Facts) {
	var r rank
	better := b.chain == nil
	for i := range r {
		r[i] = property(i, &c.Match, f)
		if better {
			continue
		}
		if r[i] < b.rank[i] {
			return
		}
		better = r[i] > b.rank[i]
	}
	if better {
		b.chain, b.rank = c, r
	}
}

// A rank is how specific a chain is for a connection, by property. Zero: the
// chain does not ask; negative: it asks for another.
type rank [4]int

const otherwise = -1

func (r rank) matches() bool {
	for _, x := range r {
		if x < 0 {
			return false
		}
	}
	return true
}

// property ranks a chain by the i-th property, in the order of their weight.
func property(i int, m *config.Match, f *Facts) int {
	switch i {
	case 0:
		return rankPrefixes(m.Prefixes, f.Destination)
	case 1:
		return rankNames(m.ServerNames, f.ServerName)
	case 2:
		return rankTransport(m.Transport, f.Transport)
	}
	return rankApplications(m.Applications, f.Applications)
}

func rankPrefixes(all []netip.Prefix, a netip.Addr) int {
	if len(all) == 0 {
		return 0
	}
	best := otherwise
	for _, p := range all {
		if p.Contains(a) {
			best = max(best, 1+p.Bits())
		}
	}
	return best
}

func rankNames(all []string, name string) int {
	if len(all) == 0 {
		return 0
	}
	if name == "" {
		return otherwise
	}
	best := otherwise
	for _, n := range all {
		if n == name {
			return math.MaxInt
		}
		suffix, wild := strings.CutPrefix(n, "*")
		if wild && len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
			best = max(best, 1+len(suffix))
		}
	}
	return best
}

func rankTransport(want, got string) int {
	switch want {
	case "":
		return 0
	case got:
		return 1
	}
	return otherwise
}

func rankApplications(want, got []string) int {
	if len(want) == 0 {
		return 0
	}
	for i, g := range got {
		for _, w := range want {
			if g == w {
				return len(got) - i
			}
		}
	}
	return otherwise
}
