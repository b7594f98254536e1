package l7

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/overload"
)

// guard watches a number that a test sets.
func guard(t *testing.T, limit uint64) (g *overload.Guard, set func(used uint64)) {
	t.Helper()
	var used atomic.Uint64
	g = overload.New(limit, used.Load, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return g, func(n uint64) {
		t.Helper()
		used.Store(n)
		for end := time.Now().Add(patience); g.Used() != n || (g.Over() > 0) != (n > limit); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nobody looks")
			}
		}
	}
}

func TestFault65RequestsAreRefusedByNameWhileMemoryIsShort(t *testing.T) {
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		for range 2 { // the one in between never comes
			c.hear(get)
			c.say(ok)
		}
	}).addr}})
	g, set := guard(t, 64<<20)
	r.server.guard = g
	c := r.dial()
	c.say(get)
	c.hear(ok)
	r.record()
	set(70 << 20)
	c.say(get)
	res, body := c.answer("GET")
	const why = "the proxy is at a limit of its own: 70 MiB of memory are in use, and it may use 64 MiB"
	if res.StatusCode != 503 || !strings.Contains(body, why) {
		t.Errorf("%d %q, want 503 with %q", res.StatusCode, body, why)
	}
	if rec := r.record(); rec.Flags != decision.OM || rec.Details != "overload" || rec.Reason != decision.Overload || rec.Status != 503 {
		t.Errorf("record %+v", rec)
	}
	f := r.frames()
	f.get(1, "/", "content-type", "application/grpc")
	if head, _, _ := f.answer(1); !strings.Contains(head, "grpc-status: 14") || !strings.Contains(head, "70 MiB") {
		t.Errorf("a call of gRPC hears\n%s", head)
	}
	r.record()
	if n := g.Refused(); n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
	set(1 << 20)
	c.say(get) // on the connection that was told no
	c.hear(ok)
	if rec := r.record(); rec.Flags != 0 || rec.Reason != decision.OK {
		t.Errorf("record %+v", rec)
	}
}

func TestAConnectionTooManyIsToldSoAndEnds(t *testing.T) {
	r := prepareRig(t)
	r.base.Reason, r.base.Flags, r.base.Details, r.base.Err = decision.Overload, decision.OM, "connection_limit", "2 connections are served already, as many as it may"
	r.open(t)
	c := r.dial()
	c.say(get)
	res, body := c.answer("GET")
	if res.StatusCode != 503 || !res.Close || !strings.Contains(body, "2 connections are served already") {
		t.Errorf("%d %t %q", res.StatusCode, res.Close, body)
	}
	if rec := r.record(); rec.Flags != decision.OM || rec.Details != "connection_limit" || rec.Status != 503 {
		t.Errorf("record %+v", rec)
	}
}
