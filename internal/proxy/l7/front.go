package l7

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A Front serves the connections that drain and end together: it watches for
// that once for all of them. It is safe for concurrent use.
type Front struct {
	server *Server
	ctx    context.Context //nolint:containedctx // the end of all connections
	drain  context.Context //nolint:containedctx // the begin of their drain
	stops  [2]func() bool

	mu    sync.Mutex
	conns []*conn     // guarded by mu
	late  *time.Timer // guarded by mu; nil: no drain has begun
}

// Front returns a Front of s, which its owner closes. drain ending drains: the
// exchanges at hand, or the next ones within DrainGrace, are finished with
// "connection: close", streams after GOAWAY. ctx ending ends all at once, with
// resets; its cause, a decision.DrainOver, says how long the drain was.
func (s *Server) Front(ctx, drain context.Context) *Front {
	f := &Front{server: s, ctx: ctx, drain: drain}
	f.stops[0] = context.AfterFunc(drain, f.beginDrain)
	f.stops[1] = context.AfterFunc(ctx, f.cut)
	return f
}

// Close ends watching. Nothing may be served any more.
func (f *Front) Close() {
	for _, stop := range f.stops {
		stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late != nil {
		f.late.Stop()
	}
}

// beginDrain gives the connections that there are now DrainGrace to bring a request.
// What comes later has that time of its own.
func (f *Front) beginDrain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	conns := slices.Clone(f.conns)
	f.late = time.AfterFunc(DrainGrace, func() {
		for _, c := range conns {
			c.endWaiting()
		}
	})
}

// cut ends the connections that there are now.
func (f *Front) cut() {
	f.mu.Lock()
	conns := slices.Clone(f.conns)
	f.mu.Unlock()
	for _, c := range conns {
		c.down.Cut()
	}
}

// Serve serves requests on down until either end is done, closes it and calls
// done: those of HTTP/2 if it begins with the preface of that or base says so
// already (TLS agreed on it), else those of HTTP/1. It may return before, as a
// connection that waits for its next request may rest. base, which is Serve's from
// now on, holds what the listener found out (Downstream, Original, Name, Listener,
// Chain, Policy); each request's record starts as a copy of it.
func (f *Front) Serve(down *transport.Conn, m *config.HTTPManager, base *decision.Record, done func()) {
	c := &conn{front: f, down: down, manager: m, base: base, done: done}
	c.streams = base.Protocol == decision.HTTP2
	f.add(c)
	c.run()
}

// add makes c one of those that a drain and an end come to. An end that came before
// cuts c here; a drain that has begun is for c itself to see.
func (f *Front) add(c *conn) {
	f.mu.Lock()
	c.place = len(f.conns)
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	if f.ctx.Err() != nil {
		c.down.Cut()
	}
}

func (f *Front) remove(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := len(f.conns) - 1
	moved := f.conns[last]
	f.conns[c.place], moved.place = moved, c.place
	f.conns[last] = nil
	f.conns = f.conns[:last]
	if cap(f.conns) > 64 && last < cap(f.conns)/4 {
		f.conns = append(make([]*conn, 0, cap(f.conns)/2), f.conns...)
	}
}

// run serves until c rests or is over.
func (c *conn) run() {
	rests := false
	defer func() {
		if p := recover(); p != nil {
			c.front.server.crashed(p, "")
			_ = c.down.Reset() // the caller learns that there is no answer
		}
		if !rests {
			c.end()
		}
	}()
	if !c.streams {
		if rests = c.serve(c.front.ctx); rests {
			return
		}
	}
	if c.streams && c.awake() { // streams end by themselves: they know what is in progress
		c.front.server.serveStreams(c.front.ctx, c.front.drain, c.down, c.manager, c.base)
	}
}

func (c *conn) end() {
	_ = c.down.Close() // who served it may have closed it already
	c.front.remove(c)
	c.done()
}

// rest makes a connection that waits for a request do so without a goroutine, and
// without all that its records have in common. It reports whether that is so: c
// is another goroutine's then.
func (c *conn) rest() bool {
	base := c.base
	if !c.down.CanRest() || base.Reason != decision.OK || base.Flags != 0 {
		return false
	}
	c.facts, c.base = factsOf(base), nil
	if c.down.Rest(c) {
		return true
	}
	c.base = base
	return false
}

// Resume goes on after a rest.
func (c *conn) Resume() {
	c.base = c.facts.record()
	c.run()
}

// facts are what a listener usually finds out about a connection.
type facts struct {
	downstream, original       netip.AddrPort
	name, sni, listener, chain string
	protocol                   decision.Protocol
	policy                     mesh.OutboundPolicy
}

func factsOf(r *decision.Record) facts {
	return facts{r.Downstream, r.Original, r.Name, r.SNI, r.Listener, r.Chain, r.Protocol, r.Policy}
}

func (f *facts) record() *decision.Record {
	return &decision.Record{
		Downstream: f.downstream, Original: f.original, Name: f.name, SNI: f.sni,
		Listener: f.listener, Chain: f.chain, Protocol: f.protocol, Policy: f.policy,
	}
}
