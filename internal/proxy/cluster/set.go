// Package cluster keeps what lives longer than one configuration: the
// endpoints of every cluster as they are now, their load, and the connections
// kept open to them.
//
// A Set follows the configuration and, where endpoints are names, the resolver.
// What traffic reads (Get, Pick) is published behind atomic pointers: a request
// takes no lock but that of the endpoint's pool and, with unequal weights, of the picker.
package cluster

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/immutable"

	"github.com/fairlead/fairlead/internal/proxy/balance"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
	"github.com/fairlead/fairlead/internal/proxy/streams"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// sweepInterval is how often kept connections are looked at and endpoints
// without use dropped: Envoy's clean-up interval for original destinations.
const sweepInterval = 5 * time.Second

// A Resolver follows names; *resolve.Resolver is one.
type Resolver interface {
	Watch(name string, on func(resolve.Answer)) (stop func())
	Lookup(ctx context.Context, name string) resolve.Answer
}

type answer = resolve.Answer

// A Set is all clusters of a proxy. It is safe for concurrent use.
type Set struct {
	resolver Resolver
	log      *slog.Logger
	rand     balance.Rand
	routed   func(netip.Addr) bool // whether this host has a route to an address
	sweeper  transport.Sweeper     // of the connections dialled

	clusters atomic.Pointer[byName]
	config   atomic.Pointer[config.Config] // the last one followed

	mu        sync.Mutex                     // held by Update, Close and drop
	byService map[string]map[string]*Cluster // guarded by mu; EDS clusters by assignment, then name
	leaving   map[*Cluster]uint8             // guarded by mu; removed, not dropped yet: sweeps begun since
	closed    bool                           // guarded by mu

	overBudget atomic.Uint64 // retries that were not made

	memory streams.Memory  // of HTTP/2 to endpoints
	panics atomic.Uint64   // that cost one of those connections
	ctx    context.Context //nolint:containedctx // Close ends it: what is kept outlives every caller's
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	// starting is held while a task is started, so that none is once ctx has ended.
	starting sync.Mutex
}

type byName = immutable.Map[string, *Cluster]

// New returns an empty Set. It sweeps in the background until Close. r may be
// nil if no cluster has names to resolve.
func New(r Resolver, log *slog.Logger) *Set {
	//nolint:forbidigo // what is kept outlives every caller's context; Close is its end
	ctx, cancel := context.WithCancel(context.Background())
	s := &Set{
		resolver:  r,
		log:       log,
		rand:      rand.Uint64,
		routed:    routed,
		byService: map[string]map[string]*Cluster{},
		leaving:   map[*Cluster]uint8{},
		ctx:       ctx,
		cancel:    cancel,
	}
	s.clusters.Store(immutable.NewMap[string, *Cluster](nil))
	s.tasks.Go(func() { s.sweeper.Run(ctx) })
	s.tasks.Go(func() { s.sweep(ctx) })
	return s
}

// Bound has a count and bound what streams of HTTP/2 to endpoints hold. It is called
// before the first Update.
func (s *Set) Bound(a *overload.Account) { s.memory.Account = a }

// Panics counts the connections to endpoints that ended in a panic.
func (s *Set) Panics() uint64 { return s.panics.Load() }

// Update follows a new configuration: what is new is started, what stays keeps
// its connections, load and addresses. What is gone is drained after the sweep
// interval at least, as it was: until then requests come that were routed by an
// older Config, or by a route that a later message removes. If it comes back by
// then, it stays. Update is called with each Config before that Config is
// published to traffic, and only by one goroutine. It returns at once: names are
// resolved in the background. The delta says what to look at, so that its cost
// is that of the change.
func (s *Set) Update(c *config.Config, d config.Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	all := s.clusters.Load()
	done := map[string]bool{}
	look := func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		old, _ := all.Get(name)
		cfg := c.Cluster(name)
		switch {
		case cfg == nil && old == nil:
		case cfg == nil:
			s.leave(old)
		default:
			all = s.follow(all, old, cfg, c)
		}
	}
	for _, name := range d.RemovedClusters {
		look(name)
	}
	for _, x := range d.Clusters {
		look(x.Name)
	}
	for _, service := range assignmentsIn(d) {
		for _, name := range slices.Sorted(maps.Keys(s.byService[service])) {
			look(name)
		}
	}
	s.config.Store(c)
	s.clusters.Store(all)
}

// leave marks a cluster that the configuration does not have any more.
func (s *Set) leave(x *Cluster) {
	if !x.leaving.Swap(true) {
		s.unlist(x)
		s.leaving[x] = 0
		x.settle() // nobody need wait for its names
	}
}

// drop drains the clusters that left before the last sweep.
func (s *Set) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.leaving) == 0 {
		return
	}
	all := s.clusters.Load()
	var gone []*Cluster
	for x, sweeps := range s.leaving {
		if sweeps == 0 {
			s.leaving[x] = 1
			continue
		}
		delete(s.leaving, x)
		all = all.Delete(x.Config().Name)
		gone = append(gone, x)
	}
	s.clusters.Store(all)
	for _, x := range gone {
		x.close()
	}
}

func assignmentsIn(d config.Delta) []string {
	names := slices.Clone(d.RemovedAssignments)
	for _, a := range d.Assignments {
		names = append(names, a.Name)
	}
	return names
}

// follow brings one cluster, new if old is nil, in line with c.
func (s *Set) follow(all *byName, old *Cluster, cfg *config.Cluster, c *config.Config) *byName {
	x := old
	if x == nil {
		x = &Cluster{set: s, ready: make(chan struct{}), endpoints: map[key]*Endpoint{}, names: map[string]*name{}}
	} else {
		s.unlist(x)
		delete(s.leaving, x)
		x.leaving.Store(false)
	}
	var a *config.Assignment
	if cfg.Type == config.EDS {
		a = c.Assignment(cfg.ServiceName)
		s.list(x, cfg)
	}
	x.configure(cfg, a)
	if x == old {
		return all
	}
	return all.Set(cfg.Name, x)
}

func (s *Set) list(x *Cluster, cfg *config.Cluster) {
	m := s.byService[cfg.ServiceName]
	if m == nil {
		m = map[string]*Cluster{}
		s.byService[cfg.ServiceName] = m
	}
	m[cfg.Name] = x
}

func (s *Set) unlist(x *Cluster) {
	cfg := x.Config()
	m := s.byService[cfg.ServiceName]
	delete(m, cfg.Name)
	if len(m) == 0 {
		delete(s.byService, cfg.ServiceName)
	}
}

// WaitReady blocks until every cluster that needs names resolved has had its
// first answer, good or bad, or ctx ends. Of a cluster with several names the
// first answer counts.
func (s *Set) WaitReady(ctx context.Context) error {
	for c := range s.all() {
		select {
		case <-c.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close ends every kept connection and every watch, and waits for what New
// started. Connections in use are their users' to close, and do not time out
// any more; but those that exchanges share end, and the exchanges with them.
func (s *Set) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		for c := range s.all() {
			c.close()
		}
	}
	s.mu.Unlock()
	s.starting.Lock()
	s.cancel()
	s.starting.Unlock()
	s.tasks.Wait()
}

// start runs a task until its end, for which Close waits; not after Close.
func (s *Set) start(task func(context.Context)) bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.tasks.Go(func() { task(s.ctx) })
	return true
}

// Get returns the cluster of that name, or nil. One that was removed is found
// until it is drained.
func (s *Set) Get(name string) *Cluster {
	c, _ := s.clusters.Load().Get(name)
	return c
}

// Clusters yields all clusters of the configuration, sorted by name.
func (s *Set) Clusters() iter.Seq[*Cluster] {
	all := slices.DeleteFunc(slices.Collect(s.all()), func(c *Cluster) bool { return c.leaving.Load() })
	slices.SortFunc(all, func(a, b *Cluster) int {
		return cmp.Compare(a.Config().Name, b.Config().Name)
	})
	return slices.Values(all)
}

func (s *Set) all() iter.Seq[*Cluster] {
	m := s.clusters.Load()
	return func(yield func(*Cluster) bool) {
		for it := m.Iterator(); !it.Done(); {
			if _, c, ok := it.Next(); ok && !yield(c) {
				return
			}
		}
	}
}

// sweep looks after kept connections and unused endpoints until ctx ends.
func (s *Set) sweep(ctx context.Context) {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	var scratch []*Endpoint
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.drop()
		now := time.Now()
		for c := range s.all() {
			scratch = c.sweep(now, scratch[:0])
		}
		clear(scratch[:cap(scratch)])
	}
}

// sweep drops what was not used since the last sweep but one, and lets the
// rest look after their connections. scratch is for its capacity.
func (c *Cluster) sweep(now time.Time, scratch []*Endpoint) []*Endpoint {
	c.mu.Lock()
	for k, e := range c.endpoints {
		switch e.parked {
		case 0:
		case 1:
			e.parked = 2
		default:
			delete(c.endpoints, k)
			e.close()
			continue
		}
		scratch = append(scratch, e)
	}
	c.mu.Unlock()
	scratch = c.originals.sweep(scratch)
	for _, e := range scratch {
		e.pool.Sweep(now)
	}
	return scratch
}
