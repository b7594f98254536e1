// Package pool keeps the idle connections of one endpoint for the next
// exchange. It has no clock and no goroutine: whoever owns pools calls Sweep
// from time to time.
package pool

import (
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/transport"
)

const (
	// MaxIdle is how many connections one Pool keeps. As many exchanges must
	// have run at once to fill it; more are closed rather than kept.
	MaxIdle = 1024
	// IdleTimeout is how long a connection is kept unused: Envoy's default.
	IdleTimeout = time.Hour
)

// A Pool holds idle connections, the most recently used on top: under little
// load the same few are used and the others grow old. The zero Pool is empty
// and ready. It is safe for concurrent use, and owns what it holds.
type Pool struct {
	mu     sync.Mutex
	idle   []kept    // guarded by mu; the longest unused first
	now    time.Time // guarded by mu; of the last Sweep
	closed bool      // guarded by mu
}

type kept struct {
	conn  *transport.Conn
	since time.Time // of the Sweep before it was put
}

// Take returns the connection put last, or nil. It is the caller's, who
// looks whether the peer is still there (Conn.Alive).
func (p *Pool) Take() *transport.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1].conn
	p.idle[n-1] = kept{}
	p.idle = p.idle[:n-1]
	return c
}

// Put takes over a connection without an exchange on it, and closes it if
// enough are kept or the Pool is closed.
func (p *Pool) Put(c *transport.Conn) {
	c.SetTimeout(0)
	if !p.put(c) {
		closeIdle(c)
	}
}

func (p *Pool) put(c *transport.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= MaxIdle {
		return false
	}
	p.idle = append(p.idle, kept{c, p.now})
	return true
}

// Len is the number of connections kept.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// batch is how many connections Sweep looks at before others may go on.
const batch = 32

// Sweep closes the connections that were unused for IdleTimeout or whose peer
// ended them, and tells the Pool the time. Calls must not overlap. A
// connection used since the last Sweep is not looked at.
func (p *Pool) Sweep(now time.Time) {
	var gone []*transport.Conn
	// Take and Put change the top only, so that places below stay what they are
	// for as long as they are there.
	for i := 0; i >= 0; {
		i, gone = p.sweepBatch(now, i, gone[:0])
		for _, c := range gone {
			closeIdle(c)
		}
	}
}

// sweepBatch looks at the connections from place i on, appends those that must
// go, and returns the place to go on from, or -1 at the end.
func (p *Pool) sweepBatch(now time.Time, i int, gone []*transport.Conn) (int, []*transport.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i = min(i, len(p.idle)) // since the last batch most may have been taken
	keep := i
	end := min(i+batch, len(p.idle))
	for ; i < end; i++ {
		k := p.idle[i]
		if k.since.IsZero() {
			k.since = now // put before the Pool knew the time
		}
		fresh := k.since.Equal(p.now)
		if now.Sub(k.since) >= IdleTimeout || !fresh && !k.conn.Alive() {
			gone = append(gone, k.conn)
			continue
		}
		p.idle[keep] = k
		keep++
	}
	rest := copy(p.idle[keep:], p.idle[end:])
	clear(p.idle[keep+rest:])
	p.idle = p.idle[:keep+rest]
	if rest > 0 {
		return keep, gone
	}
	p.now = now
	p.shrink()
	return -1, gone
}

// shrink gives back the memory of a crowd that has gone.
func (p *Pool) shrink() {
	switch n := len(p.idle); {
	case n == 0:
		p.idle = nil
	case cap(p.idle) > 64 && n < cap(p.idle)/4:
		p.idle = append(make([]kept, 0, 2*n), p.idle...)
	}
}

// Close closes what is kept and, from now on, what is put.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, k := range idle {
		closeIdle(k.conn)
	}
}

// closeIdle closes a connection nobody waits for: there is nobody to tell a
// failure, and nothing was left to deliver.
func closeIdle(c *transport.Conn) { _ = c.Close() }
