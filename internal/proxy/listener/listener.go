// Package listener accepts captured connections, finds out where they meant to
// go and what they speak, and hands each to the filter chain that matches.
package listener

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l7"
)

// STUB: owned by the listener helper; signatures are the contract.

// Options of a Listener.
type Options struct {
	Config   func() *config.Config
	Clusters *cluster.Set
	HTTP     *l7.Server
	Log      l7.Recorder
	NameOf   func(netip.Addr) string   // what DNS answered with that address
	Self     func(netip.AddrPort) bool // addresses of the proxy itself: a loop
	Logger   *slog.Logger
}

// A Listener serves the capture. It owns what it accepts.
type Listener struct{}

// New returns a Listener.
func New(o Options) *Listener { panic("stub") }

// Serve accepts on ln until ctx ends; then it stops accepting, lets connections
// drain, and returns when the last is closed.
func (l *Listener) Serve(ctx context.Context, ln net.Listener) error { panic("stub") }

// Policy is the outbound policy that the configuration expresses: what the
// default chain of virtualOutbound does.
func Policy(c *config.Config) (closed bool) { panic("stub") }

var _ decision.Record
