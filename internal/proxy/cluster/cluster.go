package cluster

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/balance"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// ErrNoEndpoint means that a cluster has nothing to send to now.
var ErrNoEndpoint = errors.New("no healthy endpoint")

// repicks is how often a try picks by the policy for an endpoint not tried yet,
// before it takes any that is one.
const repicks = 5

// A Cluster is one destination at run time. It is safe for concurrent use.
type Cluster struct {
	set       *Set
	cfg       atomic.Pointer[config.Cluster]
	hosts     atomic.Pointer[hosts] // what picks see; nil for OriginalDst
	originals originals
	leaving   atomic.Bool // the configuration does not have it any more
	budget    budget

	ready     chan struct{} // closed with the first answer, or if none is needed
	readyOnce sync.Once

	mu         sync.Mutex
	assignment *config.Assignment // guarded by mu; of an EDS cluster, may be nil
	endpoints  map[key]*Endpoint  // guarded by mu; all that have a pool, parked ones too
	names      map[string]*name   // guarded by mu; what is resolved, by host
	rerouted   time.Time          // guarded by mu; of the last look at routes after a failure
	gone       bool               // guarded by mu
}

// hosts is one state of a cluster: what can be picked, and how it was found. It
// is immutable.
type hosts struct {
	endpoints []*Endpoint
	weights   []uint32
	policy    config.Balance
	picker    *balance.Picker
	dns       decision.DNSState
	dnsError  string
}

// Active is the load of endpoint i, for the picker.
func (h *hosts) Active(i int) int64 { return h.endpoints[i].active.Load() }

// A key tells endpoints of one cluster apart: one that keeps its key keeps its
// connections and load.
type key struct {
	addr netip.AddrPort // invalid for a unix socket
	name string         // FQDN behind addr, or unix path
}

// Config returns the current configuration of the cluster.
func (c *Cluster) Config() *config.Cluster { return c.cfg.Load() }

// Pick chooses an endpoint and counts a request on it until Done is called on
// it. original is the address the caller meant (used by OriginalDst). Endpoints
// in tried are avoided while there are others. It fills the record's
// DNS, DNSError and Endpoints, on success Endpoint and EndpointName, and Err if
// original may not be chosen. The error is an ErrNoEndpoint.
func (c *Cluster) Pick(original netip.AddrPort, tried []*Endpoint, rec *decision.Record) (*Endpoint, error) {
	h := c.hosts.Load()
	if h == nil {
		return c.pickOriginal(original, rec)
	}
	rec.DNS, rec.DNSError, rec.Endpoints = h.dns, h.dnsError, len(h.endpoints)
	i := h.pick(tried)
	if i < 0 {
		return nil, ErrNoEndpoint
	}
	e := h.endpoints[i]
	e.active.Add(1)
	rec.Endpoint, rec.EndpointName = e.key.addr, e.key.name
	return e, nil
}

func (h *hosts) pick(tried []*Endpoint) int {
	if len(tried) == 0 {
		return h.picker.Pick(h)
	}
	return h.picker.PickOther(h, repicks, func(i int) bool { return slices.Contains(tried, h.endpoints[i]) })
}

// A State is what is known of one endpoint now, for people to look at.
type State struct {
	Addr   netip.AddrPort // invalid for a unix socket
	Name   string         // FQDN behind Addr, or unix path; empty if neither
	Weight uint32
	Active int64 // requests in progress
	Idle   int   // connections kept, those shared included
}

// Endpoints lists what can be picked now, in the order of the configuration and
// of the answers; for OriginalDst the addresses in use, sorted.
func (c *Cluster) Endpoints() []State {
	h := c.hosts.Load()
	if h == nil {
		return c.originals.states()
	}
	all := make([]State, len(h.endpoints))
	for i, e := range h.endpoints {
		all[i] = e.state(h.weights[i])
	}
	return all
}

// DNS is the state of the cluster's names, and the last failure if there is one.
func (c *Cluster) DNS() (decision.DNSState, string) {
	h := c.hosts.Load()
	if h == nil {
		return decision.NotResolved, ""
	}
	return h.dns, h.dnsError
}

// configure follows a new configuration or assignment. It is called by the
// Set's updater only.
func (c *Cluster) configure(cfg *config.Cluster, a *config.Assignment) {
	c.mu.Lock()
	c.cfg.Store(cfg)
	c.assignment = a
	stop, start := c.renameLocked(cfg)
	c.rebuildLocked()
	c.mu.Unlock()
	// Outside the lock: a watch may answer at once, and stopping waits for an answer in progress.
	for _, n := range stop {
		n.stop()
	}
	for _, n := range start {
		n.stop = c.set.resolver.Watch(n.host, func(a answer) { c.answered(n, a) })
	}
}

// close drains the cluster: nothing is picked by those who look it up anew, what is in
// progress goes on, kept connections are closed.
func (c *Cluster) close() {
	c.mu.Lock()
	c.gone = true
	names := c.names
	c.names = nil
	for _, e := range c.endpoints {
		e.close()
	}
	c.endpoints = nil
	c.originals.close()
	c.settle()
	c.mu.Unlock()
	for _, n := range names {
		n.stop()
	}
}

// settle tells those who wait that the cluster knows what it can know for now.
func (c *Cluster) settle() { c.readyOnce.Do(func() { close(c.ready) }) }

// rebuildLocked brings the endpoints in line with configuration, assignment
// and answers. What stays keeps its Endpoint; what leaves is not picked any more.
func (c *Cluster) rebuildLocked() {
	cfg := c.cfg.Load()
	if c.gone {
		return
	}
	if cfg.Type == config.OriginalDst {
		c.hosts.Store(nil)
		c.leaveLocked(nil, false)
		c.settle()
		return
	}
	want, dns, dnsError := c.wantLocked(cfg)
	waiting := len(want) == 0 && c.waitingLocked()
	if waiting && c.endpointsNow() > 0 {
		return // the new names have not answered yet: go on with what there was
	}
	next := &hosts{policy: cfg.Policy, dns: dns, dnsError: dnsError}
	stay := make(map[key]bool, len(want))
	first := lowestPriority(want)
	for _, w := range want {
		if stay[w.key] {
			continue
		}
		stay[w.key] = true
		e := c.endpointLocked(w.key)
		if w.priority == first && !w.spare {
			next.endpoints = append(next.endpoints, e)
			next.weights = append(next.weights, max(w.weight, 1))
		}
	}
	// Names flap, and what is told by an answer may come back with the next one;
	// what the configuration removes is gone.
	c.leaveLocked(stay, dns != decision.NotResolved)
	c.publishLocked(next)
	if !waiting {
		c.settle()
	}
}

// publishLocked shows next to picks. The picker is kept where it would be the
// same, so that an answer without news does not begin the turns anew.
func (c *Cluster) publishLocked(next *hosts) {
	old := c.hosts.Load()
	same := old != nil && old.policy == next.policy &&
		slices.Equal(old.endpoints, next.endpoints) && slices.Equal(old.weights, next.weights)
	if same {
		next.picker = old.picker
	} else {
		next.picker = balance.New(policies[next.policy], next.weights, c.set.rand)
		c.set.log.Debug("endpoints changed", "cluster", c.cfg.Load().Name, "endpoints", len(next.endpoints))
	}
	c.hosts.Store(next)
}

var policies = [...]balance.Policy{
	config.LeastRequest:    balance.LeastRequest,
	config.RoundRobin:      balance.RoundRobin,
	config.Random:          balance.Random,
	config.ClusterProvided: balance.RoundRobin,
}

func (c *Cluster) endpointsNow() int {
	if h := c.hosts.Load(); h != nil {
		return len(h.endpoints)
	}
	return 0
}

// endpointLocked returns the endpoint of that key, new or as it was.
func (c *Cluster) endpointLocked(k key) *Endpoint {
	e, ok := c.endpoints[k]
	if !ok {
		e = &Endpoint{cluster: c, key: k}
		c.endpoints[k] = e
	}
	e.parked = 0
	return e
}

// leaveLocked lets go of the endpoints not in stay: parked for a while, in case
// they come back, or at once.
func (c *Cluster) leaveLocked(stay map[key]bool, park bool) {
	for k, e := range c.endpoints {
		switch {
		case stay[k]:
		case park:
			e.parked = max(e.parked, 1)
		default:
			delete(c.endpoints, k)
			e.close()
		}
	}
}

// lowestPriority is the priority that is used: the first, 0, unless nothing has it.
func lowestPriority(want []wanted) uint32 {
	if len(want) == 0 {
		return 0
	}
	return slices.MinFunc(want, func(a, b wanted) int { return int(a.priority) - int(b.priority) }).priority
}
