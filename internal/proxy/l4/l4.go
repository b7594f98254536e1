// Package l4 passes bytes between a caller and an endpoint.
package l4

import (
	"context"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// STUB: owned by the listener helper; signatures are the contract.

// Serve connects to an endpoint of the chain's cluster and relays until both
// directions ended. It closes down, fills the rest of rec, and leaves logging
// to its caller.
func Serve(ctx context.Context, down *transport.Conn, p *config.TCPProxy, clusters *cluster.Set, rec *decision.Record) {
	panic("stub")
}

// Relay passes bytes both ways until both ends are done, half-close included.
// It is l7's way to end an upgrade too. It returns the bytes moved from a to b and back.
func Relay(ctx context.Context, a, b *transport.Conn) (sent, received int64, err error) {
	panic("stub")
}
