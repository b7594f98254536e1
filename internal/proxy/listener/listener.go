// Package listener accepts captured connections, finds out where they meant to
// go and what they speak, and hands each to the filter chain that matches.
//
// What a connection may not reach is decided here before anything else: the
// proxy dials from outside the workload's network, so that a destination that
// means "this host" (loopback, the unspecified address, an address of the
// workload or of the proxy) would there mean another host. Such connections
// are refused as loops, whatever the configuration says. And where two hosts
// claim a port that nothing tells apart, a connection that means the one without
// it (its name was answered last with that address) is refused, too.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l4"
	"github.com/fairlead/fairlead/internal/proxy/l7"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/sniff"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

// Options of a Listener. Config, Clusters, HTTP, Log and Logger are needed.
type Options struct {
	Config   func() *config.Config
	Clusters *cluster.Set
	HTTP     *l7.Server
	Log      l7.Recorder
	NameOf   func(netip.Addr) string   // what DNS answered with that address; nil: nothing is known
	Self     func(netip.AddrPort) bool // addresses of the proxy and its workload, asked for without zones: a loop; nil: loopback only
	Logger   *slog.Logger
	// Original tells where an accepted connection meant to go. Nil: its local
	// address, as transparent sockets have it.
	Original func(net.Conn) (netip.AddrPort, error)
	// Sweeper keeps the timeouts of what is accepted; it has to be running. Nil:
	// Serve runs one of its own.
	Sweeper *transport.Sweeper
	// Limit is how many connections are served at once, over all sockets. Requests
	// on one more are answered with 503, bytes are reset, and both are recorded as
	// refused; so that this costs little, what is more than a tenth above is reset at
	// once. 0: as many as descriptors allow.
	Limit int
	// Memory keeps connections waiting outside while it is over its limit; nil: never.
	Memory *overload.Guard
	// Drain is how long connections may go on after the end of Serve's context.
	// 0: 5 s.
	Drain time.Duration
	// Closed is called once by each Serve when its socket is closed, before connections
	// drain, if there are any. May be nil.
	Closed func()
}

// A Listener serves the capture. It owns what it accepts. It is safe for
// concurrent use: Serve may be called for several sockets.
type Listener struct {
	o    Options
	open atomic.Int64 // connections
	full atomic.Bool  // it was told that there are too many
}

// New returns a Listener.
func New(o Options) *Listener {
	if o.NameOf == nil {
		o.NameOf = func(netip.Addr) string { return "" }
	}
	if o.Self == nil {
		o.Self = func(netip.AddrPort) bool { return false }
	}
	if o.Original == nil {
		o.Original = localAddress
	}
	if o.Closed == nil {
		o.Closed = func() {}
	}
	if o.Drain <= 0 {
		o.Drain = 5 * time.Second
	}
	return &Listener{o: o}
}

// Serve accepts on ln until ctx ends; then it closes ln, lets connections
// drain, resets what is left after Options.Drain, and returns when the last is
// closed. An error says that ln is of no more use.
func (l *Listener) Serve(ctx context.Context, ln net.Listener) error {
	sweeper := l.o.Sweeper
	var wg sync.WaitGroup
	defer wg.Wait()
	if sweeper == nil {
		sweeper = new(transport.Sweeper)
		sweeping, stop := context.WithCancel(context.WithoutCancel(ctx))
		wg.Go(func() { sweeper.Run(sweeping) })
		defer stop()
	}
	lot, err := transport.NewLot()
	if err != nil {
		err = errors.Join(fmt.Errorf("prepare to accept captured connections on %s: %w", ln.Addr(), err), ln.Close())
		l.o.Closed()
		return err
	}
	wg.Go(lot.Run)
	defer func() { _ = lot.Close() }() // nobody waits there any more
	s := &server{Listener: l, sweeper: sweeper, lot: lot, bound: ln.Addr()}
	s.left = s.leave
	var cut context.CancelCauseFunc
	s.hard, cut = context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var late context.CancelFunc
	s.heard, late = context.WithCancel(s.hard)
	defer late()
	s.front = l.o.HTTP.Front(s.hard, ctx)
	defer s.front.Close()
	err = s.accept(ctx, ln)
	l.o.Closed()
	s.drain(late, cut)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// A server is one call of Serve.
type server struct {
	*Listener
	sweeper *transport.Sweeper
	lot     *transport.Lot
	front   *l7.Front
	bound   net.Addr
	conns   sync.WaitGroup
	left    func()          // leave
	hard    context.Context //nolint:containedctx // ends with this Serve: the time at which draining is over
	heard   context.Context //nolint:containedctx // likewise: until when what a caller says first is listened to
}

// accept returns when ctx ended or ln broke, with ln closed.
func (s *server) accept(ctx context.Context, ln net.Listener) error {
	callers, err := transport.NewAcceptor(ln, s.lot)
	if err != nil {
		return fmt.Errorf("accept captured connections on %s: %w", s.bound, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = callers.Close() }) // wakes Accept; a second Close does no harm
	defer func() { stop(); _ = callers.Close() }()
	var wait pause
	for {
		if s.o.Memory.Over() > 0 && s.o.Memory.Await(ctx) != nil {
			return nil
		}
		c, err := callers.Accept()
		switch {
		case err == nil:
			if n := wait.over(); n > 0 {
				s.o.Logger.Info("accepting connections again", "listener", s.bound.String(), "pauses", n)
			}
			s.conns.Add(1)
			go s.serve(c)
		case ctx.Err() != nil:
			return nil
		case isPassing(err):
			if wait.begins() {
				s.o.Logger.Warn("cannot accept connections for now; callers wait until descriptors or memory are free again", "listener", s.bound.String(), "error", err)
			}
			if !wait.sleep(ctx) {
				return nil
			}
		default:
			return fmt.Errorf("accept captured connections on %s: %w", s.bound, err)
		}
	}
}

// drain waits for the connections, gives those up that said nothing yet when it
// is late, and cuts all when their time is over.
func (s *server) drain(late context.CancelFunc, cut context.CancelCauseFunc) {
	defer time.AfterFunc(l7.DrainGrace, late).Stop()
	defer time.AfterFunc(s.o.Drain, func() { cut(decision.DrainOver(s.o.Drain)) }).Stop()
	s.conns.Wait()
}

// serve serves one connection to its end, or hands it to l7, which says when it
// has left.
func (s *server) serve(c net.Conn) {
	conn := transport.New(c, nil)
	s.sweeper.Adopt(conn)
	rec := &decision.Record{ID: s.o.HTTP.NextID(), Start: time.Now(), Protocol: decision.TCP, Downstream: conn.Peer()}
	if m := s.begin(conn, rec, s.enter()); m != nil {
		s.front.Serve(conn, m, rec, s.left)
		return
	}
	s.leave()
}

// leave ends what accepting a connection began.
func (s *server) leave() {
	s.open.Add(-1)
	s.conns.Done()
}

// begin finds out what a connection is. One of bytes it serves to its end and
// writes its record; of one of requests, of which l7 writes a record for each, it
// returns what serves it.
func (s *server) begin(conn *transport.Conn, rec *decision.Record, room room) (requests *config.HTTPManager) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Logger.Error("panic while serving a connection, which is closed; this is a fault of the proxy", "panic", p, "original", rec.Original, "stack", string(debug.Stack()))
			rec.Reason, rec.Err = decision.Internal, fmt.Sprint(p)
			_ = conn.Reset() // the caller learns that there is no answer
		}
		if requests == nil {
			_ = conn.Close() // whoever served it has closed it already
			rec.Duration = time.Since(rec.Start)
			s.o.Log.Add(rec)
		}
	}()
	chain, g := s.admit(s.heard, conn, rec, room)
	defer g.drop()
	switch {
	case chain == nil, room != some && chain.HTTP == nil:
		_ = conn.Reset() // the record says why
	case chain.HTTP != nil:
		return chain.HTTP
	case chain.TCP != nil:
		if up, ok := g.take(chain.TCP); ok {
			up.Serve(s.hard, conn, rec)
			return nil
		}
		l4.Serve(s.hard, conn, chain.TCP, s.o.Clusters, rec)
	}
	return nil
}

// admit finds the chain for a connection, or nil and the reason in rec. With a
// chain it may return a connection made on a guess.
func (s *server) admit(ctx context.Context, conn *transport.Conn, rec *decision.Record, room room) (*config.FilterChain, *guess) {
	original, err := s.o.Original(conn.Conn)
	if err != nil {
		rec.Reason, rec.Err = decision.Internal, err.Error()
		return nil, nil
	}
	rec.Original = netip.AddrPortFrom(original.Addr().Unmap(), original.Port())
	cfg := s.o.Config()
	if Policy(cfg) {
		rec.Policy = mesh.RegistryOnly
	}
	if room == none {
		s.crowded(rec)
		return nil, nil
	}
	if s.isLoop(rec.Original) {
		rec.Reason = decision.Loop
		return nil, nil
	}
	rec.Name = s.o.NameOf(rec.Original.Addr())
	l := listenerFor(cfg, rec.Original)
	if l == nil {
		rec.Reason = decision.NotReady
		return nil, nil
	}
	rec.Listener = l.Name
	meant := Meant(cfg, rec.Original.Addr(), rec.Name)
	if meant != nil && rec.Name == "" {
		rec.Name = meant.Host
	}
	held := meant.Refuses(rec.Original)
	if held != nil && !held.RequestsPass {
		holds(rec, meant, held)
		return nil, nil
	}
	found, g, err := s.inspect(ctx, conn, l, rec, held != nil)
	switch {
	case err != nil && ctx.Err() != nil:
		rec.Details = l4.ClosedByDrain
		return nil, nil
	case err != nil:
		rec.Flags |= decision.DC
		rec.Details = "downstream_remote_disconnect"
		return nil, nil
	}
	chain := Match(cfg, l, factsOf(rec.Original.Addr(), found))
	switch {
	case chain == nil:
		rec.Flags |= decision.NR
		rec.Reason, rec.Details = decision.NoRoute, "filter_chain_not_found"
	case held != nil && Taken(chain):
		rec.Chain = chain.Name
		holds(rec, meant, held)
	default:
		rec.Chain = chain.Name
		undeclared(cfg, chain, meant, rec)
		if room != some {
			s.crowded(rec)
		}
		return chain, g
	}
	g.drop()
	return nil, nil
}

// Meant returns the declared name that a connection to an address means: the
// one that the address stands for, else the one that covers what DNS answered
// with it; nil if there is none.
func Meant(c *config.Config, dst netip.Addr, told string) *config.Name {
	if n := c.VirtualName(dst); n != nil {
		return n
	}
	if told == "" {
		return nil
	}
	return c.Name(told)
}

// Taken reports that a chain was chosen by the address of a connection alone,
// so that another host than the one meant may have it.
func Taken(chain *config.FilterChain) bool {
	return chain.TCP != nil && len(chain.Match.ServerNames) == 0
}

// holds fills rec for a connection that means one host and would reach another.
func holds(rec *decision.Record, meant *config.Name, by *config.RefusedPort) {
	rec.Reason, rec.Details = decision.PortHeld, "port_held"
	rec.Entry, rec.Holder, rec.HolderEntry = meant.Entry, by.Holder, by.Entry
}

// undeclared fills rec, for a connection that the policy refuses, with what is
// declared of the host that it means.
func undeclared(c *config.Config, chain *config.FilterChain, meant *config.Name, rec *decision.Record) {
	if chain.TCP == nil || chain.TCP.Cluster != xds.BlackHoleCluster {
		return
	}
	if rec.SNI != "" {
		meant = c.Name(rec.SNI)
	}
	if meant != nil {
		rec.Declared = &meant.Declared
	}
}

// inspect finds out what a connection is, as far as the choice of a chain for its
// destination depends on that. held says that bytes, whatever their chain, are
// refused.
func (s *server) inspect(ctx context.Context, conn *transport.Conn, l *config.Listener, rec *decision.Record, held bool) (finding, *guess, error) {
	if !asks(l, rec.Original.Addr()) {
		return finding{}, nil, nil
	}
	f, g, err := inspect(ctx, conn, l, rec.Original.Addr(), func() outlook { return s.outlook(conn, l, rec, held) })
	switch {
	case f.tls:
		rec.Protocol, rec.SNI = decision.TLS, f.serverName
	case slices.Contains(f.application, sniff.H2C):
		rec.Protocol = decision.HTTP2
	}
	return f, g, err
}

// outlook makes Silent's verdict something to act on.
func (s *server) outlook(conn *transport.Conn, l *config.Listener, rec *decision.Record, held bool) outlook {
	v := Silent(l, rec.Original.Addr(), rec.Policy == mesh.RegistryOnly, held)
	o := outlook{patience: v.Patience}
	if v.Ask != nil {
		o.guess = func() *guess { return s.guess(conn, v.Ask.TCP, rec) }
	}
	return o
}

func factsOf(destination netip.Addr, f finding) Facts {
	facts := Facts{Destination: destination, Transport: transportRaw, ServerName: f.serverName, Applications: f.application}
	if f.tls {
		facts.Transport = transportTLS
	}
	return facts
}

// isLoop reports that a connection means the workload or the proxy itself. Dialled
// from here it would reach this host instead. Zones do not matter: they have several
// names, and nobody tells hosts apart by them.
func (s *server) isLoop(dst netip.AddrPort) bool {
	dst = unzoned(dst)
	a := dst.Addr()
	if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	if t, ok := s.bound.(*net.TCPAddr); ok {
		if unzoned(t.AddrPort()) == dst {
			return true
		}
	}
	return s.o.Self(dst)
}

func unzoned(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// listenerFor finds the listener of a destination: its own, else virtualOutbound.
func listenerFor(c *config.Config, dst netip.AddrPort) *config.Listener {
	if c == nil {
		return nil
	}
	if l := c.ListenerFor(dst); l != nil {
		return l
	}
	return c.Listener(xds.VirtualOutbound)
}

// Policy is the outbound policy that the configuration expresses: what the
// default chain of virtualOutbound does. Without a configuration it is closed.
func Policy(c *config.Config) (closed bool) {
	if c == nil {
		return true
	}
	l := c.Listener(xds.VirtualOutbound)
	if l == nil {
		return true
	}
	chain := l.Default
	if chain == nil && len(l.Chains) > 0 {
		chain = l.Chains[len(l.Chains)-1]
	}
	return chain == nil || chain.TCP == nil || chain.TCP.Cluster == xds.BlackHoleCluster
}

func localAddress(c net.Conn) (netip.AddrPort, error) {
	if s, ok := c.(*transport.Socket); ok {
		return s.Local(), nil
	}
	t, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("connection to %s is not TCP: its destination cannot be told", c.LocalAddr())
	}
	return t.AddrPort(), nil
}
