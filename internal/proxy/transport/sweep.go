package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tick        = 100 * time.Millisecond
	longTick    = time.Second
	longTimeout = 10 * time.Second // from here on, timeouts are looked at every longTick
	shards      = 64
)

// A Sweeper closes the Conns that were not renewed in time. One serves any
// number of Conns: adopting, renewing and removing cost the same whatever
// their number. The zero Sweeper is ready; while Run does not run, nothing
// times out. It is safe for concurrent use.
//
// Its clock counts only time in which the process ran: after a stop of the
// whole process (or of the machine) a Conn has the rest of its time still
// before it, and is not cut for a silence that was ours.
type Sweeper struct {
	// Stalled is called by Run each time that it finds that the process did not run
	// for more than a second: it was stopped, or had no processor. Nil: nobody
	// wants to know. It is set before Run.
	Stalled func(time.Duration)
	// Farewell is for how long the peer of a tied Conn still listens, at least, that
	// ended its direction and was told nothing; see Tie. 0: 5 s. It is set before Run.
	Farewell time.Duration

	clock  atomic.Int64 // nanoseconds of running time
	next   atomic.Uint32
	shards [shards]shard
}

type shard struct {
	mu    sync.Mutex
	conns []*Conn     // guarded by mu
	short atomic.Bool // a Conn here may have a timeout below longTimeout
	_     [24]byte    // a cache line each
}

// Adopt makes s responsible for the timeout of c until c is closed. It is
// called once, before c is shared or SetTimeout called.
func (s *Sweeper) Adopt(c *Conn) {
	sh := &s.shards[s.next.Add(1)%shards]
	c.sweeper, c.shard = s, sh
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.place = len(sh.conns)
	sh.conns = append(sh.conns, c)
}

// Len is the number of open Conns adopted.
func (s *Sweeper) Len() int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.conns)
		sh.mu.Unlock()
	}
	return n
}

// leave takes c from its sweeper; a second call does nothing.
func (c *Conn) leave() {
	sh := c.shard
	if sh == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.place < 0 {
		return
	}
	last := len(sh.conns) - 1
	moved := sh.conns[last]
	sh.conns[c.place], moved.place = moved, c.place
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
	c.place = -1
	if cap(sh.conns) > 64 && last < cap(sh.conns)/4 {
		sh.conns = append(make([]*Conn, 0, cap(sh.conns)/2), sh.conns...)
	}
}

// Run sweeps until ctx ends. It leaves the Conns as they are then.
func (s *Sweeper) Run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	var sinceLong time.Duration
	var late, watched []*Conn
	turn, calmed := 0, 0
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		// A longer gap means that we did not run, so nobody was served.
		gap := now.Sub(last)
		ran := min(gap, longTick)
		last = now
		if gap > longTick+tick && s.Stalled != nil {
			s.Stalled(gap)
		}
		clock := s.clock.Add(int64(ran))
		sinceLong += ran
		all := sinceLong >= longTick
		if all {
			sinceLong = 0
		}
		late = s.sweep(clock, all, late)
		for range peersPerTick {
			watched = lookAtPeers(clock, s.shards[turn].peers(watched))
			watched = lookAtTied(clock, s.shards[turn].tied(clock, watched))
			turn = (turn + 1) % shards
		}
		for range calmsPerTick {
			watched = calm(s.shards[calmed].calm(watched))
			calmed = (calmed + 1) % shards
		}
	}
}

// sweep closes what is late: everywhere, or only where short timeouts are.
// It returns late, emptied, for its capacity.
func (s *Sweeper) sweep(clock int64, all bool, late []*Conn) []*Conn {
	for i := range s.shards {
		sh := &s.shards[i]
		if all || sh.short.Load() {
			late = sh.collect(clock, late)
		}
	}
	for i, c := range late {
		c.expire(idle)
		late[i] = nil
	}
	return late[:0]
}

// collect appends the Conns of the shard whose time has come.
func (sh *shard) collect(clock int64, late []*Conn) []*Conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// Cleared before looking: a timeout set meanwhile marks the shard again.
	sh.short.Store(false)
	short := false
	for _, c := range sh.conns {
		d := c.deadline.Load()
		switch {
		case d == 0:
		case d <= clock:
			late = append(late, c)
		case d < clock+int64(longTimeout+tick):
			short = true
		}
	}
	if short {
		sh.short.Store(true)
	}
	return late
}

// calmsPerTick are the shards in which it is looked for what is idle in one tick: in all
// within 3.2 s, so that a Conn is idle for that long at least, and for twice that at most.
const calmsPerTick = shards / 32

// calm appends the Conns of the shard that wait, and have since the last look. No other
// timeout set in between comes to the same time, or hardly ever: it does no harm then.
func (sh *shard) calm(conns []*Conn) []*Conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, c := range sh.conns {
		d := c.deadline.Load()
		if d != 0 && d == c.seen {
			conns = append(conns, c)
		}
		c.seen = d
	}
	return conns
}

// calm lets those of conns rest that would. It returns conns, emptied.
func calm(conns []*Conn) []*Conn {
	for i, c := range conns {
		if s, ok := c.Conn.(*Socket); ok {
			s.calm()
		}
		conns[i] = nil
	}
	return conns[:0]
}

// A fate is why the Conn ended otherwise than by its owner.
type fate = uint32

const (
	idle fate = iota + 1 // not renewed in time
	lost                 // the peer confirms nothing
	gone                 // the peer ended or reset the stream while its owner waited for another
)

// expire closes the Conn on behalf of the sweeper.
func (c *Conn) expire(f fate) {
	c.fate.CompareAndSwap(0, f)
	c.leave()
	// Whoever uses the Conn learns it from its reads and writes.
	_ = c.under().Close()
}

func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
