package l7

import (
	"context"
	"runtime/debug"
	"sync/atomic"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A conn is one caller's connection.
type conn struct {
	server   *Server
	down     *transport.Conn
	manager  *config.HTTPManager
	base     *decision.Record
	state    atomic.Int32
	draining atomic.Bool
}

// The states of a conn: only one that waits may be closed by a drain. It waits
// until the first byte of a request is read.
const (
	waiting int32 = iota
	busy
	closed
)

// drain asks the connection to end: at once if no request is in progress.
func (c *conn) drain() {
	c.draining.Store(true)
	if c.state.CompareAndSwap(waiting, closed) {
		_ = c.down.Close() // wakes the waiting goroutine
	}
}

// awake begins a request, unless the connection has been drained meanwhile.
func (c *conn) awake() bool {
	if c.state.Load() == busy {
		return true
	}
	c.down.SetTimeout(0)
	return c.state.CompareAndSwap(waiting, busy)
}

func (c *conn) serve(ctx context.Context) {
	for {
		c.state.Store(waiting)
		if c.draining.Load() {
			return
		}
		c.down.SetTimeout(idleTimeout)
		if c.down.WaitReadable() != nil || !c.burst(ctx) {
			return
		}
	}
}

// burst serves the request that begins to arrive and those that came with it.
// It reports whether more may follow on the connection.
func (c *conn) burst(ctx context.Context) (more bool) {
	x := c.server.exchanges.Get().(*exchange)
	x.conn = c
	defer func() {
		if p := recover(); p != nil {
			// The exchange is left to the collector: nobody knows its state.
			more = false
			x.crashed(p, debug.Stack())
			return
		}
		x.release()
	}()
	for {
		x.begin()
		if !x.readHead() || !x.serve(ctx) {
			return false
		}
		if x.next(); x.filled == 0 {
			return true
		}
	}
}

// crashed cleans up after a panic: one request is lost, others live.
func (x *exchange) crashed(p any, stack []byte) {
	x.server.panics.Add(1)
	x.server.logger.Error("request ended in a panic", "panic", p, "path", string(x.rec.Path), "stack", string(stack))
	x.stopUpload()
	x.dropUpstream()
	if x.endpoint != nil {
		x.endpoint.Done()
		x.endpoint = nil
	}
	if x.recorded {
		return
	}
	x.rec.Reason, x.rec.Details, x.rec.Err = decision.Overload, "internal_error", "a fault in the proxy itself; please report it"
	if !x.started {
		x.closing = true
		x.reply(500)
		return
	}
	x.record()
}
