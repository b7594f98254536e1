// Package dns is the name server that a workload sees.
package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// STUB: owned by the DNS helper; signatures are the contract.

// Options of a Server.
type Options struct {
	Servers []netip.AddrPort           // where questions are forwarded to
	Config  func() *config.Config      // the state now; its Names are the declared hosts
	Policy  func() mesh.OutboundPolicy // RegistryOnly: undeclared names are REFUSED
	Log     *slog.Logger
}

// A Server answers a workload's questions. It is safe for concurrent use.
type Server struct{}

// New returns a Server.
func New(o Options) *Server { panic("stub") }

// Serve answers on the packet connections and listeners until ctx ends, then
// closes them and returns when the last answer is out.
func (s *Server) Serve(ctx context.Context, packets []*net.UDPConn, streams []net.Listener) error {
	panic("stub")
}

// NameOf returns the name that was last answered with addr, if an answer for it
// may still be in use; else the empty string.
func (s *Server) NameOf(addr netip.Addr) string { panic("stub") }

// Refused is how many questions were refused because no entry declares the name.
func (s *Server) Refused() uint64 { panic("stub") }
