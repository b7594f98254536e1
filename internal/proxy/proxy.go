// Package proxy assembles the data plane: it follows a control plane, compiles
// what it is told into one Config behind an atomic pointer, and serves captured
// connections and the workload's DNS by it.
//
// Nothing is accepted before the first configuration is there: what comes
// earlier waits in the sockets' backlog, so that neither the start of a proxy
// nor its replacement is a way out or a refusal.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/ads"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/dns"
	"github.com/fairlead/fairlead/internal/proxy/l7"
	"github.com/fairlead/fairlead/internal/proxy/listener"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
	"github.com/fairlead/fairlead/internal/proxy/telemetry"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/run"
)

const (
	// firstNames bounds the wait for the first answers of all names before the
	// proxy is ready, newNames that for the names of a change or of a restart.
	firstNames = 5 * time.Second
	newNames   = 500 * time.Millisecond
	// noConfig is how long connections and questions wait for a first
	// configuration before they are told that there is none.
	noConfig = 2 * time.Second
)

// GCPercent is how a process that is a proxy sets the garbage collector. What a
// proxy allocates is small and short-lived: collecting at four times what lives
// costs a few MB and saves a tenth of the CPU.
const GCPercent = 400

// Options of a proxy. Dial, Workload and Log are needed.
type Options struct {
	Captures   []net.Listener // captured connections; owned by Run
	DNSPackets []*net.UDPConn // the workload's name server; owned by Run
	DNSStreams []net.Listener // likewise
	Admin      net.Listener   // see package admin; owned by Run; nil: none

	// Dial opens a connection to the control plane and checks who it is.
	Dial      func(context.Context) (net.Conn, error)
	Workload  mesh.Workload
	Resolve   resolve.Options // whom to ask for names; see resolve.FromSystem
	Search    []string        // the search list in the workload's resolv.conf
	Own       []netip.Addr    // the workload's own addresses, beside loopback: not to be reached through the proxy
	AccessLog io.Writer       // one line per request or connection; nil: none
	LogForm   *LogForm        // of its lines, whatever the mesh says; nil: as that says, else our JSON
	Log       *slog.Logger
	// Ready is called once: the first configuration is complete, names were
	// looked up (or a few seconds have passed), and connections and questions are
	// being served. May be nil.
	Ready func()
	// Draining is called once: no capture socket is accepted on or open any more, and
	// what there is drains. Another proxy may serve the sockets from then on. May be
	// nil.
	Draining func()
	// MaxConnections is how many captured connections are served at once; 0: as many
	// as descriptors allow. See listener.Options.
	MaxConnections int
	// MaxMemory is how many bytes may be in use; above, new requests are refused and
	// new connections wait. 0: without limit.
	MaxMemory uint64
	// Drain is how long connections may go on after the end of Run's context. 0: 5 s.
	Drain time.Duration
	// Original tells where a captured connection meant to go; nil: its local
	// address.
	Original func(net.Conn) (netip.AddrPort, error)
}

// proxy is what the parts share.
type proxy struct {
	o       Options
	started time.Time

	config     atomic.Pointer[config.Config]
	configured chan struct{} // closed with the first configuration
	ready      atomic.Bool
	accepting  atomic.Int64 // captures that are, or will be, accepted on
	stalls     atomic.Uint64
	stalledMs  atomic.Uint64

	sweeper  transport.Sweeper
	guard    *overload.Guard // nil: no limit
	account  *overload.Account
	log      *telemetry.Log
	resolver *resolve.Resolver
	clusters *cluster.Set
	http     *l7.Server
	dns      *dns.Server
	listener *listener.Listener
	client   *ads.Client
}

// Run serves until ctx ends, then drains, and returns ctx's error; another
// error says which part failed. When it returns, all that it started has ended
// and the sockets in o are closed.
func Run(ctx context.Context, o Options) error {
	p := assemble(ctx, o)
	defer p.closeSockets()
	defer p.resolver.Close()
	defer p.clusters.Close()

	// What connections need while they drain outlives the rest.
	last, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { p.sweeper.Run(last) })
	wg.Go(func() { p.guard.Run(last) })
	wg.Go(func() { p.http.Watch(last, p.pressed) })
	wg.Go(func() { _ = p.log.Run(last) }) // it ends with last alone
	defer wg.Wait()
	defer stop()

	if err := run.All(ctx, p.tasks()); err != nil {
		return err
	}
	return ctx.Err()
}

// pressed reports whether there is little left of connections or memory.
func (p *proxy) pressed() bool {
	limit := p.o.MaxConnections
	return p.guard.Over() > 0 || limit > 0 && p.listener.Open() >= limit-limit/5
}

// assemble makes the parts. ctx is that of Run.
func assemble(ctx context.Context, o Options) *proxy {
	p := &proxy{
		o:          o,
		started:    time.Now(),
		configured: make(chan struct{}),
		log:        telemetry.NewLog(o.AccessLog),
		resolver:   resolve.New(o.Resolve),
		guard:      overload.New(o.MaxMemory, nil, o.Log),
		// Streams of both sides share one account: what comes from one waits for the other.
		account: overload.NewAccount(o.MaxMemory),
	}
	p.sweeper.Stalled = p.stalled
	p.accepting.Store(int64(len(o.Captures)))
	if o.LogForm != nil {
		p.log.SetFormat(o.LogForm.format)
	}
	p.clusters = cluster.New(p.resolver, o.Log)
	p.clusters.Bound(p.account)
	p.http = l7.New(l7.Options{Config: p.config.Load, Clusters: p.clusters, Log: p.log, Logger: o.Log, AnswerFields: p.log.AnswerFields, Memory: p.guard, Account: p.account})
	p.dns = dns.New(dns.Options{Servers: o.Resolve.Servers, Config: p.config.Load, Policy: p.policy, Log: o.Log, Search: o.Search})
	p.listener = listener.New(listener.Options{
		Config:   p.config.Load,
		Clusters: p.clusters,
		HTTP:     p.http,
		Log:      p.log,
		NameOf:   p.dns.NameOf,
		Self:     p.isSelf,
		Logger:   o.Log,
		Original: o.Original,
		Sweeper:  &p.sweeper,
		Limit:    o.MaxConnections,
		Memory:   p.guard,
		Drain:    o.Drain,
		Closed:   p.captureClosed,
	})
	p.client = ads.New(ads.Options{
		Dial:     o.Dial,
		Workload: o.Workload,
		Apply:    func(d config.Delta) { p.apply(ctx, d) },
		Ready:    func() { close(p.configured) },
		Log:      o.Log,
	})
	return p
}

// tasks are the parts that run until the end, by name.
func (p *proxy) tasks() map[string]run.Task {
	tasks := map[string]run.Task{
		"configuration": p.client.Run,
		"dns": func(ctx context.Context) error {
			if err := p.awaitConfig(ctx); err != nil {
				return err
			}
			return p.dns.Serve(ctx, p.o.DNSPackets, p.o.DNSStreams)
		},
		"ready": p.tellReady,
	}
	for i, ln := range p.o.Captures {
		tasks["capture "+strconv.Itoa(i)] = func(ctx context.Context) error {
			if err := p.awaitConfig(ctx); err != nil {
				defer p.captureClosed()
				return errors.Join(err, ln.Close())
			}
			// A proxy that takes over from one that died finds callers waiting, who
			// are better served a moment later than told of names not resolved yet.
			p.awaitNames(ctx)
			return p.listener.Serve(ctx, ln)
		}
	}
	if p.o.Admin != nil {
		tasks["admin"] = func(ctx context.Context) error {
			return admin.Serve(ctx, p.o.Admin, p.source(), p.o.Log)
		}
	}
	return tasks
}

// stalled counts a time in which nothing was served for want of a processor. The
// clocks that tell who is silent were stopped, too.
func (p *proxy) stalled(d time.Duration) {
	p.stalls.Add(1)
	p.stalledMs.Add(uint64(d.Milliseconds())) //nolint:gosec // G115: positive
	p.o.Log.Warn("the proxy did not run for a while: it was stopped, or the processors were too busy; nobody is taken for silent because of it", "for", d.Round(time.Millisecond).String())
}

// captureClosed says that one capture more is closed.
func (p *proxy) captureClosed() {
	if p.accepting.Add(-1) == 0 && p.o.Draining != nil {
		p.o.Draining()
	}
}

// awaitConfig waits for the first configuration, or until callers should rather
// be told that there is none.
func (p *proxy) awaitConfig(ctx context.Context) error {
	t := time.NewTimer(noConfig)
	defer t.Stop()
	select {
	case <-p.configured:
	case <-t.C:
		p.o.Log.Warn("no configuration from the control plane yet: nothing is let out until it comes")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// apply brings a change into force. Names that it brings have a moment to be
// resolved before traffic sees it, as Envoy warms a cluster; what it removes
// serves on for longer than that.
func (p *proxy) apply(ctx context.Context, d config.Delta) {
	next := p.config.Load().Apply(d)
	p.clusters.Update(next, d)
	if len(d.Clusters) > 0 && p.ready.Load() {
		p.awaitNames(ctx)
	}
	p.config.Store(next)
	p.formatLog(next)
}

// awaitNames gives names that were not asked for before a moment to be
// answered. Later answers come into force when they are there.
func (p *proxy) awaitNames(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, newNames)
	defer cancel()
	_ = p.clusters.WaitReady(ctx) // an error is the end of the wait
}

// tellReady calls Ready when its promise holds.
func (p *proxy) tellReady(ctx context.Context) error {
	select {
	case <-p.configured:
	case <-ctx.Done():
		return ctx.Err()
	}
	names, cancel := context.WithTimeout(ctx, firstNames)
	err := p.clusters.WaitReady(names)
	cancel()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		p.o.Log.Warn("some names have not been resolved yet; their entries answer 503 UH until they are")
	case err != nil:
		return fmt.Errorf("wait for names: %w", err)
	}
	p.ready.Store(true)
	if p.o.Ready != nil {
		p.o.Ready()
	}
	<-ctx.Done()
	return ctx.Err()
}

func (p *proxy) policy() mesh.OutboundPolicy {
	if listener.Policy(p.config.Load()) {
		return mesh.RegistryOnly
	}
	return mesh.AllowAny
}

func (p *proxy) isSelf(a netip.AddrPort) bool { return slices.Contains(p.o.Own, a.Addr()) }

// closeSockets closes what no part came to own. Closing twice does no harm.
func (p *proxy) closeSockets() {
	for _, ln := range slices.Concat(p.o.Captures, p.o.DNSStreams) {
		_ = ln.Close()
	}
	for _, c := range p.o.DNSPackets {
		_ = c.Close()
	}
	if p.o.Admin != nil {
		_ = p.o.Admin.Close()
	}
}
