package cluster

import "sync/atomic"

// Bounds of the retries in flight to one cluster, which Envoy calls a retry
// budget: endpoints that fail because they have too much to do are not helped by
// doing it again.
const (
	retryPercent = 20 // of the requests in progress
	retryFloor   = 3  // … but so many always
)

// A budget counts the retries in flight to one cluster.
type budget struct{ inFlight atomic.Int64 }

// Retry asks whether a request that failed may be sent to the cluster once more. If it may, Retried must be called once
// that try is over; if not, that is counted.
func (c *Cluster) Retry() bool {
	n := c.budget.inFlight.Add(1)
	if n <= retryFloor || n*100 <= retryPercent*c.inProgress() {
		return true
	}
	c.budget.inFlight.Add(-1)
	c.set.overBudget.Add(1)
	return false
}

// Retried ends what Retry began.
func (c *Cluster) Retried() { c.budget.inFlight.Add(-1) }

// Retrying is how many retries are in flight.
func (c *Cluster) Retrying() int64 { return c.budget.inFlight.Load() }

// RetriesRefused counts the retries that were not made because as many were in
// flight as may be.
func (s *Set) RetriesRefused() uint64 { return s.overBudget.Load() }

// inProgress is how many requests endpoints have now. It is counted when that is
// asked, which is seldom, so that requests do not pay for it.
func (c *Cluster) inProgress() (n int64) {
	h := c.hosts.Load()
	if h == nil {
		return c.originals.inProgress()
	}
	for _, e := range h.endpoints {
		n += e.active.Load()
	}
	return n
}

func (o *originals) inProgress() (n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.byAddr {
		n += e.active.Load()
	}
	return n
}
