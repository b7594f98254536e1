package listener

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

const (
	// refusal bounds the silence of a caller where every outcome is a refusal: one
	// that waits for the server to speak first has to be told, too.
	refusal = time.Second
	// hush is how long a caller is left alone, where configuration does not say,
	// before its server is asked whether it speaks first.
	hush = 100 * time.Millisecond
)

// A Silence is what comes of a caller who says nothing.
type Silence struct {
	// Waits says that its first bytes are waited for, as the chain depends on
	// them. Otherwise the rest is zero, and the caller has its chain at once.
	Waits bool
	// Patience is how long it may be silent; 0: no limit that matters.
	Patience time.Duration
	// Ask is the chain whose server is connected then, and heard if it is the first
	// to speak. Nil: the caller is taken for one of bytes, which are refused.
	Ask *config.FilterChain
}

// Silent tells what comes of silence on a connection to dst. closed says that what
// is not declared is refused; held that bytes are, whatever their chain, as another
// host holds them. A server is asked only where the bytes may go there: nothing is
// connected that the caller could not have reached by a word.
func Silent(l *config.Listener, dst netip.Addr, closed, held bool) Silence {
	if !asks(l, dst) {
		return Silence{}
	}
	if closed && l.Name == xds.VirtualOutbound {
		return Silence{Waits: true, Patience: min(cmp.Or(l.InspectTimeout, refusal), refusal)}
	}
	chain := Match(nil, l, factsOf(dst, finding{}))
	if chain == nil || chain.TCP == nil || chain.TCP.Cluster == xds.BlackHoleCluster || held && Taken(chain) {
		return Silence{Waits: true, Patience: l.InspectTimeout}
	}
	return Silence{Waits: true, Patience: cmp.Or(l.InspectTimeout, hush), Ask: chain}
}

// asks reports whether the chain for a destination depends on what its caller
// says. Chains for the destination alone are not held up by others that only
// share their listener.
func asks(l *config.Listener, dst netip.Addr) bool {
	if !l.InspectTLS && !l.InspectHTTP {
		return false
	}
	best, asked := 0, l.ServerNames
	for _, c := range l.Chains {
		m := &c.Match
		r := rankPrefixes(m.Prefixes, dst)
		if r < best {
			continue
		}
		asks := len(m.ServerNames) > 0 || m.Transport != "" || len(m.Applications) > 0
		asked = asks || asked && r == best
		best = r
	}
	return asked
}
