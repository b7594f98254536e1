// Package balance chooses one of several hosts: by turns, by load or by chance,
// with their weights. It is pure: hosts are indexes, randomness and load come in
// as arguments.
//
// The policies are Envoy's. Round robin goes by turns from a random start, or,
// where weights differ, by earliest deadline: a host that was chosen waits for
// 1/weight. Least request takes the less loaded of two chosen at random, or,
// where weights differ, goes by earliest deadline with the wait stretched by the
// host's load. There it departs from Envoy: see Load. Random ignores weights.
package balance

import (
	"sync"
	"sync/atomic"
)

// A Policy is a way to choose.
type Policy uint8

// The policies.
const (
	LeastRequest Policy = iota
	RoundRobin
	Random
)

// A Load tells how many requests host i has in progress.
//
// Least request with weights compares a host's load with what would be its
// share by weight of the load of all. (Envoy divides the weight by the load
// itself; under concurrent load that turns weights of 80 to 20 into about 67 to
// 33, because the heavy host is loaded for being chosen.)
type Load interface {
	Active(i int) int64
}

// A Rand returns uniformly distributed bits. It must be safe for concurrent
// use if the Picker is used so; rand.Uint64 of math/rand/v2 is.
type Rand func() uint64

// A Picker chooses among a fixed number of hosts. A change of the hosts or
// their weights takes a new one. It is safe for concurrent use and does not allocate.
type Picker struct {
	n      int
	policy Policy
	rand   Rand
	turn   atomic.Uint64 // of round robin with equal weights
	line   *line         // nil if weights are equal or do not matter
}

// New returns a Picker for hosts of the given weights; 0 counts as 1. It keeps
// nothing of weights.
func New(policy Policy, weights []uint32, rand Rand) *Picker {
	p := &Picker{n: len(weights), policy: policy, rand: rand}
	p.turn.Store(rand() >> 1)
	if policy != Random && !equal(weights) {
		p.line = newLine(weights, rand)
	}
	return p
}

func equal(weights []uint32) bool {
	for _, w := range weights {
		if max(w, 1) != max(weights[0], 1) {
			return false
		}
	}
	return true
}

// Pick returns the index of a host, or -1 if there are none.
func (p *Picker) Pick(load Load) int {
	switch {
	case p.n == 0:
		return -1
	case p.n == 1:
		return 0
	case p.line != nil && p.policy == LeastRequest:
		return p.line.pick(load)
	case p.line != nil:
		return p.line.pick(nil)
	case p.policy == RoundRobin:
		return int((p.turn.Add(1) - 1) % uint64(p.n)) //nolint:gosec // G115: below n
	case p.policy == Random:
		return below(p.rand(), p.n)
	}
	a, b := twoBelow(p.rand(), p.n)
	if load.Active(b) < load.Active(a) {
		return b
	}
	return a
}

// PickOther is Pick for another try: it picks up to attempts times until the
// host was not tried, then takes any that was not. If all were, it returns the
// last pick.
func (p *Picker) PickOther(load Load, attempts int, tried func(i int) bool) int {
	last := -1
	for range max(attempts, 1) {
		last = p.Pick(load)
		if last < 0 || !tried(last) {
			return last
		}
	}
	start := below(p.rand(), p.n)
	for k := range p.n {
		if i := (start + k) % p.n; !tried(i) {
			return i
		}
	}
	return last
}

// below maps 32 random bits onto 0…n-1.
func below(r uint64, n int) int {
	return int((r >> 32) * uint64(n) >> 32) //nolint:gosec // G115: below n
}

// twoBelow maps 64 random bits onto two numbers below n, which may be the same.
func twoBelow(r uint64, n int) (int, int) {
	return below(r, n), below(r<<32, n)
}

// A line holds hosts in the order of their deadlines: a heap behind one lock.
type line struct {
	mu      sync.Mutex
	heap    []place   // guarded by mu
	shares  []float64 // by host: its weight over the sum of weights
	total   float64   // guarded by mu: load of all hosts when last counted
	recount int       // guarded by mu: picks until the next count
}

type place struct {
	deadline float64
	host     int
}

func newLine(weights []uint32, rand Rand) *line {
	sum := 0.0
	for _, w := range weights {
		sum += float64(max(w, 1))
	}
	l := &line{heap: make([]place, len(weights)), shares: make([]float64, len(weights))}
	for i, w := range weights {
		l.shares[i] = float64(max(w, 1)) / sum
		// Anywhere in its first period, so that many proxies do not start alike.
		l.heap[i] = place{deadline: float64(rand()>>11) / (1 << 53) / l.shares[i], host: i}
	}
	for i := len(l.heap)/2 - 1; i >= 0; i-- {
		l.sink(i)
	}
	return l
}

// pick takes the first in the line and puts it back where its weight, and its
// load if given, allow.
func (l *line) pick(load Load) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	host := l.heap[0].host
	wait := 1 / l.shares[host]
	if load != nil {
		l.count(load)
		fair := l.total * l.shares[host]
		wait *= (float64(load.Active(host)) + 1) / (fair + 1)
	}
	l.heap[0].deadline += wait
	l.sink(0)
	return host
}

// count sums the loads once in as many picks as there are hosts: one step per pick.
func (l *line) count(load Load) {
	if l.recount > 0 {
		l.recount--
		return
	}
	l.recount = len(l.heap) - 1
	sum := int64(0)
	for i := range l.shares {
		sum += load.Active(i)
	}
	l.total = float64(sum)
}

// sink moves the place at i down to where it belongs. Among equal deadlines
// the lower host comes first, so that picks are a function of what came in.
func (l *line) sink(i int) {
	h := l.heap
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

func (p place) before(q place) bool {
	return p.deadline < q.deadline || p.deadline == q.deadline && p.host < q.host
}
