// Package l7 serves HTTP: it reads requests from a caller, lets them be routed,
// sends them to an endpoint and brings the answers back.
package l7

import (
	"context"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// STUB: owned by the HTTP helper; signatures are the contract.

// A Recorder takes finished records; *telemetry.Log is one.
type Recorder interface{ Add(*decision.Record) }

// Options of a Server.
type Options struct {
	Config   func() *config.Config // the state now; loaded once per request
	Clusters *cluster.Set
	Log      Recorder
}

// A Server serves HTTP/1 on connections that listeners hand it.
type Server struct{}

// New returns a Server.
func New(o Options) *Server { panic("stub") }

// Serve serves requests on down until either end is done, and closes it. base
// holds what the listener found out (Downstream, Original, Name, Listener,
// Chain, Policy); each request's record starts as a copy of it. ctx ending drains:
// the exchange at hand is finished with "connection: close".
func (s *Server) Serve(ctx context.Context, down *transport.Conn, m *config.HTTPManager, base *decision.Record) {
	panic("stub")
}
