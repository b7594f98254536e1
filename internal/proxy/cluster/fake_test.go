package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names is a Resolver that answers what a test tells it to.
type names struct {
	mu      sync.Mutex
	watches map[string][]*watch
	once    map[string]resolve.Answer // for Lookup
}

type watch struct {
	mu      sync.Mutex // held while on runs, as the real one promises
	on      func(resolve.Answer)
	stopped bool
}

func (n *names) Watch(host string, on func(resolve.Answer)) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watches == nil {
		n.watches = map[string][]*watch{}
	}
	w := &watch{on: on}
	n.watches[host] = append(n.watches[host], w)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stopped = true
	}
}

// Lookup answers with what was set for a host; nobody else asks so.
func (n *names) Lookup(_ context.Context, host string) resolve.Answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.once[host]; ok {
		return a
	}
	return resolve.Answer{State: decision.Negative}
}

// answer tells every watch of host.
func (n *names) answer(host string, a resolve.Answer) {
	n.mu.Lock()
	ws := n.watches[host]
	n.mu.Unlock()
	for _, w := range ws {
		w.mu.Lock()
		if !w.stopped {
			w.on(a)
		}
		w.mu.Unlock()
	}
}

// watched counts the watches of host that go on.
func (n *names) watched(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, w := range n.watches[host] {
		w.mu.Lock()
		if !w.stopped {
			count++
		}
		w.mu.Unlock()
	}
	return count
}

func addrs(ss ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range ss {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func fresh(ss ...string) resolve.Answer {
	return resolve.Answer{Addrs: addrs(ss...), State: decision.Fresh}
}

// local is an answer of this machine itself, which may be a loopback address.
func local(ss ...string) resolve.Answer {
	a := fresh(ss...)
	a.Local = true
	return a
}

// A world is a Set with the configuration it follows and the names it asks.
type world struct {
	*Set
	t     *testing.T
	names *names
	cfg   *config.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	n := &names{}
	s := New(n, slog.New(slog.DiscardHandler))
	s.routed = func(netip.Addr) bool { return true }
	t.Cleanup(s.Close)
	return &world{Set: s, t: t, names: n}
}

// apply is what the proxy does with a message of the control plane.
func (w *world) apply(d config.Delta) {
	w.cfg = w.cfg.Apply(d)
	w.Update(w.cfg, d)
}

// bury lets the time pass after which what was removed is drained.
func (w *world) bury() {
	w.drop()
	w.drop()
}

// pick picks from the cluster x, and ends the request at once.
func (w *world) pick(tried ...*Endpoint) (*Endpoint, decision.Record) {
	w.t.Helper()
	var rec decision.Record
	e, err := w.Get("x").Pick(netip.AddrPort{}, tried, &rec)
	if err != nil {
		if !errors.Is(err, ErrNoEndpoint) {
			w.t.Fatalf("pick: %v", err)
		}
		return nil, rec
	}
	e.Done()
	return e, rec
}

// picked is the set of addresses that picks choose in the cluster x.
func (w *world) picked() map[string]*Endpoint {
	w.t.Helper()
	got := map[string]*Endpoint{}
	for range 200 {
		if e, _ := w.pick(); e != nil {
			got[e.String()] = e
		}
	}
	return got
}

// An upstream accepts connections and keeps them open.
type upstream struct {
	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
	done  sync.WaitGroup
}

func listen(t *testing.T, network, address string) *upstream {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{ln: ln}
	u.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			u.conns = append(u.conns, c)
			u.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		ln.Close()
		u.done.Wait()
		u.hangUp()
	})
	return u
}

// hangUp ends every connection accepted so far.
func (u *upstream) hangUp() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.conns {
		c.Close()
	}
	u.conns = nil
}

func (u *upstream) addr() netip.AddrPort { return u.ln.Addr().(*net.TCPAddr).AddrPort() }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
