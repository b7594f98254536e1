package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/pool"
	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// settleTime is how long the settings of an endpoint are awaited where it matters
// what they say.
const settleTime = 5 * time.Second

// A Place is room for one stream on an HTTP/2 connection to an endpoint, until
// Open or Leave. The zero Place is none.
type Place struct {
	member *pool.Member
	Local  netip.AddrPort // our end of the connection
	Used   bool           // the connection had exchanges before
}

// JoinNow is Join where there is room already; the zero Place says that there is none.
func (e *Endpoint) JoinNow() Place {
	m, used := e.shared.JoinNow()
	if m == nil {
		return Place{}
	}
	return Place{member: m, Local: m.Local(), Used: used}
}

// Join takes a place on a connection that others may share: one there is, else a
// new one, which is dialled once for all who wait. The error is Dial's, or that of a
// connection which was of no use to any of them; ctx ending ends the wait, not the dial.
func (e *Endpoint) Join(ctx context.Context) (Place, error) {
	var wait *pool.Opening
	for {
		m, used, next, open := e.shared.Join(wait)
		if wait = next; m != nil {
			return Place{member: m, Local: m.Local(), Used: used}, nil
		}
		if open && !e.cluster.set.start(e.share) {
			e.shared.Failed(&DialError{Addr: e.String(), Cause: "given up: the proxy ends", Err: context.Canceled})
		}
		select {
		case <-wait.First():
		case <-wait.Done():
			if err := wait.Err(); err != nil {
				e.shared.Forgo(wait)
				return Place{}, err
			}
		case <-ctx.Done():
			e.shared.Forgo(wait)
			err := context.Cause(ctx)
			return Place{}, &DialError{Addr: e.String(), Cause: cause(ctx, err, 0), Err: err}
		}
	}
}

// share opens a connection and sees to it until it ends.
func (e *Endpoint) share(ctx context.Context) {
	told := false
	defer func() {
		if p := recover(); p != nil {
			e.panicked(p, debug.Stack())
			if !told {
				e.shared.Failed(&DialError{Addr: e.String(), Cause: "a fault of the proxy", Err: fmt.Errorf("panic: %v", p)})
			}
		}
	}()
	conn, err := e.Dial(ctx)
	if err != nil {
		told = true
		e.shared.Failed(err)
		return
	}
	client := streams.NewClient(conn, streams.Options{Memory: &e.cluster.set.memory, IdleTimeout: pool.IdleTimeout})
	told = true
	m := e.shared.Opened(client)
	var settling sync.WaitGroup
	settling.Go(func() {
		client.WebSockets(settleTime) // the settings say that too
		e.shared.Settled(m)
	})
	err = client.Run(ctx)
	settling.Wait()
	e.shared.Removed(m)
	var broken *h2.Error
	var panicked *streams.PanicError
	switch {
	case errors.As(err, &panicked):
		e.panicked(panicked.Value, panicked.Stack)
	case errors.As(err, &broken) && ctx.Err() == nil:
		e.cluster.set.log.Warn("an endpoint breaks HTTP/2; the connection was ended", "cluster", e.cluster.Config().Name, "endpoint", e.String(), "fault", err)
	}
}

// panicked tells a panic that cost a connection.
func (e *Endpoint) panicked(value any, stack []byte) {
	e.cluster.set.panics.Add(1)
	e.cluster.set.log.Error("panic on a connection to an endpoint, which was ended; this is a fault of the proxy",
		"cluster", e.cluster.Config().Name, "endpoint", e.String(), "panic", value, "stack", string(stack))
}

// Open opens a stream in the place, as Client.Open does, and gives the place back.
func (p *Place) Open(block []byte, how h2.Start) (*streams.Stream, error) {
	defer p.Leave()
	return p.member.Open(block, how)
}

// WebSockets reports whether the endpoint takes WebSockets on streams. It waits for
// its settings, which say so, until they will not come, or ctx ends.
func (p *Place) WebSockets(ctx context.Context) bool {
	select {
	case <-p.member.Settled():
		return p.member.WebSockets(0)
	case <-ctx.Done():
		return false
	}
}

// Valid reports whether p is a place.
func (p *Place) Valid() bool { return p.member != nil }

// Leave gives the place back, if that has not happened.
func (p *Place) Leave() {
	if p.member != nil {
		p.member.Leave()
		p.member = nil
	}
}
