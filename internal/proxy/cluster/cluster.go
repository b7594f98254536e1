// Package cluster keeps what lives longer than one configuration: the
// endpoints of every cluster as they are now, their load, and the connections
// kept open to them.
package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// STUB: owned by the upstream helper; signatures are the contract.

// ErrNoEndpoint means that a cluster has nothing to send to now.
var ErrNoEndpoint = errors.New("no healthy endpoint")

// A Resolver follows names; *resolve.Resolver is one.
type Resolver interface {
	Watch(name string, on func(resolve.Answer)) (stop func())
}

// A Set is all clusters of a proxy. It is safe for concurrent use.
type Set struct{}

// New returns an empty Set.
func New(r Resolver, log *slog.Logger) *Set { panic("stub") }

// Update follows a new configuration: what is new is started, what is gone is
// drained, what stays keeps its connections, load and addresses. It is called
// with each Config before that Config is published to traffic, and only by one
// goroutine. It returns at once: names are resolved in the background.
// The delta says what to look at, so that its cost is that of the change.
func (s *Set) Update(c *config.Config, d config.Delta) { panic("stub") }

// WaitReady blocks until every cluster that needs names resolved has had its
// first answer, good or bad, or ctx ends.
func (s *Set) WaitReady(ctx context.Context) error { panic("stub") }

// Close ends every kept connection and every watch.
func (s *Set) Close() { panic("stub") }

// Get returns the cluster of that name, or nil.
func (s *Set) Get(name string) *Cluster { panic("stub") }

// A Cluster is one destination at run time.
type Cluster struct{}

// Config returns the current configuration of the cluster.
func (c *Cluster) Config() *config.Cluster { panic("stub") }

// Pick chooses an endpoint and counts a request on it until Done is called on
// it. original is the address the caller meant (used by OriginalDst). Endpoints
// in tried are avoided while there are others. It fills the record's
// DNS, DNSError and Endpoints, and on success Endpoint and EndpointName.
// The error is ErrNoEndpoint.
func (c *Cluster) Pick(original netip.AddrPort, tried []*Endpoint, rec *decision.Record) (*Endpoint, error) {
	panic("stub")
}

// An Endpoint is one address of a cluster at run time.
type Endpoint struct{}

// Addr is the address dialled; invalid for a unix socket.
func (e *Endpoint) Addr() netip.AddrPort { panic("stub") }

// Done ends what Pick began.
func (e *Endpoint) Done() { panic("stub") }

// Take returns an idle connection kept by Keep, or nil. It is most recently used first.
func (e *Endpoint) Take() *transport.Conn { panic("stub") }

// Keep hands back a connection on which an exchange ended cleanly; it is closed
// if the endpoint is gone or enough are kept. Idle ones are closed after an hour
// (Envoy's default) or when the peer ends them.
func (e *Endpoint) Keep(c *transport.Conn) { panic("stub") }

// Dial opens a connection within the cluster's connect timeout. Errors are
// in plain words with address and cause, and decide with errors.Is:
// context.DeadlineExceeded for a timeout.
func (e *Endpoint) Dial(ctx context.Context) (*transport.Conn, error) { panic("stub") }
