// Package resolve is the proxy's own resolver.
package resolve

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// STUB: owned by the DNS helper; signatures are the contract.

// An Answer is what is known of a name.
type Answer struct {
	Addrs []netip.Addr // v4 and v6, as answered, duplicates dropped, at most 256
	State decision.DNSState
	TTL   time.Duration
	Err   error     // why the last query failed; nil if it did not
	Asked time.Time // when the last query ended
}

// Options say whom to ask.
type Options struct {
	Servers []netip.AddrPort        // asked in order; see FromSystem
	Hosts   map[string][]netip.Addr // /etc/hosts; beats DNS
	// Refresh is the wait after a failure or a TTL of 0. Default 60 s (Istio's).
	Refresh time.Duration
}

// FromSystem reads /etc/resolv.conf and /etc/hosts.
func FromSystem() (Options, error) { panic("stub") }

// A Resolver asks for A and AAAA records and follows names over time.
// It is safe for concurrent use.
type Resolver struct{}

// New returns a Resolver; Close ends its watches.
func New(o Options) *Resolver { panic("stub") }

// Lookup asks once (cached within the TTL).
func (r *Resolver) Lookup(ctx context.Context, name string) Answer { panic("stub") }

// Watch calls on with the first answer, good or bad, and again whenever the
// addresses or the state change, until stop is called. Calls are sequential for
// one watch; after stop has returned there are none.
func (r *Resolver) Watch(name string, on func(Answer)) (stop func()) { panic("stub") }

// Close ends all watches and waits for them.
func (r *Resolver) Close() { panic("stub") }
