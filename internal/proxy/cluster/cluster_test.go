package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

func eds() *config.Cluster { return &config.Cluster{Name: "x", Type: config.EDS, ServiceName: "x-eds"} }

func assignment(es ...config.Endpoint) *config.Assignment {
	return &config.Assignment{Name: "x-eds", Endpoints: es}
}

func at(host string) config.Endpoint { return config.Endpoint{Host: host, Port: 80, Weight: 1} }

func inlined(typ config.ClusterType, es ...config.Endpoint) *config.Cluster {
	return &config.Cluster{Name: "x", Type: typ, Inline: &config.Assignment{Endpoints: es}}
}

func clusters(cs ...*config.Cluster) config.Delta { return config.Delta{Clusters: cs} }

func assignments(as ...*config.Assignment) config.Delta { return config.Delta{Assignments: as} }

func TestEndpointsFollowTheConfiguration(t *testing.T) {
	type step struct {
		delta config.Delta
		want  []string
	}
	unix := config.Endpoint{Host: "@fairlead-test", Weight: 1}
	second := at("10.0.0.9")
	second.Priority = 1
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"assignment after its cluster", []step{
			{clusters(eds()), nil},
			{assignments(assignment(at("10.0.0.1"), at("10.0.0.2"))), []string{"10.0.0.1:80", "10.0.0.2:80"}},
		}},
		{"assignment before its cluster", []step{
			{assignments(assignment(at("10.0.0.1"))), nil},
			{clusters(eds()), []string{"10.0.0.1:80"}},
		}},
		{"both at once, then changed, emptied, removed", []step{
			{config.Delta{Clusters: []*config.Cluster{eds()}, Assignments: []*config.Assignment{assignment(at("10.0.0.1"))}}, []string{"10.0.0.1:80"}},
			{assignments(assignment(at("10.0.0.2"))), []string{"10.0.0.2:80"}},
			{assignments(assignment()), nil},
			{assignments(assignment(at("10.0.0.3"))), []string{"10.0.0.3:80"}},
			{config.Delta{RemovedAssignments: []string{"x-eds"}}, nil},
		}},
		{"removed and added in one message", []step{
			{config.Delta{Clusters: []*config.Cluster{eds()}, Assignments: []*config.Assignment{assignment(at("10.0.0.1"))}}, []string{"10.0.0.1:80"}},
			{config.Delta{RemovedClusters: []string{"x"}, Clusters: []*config.Cluster{eds()}}, []string{"10.0.0.1:80"}},
		}},
		{"one type becomes another", []step{
			{clusters(inlined(config.StaticSet, at("10.0.0.1"))), []string{"10.0.0.1:80"}},
			{clusters(eds()), nil},
			{assignments(assignment(at("10.0.0.2"))), []string{"10.0.0.2:80"}},
			{clusters(inlined(config.StaticSet, at("10.0.0.3"))), []string{"10.0.0.3:80"}},
			{assignments(assignment(at("10.0.0.4"))), []string{"10.0.0.3:80"}},
		}},
		{"inline", []step{{clusters(inlined(config.StaticSet, at("10.0.0.1"), unix)), []string{"10.0.0.1:80", "@fairlead-test"}}}},
		{"nothing inline", []step{{clusters(&config.Cluster{Name: "x", Type: config.StaticSet}), nil}}},
		{"listed twice", []step{{clusters(inlined(config.StaticSet, at("10.0.0.1"), at("10.0.0.1"), at("::ffff:10.0.0.1"))), []string{"10.0.0.1:80"}}}},
		{"of no address", []step{{clusters(inlined(config.StaticSet, at("no-name.test"), at("10.0.0.1"))), []string{"10.0.0.1:80"}}}},
		{"first priority only", []step{
			{clusters(inlined(config.StaticSet, second, at("10.0.0.1"))), []string{"10.0.0.1:80"}},
			{clusters(inlined(config.StaticSet, second)), []string{"10.0.0.9:80"}},
		}},
		{"IP addresses need no resolver", []step{
			{clusters(inlined(config.StrictDNS, at("10.0.0.1"), at("fd00::1"))), []string{"10.0.0.1:80", "[fd00::1]:80"}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for i, s := range tt.steps {
				w.apply(s.delta)
				var got []string
				if w.Get("x") != nil {
					got = slices.Sorted(maps.Keys(w.picked()))
					if n := len(w.Get("x").Endpoints()); n != len(s.want) {
						t.Errorf("step %d: %d endpoints listed", i, n)
					}
				}
				if d := cmp.Diff(s.want, got); d != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, d)
				}
			}
		})
	}
}

func TestAnAssignmentServesEveryClusterThatNamesIt(t *testing.T) {
	w := newWorld(t)
	y := eds()
	y.Name = "y"
	w.apply(clusters(eds(), y))
	w.apply(assignments(assignment(at("10.0.0.1"))))
	for _, name := range []string{"x", "y"} {
		if n := len(w.Get(name).Endpoints()); n != 1 {
			t.Errorf("%s has %d endpoints, want 1", name, n)
		}
	}
	w.apply(config.Delta{RemovedClusters: []string{"x"}})
	w.apply(assignments(assignment(at("10.0.0.1"), at("10.0.0.2"))))
	if n := len(w.Get("y").Endpoints()); n != 2 {
		t.Errorf("y has %d endpoints, want 2", n)
	}
	w.bury()
	if w.Get("x") != nil {
		t.Error("a removed cluster is still there")
	}
}

func TestWhatStaysKeepsItsEndpoint(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(eds()))
	w.apply(assignments(assignment(at("10.0.0.1"), at("10.0.0.2"))))
	before := w.picked()
	var rec decision.Record
	busy, err := w.Get("x").Pick(netip.AddrPort{}, nil, &rec)
	if err != nil {
		t.Fatal(err)
	}
	c := eds()
	c.ConnectTimeout = time.Second
	heavy := at("10.0.0.2")
	heavy.Weight = 7
	w.apply(config.Delta{Clusters: []*config.Cluster{c}, Assignments: []*config.Assignment{assignment(at("10.0.0.1"), heavy, at("10.0.0.3"))}})
	after := w.picked()
	for _, a := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		if before[a] != after[a] {
			t.Errorf("%s became another endpoint", a)
		}
	}
	if got := busy.state(0).Active; got != 1 {
		t.Errorf("%d requests counted, want 1", got)
	}
	busy.Done()
	if got := w.Get("x").Config().ConnectTimeout; got != time.Second {
		t.Errorf("connect timeout %s is the old one", got)
	}
}

func TestWeightsAreHonoured(t *testing.T) {
	for _, policy := range []config.Balance{config.LeastRequest, config.RoundRobin} {
		w := newWorld(t)
		heavy, light := at("10.0.0.1"), at("10.0.0.2")
		heavy.Weight, light.Weight = 80, 20
		c := inlined(config.StaticSet, heavy, light)
		c.Policy = policy
		w.apply(clusters(c))
		got := 0
		for range 1000 {
			if e, _ := w.pick(); e.String() == "10.0.0.1:80" {
				got++
			}
		}
		if got < 760 || got > 840 {
			t.Errorf("policy %d: %d of 1000 went to the endpoint of weight 80 of 100", policy, got)
		}
	}
}

func TestAnotherTryGoesElsewhere(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(inlined(config.StaticSet, at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3"))))
	for range 50 {
		var tried []*Endpoint
		for range 3 {
			e, _ := w.pick(tried...)
			if slices.Contains(tried, e) {
				t.Fatalf("tried %v, picked %v again", tried, e)
			}
			tried = append(tried, e)
		}
		if e, _ := w.pick(tried...); e == nil {
			t.Fatal("nothing picked once all were tried")
		}
	}
}

func TestPickFillsTheRecord(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"), at("b.test"), config.Endpoint{Host: "/run/x.sock", Weight: 1})))
	failure := errors.New("SERVFAIL from 192.0.2.53")
	w.names.answer("a.test", resolve.Answer{Addrs: addrs("10.0.0.1"), State: decision.Stale, Err: failure})
	seen := map[string]bool{}
	for range 100 {
		_, rec := w.pick()
		want := decision.Record{DNS: decision.Stale, DNSError: failure.Error(), Endpoints: 2}
		if rec.EndpointName == "a.test" {
			want.Endpoint, want.EndpointName = netip.MustParseAddrPort("10.0.0.1:80"), "a.test"
		} else {
			want.EndpointName = "/run/x.sock"
		}
		if rec.Endpoint != want.Endpoint || rec.EndpointName != want.EndpointName || rec.DNS != want.DNS ||
			rec.DNSError != want.DNSError || rec.Endpoints != want.Endpoints {
			t.Fatalf("record %+v, want %+v", rec, want)
		}
		seen[rec.EndpointName] = true
	}
	if len(seen) != 2 {
		t.Errorf("picked only %v", seen)
	}
}

func TestAGoneEndpointClosesWhatItKept(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	e := config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1}
	w.apply(clusters(eds()))
	w.apply(assignments(assignment(e)))
	ep, _ := w.pick()
	kept, used := dial(t, ep), dial(t, ep)
	ep.Keep(kept)
	w.apply(assignments(assignment(at("10.0.0.1"))))
	if !isClosed(kept) {
		t.Error("a kept connection is open")
	}
	if isClosed(used) {
		t.Error("a connection in use was closed")
	}
	ep.Keep(used)
	if !isClosed(used) || ep.Take() != nil {
		t.Error("a connection was kept for an endpoint that is gone")
	}

	w.apply(assignments(assignment(e)))
	ep, _ = w.pick()
	kept = dial(t, ep)
	ep.Keep(kept)
	w.apply(config.Delta{RemovedClusters: []string{"x"}})
	w.bury()
	if !isClosed(kept) {
		t.Error("a kept connection of a removed cluster is open")
	}
	ep.Keep(dial(t, ep)) // what began before the removal may still dial
}

func TestConnectionsAreKeptAndTaken(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	w.apply(clusters(inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1})))
	e, _ := w.pick()
	if e.Take() != nil {
		t.Fatal("took a connection that was never kept")
	}
	a, b := dial(t, e), dial(t, e)
	e.Keep(a)
	e.Keep(b)
	if n := w.Get("x").Endpoints()[0].Idle; n != 2 {
		t.Errorf("%d kept, want 2", n)
	}
	if e.Take() != b || e.Take() != a || e.Take() != nil {
		t.Error("not most recently used first")
	}
	if a.Peer() != up.addr() {
		t.Errorf("peer %s, want %s", a.Peer(), up.addr())
	}
}

func TestCloseEndsWhatIsKept(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	w.apply(clusters(inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1})))
	e, _ := w.pick()
	c := dial(t, e)
	e.Keep(c)
	w.Close()
	w.Close()
	if !isClosed(c) {
		t.Error("a kept connection is open")
	}
	w.apply(clusters(eds())) // too late, and no matter
}

func TestWaitReadyAwaitsTheFirstAnswerOfEachCluster(t *testing.T) {
	w := newWorld(t)
	y := inlined(config.LogicalDNS, at("c.test"))
	y.Name = "y"
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"), at("b.test")), y, &config.Cluster{Name: "z", Type: config.EDS, ServiceName: "z"}))
	ready := make(chan error, 1)
	go func() { ready <- w.WaitReady(t.Context()) }()
	still := func(what string) {
		t.Helper()
		select {
		case err := <-ready:
			t.Fatalf("ready %s: %v", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	still("before any answer")
	w.names.answer("b.test", resolve.Answer{State: decision.Negative})
	still("before the second cluster's answer")
	w.names.answer("c.test", resolve.Answer{State: decision.Never, Err: errors.New("timeout")})
	if err := <-ready; err != nil {
		t.Error(err)
	}

	w.apply(clusters(&config.Cluster{Name: "v", Type: config.StrictDNS, Inline: &config.Assignment{Endpoints: []config.Endpoint{at("d.test")}}}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited %v, want deadline exceeded", err)
	}
	go func() { ready <- w.WaitReady(t.Context()) }()
	w.apply(config.Delta{RemovedClusters: []string{"v"}})
	if err := <-ready; err != nil {
		t.Error(err)
	}
}

func TestTrafficGoesOnWhileEverythingChanges(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	e := config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1}
	w.apply(clusters(eds()))
	w.apply(assignments(assignment(e)))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var rec decision.Record
			for {
				select {
				case <-stop:
					return
				default:
				}
				ep, err := w.Get("x").Pick(netip.AddrPort{}, nil, &rec)
				if err != nil {
					t.Errorf("pick: %v", err)
					return
				}
				c := ep.Take()
				if c == nil {
					if c, err = ep.Dial(t.Context()); err != nil {
						t.Error(err)
						ep.Done()
						return
					}
				}
				ep.Keep(c)
				ep.Done()
			}
		})
	}
	other := e
	other.Port = listen(t, "tcp", "127.0.0.1:0").addr().Port()
	for i := range 200 {
		switch i % 4 {
		case 0:
			w.apply(assignments(assignment(e, other)))
		case 1:
			w.apply(assignments(assignment(e)))
		case 2:
			w.apply(clusters(eds()))
		default:
			w.apply(assignments(assignment(other, e)))
		}
		w.Get("x").sweep(time.Now(), nil)
	}
	close(stop)
	wg.Wait()
}

func TestTheHotPathAllocatesNothing(t *testing.T) {
	up := listen(t, "tcp", "127.0.0.1:0")
	e := config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1}
	heavy := e
	heavy.Port, heavy.Weight = listen(t, "tcp", "127.0.0.1:0").addr().Port(), 9
	for name, c := range map[string]*config.Cluster{
		"one":      inlined(config.StaticSet, e),
		"weighted": inlined(config.StaticSet, e, heavy),
		"original": own(),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(clusters(c))
			var rec decision.Record
			for _, ep := range w.picked() {
				ep.Keep(dial(t, ep))
			}
			exchange := func() {
				ep, err := w.Get("x").Pick(up.addr(), nil, &rec)
				if err != nil {
					t.Fatal(err)
				}
				conn := ep.Take()
				if conn == nil {
					conn = dial(t, ep)
				}
				conn.SetTimeout(time.Minute)
				ep.Keep(conn)
				ep.Done()
			}
			exchange()
			if n := testing.AllocsPerRun(100, exchange); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func dial(t *testing.T, e *Endpoint) *transport.Conn {
	t.Helper()
	c, err := e.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func isClosed(c *transport.Conn) bool {
	_, err := c.Write([]byte("x"))
	return errors.Is(err, net.ErrClosed)
}

// many is a Set of 10,000 clusters with two endpoints each.
func many(b *testing.B) (*Set, *config.Config) {
	b.Helper()
	s := New(nil, discard())
	b.Cleanup(s.Close)
	var d config.Delta
	for i := range 10000 {
		name := fmt.Sprintf("outbound|80||host-%d.test", i)
		d.Clusters = append(d.Clusters, &config.Cluster{Name: name, Type: config.EDS, ServiceName: name})
		d.Assignments = append(d.Assignments, &config.Assignment{Name: name, Endpoints: []config.Endpoint{at("10.0.0.1"), at("10.0.0.2")}})
	}
	cfg := (*config.Config)(nil).Apply(d)
	s.Update(cfg, d)
	return s, cfg
}

func BenchmarkExchange(b *testing.B) {
	s, _ := many(b)
	var rec decision.Record
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := transport.New(ours, nil)
	s.sweeper.Adopt(c)
	b.ReportAllocs()
	for b.Loop() {
		e, err := s.Get("outbound|80||host-5000.test").Pick(netip.AddrPort{}, nil, &rec)
		if err != nil {
			b.Fatal(err)
		}
		e.Keep(c)
		e.Take()
		e.Done()
	}
	c.Close()
}

// One assignment changes among 10,000 clusters.
func BenchmarkUpdateOne(b *testing.B) {
	s, cfg := many(b)
	for i := 0; b.Loop(); i++ {
		d := assignments(&config.Assignment{Name: "outbound|80||host-5000.test", Endpoints: []config.Endpoint{at("10.0.0.1"), at(fmt.Sprintf("10.0.0.%d", i%200+2))}})
		cfg = cfg.Apply(d)
		s.Update(cfg, d)
	}
}

func BenchmarkSweep(b *testing.B) {
	s, _ := many(b)
	var scratch []*Endpoint
	for b.Loop() {
		for c := range s.all() {
			scratch = c.sweep(time.Now(), scratch[:0])
		}
	}
}
