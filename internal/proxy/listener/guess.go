package listener

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l4"
	"github.com/fairlead/fairlead/internal/proxy/sniff"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A guess is a connection to where a silent caller's bytes would go, made because
// the caller may be waiting for its server to speak. Whoever speaks first tells
// what the connection is. The server: bytes, and the connection is the caller's.
// The caller: what it says; a request finds its own way then, and the connection
// is closed unused. A guess that fails is no news to a caller who may never have
// meant that server: it is dropped in silence, and made anew if the caller
// turns out to speak bytes.
//
// A guess ends with take or drop. A nil guess has nothing to take or to drop.
type guess struct {
	down   *transport.Conn
	chain  *config.TCPProxy
	rec    decision.Record // of connecting alone
	cancel context.CancelFunc
	done   chan struct{} // closed when run is over

	mu    sync.Mutex
	stage stage       // guarded by mu
	live  bool        // guarded by mu; up is open
	up    l4.Upstream // guarded by mu while live
}

type stage uint8

const (
	open    stage = iota // nobody has spoken
	greeted              // the server spoke first
	spoken               // the caller spoke first, and is being listened to
	taken                // the connection is the caller's
	dropped
)

// longAgo as a deadline wakes whoever waits.
var longAgo = time.Unix(1, 0)

// guess begins to connect to the cluster of a chain. The connections of s wait
// for its end.
func (s *server) guess(down *transport.Conn, chain *config.TCPProxy, rec *decision.Record) *guess {
	ctx, cancel := context.WithCancel(s.hard)
	g := &guess{down: down, chain: chain, rec: *rec, cancel: cancel, done: make(chan struct{})}
	connect := func() (l4.Upstream, bool) { return l4.Connect(ctx, chain, s.o.Clusters, &g.rec) }
	s.conns.Go(func() { g.run(connect, s.o.Logger) })
	return g
}

func (g *guess) run(connect func() (l4.Upstream, bool), logger *slog.Logger) {
	defer g.cancel()
	defer close(g.done)
	defer func() {
		if p := recover(); p != nil {
			logger.Error("panic while connecting for a silent caller; this is a fault of the proxy", "panic", p, "original", g.rec.Original, "stack", string(debug.Stack()))
			g.end()
		}
	}()
	up, ok := connect()
	if !ok || !g.connected(up) {
		return
	}
	said, err := first(up.Conn)
	g.heard(said, err)
}

// connected keeps up. It reports whether its server is to be listened to.
func (g *guess) connected(up l4.Upstream) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stage == dropped {
		up.Close()
		return false
	}
	g.up, g.live = up, true
	return g.stage != taken
}

// first waits for what a server says first and gives it back to c.
func first(c *transport.Conn) ([]byte, error) {
	if err := c.WaitReadable(); err != nil {
		return nil, err
	}
	buf, _ := buffers.Get().(*[inspectSize]byte)
	defer buffers.Put(buf)
	n, err := c.Read(buf[:])
	said := bytes.Clone(buf[:n])
	c.Unread(said)
	if n == 0 {
		return nil, fmt.Errorf("the server ended before it said anything: %w", err)
	}
	return said, nil
}

// heard judges what the server said, or why it will say nothing.
func (g *guess) heard(said []byte, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.live: // dropped meanwhile
	case g.stage == taken && outOfTime(g.up.Conn, err): // woken
	case err != nil, g.stage == open && sniff.HTTPServer(said):
		g.endLocked()
	case g.stage == open:
		g.stage = greeted
		_ = g.down.SetReadDeadline(longAgo) // wakes who waits for the caller; on a closed Conn nobody does
	}
}

func (g *guess) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endLocked()
}

func (g *guess) endLocked() {
	if g.live {
		g.live = false
		g.up.Close()
	}
}

// callerFirst ends the race for the caller. It reports false if the server had
// been first.
func (g *guess) callerFirst() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stage == greeted {
		return false
	}
	g.stage = spoken
	return true
}

// serverFirst reports whether the server has won the race.
func (g *guess) serverFirst() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stage == greeted
}

// take ends the guess with the connection that a chain for bytes wants, if it is
// that one and good still. It waits for one that is being made.
func (g *guess) take(chain *config.TCPProxy) (up l4.Upstream, ok bool) {
	if g == nil {
		return up, false
	}
	if *chain != *g.chain {
		g.drop()
		return up, false
	}
	g.mu.Lock()
	g.stage = taken
	if g.live {
		_ = g.up.Conn.SetReadDeadline(longAgo) // a closed Conn wakes by itself
	}
	g.mu.Unlock()
	<-g.done // from here on nobody else touches g
	if !g.live {
		return up, false
	}
	_ = g.up.Conn.SetReadDeadline(time.Time{})
	return g.up, true
}

// drop ends the guess unused. After take, or a second time, it does nothing.
func (g *guess) drop() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stage == taken || g.stage == dropped {
		return
	}
	g.stage = dropped
	g.cancel()
	g.endLocked()
}
