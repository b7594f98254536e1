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

// Match returns the chain for a connection, or nil if it has to be closed. Each
// property in turn narrows the choice to the most specific chains, and there is
// no way back: a chain for the exact address that wants another server name
// sends the connection to the default chain, not to a chain for any address.
// The order is Envoy's: destination, server name, transport, applications.
func Match(l *config.Listener, f Facts) *config.FilterChain {
	var best *config.FilterChain
	var bestRank rank
	for _, c := range l.Chains {
		r := rankOf(&c.Match, &f)
		if best == nil || r.moreSpecific(bestRank) {
			best, bestRank = c, r
		}
	}
	if best == nil || !bestRank.matches() {
		return l.Default
	}
	return best
}

// A rank is how specific a chain is for a connection, by property in the order
// of their weight. Zero: the chain does not ask; negative: it asks for another.
type rank [4]int

const otherwise = -1

func (r rank) moreSpecific(than rank) bool {
	for i := range r {
		if r[i] != than[i] {
			return r[i] > than[i]
		}
	}
	return false // of two alike the first stays
}

func (r rank) matches() bool {
	for _, x := range r {
		if x < 0 {
			return false
		}
	}
	return true
}

func rankOf(m *config.Match, f *Facts) rank {
	return rank{
		rankPrefixes(m.Prefixes, f.Destination),
		rankNames(m.ServerNames, f.ServerName),
		rankTransport(m.Transport, f.Transport),
		rankApplications(m.Applications, f.Applications),
	}
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
	best := otherwise
	for _, n := range all {
		suffix, wild := strings.CutPrefix(n, "*")
		switch {
		case !wild && n == name && name != "":
			return math.MaxInt
		case wild && len(name) > len(suffix) && strings.HasSuffix(name, suffix):
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
