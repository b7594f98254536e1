// Package l4 passes bytes between a caller and an endpoint.
//
// Bulk goes through splice(2), so that it never enters the process; what comes
// in small pieces goes through a pooled buffer. A relay that waits holds
// neither pipe nor buffer. Half-close and reset are passed on, in both
// directions.
package l4

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

// IdleTimeout ends a relay on which no byte moved, unless configuration says
// otherwise. It is Envoy's.
const IdleTimeout = time.Hour

// maxTries bounds the endpoints tried for one connection. As nothing was sent
// before one of them accepts, trying the next is safe.
const maxTries = 3

// Details of records, as Envoy spells them where it does.
const (
	detailClusterNotFound = "cluster_not_found"
	detailNoUpstream      = "no_healthy_upstream"
	detailIdle            = "tcp_session_idle_timeout"
)

// ClosedByDrain are the details of what was cut off at the end of a drain. Envoy,
// whose process ends then, has no word for it.
const ClosedByDrain = "closed_by_drain"

// Serve connects to an endpoint of the chain's cluster and relays until both
// directions ended. Nothing is read from down before the endpoint has accepted;
// what was read already is sent first. A caller that cannot be connected is
// reset. ctx ending ends the relay at once.
// That is the end of a drain, of which a decision.DrainOver as its cause tells more.
// Serve closes down, fills the rest of rec, and leaves logging to its caller.
func Serve(ctx context.Context, down *transport.Conn, p *config.TCPProxy, clusters *cluster.Set, rec *decision.Record) {
	up, ok := Connect(ctx, p, clusters, rec)
	if !ok {
		_ = down.Reset() // the record says why; a caller already gone is no news
		rec.Duration = time.Since(rec.Start)
		return
	}
	up.Serve(ctx, down, rec)
}

// An Upstream is a connection to an endpoint of a chain's cluster. Its owner
// ends it with either Serve or Close.
type Upstream struct {
	Conn     *transport.Conn
	endpoint *cluster.Endpoint
	chain    *config.TCPProxy
	found    *decision.Record // what Connect filled
}

// Connect makes the connection that Serve would make, and reports whether that
// went well. It fills rec with where it leads, or why it does not. Serve's caller
// may do this early, before it is sure of the chain, with a record of its own.
func Connect(ctx context.Context, p *config.TCPProxy, clusters *cluster.Set, rec *decision.Record) (Upstream, bool) {
	rec.Cluster, rec.Entry = p.Cluster, p.Entry
	conn, endpoint := connect(ctx, clusters, rec)
	if conn == nil {
		return Upstream{}, false
	}
	return Upstream{Conn: conn, endpoint: endpoint, chain: p, found: rec}, true
}

// Serve relays between down and u, as the function of that name does.
func (u *Upstream) Serve(ctx context.Context, down *transport.Conn, rec *decision.Record) {
	defer func() { rec.Duration = time.Since(rec.Start) }()
	defer u.endpoint.Done()
	if f := u.found; f != rec {
		rec.Cluster, rec.Entry, rec.Tries = f.Cluster, f.Entry, f.Tries
		rec.Endpoint, rec.EndpointName, rec.Endpoints = f.Endpoint, f.EndpointName, f.Endpoints
		rec.DNS, rec.DNSError = f.DNS, f.DNSError
	}
	rec.Upstream = u.Conn.Local()
	idle := u.chain.IdleTimeout
	if idle <= 0 {
		idle = IdleTimeout
	}
	r := relay(ctx, down, u.Conn, idle)
	rec.Received, rec.Sent = r.there, r.back
	tell(rec, r)
}

// Close gives the connection up, unused. It may be called while another
// goroutine waits on Conn.
func (u *Upstream) Close() {
	_ = u.Conn.Close() // nothing was said on it
	u.endpoint.Done()
}

// connect returns a connection to an endpoint of the cluster, or nil and the
// reason in rec. It goes on to other endpoints while there are untried ones.
func connect(ctx context.Context, clusters *cluster.Set, rec *decision.Record) (*transport.Conn, *cluster.Endpoint) {
	c := clusters.Get(rec.Cluster)
	if c == nil {
		rec.Flags |= decision.NC
		rec.Reason, rec.Details = decision.NoCluster, detailClusterNotFound
		return nil, nil
	}
	if rec.Entry.Kind == "" {
		rec.Entry = c.Config().Entry
	}
	var memory [maxTries]*cluster.Endpoint
	tried := memory[:0]
	for {
		e, err := c.Pick(rec.Original, tried, rec)
		if err != nil {
			refuse(rec)
			return nil, nil
		}
		rec.Tries++
		up, err := e.Dial(ctx)
		if err == nil {
			rec.Reason, rec.Err = decision.OK, ""
			return up, e
		}
		e.Done()
		if ctx.Err() != nil {
			drained(rec, context.Cause(ctx))
			return nil, nil
		}
		tried = append(tried, e)
		rec.Reason, rec.Err = decision.ConnectFailed, Plain(err)
		if len(tried) == maxTries || len(tried) >= rec.Endpoints {
			rec.Flags |= decision.UF | decision.URX
			return nil, nil
		}
	}
}

// refuse fills rec for a cluster without endpoints.
func refuse(rec *decision.Record) {
	rec.Flags |= decision.UH
	rec.Details = detailNoUpstream
	rec.Reason = decision.NoEndpoint
	if rec.Cluster == xds.BlackHoleCluster {
		rec.Reason = decision.NotDeclared
	}
}

// drained fills rec for what the end of a drain, for which cause is given, cut off.
func drained(rec *decision.Record, cause error) {
	rec.Flags |= decision.LR
	rec.Reason, rec.Details, rec.Err = decision.Drained, ClosedByDrain, ""
	var over decision.DrainOver
	if errors.As(cause, &over) {
		rec.Err = over.Error()
	}
}

// tell fills rec with how the relay ended. An orderly end is nothing to tell.
func tell(rec *decision.Record, r result) {
	var over decision.DrainOver
	switch {
	case r.err == nil:
	case errors.As(r.err, &over), errors.Is(r.err, context.Canceled):
		drained(rec, r.err)
	case errors.Is(r.err, os.ErrDeadlineExceeded):
		rec.Flags |= decision.SI
		rec.Details = detailIdle
	case r.far:
		rec.Flags |= decision.UC
		rec.Reason, rec.Err = decision.UpstreamReset, Plain(r.err)
	default:
		rec.Flags |= decision.DR
		rec.Details = "downstream_remote_reset"
	}
}
