package l7

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A conn is one caller's connection, of HTTP/1 unless it begins otherwise.
type conn struct {
	front   *Front
	place   int // in front.conns, guarded by front.mu
	down    *transport.Conn
	manager *config.HTTPManager
	base    *decision.Record // nil while it rests
	facts   facts            // while it rests
	done    func()
	state   atomic.Int32
	begun   bool // a head was read: no preface can come any more
	streams bool // it speaks HTTP/2, and down gives its preface back
}

// The states of a conn: only one that waits may be closed by a drain. It waits
// until the first byte of a request is read; one of HTTP/2 never does.
const (
	waiting int32 = iota
	busy
	closed
)

// endWaiting closes the connection if no request is in progress. It may be late.
func (c *conn) endWaiting() {
	if c.state.CompareAndSwap(waiting, closed) {
		_ = c.down.Close() // which wakes who waits, and ends a rest
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

// serve serves requests until the connection is over, or rests: c is another
// goroutine's then.
func (c *conn) serve(ctx context.Context) (rests bool) {
	for {
		c.state.Store(waiting)
		patience := idleTimeout
		if c.front.drain.Err() != nil { // since its answer was begun, which did not say so
			patience = DrainGrace
		}
		c.down.SetTimeout(patience)
		if c.rest() {
			return true
		}
		if c.down.WaitEvent() != nil || !c.burst(ctx) {
			return false
		}
	}
}

// A session is what a connection holds while requests are on it.
type session struct {
	exchange exchange
	caller   h1Caller
	upstream h1Upstream
}

func newSession(server *Server) *session {
	s := new(session)
	s.exchange.init(server)
	s.caller.init(&s.exchange.req)
	s.upstream.init(server)
	s.exchange.toH1 = &s.upstream
	return s
}

// burst serves the request that begins to arrive and those that came with it.
// It reports whether more may follow on the connection.
func (c *conn) burst(ctx context.Context) (more bool) {
	s := c.front.server.sessions.Get().(*session)
	x, from := &s.exchange, &s.caller
	from.conn = c
	defer func() {
		if p := recover(); p != nil {
			// The session is left to the collector: nobody knows its state.
			more = false
			x.crashed(p)
			return
		}
		from.clear()
		x.clear()
		c.front.server.sessions.Put(s)
	}()
	for {
		from.begin()
		x.begin(from, c.manager, c.base)
		fault := from.readHead()
		if fault == errNoHead { //nolint:errorlint // never wrapped
			return from.blank()
		}
		if fault == errNothing { //nolint:errorlint // likewise
			return true
		}
		if fault == errPreface { //nolint:errorlint // likewise
			c.streams = true
			c.down.Unread(bytes.Clone(from.text()))
			return false
		}
		if !x.serve(ctx, from.text(), fault) {
			return false
		}
		if !from.next() {
			return true
		}
	}
}

// crashed counts and tells a panic, on the goroutine it happened on.
func (s *Server) crashed(p any, path string) {
	s.panics.Add(1)
	s.logger.Error("panic while serving a request; this is a fault of the proxy", "panic", p, "path", path, "stack", string(debug.Stack()))
}

// crashed cleans up after a panic: one request is lost, others live.
func (x *exchange) crashed(p any) {
	x.server.crashed(p, string(x.rec.Path))
	x.stopUpload()
	x.letGo(false)
	if x.recorded {
		return
	}
	x.judge(internalError, fmt.Sprint(p))
	if x.started {
		x.caller.abort(errPanic)
		x.record()
		return
	}
	x.caller.giveUp()
	x.reply(internalError.status)
}
